"""Two profiles of one rank into a `RankComparison`."""

from __future__ import annotations

import polars as pl

from rca.capture.readers.cycle_profile import NO_METRIC
from rca.comparison.gate import like_with_like
from rca.comparison.model import RankComparison
from rca.comparison.reference import reference_rows
from rca.comparison.robust import calibrate, cycle_time, function_shifts, metric_shifts
from rca.profile import Profile

_FUNCTION_COLUMNS = {
    "normal_us": "time_normal_us",
    "abnormal_us": "time_abnormal_us",
    "shift_us": "shift_us",
    "shift_low_us": "shift_low_us",
    "shift_high_us": "shift_high_us",
    "cliffs_delta": "cliffs_delta",
    "p": "p_time",
    "q": "q_time",
}
_METRIC_COLUMNS = {"cliffs_delta": "metric_cliffs_delta", "p": "p_metric", "q": "q_metric"}


def compare_ranks(normal: Profile, abnormal: Profile) -> RankComparison:
    """Compare one rank's profiles: first whether they are alike, then how long they take, then function by function."""
    strata = like_with_like(normal, abnormal)
    cycles = (strata.normal, strata.abnormal)
    durations = [own["duration_us"].to_numpy() for own in cycles]
    functions = function_shifts(normal, abnormal, cycles)
    metrics = metric_shifts(normal, abnormal, cycles)
    sides = [_rows_of(profile, own) for profile, own in zip((normal, abnormal), cycles, strict=True)]
    left_out = 0
    if not normal.from_events and not abnormal.from_events:
        # The reference drops functions without a counter from its table; so that its readers find the same rows, so do we.
        without = pl.concat(sides).filter(pl.col("metric") == NO_METRIC)
        left_out = without.select("function", "device").n_unique() if without.height else 0
        sides = [rows.filter(pl.col("metric") != NO_METRIC) for rows in sides]
    return RankComparison(
        role=normal.rank.role,
        normal=normal.rank,
        abnormal=abnormal.rank,
        compared=_compared(*cycles),
        gate=strata.gate,
        cycle_time=cycle_time(durations[0], durations[1], strata.gate.ok),
        calibration=calibrate(durations[0], len(durations[1])),
        any_difference_p=functions.any_difference_p,
        phases=_phases(normal, abnormal),
        functions=functions.table,
        metrics=metrics,
        rows=_with_robust(reference_rows(*sides), functions.table, metrics),
        rows_left_out=left_out,
    )


def _rows_of(profile: Profile, cycles: pl.DataFrame) -> pl.DataFrame:
    return profile.rows.filter(pl.col("cycle").is_in(cycles["cycle"].to_list()))


def _with_robust(rows: pl.DataFrame, functions: pl.DataFrame, metrics: pl.DataFrame) -> pl.DataFrame:
    return rows.join(
        functions.select("function", "device", **{new: pl.col(old) for old, new in _FUNCTION_COLUMNS.items()}),
        on=["function", "device"],
        how="left",
        maintain_order="left",
    ).join(
        metrics.select("metric", "device", **{new: pl.col(old) for old, new in _METRIC_COLUMNS.items()}),
        on=["metric", "device"],
        how="left",
        maintain_order="left",
    )


def _compared(normal: pl.DataFrame, abnormal: pl.DataFrame) -> pl.DataFrame:
    columns = ["cycle", "start_ns", "duration_us", "phase", "batch", "tokens"]
    return pl.concat(
        [side.select(pl.lit(label).alias("side"), *columns) for label, side in (("normal", normal), ("abnormal", abnormal))]
    )


def _phases(normal: Profile, abnormal: Profile) -> pl.DataFrame:
    sides = [
        p.rank.cycles.filter(pl.col("complete"))
        .group_by("phase")
        .agg(pl.len().alias(f"n_{side}"), pl.col("duration_us").median().alias(f"{side}_us"))
        for side, p in (("normal", normal), ("abnormal", abnormal))
    ]
    return sides[0].join(sides[1], on="phase", how="full", coalesce=True).sort("phase")
