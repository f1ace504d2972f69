"""The clocks of this machine, read together, and the one clock on which everything in a capture is stamped.

Samples are stamped with CLOCK_MONOTONIC plus what separated it from the wall clock when the capture began. A wall clock that
is set in the middle moves traces that begin later, and not the samples: `CaptureClock.step_ns` tells by how much.
"""

from __future__ import annotations

import time

from rca.capture.manifest import Clocks

_TRIES = 5


def read_clocks() -> Clocks:
    """Read realtime, monotonic and boottime at one moment: of several tries the one that took the least time."""
    tries = []
    for _ in range(_TRIES):
        before = time.monotonic_ns()
        real, boot = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        after = time.monotonic_ns()
        tries.append((after - before, Clocks(real, boot, (before + after) // 2)))
    return min(tries, key=lambda attempt: attempt[0])[1]


class CaptureClock:
    """Nanoseconds since the Unix epoch that never jump. ``started``: the clocks when it was made."""

    def __init__(self) -> None:
        self.started = read_clocks()
        assert self.started.monotonic_ns is not None  # noqa: S101
        self._offset_ns = self.started.realtime_ns - self.started.monotonic_ns

    def now_ns(self) -> int:
        """Return the time of the capture."""
        return time.monotonic_ns() + self._offset_ns

    def step_ns(self) -> int:
        """Return by how much the wall clock was set since the capture began; slewing moves both clocks alike."""
        now = read_clocks()
        return now.realtime_ns - (now.monotonic_ns or 0) - self._offset_ns
