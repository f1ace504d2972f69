"""Health of counters: holes in their sampling, no overlap with the trace, and silence of everything at once."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture.findings import Finding, Severity
from rca.capture.model import Capture
from rca.capture.readers.counter_units import UNSPLIT
from rca.capture.words import share_of, time_text

Ints = NDArray[np.int64]

HOLE_FACTOR = 5
"""A sampler on a busy machine is late by a period or two; five in a row without a sample is a sampler that stood still,
and an interpolated value there is invented (FORMATS.md §8, 16)."""

MIN_GAPS = 8
"""A median period of fewer gaps says little."""

STEADY = 2.0
"""A series is periodic if nine in ten of its gaps are below this many medians. Others are sampled on change."""

BURST_TIME, BURST_GAPS = 0.25, 0.01
"""Samples of several devices under one name come in bursts (FORMATS.md §7.8 f): the time lies between the bursts, not in
the gaps within them, and there is a pause for every few samples."""

Span = tuple[int, int]
"""When the trace began and ended, ns; events that are of another time (``zero_time``) left out."""

_SERIES = ["metric", "device", "pid"]


def counters_with_holes(capture: Capture, span: Span | None) -> list[Finding]:
    """Name periodic counters that were not sampled for more than `HOLE_FACTOR` periods while the trace ran."""
    series = of_periodic(sampling_gaps(capture))
    if series.height == 0:
        return []
    first, last = span or capture.counters.select(pl.col("ts_ns").min(), pl.col("ts_ns").max().alias("last")).row(0)
    begins = pl.col("ts_ns") - pl.col("gap")
    within = pl.min_horizontal(pl.col("ts_ns"), pl.lit(last)) - pl.max_horizontal(begins, pl.lit(first))
    holes = series.filter(within > HOLE_FACTOR * pl.col("period"))
    if holes.height == 0:
        return []
    worst = holes.sort("gap", "ts_ns", descending=[True, False], maintain_order=True).row(0, named=True)
    touched = holes.select(_SERIES).n_unique()
    text = (
        f"{share_of(touched, series.select(_SERIES).n_unique())} counters were not sampled for more than {HOLE_FACTOR} "
        f"periods, {holes.height:,} time{'s' * (holes.height > 1)}; longest {worst['metric']} of {worst['device']}: "
        f"{time_text(worst['gap'])} (period {time_text(int(worst['period']))}) "
        f"at {time_text(max(0, worst['ts_ns'] - worst['gap'] - first))} into the recording"
    )
    return [Finding("counter_hole", text)]


def counters_apart(capture: Capture, span: Span | None) -> list[Finding]:
    """Name counters without a sample while the trace ran: another day's file, or another clock."""
    if span is None or capture.counters.height == 0:
        return []
    first, last = span
    ends = capture.counters.group_by(_SERIES).agg(pl.col("ts_ns").min().alias("from"), pl.col("ts_ns").max().alias("to"))
    apart = ends.filter((pl.col("to") < first) | (pl.col("from") > last))
    if apart.height == 0:
        return []
    distance = pl.max_horizontal(first - pl.col("to"), pl.col("from") - last)
    worst = apart.with_columns(distance=distance).sort("distance", *_SERIES, descending=[True, False, False, False])
    row = worst.row(0, named=True)
    side = "before it began" if row["to"] < first else "after it ended"
    text = (
        f"{share_of(apart.height, ends.height)} counters have no sample while the trace ran: "
        f"those of {row['metric']} lie {time_text(row['distance'])} {side}"
    )
    return [Finding("counter_hole", text)]


def clock_jumped(capture: Capture, span: Span | None) -> list[Finding]:
    """Name a time at which neither any event nor any counter has a stamp.

    An idle server is silent too, so silence of the events alone is no finding (pauses are told by the cutting of
    cycles). A sampler that goes on shows that the clock ran; where it stops at the same time, and for more than
    `HOLE_FACTOR` of its periods, the clock was set forward or the machine stood still. Spans that were open then reach
    over the gap: it is their begin and end stamps that are absent.
    """
    steady = of_periodic(sampling_gaps(capture))
    if steady.height == 0 or span is None:
        return []
    period = float(steady["period"].to_numpy().min())
    samples = np.unique(capture.counters["ts_ns"].to_numpy())
    samples = samples[(samples >= span[0]) & (samples <= span[1])]
    quiet = np.flatnonzero(np.diff(samples) > HOLE_FACTOR * period)
    if len(quiet) == 0:
        return []
    start = capture.events["start_ns"].to_numpy()
    stamps = np.sort(np.concatenate([start, start + capture.events["dur_ns"].to_numpy()]), kind="stable")
    stamps = stamps[np.searchsorted(stamps, span[0]) : np.searchsorted(stamps, span[1], side="right")]
    found = []
    for begins, ends in zip(samples[quiet], samples[quiet + 1], strict=True):
        silent = _longest_silence(stamps, int(begins), int(ends))
        if silent and silent[1] - silent[0] > HOLE_FACTOR * period:
            text = (
                f"neither events nor counters for {time_text(silent[1] - silent[0])} at "
                f"{time_text(silent[0] - span[0])} into the recording: the clock was set, or the machine stood still"
            )
            found.append(Finding("clock_jump", text, Severity.WARNING))
    return found


def _longest_silence(stamps: Ints, begins: int, ends: int) -> tuple[int, int] | None:
    """Return the longest time within (begins, ends), and within the recording, in which no event begins or ends."""
    low, high = max(begins, int(stamps[0])), min(ends, int(stamps[-1]))
    if high <= low:
        return None
    inside = stamps[np.searchsorted(stamps, low, side="right") : np.searchsorted(stamps, high, side="left")]
    points = np.concatenate([[low], inside, [high]])
    at = int(np.diff(points).argmax())
    return int(points[at]), int(points[at + 1])


def sampling_gaps(capture: Capture) -> pl.DataFrame:
    """Return the time since the sample before, of every sample but a series' first."""
    single = capture.counters.filter(pl.col("device").cast(pl.String) != UNSPLIT)
    times = single.select(*_SERIES, "ts_ns").sort(*_SERIES, "ts_ns", maintain_order=True)
    gaps = times.with_columns(gap=pl.col("ts_ns").diff().over(_SERIES))
    return gaps.filter(pl.col("gap") > 0)


def of_periodic(gaps: pl.DataFrame) -> pl.DataFrame:
    """Keep the series that are sampled at a steady period, and add it as ``period``."""
    gap, period = pl.col("gap"), pl.col("gap").median()
    regular = gap.filter(gap <= STEADY * period).sum() / gap.sum()
    pauses = (gap > HOLE_FACTOR * period).sum()
    in_bursts = (regular < BURST_TIME) & (pauses > 1) & (pauses > BURST_GAPS * pl.len())
    steady = (pl.len() >= MIN_GAPS) & (gap.quantile(0.9) <= STEADY * period)
    of_series = gaps.group_by(_SERIES).agg(period=period, steady=steady & ~in_bursts)
    typical = gaps.join(of_series.filter(pl.col("steady")), on=_SERIES, nulls_equal=True, maintain_order="left")
    return typical.drop("steady")
