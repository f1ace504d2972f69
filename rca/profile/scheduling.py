"""The functions ``oncpu`` and ``runq``: what the operating system's scheduler did with a process in a cycle.

They come from scheduler slices in the trace, or from counters of the kernel's ``schedstat`` where there are none.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from rca.capture.tables import HOST
from rca.cycles import Rank
from rca.profile.counters_join import event_moments, series_for

_FUNCTION_OF_COUNTER = {"oncpu": "process_cpu_usage", "runq": "process_runq_wait"}
"""Both in % of one core (FORMATS.md §5.2): a process of several threads may exceed 100."""


def with_scheduling(events: pl.DataFrame, counters: pl.DataFrame, rank: Rank) -> pl.DataFrame:
    """Give scheduler slices one name each and merge those that overlap; take counters where there are no slices.

    Args:
        events: of one rank, with ``cycle``, ``class``, ``own_ns`` and ``calls``.
        counters: of the capture.
        rank: whose events they are.
    """
    kind = pl.col("kind").cast(pl.String)
    slices = events.filter(kind.is_in(list(_FUNCTION_OF_COUNTER)))
    if slices.height == 0:
        return pl.concat([events, *_from_counters(events, counters, rank)])
    named = slices.with_columns(name=kind.cast(pl.Categorical), device=pl.lit(HOST).cast(pl.Categorical))
    on_cpu = pl.col("kind") == "oncpu"
    others = events.filter(~kind.is_in(list(_FUNCTION_OF_COUNTER)))
    return pl.concat([others, named.filter(~on_cpu), _merged(named.filter(on_cpu))])


def _merged(slices: pl.DataFrame) -> pl.DataFrame:
    """Merge slices of one process and cycle that overlap (FORMATS.md §7.5): one span, the sum of their own times."""
    key = ["pid", "cycle"]
    end = pl.col("start_ns") + pl.col("dur_ns")
    ordered = slices.sort(*key, "start_ns").with_columns(end=end)
    reach = pl.col("end").cum_max().shift(1).over(key)
    ordered = ordered.with_columns(run=(pl.col("start_ns") >= reach).fill_null(True).cum_sum().over(key))
    first = [pl.col(name).first() for name in slices.columns if name not in {*key, "start_ns", "dur_ns", "own_ns", "calls"}]
    return (
        ordered.group_by(*key, "run", maintain_order=True)
        .agg(
            *first,
            pl.col("start_ns").min(),
            (pl.col("end").max() - pl.col("start_ns").min()).alias("dur_ns"),
            pl.col("own_ns").sum(),
            pl.col("calls").sum(),
        )
        .select(slices.columns)
    )


def _from_counters(events: pl.DataFrame, counters: pl.DataFrame, rank: Rank) -> list[pl.DataFrame]:
    """Make one event per cycle and function, as long as the cycle, whose own time is the counter's share of it."""
    cycles = rank.cycles.filter(pl.col("complete"))
    start, end = cycles["start_ns"].to_numpy(), cycles["end_ns"].to_numpy()
    found = []
    for function, metric in _FUNCTION_OF_COUNTER.items():
        series = series_for(counters, metric, HOST, rank.pid)
        if series is None or events.height == 0 or not ((series.ts_ns >= start[0]) & (series.ts_ns <= end[-1])).any():
            continue
        mean, _, _ = event_moments(series, start, end)
        own_ns = np.maximum(mean, 0) / 100 * (end - start)
        rows = events.clear(n=len(start)).with_columns(
            cycle=cycles["cycle"],
            name=pl.lit(function).cast(pl.Categorical),
            kind=pl.lit(function).cast(events.schema["kind"]),
            device=pl.lit(HOST).cast(pl.Categorical),
            pid=pl.lit(rank.pid, pl.Int64),
            start_ns=pl.Series(start),
            dur_ns=pl.Series(end - start),
            own_ns=pl.Series(own_ns.round().astype(np.int64)),
            calls=pl.lit(1, pl.Int64),
        )
        found.append(rows.with_columns(pl.lit(function).cast(pl.Categorical).alias("class")))
    return found
