"""Faults of memory: too little of it, too slow, or a cache that was lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

from lab.faults.cpu import _no_group
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
    assert situation.groups is not None  # noqa: S101  (`_no_group` has seen to it)
    used = situation.groups.memory()
    files = used.get("file", used.get("total_cache", used.get("cache", 0)))
    own = used.get("anon", used.get("total_rss", used.get("rss", 0)))
    limit = own + round(severity * (1 << 20))
    try:
        with situation.groups.memory_limit(situation.undo, limit, situation.seconds):
            yield {"limit_bytes": limit, "anonymous_bytes": own, "file_bytes": files}
    except OSError as error:
        raise FaultError(f"memory_limit: a limit of {limit:,} bytes is refused: {error.strerror}") from None


@contextmanager
def _scarce(situation: Situation, severity: float) -> Iterator[Parameters]:
    leave = int(severity * (1 << 20))
    if psutil.virtual_memory().available <= leave:
        raise FaultError(f"memory_scarce: less than {severity:g} MiB are available anyway")
    with situation.hog("memory", "--leave", str(leave), "--folder", str(situation.folder)):
        yield {"left_bytes": leave}


def _no_oom_score(_situation: Situation) -> str | None:
    return None if Path("/proc/self/oom_score_adj").exists() else "the kernel cannot be told whom to end first"


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
        unavailable=_no_free_core,
        inject=_streams,
    ),
    Fault(
        name="memory_limit",
        cause="host_memory_pressure",
        text="a memory limit on the server's control group, so that its file pages have to be read again and again",
        unit="MiB of file pages that fit",
        severities=(128, 64, 48),
        unavailable=partial(_no_group, "memory"),
        inject=_group_limit,
    ),
    Fault(
        name="memory_scarce",
        cause="host_memory_pressure",
        text="another program holds the machine's memory and reads files larger than the rest: the kernel reclaims",
        unit="MiB left",
        severities=(1024, 512, 256),
        unavailable=_no_oom_score,
        inject=_scarce,
    ),
    Fault(
        name="page_cache_drop",
        cause="cold_cache",
        text="the page cache is dropped again and again",
        unit="seconds between",
        severities=(5, 2, 1),
        unavailable=_may_not_drop,
        inject=_dropped,
    ),
)
