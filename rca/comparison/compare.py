"""Two profiles of one rank into a `RankComparison`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from rca.capture.tables import NO_METRIC
from rca.comparison.gate import Stratum, strata
from rca.comparison.model import ALPHA, QUANTILES, Calibration, CycleTime, RankComparison
from rca.comparison.reference import reference_rows
from rca.comparison.robust import calibrate, cycle_time, function_shifts, is_called, metric_shifts
from rca.comparison.versions import same_names
from rca.comparison.workload import explain
from rca.profile import SCHEDULED, Profile
from rca.profile.timeline import COMMUNICATION
from rca.stats.robust import values_needed

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
    """Compare one rank's profiles: first whether they are alike, then how long they take, then function by function.

    Every phase that both sides have is tested. What is compared in depth is the phase that differs most clearly or, where
    none does, the one with most cycles.
    """
    normal, abnormal = _both_scheduled(normal, abnormal)
    abnormal, renamed = same_names(normal, abnormal)
    tested = [_tested(stratum) for stratum in strata(normal, abnormal)]
    alike = [t for t in tested if t.stratum.gate.ok]
    judged = [t for t in alike if min(t.time.n_normal, t.time.n_abnormal) >= values_needed(ALPHA)]
    called = [t for t in judged if is_called(t.time, t.calibration, len(judged))]
    chosen = min(called, key=lambda t: t.time.p_value or 0.0, default=None) or (judged or alike or tested)[0]
    cycles = (chosen.stratum.normal, chosen.stratum.abnormal)
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
        profiles=(normal, abnormal),
        normal=normal.rank,
        abnormal=abnormal.rank,
        compared=_compared(*cycles),
        gate=replace(chosen.stratum.gate, notes=(*chosen.stratum.gate.notes, *renamed)),
        cycle_time=chosen.time,
        tests=max(len(judged), 1),
        distribution=_distribution(*cycles),
        calibration=chosen.calibration,
        any_difference_p=functions.any_difference_p,
        phases=_phases(normal, abnormal, tested),
        functions=functions.table,
        metrics=metrics,
        rows=_with_robust(reference_rows(*sides), functions.table, metrics),
        rows_left_out=left_out,
        parts=_parts((normal, abnormal), cycles),
        communication=_communication(sides),
        timeline=normal.from_events and abnormal.from_events,
        workload=explain(*(profile.rank.cycles.filter("complete") for profile in (normal, abnormal))),
    )


def _both_scheduled(normal: Profile, abnormal: Profile) -> tuple[Profile, Profile]:
    """Leave out what the scheduler did where only one side recorded it: that the other has none of it says nothing."""
    sides = (normal, abnormal)
    if not all(side.from_events for side in sides):
        return sides
    recorded = [set(side.rows["function"].unique()).intersection(SCHEDULED) for side in sides]
    one_sided = list(recorded[0] ^ recorded[1])
    if not one_sided:
        return sides
    kept = ~pl.col("function").is_in(one_sided) | ~pl.col("class").is_in(list(SCHEDULED))
    one, two = (replace(side, rows=side.rows.filter(kept), parts=_without_waiting(side.parts, one_sided)) for side in sides)
    return one, two


def _without_waiting(parts: pl.DataFrame, one_sided: list[str]) -> pl.DataFrame:
    """Give the time spent waiting for a core back to the host's calls, where the other side does not know its own."""
    if "runq" not in one_sided:
        return parts
    back = pl.when(pl.col("part") == "runq").then(pl.lit("host_calls")).otherwise("part").alias("part")
    return parts.with_columns(back).group_by("cycle", "part").agg(pl.col("us").sum()).sort("cycle", "part")


@dataclass(frozen=True)
class _Tested:
    stratum: Stratum
    time: CycleTime
    calibration: Calibration


def _tested(stratum: Stratum) -> _Tested:
    normal, abnormal = (side["duration_us"].to_numpy() for side in (stratum.normal, stratum.abnormal))
    return _Tested(stratum, cycle_time(normal, abnormal, stratum.gate.ok), calibrate(normal, len(abnormal)))


def _rows_of(profile: Profile, cycles: pl.DataFrame) -> pl.DataFrame:
    return profile.rows.filter(pl.col("cycle").is_in(cycles["cycle"].to_list()))


def _parts(profiles: tuple[Profile, Profile], cycles: tuple[pl.DataFrame, pl.DataFrame]) -> pl.DataFrame:
    sides = zip(("normal", "abnormal"), profiles, cycles, strict=True)
    return pl.concat(
        profile.parts.filter(pl.col("cycle").is_in(own["cycle"].to_list())).select(
            pl.lit(side).alias("side"), "cycle", "part", "us"
        )
        for side, profile, own in sides
    )


def _communication(sides: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the time that each cycle spends in communication."""
    of_link = pl.col("device").str.starts_with("GPU") & pl.col("function").str.contains(COMMUNICATION)
    return pl.concat(
        rows.filter(of_link)
        .unique(["cycle", "function", "device"], keep="first")
        .group_by("cycle")
        .agg(us=pl.col("duration_us").sum())
        .select(pl.lit(side).alias("side"), "cycle", "us")
        for side, rows in zip(("normal", "abnormal"), sides, strict=True)
    ).sort("side", "cycle")


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
    columns = ["cycle", "start_ns", "end_ns", "duration_us", "phase", "batch", "tokens", "file"]
    return pl.concat(
        [side.select(pl.lit(label).alias("side"), *columns) for label, side in (("normal", normal), ("abnormal", abnormal))]
    )


def _distribution(normal: pl.DataFrame, abnormal: pl.DataFrame) -> pl.DataFrame:
    sides = [side["duration_us"].to_numpy() for side in (normal, abnormal)]
    columns = {
        name: [float("nan")] * (len(QUANTILES) + 1) if len(values) == 0 else [*np.quantile(values, QUANTILES), values.mean()]
        for name, values in zip(("normal_us", "abnormal_us"), sides, strict=True)
    }
    return pl.DataFrame({"quantile": [*QUANTILES, None], **columns}, schema_overrides={"quantile": pl.Float64})


def _phases(normal: Profile, abnormal: Profile, tested: list[_Tested]) -> pl.DataFrame:
    sides = [
        p.rank.cycles.filter(pl.col("complete"))
        .group_by("phase")
        .agg(pl.len().alias(f"n_{side}"), pl.col("duration_us").median().alias(f"{side}_us"))
        for side, p in (("normal", normal), ("abnormal", abnormal))
    ]
    effects = [
        (t.stratum.gate.stratum.split(",")[0], t.time.ratio.estimate, t.time.ratio.low, t.time.ratio.high, t.time.p_value)
        for t in tested
        if t.time.ratio
    ]
    columns = {"phase": pl.String, "ratio": pl.Float64, "low": pl.Float64, "high": pl.Float64, "p_value": pl.Float64}
    return (
        sides[0]
        .join(sides[1], on="phase", how="full", coalesce=True)
        .join(pl.DataFrame(effects, schema=columns, orient="row"), on="phase", how="left")
        .sort("phase")
    )
