"""The robust comparison: one value per cycle (or per counter sample), rank tests, false-discovery control."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture.tables import HOST, NO_METRIC
from rca.comparison.model import ALPHA, MIN_EFFECT, Calibration, CycleTime
from rca.profile import Profile
from rca.profile.counters_join import Series, series_for
from rca.stats.robust import (
    any_difference_p,
    benjamini_hochberg,
    column_shifts,
    dependence,
    effective_n,
    hodges_lehmann,
    ratio,
    smallest_p,
    two_sample_test,
)

Floats = NDArray[np.float64]

MOST_SPLITS = 500


def cycle_time(normal: Floats, abnormal: Floats, comparable: bool) -> CycleTime:
    """Compare cycle durations (µs, in time order). Effect and p are left out where cycles are not comparable."""
    testable = comparable and min(len(normal), len(abnormal)) >= 2
    rho = dependence(normal, abnormal)  # one estimate: short sides say little each
    worth = effective_n(len(normal), rho), effective_n(len(abnormal), rho)
    return CycleTime(
        normal_us=float(np.median(normal)) if len(normal) else float("nan"),
        abnormal_us=float(np.median(abnormal)) if len(abnormal) else float("nan"),
        n_normal=len(normal),
        n_abnormal=len(abnormal),
        effective_normal=worth[0],
        effective_abnormal=worth[1],
        ratio=ratio(normal, abnormal, rho) if testable else None,
        p_value=float(two_sample_test(np.log(normal), np.log(abnormal), *worth).p[0]) if testable else None,
    )


def is_different(p_value: float, effect: float) -> bool:
    """Decide one comparison of cycle times: significant, and at least `MIN_EFFECT`."""
    return p_value < ALPHA and abs(effect - 1) >= MIN_EFFECT


def is_called(time: CycleTime, calibration: Calibration, tests: int = 1) -> bool:
    """Decide a comparison: different by test and effect, interval clear of 1, and outside the measured noise floor.

    Args:
        time: both sides' cycle times.
        calibration: of the normal side.
        tests: how many ranks and phases are tested at once; the level is divided by it (Bonferroni).
    """
    if time.ratio is None or time.p_value is None:
        return False
    effect = time.ratio.estimate
    floor = calibration.noise_floor
    return (
        is_different(min(time.p_value * tests, 1.0), effect)
        and not time.ratio.low <= 1 <= time.ratio.high
        and (floor is None or abs(math.log(effect)) > math.log1p(floor))
    )


def calibrate(normal: Floats, n_abnormal: int) -> Calibration:
    """Split the normal side's cycles into contiguous halves, at every place around the circle, and compare those.

    Neighbouring places give nearly the same halves, so of a long capture `MOST_SPLITS` of them tell as much as all.
    """
    n = len(normal)
    half = n // 2
    if half < 3 or n_abnormal < 1:
        return Calibration(0, None, None)
    rho = dependence(normal)
    worth = effective_n(half, rho), effective_n(n - half, rho)
    effects, passed = [], []
    starts = np.unique(np.linspace(0, half - 1, min(half, MOST_SPLITS)).astype(int))
    for start in starts.tolist():
        turned = np.roll(np.log(normal), -start)
        one, two = turned[:half], turned[half:]
        effect = hodges_lehmann(one, two)
        effects.append(abs(effect))
        passed.append(is_different(float(two_sample_test(one, two, *worth).p[0]), math.exp(effect)))
    scale = np.sqrt((1 / n + 1 / n_abnormal) / (1 / half + 1 / (n - half)))
    floor = float(np.expm1(np.quantile(effects, 0.95) * scale))
    reachable = smallest_p(half, n - half) < ALPHA
    return Calibration(len(starts), float(np.mean(passed)) if reachable else None, floor)


@dataclass(frozen=True)
class FunctionTable:
    """Robust rows per (function, device), and the p of "nothing differs" over all of them."""

    table: pl.DataFrame
    any_difference_p: float | None


def function_shifts(normal: Profile, abnormal: Profile, cycles: tuple[pl.DataFrame, pl.DataFrame]) -> FunctionTable:
    """Compare the time per cycle of every (function, device); a cycle without it counts as 0."""
    per_cycle = [time_per_cycle(profile, own) for profile, own in zip((normal, abnormal), cycles, strict=True)]
    keys = (
        pl.concat([table.select("function", "device", "class") for table in per_cycle])
        .unique(["function", "device"], keep="first", maintain_order=True)
        .sort("function", "device")
    )
    (x, x_count), (y, y_count) = (matrices(table, keys, own) for table, own in zip(per_cycle, cycles, strict=True))
    durations = [own["duration_us"].to_numpy() for own in cycles]
    columns: dict[str, Any] = {
        "normal_us": _medians(x),
        "abnormal_us": _medians(y),
        "normal_mean_us": _means(x),
        "abnormal_mean_us": _means(y),
        "normal_count": _means(x_count),
        "abnormal_count": _means(y_count),
    }
    columns |= _effects(*(columns[key] for key in ("normal_count", "normal_mean_us", "abnormal_count", "abnormal_mean_us")))
    nothing: Floats = np.full(keys.height, np.nan)
    if min(len(x), len(y)) < 2 or keys.height == 0:
        columns |= dict.fromkeys(("shift_us", "shift_low_us", "shift_high_us", "cliffs_delta", "p", "q"), nothing)
        return FunctionTable(keys.with_columns(**{k: pl.Series(v) for k, v in columns.items()}), None)
    rho = dependence(*durations)
    shift, low, high = column_shifts(x, y, rho)
    test = two_sample_test(x, y, effective_n(len(x), rho), effective_n(len(y), rho))
    columns |= {
        "shift_us": shift,
        "shift_low_us": low,
        "shift_high_us": high,
        "cliffs_delta": test.delta,
        "p": test.p,
        "q": benjamini_hochberg(test.p),
    }
    table = keys.with_columns(**{k: pl.Series(v) for k, v in columns.items()})
    return FunctionTable(
        table.sort(pl.col("shift_us").abs(), "function", "device", descending=[True, False, False]),
        any_difference_p(x, y, rho),
    )


def _effects(count: Floats, mean_us: Floats, count_2: Floats, mean_us_2: Floats) -> dict[str, Floats]:
    """Split the change of the mean time per cycle into calls × time of a call; the two sum to the change.

    Each factor is weighed by the mean of the other (Shapley's value of two factors). A function of one side only is all
    count; where calls were not counted both are NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        each, each_2 = mean_us / count, mean_us_2 / count_2
        shared = (count_2 - count) * (each + each_2) / 2
    by_count = np.where((count > 0) & (count_2 > 0), shared, mean_us_2 - mean_us)
    not_counted = ((count == 0) & (mean_us > 0)) | ((count_2 == 0) & (mean_us_2 > 0))
    by_count = np.where(not_counted, np.nan, by_count)
    return {"count_effect_us": by_count, "duration_effect_us": mean_us_2 - mean_us - by_count}


def metric_shifts(normal: Profile, abnormal: Profile, cycles: tuple[pl.DataFrame, pl.DataFrame]) -> pl.DataFrame:
    """Compare every counter on every device that the rank used.

    Counters are tested on their own samples, never on more values than were sampled. Per-cycle profiles state μ per
    cycle instead; there a counter is worth no more values than its sampler made ticks.
    """
    sides = [counter_values(profile, own) for profile, own in zip((normal, abnormal), cycles, strict=True)]
    rows = []
    for key in sorted(sides[0].keys() & sides[1].keys()):
        (x, most_x), (y, most_y) = sides[0][key], sides[1][key]
        rho = dependence(x, y)
        n_x, n_y = min(effective_n(len(x), rho), most_x), min(effective_n(len(y), rho), most_y)
        shift, low, high = (float(v[0]) for v in column_shifts(x[:, None], y[:, None], rho))
        test = two_sample_test(x, y, n_x, n_y)
        separation = _separation(x, y)
        rows.append(
            (
                *key,
                float(np.median(x)),
                float(np.median(y)),
                len(x),
                len(y),
                n_x,
                n_y,
                shift,
                low,
                high,
                float(test.delta[0]),
                float(test.p[0]),
                separation,
            )
        )
    columns = [
        "metric",
        "device",
        "normal",
        "abnormal",
        "n_normal",
        "n_abnormal",
        "effective_normal",
        "effective_abnormal",
        "shift",
        "shift_low",
        "shift_high",
        "cliffs_delta",
        "p",
        "separation",
    ]
    types = [pl.String] * 2 + [pl.Float64] * 2 + [pl.Int64] * 2 + [pl.Float64] * 8
    table = pl.DataFrame(rows, schema=dict(zip(columns, types, strict=True)), orient="row")
    return table.with_columns(q=pl.Series(benjamini_hochberg(table["p"].to_numpy()), dtype=pl.Float64)).sort(
        "q", pl.col("cliffs_delta").abs(), "metric", "device", descending=[False, True, False, False]
    )


def _separation(x: Floats, y: Floats) -> float:
    """Return the gap between the sides in units of the larger side's range: 0 where they overlap."""
    gap = max(float(y.min() - x.max()), float(x.min() - y.max()), 0.0)
    widest = max(float(np.ptp(x)), float(np.ptp(y)))
    return gap / widest if widest > 0 else (math.inf if gap > 0 else 0.0)


def time_per_cycle(profile: Profile, cycles: pl.DataFrame) -> pl.DataFrame:
    """Return ``cycle, function, device, class, duration_us, count`` of some cycles; none where a function did not run."""
    return (
        profile.rows.filter(pl.col("cycle").is_in(cycles["cycle"].to_list()))
        .unique(["cycle", "function", "device"], keep="first", maintain_order=True)
        .select("cycle", "function", "device", "class", "duration_us", "count")
    )


def matrices(table: pl.DataFrame, keys: pl.DataFrame, cycles: pl.DataFrame) -> tuple[Floats, Floats]:
    """Return (cycles, functions) matrices of µs and of counts; 0 where a function did not run in a cycle."""
    at = table.join(cycles.select("cycle").with_row_index("row"), on="cycle").join(
        keys.select("function", "device").with_row_index("column"), on=["function", "device"]
    )
    shape = (cycles.height, keys.height)
    time, count = np.zeros(shape), np.zeros(shape)
    index = at["row"].to_numpy(), at["column"].to_numpy()
    time[index] = at["duration_us"].to_numpy()
    count[index] = at["count"].fill_null(0).to_numpy()
    return time, count


def _medians(values: Floats) -> Floats:
    return np.median(values, axis=0) if len(values) else np.full(values.shape[1], np.nan)


def _means(values: Floats) -> Floats:
    return values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)


