"""Faults of memory: too little of it, too slow, or a cache that was lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

from lab.faults.cpu import no_group
from lab.faults.model import Fault, FaultError, Parameters, Situation, joined

_DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@contextmanager
def _streams(situation: Situation, severity: float) -> Iterator[Parameters]:
    core = situation.cores[-1]
    with situation.hog("stream", "--cores", joined([core]), "--duty", str(severity)):
        yield {"core": core, "duty_pct": severity}


def _no_free_core(situation: Situation) -> str | None:
    if situation.used_cores > len(situation.cores) - 0.9:
        used = f"{situation.used_cores:.1f} of {len(situation.cores)}"
        return f"the server uses {used} cores: a program beside it would take CPU time, not only bandwidth"
    return None


@contextmanager
def _group_limit(situation: Situation, severity: float) -> Iterator[Parameters]:
    assert situation.groups is not None  # noqa: S101  (`no_group` has seen to it)
    if not situation.groups.holds("memory", situation.root):
        raise FaultError("memory_limit: the server is not in its control group: a limit would do nothing")
    kept = situation.groups.kept_bytes()
    limit = kept + round(severity * (1 << 20))
    with situation.groups.memory_limit(situation.undo, limit, situation.seconds):
        yield {"limit_bytes": limit, "kept_bytes": kept}


@contextmanager
def _scarce(situation: Situation, severity: float) -> Iterator[Parameters]:
    leave = int(severity * (1 << 20))
    if psutil.virtual_memory().available <= leave:
        raise FaultError(f"memory_scarce: less than {severity:g} MiB are available anyway")
    if shutil.disk_usage(situation.folder).free < 4 * leave:
        raise FaultError(f"memory_scarce: {situation.folder} has no room for the file that is read, twice as large")
    with situation.hog("memory", "--leave", str(leave), "--read", str(2 * leave), "--folder", str(situation.folder)):
        yield {"left_bytes": leave}


def _may_not_be_scarce(situation: Situation) -> str | None:
    if not Path("/proc/self/oom_score_adj").exists():
        return "the kernel cannot be told whom to end first"
    return None if "foreign" in situation.allowed else "takes memory from every program: allow it with --allow foreign"


@contextmanager
def _dropped(situation: Situation, severity: float) -> Iterator[Parameters]:
    with situation.hog("drop", "--every", str(severity)):
        yield {"every_seconds": severity}


def _may_not_drop(situation: Situation) -> str | None:
    try:
        with _DROP_CACHES.open("w"):
            pass
    except OSError as error:
        return f"{_DROP_CACHES}: {error.strerror}"
    return None if "foreign" in situation.allowed else "drops the whole machine's cache: allow it with --allow foreign"


FAULTS = (
    Fault(
        name="memory_bandwidth",
        cause="host_memory_pressure",
        text="copies that no cache holds, on a core that the server leaves free",
        unit="% of the time",
        severities=(25, 50, 100),
        least=1,
        most=100,
        unavailable=_no_free_core,
        inject=_streams,
    ),
    Fault(
        name="memory_limit",
        cause="host_memory_pressure",
        text="a memory limit on the server's control group, so that its file pages have to be read again and again",
        unit="MiB of file pages that fit",
        severities=(512, 256, 128),
        least=0,
        most=1000000,
        rest_seconds=5,
        unavailable=partial(no_group, "memory"),
        inject=_group_limit,
    ),
    Fault(
        name="memory_scarce",
        cause="host_memory_pressure",
        text="another program holds the machine's memory and reads files larger than the rest: the kernel reclaims",
        unit="MiB left",
        severities=(1024, 512, 256),
        least=64,
        most=1000000,
        rest_seconds=5,
        unavailable=_may_not_be_scarce,
        inject=_scarce,
    ),
    Fault(
        name="page_cache_drop",
        cause="cold_cache",
        text="the page cache is dropped again and again",
        unit="seconds between",
        severities=(5, 2, 1),
        least=0.1,
        most=60,
        rest_seconds=5,
        unavailable=_may_not_drop,
        inject=_dropped,
    ),
)
