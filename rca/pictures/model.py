"""What pictures are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

SideName = Literal["normal", "abnormal"]

SIDES: tuple[SideName, SideName] = ("normal", "abnormal")

Which = Literal["median", "worst"]


@dataclass(frozen=True)
class SideCurve:
    """How one side's cycle times are distributed, in µs.

    Attributes:
        points: every cycle, in time order.
        x: of the curve, ascending; empty where there are too few cycles for one.
        density: per µs, as long as ``x``; its integral is 1.
        median: of the points.
        low, high: 95 % interval of the median; None where there are too few cycles.
    """

    points: tuple[float, ...]
    x: tuple[float, ...]
    density: tuple[float, ...]
    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Distribution:
    """Cycle times of one rank and phase on both sides, over the cycles that are compared."""

    role: str
    phase: str
    normal: SideCurve
    abnormal: SideCurve


@dataclass(frozen=True)
class CycleOf:
    """A cycle that is shown: the one with the middle duration of those compared, or the longest."""

    side: SideName
    which: Which
    cycle: int
    start_ns: int
    end_ns: int
    phase: str
    file: int


@dataclass(frozen=True)
class Lane:
    """One line of a timeline: a host thread or a GPU stream. ``depth`` is the number of rows that its nested calls take."""

    name: str
    kind: Literal["host", "gpu"]
    depth: int


@dataclass(frozen=True)
class Excerpt:
    """What happened in one cycle.

    Attributes:
        of: which cycle.
        lanes: GPU streams below host threads, the busiest first.
        events: ``lane, depth, start_ns, dur_ns, name, kind`` by lane and start; ``start_ns`` counts from the cycle's
            start and may be negative where a call began before.
        left_out: events that are not in it, so that it can be drawn: the shortest, those of the idlest lanes, and those
            that lie deepest.
    """

    of: CycleOf
    lanes: tuple[Lane, ...]
    events: pl.DataFrame
    left_out: int


@dataclass(frozen=True)
class Stacks:
    """The call trees of both sides in one.

    Attributes:
        nodes: ``name, parent, normal_us, abnormal_us``: a row per path of calls, parents first; ``parent`` is a row or -1.
            Times are of a mean compared cycle, calls inside included.
        note: what they were made of, and what is left out.
    """

    nodes: pl.DataFrame
    note: str


@dataclass(frozen=True)
class RankPictures:
    """What needs the events of one rank. ``note`` says why there is none of it."""

    role: str
    excerpts: tuple[Excerpt, ...]
    stacks: Stacks | None
    note: str


@dataclass(frozen=True)
class Pictures:
    """What needs the events of the captures, one entry per rank of the comparison."""

    ranks: tuple[RankPictures, ...]


@dataclass(frozen=True)
class Place:
    """Where in the files a finding is seen.

    Attributes:
        finding: ``headline``, ``cause:<id>:<device>``, ``ledger:<part>``, ``function:<device>:<name>`` or ``outlier``.
        text: what is seen there.
        side, role, cycle: of which cycle.
        file: path within the capture; ``file_sha256`` of its content.
        ts_ns, dur_ns: on the capture's clock.
        file_ts_us: the same moment as the file itself counts, None where that is not known; with ``ts_ns`` 0 the file does
            not say when its cycles ran.
    """

    finding: str
    text: str
    side: SideName
    role: str
    cycle: int
    file: str
    file_sha256: str
    ts_ns: int
    dur_ns: int
    file_ts_us: float | None

    @property
    def timed(self) -> bool:
        """Whether it is known when this was."""
        return self.file_ts_us is not None or self.ts_ns != 0