Values = dict[tuple[str, str], tuple[Floats, float]]
"""Per (metric, device): the values in time order, and the number of times the counter was really sampled."""


def counter_values(profile: Profile, cycles: pl.DataFrame) -> Values:
    """Return the values that the counters of a side are compared on; ``cycles`` are those that take part."""
    return _sampled_values(profile) if profile.from_events else mu_values(profile, cycles)


def _sampled_values(profile: Profile) -> Values:
    gpus = {d for d in profile.rows["device"].unique() if d.startswith("GPU")}
    place = (
        pl.when(pl.col("device").str.starts_with("CPU "))
        .then(pl.lit(HOST))
        .otherwise(pl.col("device").cast(pl.String))
        .alias("device")
    )
    names = profile.counters.select(pl.col("metric", "device").cast(pl.String), "pid").with_columns(place).unique()
    values: Values = {}
    for metric, place, pid in names.sort("metric", "device", "pid").iter_rows():
        if (pid is not None and pid != profile.rank.pid) or (place.startswith("GPU") and gpus and place not in gpus):
            continue
        series = series_for(profile.counters, metric, place, profile.rank.pid)
        if series is not None and len(series.value) > 1:
            own = _one_per_cycle(series, profile.rank.cycles)
            values[metric, place] = (own, float(len(own)))
    return values


