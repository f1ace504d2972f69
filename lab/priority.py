"""Who comes first on a core: clients and collectors, then hogs, then everything else.

What is measured is the server, not how long clients wait for a core beside it: in truth they are on other machines. And a
hog is to get what its dial says. Beside a server that keeps all cores busy by polling (vLLM does so between its processes)
programs of normal priority were seen to get a tenth of a second of CPU time in a minute.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

_HOG, _CLIENT = 1, 2


def clients_first(pid: int = 0) -> None:
    """Let a thread that measures run before all others, where that is permitted; 0 is the calling one.

    Of the calling thread it is not passed on to the threads and processes that it starts: those may be servers.
    """
    _set(pid, os.SCHED_RR if pid else os.SCHED_RR | os.SCHED_RESET_ON_FORK, _CLIENT)


@contextmanager
def clients_first_here() -> Iterator[None]:
    """Do so for the calling thread until the block ends."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    clients_first()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, policy, parameters)


def hogs_first() -> None:
    """Let the calling process run before all of normal priority, where that is permitted."""
    _set(0, os.SCHED_RR, _HOG)


def _set(pid: int, policy: int, priority: int) -> None:
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, policy, os.sched_param(priority))
