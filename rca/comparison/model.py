"""What a comparison of two captures consists of."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from rca.comparison.workload import Workload
from rca.cycles import Rank
from rca.profile import Profile
from rca.stats.robust import Shift

ALPHA = 0.01
"""Level of the test on cycle time: on captures that do not differ, about one comparison in a hundred says they do."""

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

MIN_EFFECT = 0.01
"""A cycle-time change below 1 % is reported but never called a difference."""


@dataclass(frozen=True)
class CycleTime:
    """Cycle time of both sides over the cycles compared.

    ``ratio`` is None where the sides are not comparable or a side has a single cycle. ``n_*`` are cycles, ``effective_*``
    what they are worth once serial dependence is counted.
    """

    normal_us: float
    abnormal_us: float
    n_normal: int
    n_abnormal: int
    effective_normal: float
    effective_abnormal: float
    ratio: Shift | None
    p_value: float | None


@dataclass(frozen=True)
class Calibration:
    """The same test (p and smallest effect) on halves of the normal side, where nothing differs.

    ``false_alarm`` is the share of ``splits`` that pass it, None where halves are too short to ever pass; ``noise_floor``
    the change that 95 % of them stay below, scaled to the number of cycles compared, None where there is nothing to split.
    """

    splits: int
    false_alarm: float | None
    noise_floor: float | None


@dataclass(frozen=True)
class Gate:
    """Whether like is compared with like. ``reasons`` say why not; ``notes`` what was left out so that it is."""

    ok: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    stratum: str
    facts: dict[str, float | str | None]


@dataclass(frozen=True)
class RankComparison:
    """One rank on both sides.

    Attributes:
        role: what pairs the two: rank, GPU or place.
        profiles: of both sides, functions that only differ in name given one name.
        normal: the rank and all its cycles on the normal side.
        abnormal: the same on the abnormal side.
        compared: cycles of each side that take part, in time order, with ``side`` and columns of `CYCLES`.
        gate: whether and over which cycles the two can be compared.
        cycle_time: the headline numbers.
        tests: phases that were tested; the level of each test is divided by their number.
        distribution: cycle times at `QUANTILES` and, in the last row, their mean: ``quantile, normal_us, abnormal_us``.
        calibration: how often and how far the same test errs on the normal side alone.
        any_difference_p: p of "no function's time per cycle differs", over all functions at once.
        phases: cycle time of each phase: ``phase, n_normal, normal_us, n_abnormal, abnormal_us, ratio, low, high, p_value``.
        functions: one row per (function, device) with time per cycle on both sides, its robust shift, and the change of its
            mean split into calls (``count_effect_us``) and time of a call (``duration_effect_us``).
        metrics: one row per (metric, device), likewise.
        rows: one row per (function, metric, device): the reference columns, then the robust ones.
        rows_left_out: functions of a per-cycle profile that have no counter and so no reference row.
        parts: where the time of the compared cycles went: ``side`` and the columns of `rca.profile.timeline.PARTS_TABLE`.
        timeline: whether ``parts`` come from a timeline; else from summed durations.
        communication: µs of each compared cycle in kernels that exchange data between GPUs: ``side, cycle, us``.
        workload: how much of the change over all cycles their work explains; None where that cannot be told.
    """

    role: str
    profiles: tuple[Profile, Profile]
    normal: Rank
    abnormal: Rank
    compared: pl.DataFrame
    gate: Gate
    cycle_time: CycleTime
    tests: int
    distribution: pl.DataFrame
    calibration: Calibration
    any_difference_p: float | None
    phases: pl.DataFrame
    functions: pl.DataFrame
    metrics: pl.DataFrame
    rows: pl.DataFrame
    rows_left_out: int
    parts: pl.DataFrame
    timeline: bool
    communication: pl.DataFrame
    workload: Workload | None