def _one_per_cycle(series: Series, cycles: pl.DataFrame) -> Floats:
    """Return the mean of every cycle, of a counter that was sampled more often than there were cycles; else all samples.

    What a counter does within a cycle repeats with every cycle: its samples are no more independent than the cycles are.
    """
    if len(series.value) <= cycles.height:
        return series.value
    first = np.searchsorted(series.ts_ns, cycles["start_ns"].to_numpy(), side="left")
    last = np.searchsorted(series.ts_ns, cycles["end_ns"].to_numpy(), side="left")
    total = np.concatenate([[0.0], np.cumsum(series.value)])
    sampled = last > first
    means: Floats = (total[last] - total[first])[sampled] / (last - first)[sampled]
    return means


def mu_values(profile: Profile, cycles: pl.DataFrame) -> Values:
    """Return the mean of every counter in every cycle, in % as a profile that was cut before it reached us states them."""
    own = profile.rows.filter(
        (pl.col("metric") != NO_METRIC) & pl.col("mu_pct").is_not_null() & pl.col("cycle").is_in(cycles["cycle"].to_list())
    )
    weight = pl.col("duration_us") + 1e-9
    per_cycle = own.group_by("metric", "device", "cycle").agg((pl.col("mu_pct") * weight).sum() / weight.sum())
    ticks = _ticks(profile)
    values: Values = {}
    for (metric, device), part in per_cycle.sort("cycle").group_by("metric", "device", maintain_order=True):
        series = part["mu_pct"].to_numpy()
        if len(series) > 1:
            values[str(metric), str(device)] = (series, float(ticks.get(str(metric), len(series))))
    return values


def _ticks(profile: Profile) -> dict[str, int]:
    """Return how often each metric was sampled while the cycles ran.

    A file that does not say which device a sample is of has those of all devices within a moment: samples much closer
    than the sampler's own period are one tick. The period is the 95th percentile of the gaps, which holds for up to 16
    devices.
    """
    ordered = profile.counters.sort("ts_ns").select(
        pl.col("metric").cast(pl.String), gap=pl.col("ts_ns").diff().over("metric").cast(pl.Float64)
    )
    ticks = ordered.group_by("metric").agg((pl.col("gap") > pl.col("gap").quantile(0.95, "higher") / 4).sum() + 1)
    return {metric: int(count) for metric, count in ticks.iter_rows()}
