"""Faults of the cores: others on them, less of them, slower ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from collectors.samplers.procfs import text_of
from lab import actions
from lab.faults.model import Fault, FaultError, Parameters, Situation, joined

_CPUFREQ = Path("/sys/devices/system/cpu")
_CAP_SYS_NICE = 23
"""linux/capability.h"""


@contextmanager
def _rivals(kind: str, situation: Situation, severity: float) -> Iterator[Parameters]:
    with situation.hog(kind, "--first", "--cores", joined(situation.cores), "--duty", str(severity)):
        yield {"kind": kind, "cores": situation.cores, "duty_pct": severity}


@contextmanager
def _quota(situation: Situation, severity: float) -> Iterator[Parameters]:
    assert situation.groups is not None  # noqa: S101  (`no_group` has seen to it)
    cores = situation.used_cores * severity / 100
    if not situation.groups.holds("cpu", situation.root):
        raise FaultError("cpu_quota: the server is not in its control group: a limit would do nothing")
    with situation.groups.cpu_quota(situation.undo, cores, situation.seconds):
        yield {"quota_cores": round(cores, 3), "used_cores": round(situation.used_cores, 3)}


def no_group(controller: str, situation: Situation) -> str | None:
    """Return why the server has no control group of the lab's with this controller."""
    if situation.groups is None:
        return "the lab did not start this server, and limits control groups of its own only"
    return situation.groups.missing.get(controller)


@contextmanager
def _fewer_cores(situation: Situation, severity: float) -> Iterator[Parameters]:
    kept = situation.cores[: int(severity)]
    if len(kept) == len(situation.cores):
        raise FaultError(f"fewer_cores: the server has {len(kept)} cores anyway")
    action = actions.affinity(situation.root)
    with situation.undo.holding(action, situation.seconds):
        _set(action | {"of_thread": {}, "otherwise": kept})
        yield {"cores": kept, "before": situation.cores}


def _one_core(situation: Situation) -> str | None:
    return "the server has one core only" if len(situation.cores) < 2 else _not_ours(situation)


def _not_ours(situation: Situation) -> str | None:
    return None if situation.may_touch else "the lab did not start this server: tell it the pid"


@contextmanager
def _lower_priority(situation: Situation, severity: float) -> Iterator[Parameters]:
    action = actions.nice(situation.root)
    with situation.undo.holding(action, situation.seconds):
        _set(action | {"of_thread": {}, "otherwise": int(severity)})
        yield {"nice": int(severity)}


def _set(action: actions.Action) -> None:
    if problem := actions.perform(action):
        raise FaultError(problem)


def _priority_is_nothing(situation: Situation) -> str | None:
    capabilities = re.search(r"^CapEff:\s*(\w+)", text_of("/proc/self/status"), re.MULTILINE)
    if not capabilities or not int(capabilities[1], 16) >> _CAP_SYS_NICE & 1:
        return "a priority could not be raised again (no CAP_SYS_NICE)"
    return no_group("cpu", situation)  # between groups priorities do not count: the rival has to be in the server's


@contextmanager
def _half_busy(situation: Situation, _severity: float) -> Iterator[Parameters]:
    assert situation.groups is not None  # noqa: S101
    own = [situation.groups.folders["cpu"]]
    with situation.hog("spin", "--cores", joined(situation.cores), "--duty", "50", groups=own):
        yield {"background_duty_pct": 50}


@contextmanager
def _lower_clock(situation: Situation, severity: float) -> Iterator[Parameters]:
    limits = {}
    with ExitStack() as stack:
        for core in situation.cores:
            folder = _CPUFREQ / f"cpu{core}/cpufreq"
            file = folder / "scaling_max_freq"
            limits[core] = round(int((folder / "cpuinfo_max_freq").read_text()) * severity / 100)
            stack.enter_context(situation.undo.holding(actions.write(file, file.read_text().strip()), situation.seconds))
            file.write_text(str(limits[core]))
        yield {"max_khz": limits}


def _fixed_clock(situation: Situation) -> str | None:
    file = _CPUFREQ / f"cpu{situation.cores[0]}/cpufreq/scaling_max_freq"
    if not file.exists():
        return "this machine lets nobody set its clocks (no cpufreq)"
    try:
        with file.open("r+"):
            pass
    except OSError as error:
        return f"{file}: {error.strerror}"
    return None if "clocks" in situation.allowed else "sets the clock of the whole core: allow it with --allow clocks"


FAULTS = (
    Fault(
        name="cpu_scalar",
        cause="cpu_contention",
        text="a busy loop that comes first (SCHED_RR, where permitted) on each of the server's cores",
        unit="% of the time",
        severities=(25, 50, 75),
        least=1,
        most=95,
        inject=partial(_rivals, "spin"),
    ),
    Fault(
        name="cpu_vector",
        cause="cpu_contention",
        text="the same with matrix products in cache: full vectors",
        unit="% of the time",
        severities=(25, 50, 75),
        least=1,
        most=95,
        inject=partial(_rivals, "vector"),
    ),
    Fault(
        name="cpu_quota",
        cause="cpu_quota",
        text="a CPU limit on the server's control group",
        unit="% of what it uses undisturbed",
        severities=(90, 75, 50, 25),
        least=1,
        most=1000,
        unavailable=partial(no_group, "cpu"),
        inject=_quota,
    ),
    Fault(
        name="fewer_cores",
        cause="cpu_quota",
        text="the server may use fewer cores (affinity)",
        unit="cores left",
        severities=(1,),
        least=1,
        most=4096,
        unavailable=_one_core,
        inject=_fewer_cores,
    ),
    Fault(
        name="lower_priority",
        cause="cpu_contention",
        text="the server's priority is lowered, where a busy loop has half of each core on both sides",
        unit="nice",
        severities=(5, 10, 19),
        least=1,
        most=19,
        unavailable=_priority_is_nothing,
        inject=_lower_priority,
        background=_half_busy,
    ),
    Fault(
        name="cpu_clock",
        cause="cpu_frequency",
        text="a lower limit to the clock of the server's cores (cpufreq)",
        unit="% of the highest clock",
        severities=(80, 60, 40),
        least=1,
        most=100,
        unavailable=_fixed_clock,
        inject=_lower_clock,
    ),
)
