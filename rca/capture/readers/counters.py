"""Counter samples as CSV: ``timestamp,metric,device,value[,unit][,pid]``, or the reference's
``counter_name,timestamp,value,hostname`` (FORMATS.md §7.6), whose per-process counters carry the pid in their name.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rca.capture.findings import Finding
from rca.capture.model import Reading
from rca.capture.readers.csv_table import (
    integers,
    nanoseconds,
    numbers,
    read_text_columns,
    require_columns,
)
from rca.capture.source import Probe, Source, alone
from rca.capture.tables import COUNTERS, HOST
from rca.errors import InputError

NAME = "counters"
group = alone

_OWN = ("timestamp", "metric", "device", "value")
_REFERENCE = ("counter_name", "timestamp", "value")

UNSPLIT = "all GPUs"
"""Device of GPU counters whose source does not say which GPU a sample is of."""

_NS_PER_UNIT = ((1e17, 1), (1e14, 1_000), (1e11, 1_000_000), (0, 1_000_000_000))
"""Smallest plausible epoch time in ns, µs, ms, s: any date after 1973 is told apart by its magnitude."""

_TO_BASE_UNIT = {
    "khz": ("MHz", 1e-3),
    "ghz": ("MHz", 1e3),
    "kb/s": ("bytes/s", 1e3),
    "mb/s": ("bytes/s", 1e6),
    "gb/s": ("bytes/s", 1e9),
    "kib/s": ("bytes/s", 1024.0),
    "mib/s": ("bytes/s", 1024.0**2),
    "gib/s": ("bytes/s", 1024.0**3),
    "kb": ("bytes", 1e3),
    "mb": ("bytes", 1e6),
    "gb": ("bytes", 1e9),
    "kib": ("bytes", 1024.0),
    "mib": ("bytes", 1024.0**2),
    "gib": ("bytes", 1024.0**3),
    "mw": ("W", 1e-3),
}


def matches(probe: Probe) -> bool:
    """Tell from a file's first line whether it is (or was meant to be) a table of counter samples."""
    columns = set(probe.csv_columns)
    return "counter_name" in columns or len(columns & set(_OWN)) >= 3


def read(source: Source) -> Reading:
    """Read one file. Raises `InputError` when a column is missing or holds what it must not."""
    path = source.path
    source.advance_whole(path)
    table = read_text_columns(path, ())
    reference = "counter_name" in table.columns
    require_columns(path, table, _REFERENCE if reference else _OWN)
    value = numbers(path, table, "value", nullable=True)
    frame = pl.DataFrame({"ts_ns": _nanoseconds(path, table), "value": value})
    frame = frame.with_columns(_reference_keys(table) if reference else _own_keys(path, table))
    scale = (
        pl.col("unit")
        .str.to_lowercase()
        .replace_strict({unit: factor for unit, (_, factor) in _TO_BASE_UNIT.items()}, default=1.0, return_dtype=pl.Float64)
    )
    frame = frame.with_columns(value=pl.col("value") * scale).with_columns(
        unit=pl.col("unit")
        .str.to_lowercase()
        .replace_strict(
            {unit: base for unit, (base, _) in _TO_BASE_UNIT.items()}, default=pl.col("unit"), return_dtype=pl.String
        )
    )
    lost = frame["value"].null_count()
    findings = (Finding("bad_values", f"{lost:,} samples without a value; left out"),) if lost else ()
    kept = frame.filter(pl.col("value").is_not_null())
    return Reading(counters=kept.select(pl.col(key).cast(dtype) for key, dtype in COUNTERS.items()), findings=findings)


def _nanoseconds(path: Path, table: pl.DataFrame) -> pl.Series:
    times = numbers(path, table, "timestamp")
    if (times <= 0).any():
        row = int((times <= 0).arg_max() or 0)
        raise InputError(path, f"line {row + 2}: timestamp {times[row]:g} is not a time since 1970")
    typical = float(times.median())  # type: ignore[arg-type]
    factor = next(factor for smallest, factor in _NS_PER_UNIT if typical >= smallest)
    if factor == 1:
        return integers(path, table, "timestamp")
    return nanoseconds(path, "timestamp", times, factor)


def _own_keys(path: Path, table: pl.DataFrame) -> list[pl.Series]:
    pid = numbers(path, table, "pid", nullable=True).cast(pl.Int64) if "pid" in table.columns else None
    return [
        table["metric"].str.strip_chars().fill_null("(no name)").alias("metric"),
        table["device"].str.strip_chars().replace("", HOST).fill_null(HOST).alias("device"),
        pl.Series("pid", pid if pid is not None else [None] * table.height, dtype=pl.Int64),
        (table["unit"].fill_null("") if "unit" in table.columns else pl.repeat("", table.height, eager=True)).alias("unit"),
    ]


def _reference_keys(table: pl.DataFrame) -> list[pl.Series]:
    """Split ``process_cpu_usage_2300005`` into metric and pid, ``cpu_frequency_3`` into metric and core.

    Such files state neither device nor unit.
    """
    parts = (
        table["counter_name"]
        .fill_null("(no name)")
        .str.extract_groups(r"^(?<metric>.*?)(?:_(?<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?))?$")
    )
    keys = parts.struct.unnest().with_columns(pl.col("number").cast(pl.Float64).round().cast(pl.Int64))
    metric = pl.col("metric")
    is_gpu = metric.str.starts_with("gpu_") | metric.str.contains("_gpu_")
    of_core = metric.str.starts_with("cpu_") & pl.col("number").is_not_null()
    return keys.select(
        metric,
        pl.when(metric.str.starts_with("process_")).then(pl.col("number")).alias("pid"),
        pl.when(of_core)
        .then(pl.format("CPU {}", pl.col("number")))
        .when(is_gpu)
        .then(pl.lit(UNSPLIT))
        .otherwise(pl.lit(HOST))
        .alias("device"),
        pl.lit("").alias("unit"),
    ).get_columns()
