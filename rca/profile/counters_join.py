"""μ and σ: the counter values while a function ran (FORMATS.md §7.5), for all events of a class at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture.tables import HOST

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_SAMPLES = 3
"""Events that hold fewer samples of a counter get the values interpolated at their two ends."""

_PERCENT = ("usage", "rate", "util", "occupancy", "wait")
"""The reference's words for percentages, and that of this project's own run-queue counter."""


@dataclass(frozen=True)
class Series:
    """One counter on one device, sorted by time; times at which several sources sampled are averaged."""

    ts_ns: Ints
    value: Floats


def series_for(counters: pl.DataFrame, metric: str, device: str, pid: int) -> Series | None:
    """Return the samples of ``metric`` that describe ``device`` or, for per-process counters, ``pid``.

    Host counters that were sampled per core are averaged over the cores.
    """
    own = counters.filter(pl.col("metric").cast(pl.String) == metric)
    if own.height == 0:
        return None
    if own["pid"].null_count() < own.height:
        own = own.filter(pl.col("pid") == pid)
    names = own["device"].cast(pl.String)
    exact = names == device
    own = own.filter(exact if exact.any() or device != HOST else names.str.starts_with("CPU "))
    if own.height == 0:
        return None
    merged = own.group_by("ts_ns").agg(pl.col("value").mean()).sort("ts_ns")
    return Series(merged["ts_ns"].to_numpy(), merged["value"].to_numpy())


def norm_factor(metric: str, cores: int) -> float:
    """Return what a counter is divided by before μ and σ are taken; both are then given in percent."""
    if metric == "process_cpu_usage":
        return 100.0 * cores
    return 100.0 if any(word in metric for word in _PERCENT) else 1.0


def estimate_cores(counters: pl.DataFrame) -> int:
    """Return the number of cores: those sampled one by one, else the next usual size above the CPU use seen."""
    cores = [d for d in counters["device"].cast(pl.String).unique() if d.startswith("CPU ")]
    if cores:
        return len(cores)
    usage = counters.filter(pl.col("metric").cast(pl.String) == "process_cpu_usage")
    if usage.height == 0:
        return 1
    needed = sum(math.ceil(value / 100) for value in usage.group_by("pid").agg(pl.col("value").max())["value"])
    return next((size for size in (8, 16, 24, 32, 48, 64, 96, 128) if size >= needed), 1)


def event_moments(series: Series, start: Ints, end: Ints) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return mean and population variance of a counter while each event ran, and which were interpolated.

    Samples with ``start <= ts <= end`` count. Events with fewer than `MIN_SAMPLES` get the mean and variance of the two
    values that linear interpolation gives at their ends; before the first and after the last sample the value is held.
    """
    ts, value = series.ts_ns, series.value
    first, last = np.searchsorted(ts, start, side="left"), np.searchsorted(ts, end, side="right")
    n = last - first
    centre = value[0]  # shifted sums keep the moments of large, nearly constant counters exact
    total = np.concatenate([[0.0], np.cumsum(value - centre)])
    squares = np.concatenate([[0.0], np.cumsum((value - centre) ** 2)])
    count = np.maximum(n, 1)
    mean = (total[last] - total[first]) / count
    variance = np.maximum((squares[last] - squares[first]) / count - mean**2, 0.0)
    interpolated = n < MIN_SAMPLES
    origin = ts[0]
    at_start = np.interp((start - origin).astype(float), (ts - origin).astype(float), value)
    at_end = np.interp((end - origin).astype(float), (ts - origin).astype(float), value)
    return (
        np.where(interpolated, (at_start + at_end) / 2, mean + centre),
        np.where(interpolated, ((at_end - at_start) / 2) ** 2, variance),
        interpolated,
    )
