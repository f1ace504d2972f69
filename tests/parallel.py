"""How tests share processes: what measures or loads this machine runs in one, the rest wherever there is room."""

from __future__ import annotations

import os

from xdist.scheduler import LoadScopeScheduling

MACHINE = (
    "tests/integration/",
    "tests/test_collect_",
    "tests/test_lab_faults",
    "tests/test_lab_loop",
    "tests/test_lab_run",
    "tests/test_lab_undo",
)
"""Samplers that read this machine, and faults that change it: one test after the other, or they would see each other."""

PAGES = "tests/browser/test_page_"
"""Files that open the same pages, which take seconds to make."""

SINGLE = ("tests/test_bad_input", "tests/test_verdict")
"""Files that take long and whose tests have nothing in common: each test goes wherever there is room."""

MOST = 4
"""Processes at most: what measures this machine needs a share of it."""


class Scheduling(LoadScopeScheduling):
    """A file is run by one process, so that what its tests have in common is made once."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(MACHINE):
            return "this machine"
        if nodeid.startswith(PAGES):
            return "pages"
        return nodeid if nodeid.startswith(SINGLE) else nodeid.split("::", 1)[0]


def processes(asked_for: list[str], all_tests: list[str]) -> int:
    """Return how many processes are worth while: none but this one where only some tests were asked for."""
    if asked_for != all_tests:
        return 0
    return min(len(os.sched_getaffinity(0)) + 1, MOST)  # one of them mostly waits: the one that measures this machine
