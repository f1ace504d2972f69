"""The functions ``oncpu`` and ``runq``: what the operating system's scheduler did with a process in a cycle.

They come from scheduler slices in the trace or, where there are none, from counters of the kernel's ``schedstat``.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from rca.capture import Capture
from rca.capture.tables import HOST, KIND
from rca.cycles import Rank
from rca.profile.counters_join import Series, event_moments, series_for

SCHEDULED = ("oncpu", "runq")
_COUNTER_OF = {"oncpu": "process_cpu_usage", "runq": "process_runq_wait"}
"""Both in % of one core (FORMATS.md §5.2): a process of several threads may exceed 100."""

MIN_SAMPLES_PER_CYCLE = 3
"""Of a counter, in the median cycle. With fewer, the values of neighbouring cycles are the same measurement, and a test that
takes them for several finds differences where there are none."""


def scheduling(capture: Capture, rank: Rank, function: str) -> pl.DataFrame | None:
    """Return the events of one scheduler function, each within one cycle; None where nothing tells of it.

    The columns are those of `rca.capture.tables.EVENTS` (without file and correlation) and ``cycle``, ``class``, ``own_ns``
    (the time that counts for β), ``calls``.
    """
    cycles = rank.cycles.filter(pl.col("complete")).select("cycle", "start_ns", "end_ns")
    slices = capture.events.lazy().filter(rank.owns() & (pl.col("kind") == function)).select("start_ns", "dur_ns").collect()
    if cycles.height == 0:
        return None
    if slices.height:
        pieces = _cut_at_cycles(slices, cycles)
        found = _merged(pieces) if function == "oncpu" else pieces.with_columns(calls=pl.lit(1, pl.Int64))
    else:
        series = series_for(capture.counters, _COUNTER_OF[function], HOST, rank.pid)
        if series is None or not _dense_enough(series, cycles):
            return None
        found = _from_counter(series, cycles)
    return found.with_columns(
        pl.lit(function).cast(pl.Categorical).alias("name"),
        pl.lit(function).cast(pl.Categorical).alias("class"),
        pl.lit(function).cast(KIND).alias("kind"),
        pl.lit(HOST).cast(pl.Categorical).alias("device"),
        pl.lit(rank.pid, pl.Int64).alias("pid"),
        pl.lit(0, pl.Int64).alias("tid"),
    )


def _cut_at_cycles(slices: pl.DataFrame, cycles: pl.DataFrame) -> pl.DataFrame:
    """Cut slices where a cycle ends: a thread that computes may keep its core for many cycles."""
    start = slices["start_ns"].to_numpy()
    end = start + slices["dur_ns"].to_numpy()
    begins, ends = cycles["start_ns"].to_numpy(), cycles["end_ns"].to_numpy()
    first = np.maximum(np.searchsorted(begins, start, side="right") - 1, 0)
    last = np.maximum(np.searchsorted(begins, end, side="left") - 1, first)
    pieces = last - first + 1
    of = np.repeat(np.arange(len(start)), pieces)
    at = np.arange(len(of)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + first[of]
    piece_start, piece_end = np.maximum(start[of], begins[at]), np.minimum(end[of], ends[at])
    table = pl.DataFrame(
        {
            "cycle": cycles["cycle"].to_numpy()[at],
            "start_ns": piece_start,
            "dur_ns": piece_end - piece_start,
            "own_ns": piece_end - piece_start,
        }
    )
    return table.filter(pl.col("dur_ns") > 0)


def _merged(pieces: pl.DataFrame) -> pl.DataFrame:
    """Merge pieces of one cycle that overlap (FORMATS.md §7.5): one span, the sum of their own times, their number."""
    ordered = pieces.sort("cycle", "start_ns", "dur_ns").with_columns(end=pl.col("start_ns") + pl.col("dur_ns"))
    reach = pl.col("end").cum_max().shift(1).over("cycle")
    ordered = ordered.with_columns(run=(pl.col("start_ns") >= reach).fill_null(True).cum_sum().over("cycle"))
    return ordered.group_by("cycle", "run", maintain_order=True).agg(
        pl.col("start_ns").min(),
        (pl.col("end").max() - pl.col("start_ns").min()).alias("dur_ns"),
        pl.col("own_ns").sum(),
        pl.len().cast(pl.Int64).alias("calls"),
    )


def _dense_enough(series: Series, cycles: pl.DataFrame) -> bool:
    starts, ends = cycles["start_ns"].to_numpy(), cycles["end_ns"].to_numpy()
    samples = np.searchsorted(series.ts_ns, ends, side="left") - np.searchsorted(series.ts_ns, starts, side="left")
    return bool(np.median(samples) >= MIN_SAMPLES_PER_CYCLE)


def _from_counter(series: Series, cycles: pl.DataFrame) -> pl.DataFrame:
    """Make one event per cycle, as long as the cycle, whose own time is the counter's share of it."""
    start, end = cycles["start_ns"].to_numpy(), cycles["end_ns"].to_numpy()
    mean, _, _ = event_moments(series, start, end)
    own_ns = np.maximum(mean, 0) / 100 * (end - start)
    return cycles.select("cycle", "start_ns", (pl.col("end_ns") - pl.col("start_ns")).alias("dur_ns")).with_columns(
        own_ns=pl.Series(own_ns.round().astype(np.int64)), calls=pl.lit(1, pl.Int64)
    )
