"""Cycles and events into a profile: β of every function in every cycle, μ and σ of its counters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from rca.capture import Capture
from rca.capture.launches import begun_ns
from rca.capture.tables import HOST, NO_METRIC
from rca.cycles import Rank
from rca.profile.classify import COUNTERS_OF_CLASS, OP_CLASSES, PROFILED_KINDS, with_class
from rca.profile.counters_join import event_moments, norm_factor, series_for
from rca.profile.scheduling import SCHEDULED, scheduling
from rca.profile.self_time import self_time_ns
from rca.profile.timeline import summed_parts, timeline_parts

MARGIN_NS = 2_000_000_000
"""Counters are often sampled once a second: of a short trace the neighbouring samples are all there is."""

GPU_METRICS = ("gpu_", "process_gpu_", "container_gpu_")
"""Counters of these names are of one GPU; any other is of the host, also while a kernel runs."""

ROWS: dict[str, pl.DataType | type[pl.DataType]] = {
    "cycle": pl.Int64,
    "function": pl.String,
    "metric": pl.String,
    "device": pl.String,
    "class": pl.String,
    "beta_pct": pl.Float64,
    "mu_pct": pl.Float64,
    "sigma_pct": pl.Float64,
    "duration_us": pl.Float64,
    "count": pl.Int64,
    "interpolation": pl.String,
}
"""One row per (cycle, function, device, metric). ``metric`` is ``N/A`` and μ null where no counter belongs to the
function. ``interpolation``: blank none, ``*`` some, ``**`` all events had too few samples."""


@dataclass(frozen=True)
class Profile:
    """One rank reduced to per-cycle numbers.

    Attributes:
        rank: role, pid, anchor and cycles.
        rows: `ROWS`.
        counters: the capture's samples from the first to the last cycle, in the schema of `Capture.counters`.
        parts: where the time of each cycle went (`rca.profile.timeline.PARTS_TABLE`).
        from_events: whether the capture's own events were reduced here.
    """

    rank: Rank
    rows: pl.DataFrame
    counters: pl.DataFrame
    parts: pl.DataFrame
    from_events: bool


def build(capture: Capture, rank: Rank, cores: int = 1) -> Profile:
    """Reduce one rank of a capture to its profile.

    Args:
        capture: one side.
        rank: one of its ranks.
        cores: of the host; ``process_cpu_usage`` is given as a share of them. The same for both sides of a comparison.
    """
    if capture.cycle_rows.height:
        of_rank = (pl.col("pid") == rank.pid) & pl.col("file").is_in(rank.files)
        own = capture.cycle_rows.filter(of_rank).rename({"kind": "class"})
        rows = _typed(own)
        return Profile(rank, rows, _within(capture.counters, rank), summed_parts(rows, rank.cycles), from_events=False)
    events = _events_in_cycles(capture, rank)
    near = _within(capture.counters, rank, MARGIN_NS)  # a sample just outside still tells what the counter was
    within, parts = _within(capture.counters, rank), timeline_parts(capture, rank)
    return Profile(rank, _rows(events, near, rank, cores), within, parts, from_events=True)


def _within(counters: pl.DataFrame, rank: Rank, margin_ns: int = 0) -> pl.DataFrame:
    first, last = rank.cycles["start_ns"].min(), rank.cycles["end_ns"].max()
    return counters.filter(pl.col("ts_ns").is_between(pl.lit(first) - margin_ns, pl.lit(last) + margin_ns))


_NEEDED = ("start_ns", "dur_ns", "name", "kind", "pid", "tid", "device", "correlation", "file")


def _events_in_cycles(capture: Capture, rank: Rank) -> pl.DataFrame:
    """Return the rank's events with their ``cycle``, ``class`` and the time ``own_ns`` that counts for β.

    A host event belongs to the cycle in which it starts, GPU work to the cycle of the call that launched it: with
    overlapped scheduling the GPU still runs step k while the host is in step k + 1.
    """
    complete = rank.cycles.filter(pl.col("complete"))
    of_kinds = pl.col("kind").is_in(list(PROFILED_KINDS))
    own = capture.events.lazy().filter(rank.owns() & of_kinds).select(_NEEDED).collect()
    placed = begun_ns(own)
    starts, ends = complete["start_ns"].to_numpy(), complete["end_ns"].to_numpy()
    at = np.searchsorted(starts, placed, side="right") - 1
    inside = (at >= 0) & (placed < ends[np.maximum(at, 0)]) if len(starts) else np.zeros(own.height, dtype=bool)
    cycle = complete["cycle"].to_numpy()[np.maximum(at, 0)] if len(starts) else at
    own = with_class(own.drop("correlation", "file"))
    nested = own.select(pl.col("class").is_in(pl.Series(OP_CLASSES, dtype=pl.Categorical).implode())).to_series()
    own_ns = own["dur_ns"].to_numpy().copy()
    own_ns[nested.to_numpy()] = self_time_ns(own.filter(nested).select("pid", "tid", "start_ns", "dur_ns"))
    own = own.with_columns(cycle=pl.Series(cycle), own_ns=pl.Series(own_ns), calls=pl.lit(1, pl.Int64))
    scheduled = [scheduling(capture, rank, function) for function in SCHEDULED]
    return pl.concat([own.filter(pl.Series(inside)), *(part.select(own.columns) for part in scheduled if part is not None)])


def _rows(events: pl.DataFrame, counters: pl.DataFrame, rank: Rank, cores: int) -> pl.DataFrame:
    key = ["cycle", "name", "device", "class"]
    functions = events.group_by(key).agg(pl.col("own_ns").sum(), pl.col("calls").sum().alias("count"))
    parts = [_rows_of_metric(own, counters, metric, rank.pid, cores) for own, metric in _pairs(events, counters)]
    schema = {
        "cycle": pl.Int64,
        "name": pl.Categorical,
        "device": pl.Categorical,
        "class": pl.Categorical,
        "metric": pl.String,
        "mu_pct": pl.Float64,
        "sigma_pct": pl.Float64,
        "interpolation": pl.String,
    }
    filled = [part for part in parts if part is not None]
    metrics = pl.concat(filled) if filled else pl.DataFrame(schema=schema)
    cycle_us = rank.cycles.select("cycle", "duration_us").rename({"duration_us": "cycle_us"})
    rows = (
        functions.join(metrics, on=key, how="left")
        .join(cycle_us, on="cycle")
        .with_columns(duration_us=pl.col("own_ns") / 1000, metric=pl.col("metric").fill_null(NO_METRIC))
        .with_columns(beta_pct=100 * pl.col("duration_us") / pl.col("cycle_us"), function=pl.col("name"))
    )
    return _typed(rows)


def _pairs(events: pl.DataFrame, counters: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, str]]:
    """Yield the events of each class on each device with each metric that was recorded and belongs to the class."""
    recorded = set(counters["metric"].unique().cast(pl.String))
    pairs = events.select(pl.col("class", "device").cast(pl.String)).unique().sort("class", "device")
    for class_, device in pairs.iter_rows():
        metrics = [metric for metric in COUNTERS_OF_CLASS.get(class_, ()) if metric in recorded]
        if metrics:
            own = events.filter((pl.col("class") == class_) & (pl.col("device") == device))
            yield from ((own, metric) for metric in metrics)


def _rows_of_metric(events: pl.DataFrame, counters: pl.DataFrame, metric: str, pid: int, cores: int) -> pl.DataFrame | None:
    """Return μ, σ and interpolation status per (cycle, function) for events of one class on one device."""
    device = str(events["device"][0]) if metric.startswith(GPU_METRICS) else HOST
    series = series_for(counters, metric, device, pid)
    if series is None:
        return None
    start = events["start_ns"].to_numpy()
    mean, variance, interpolated = event_moments(series, start, start + events["dur_ns"].to_numpy())
    scale = 100.0 / norm_factor(metric, cores)
    weight = pl.col("own_ns").cast(pl.Float64) + 1e-9  # a function of zero-length events still has a mean
    origin = float(series.value[0])  # so that a counter that stays the same has exactly the same mean in every cycle
    return (
        events.with_columns(
            mean=pl.Series(mean - origin), variance=pl.Series(variance), interpolated=pl.Series(interpolated)
        )
        .group_by("cycle", "name", "device", "class")
        .agg(
            (pl.col("mean") * weight).sum().truediv(weight.sum()).add(origin).mul(scale).alias("mu_pct"),
            (pl.col("variance") * weight).sum().truediv(weight.sum()).sqrt().mul(scale).alias("sigma_pct"),
            pl.col("interpolated").mean().alias("share"),
        )
        .with_columns(
            metric=pl.lit(metric),
            interpolation=pl.when(pl.col("share") == 0)
            .then(pl.lit(" "))
            .when(pl.col("share") < 1)
            .then(pl.lit("*"))
            .otherwise(pl.lit("**")),
        )
        .select("cycle", "name", "device", "class", "metric", "mu_pct", "sigma_pct", "interpolation")
    )


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    typed = rows.select(pl.col(key).cast(dtype) for key, dtype in ROWS.items())
    return typed.sort("cycle", "function", "device", "metric", "class")
