"""The tables that every reader fills: events, counters and per-cycle rows.

Times are integer nanoseconds on one clock per capture: the Unix epoch where the source knows it, else the source's own
zero (the capture then carries a note that says so).
"""

from __future__ import annotations

import polars as pl

from rca.capture.metrics import HOST as HOST  # noqa: PLC0414  (a word of the tables, defined where polars is not needed)

KINDS = (
    "kernel",
    "memcpy",
    "memset",
    "runtime",
    "driver",
    "sync",
    "op",
    "annotation",
    "gpu_annotation",
    "python",
    "oncpu",
    "runq",
    "io",
    "overhead",
    "window",
    "other",
)
KIND = pl.Enum(KINDS)
GPU_KINDS = ("kernel", "memcpy", "memset")

NO_METRIC = "N/A"
"""Metric of a function to which no counter belongs."""

UNKNOWN_RANK = -1
"""Rank of a process whose trace does not state one."""

EVENTS: dict[str, pl.DataType | type[pl.DataType]] = {
    "start_ns": pl.Int64,
    "dur_ns": pl.Int64,
    "name": pl.Categorical,
    "kind": KIND,
    "pid": pl.Int64,
    "tid": pl.Int64,
    "rank": pl.Int32,
    "device": pl.Categorical,
    "stream": pl.Int64,
    "correlation": pl.Int64,
    "bytes": pl.Int64,
    "file": pl.Int32,
}
"""One row per span. ``file`` is the index into `Capture.files`; ``stream``, ``correlation``, ``bytes`` may be null."""

COUNTERS: dict[str, pl.DataType | type[pl.DataType]] = {
    "ts_ns": pl.Int64,
    "metric": pl.Categorical,
    "device": pl.Categorical,
    "pid": pl.Int64,
    "value": pl.Float64,
    "unit": pl.Categorical,
}
"""One row per sample. ``pid`` is null for what is not of one process."""

CYCLE_ROWS: dict[str, pl.DataType | type[pl.DataType]] = {
    "pid": pl.Int64,
    "cycle": pl.Int64,
    "function": pl.Categorical,
    "metric": pl.Categorical,
    "device": pl.Categorical,
    "kind": pl.Categorical,
    "beta_pct": pl.Float64,
    "mu_pct": pl.Float64,
    "sigma_pct": pl.Float64,
    "duration_us": pl.Float64,
    "count": pl.Int64,
    "interpolation": pl.Categorical,
    "anchor": pl.Categorical,
    "cycle_us": pl.Float64,
    "cycle_start_ns": pl.Int64,
    "file": pl.Int32,
}
"""One row per (cycle, function, device, metric); β is repeated for each metric of a function, ``metric`` is ``N/A`` and
``mu_pct`` null where no counter belongs to the function."""


def empty(schema: dict[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    """Return a table of no rows with the given columns."""
    return pl.DataFrame(schema=schema)
