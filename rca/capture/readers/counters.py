"""Counter samples as CSV: one row per sample, ``timestamp,metric,device,value[,unit][,pid]``; one column per metric (see
`counters_wide`); or the reference's ``counter_name,timestamp,value,hostname`` (FORMATS.md §7.6), whose per-process
counters carry the pid in their name.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from rca.capture.findings import Finding
from rca.capture.model import Reading
from rca.capture.readers.counter_units import UNSPLIT, device_names, meaning_of
from rca.capture.readers.counters_wide import joined, read_times, read_wide, time_column
from rca.capture.readers.csv_table import numbers, read_journal, require_columns
from rca.capture.source import Probe, Source, alone
from rca.capture.tables import HOST

NAME = "counters"
group = alone

JOURNAL = "timestamp,metric,device,value,unit,pid"
"""First line of the files that the collector appends to while it samples."""

_OWN = ("timestamp", "metric", "device", "value")
_REFERENCE = ("counter_name", "timestamp", "value")
_TELLING = ("gpu", "cpu", "mem", "power", "clock", "freq", "util", "usage", "temp", "pcie", "net_", "vllm:", "sglang:")
"""What at least one column of a wide table names; a table with a time column alone may be anything."""


def matches(probe: Probe) -> bool:
    """Tell from a file's first line whether it is (or was meant to be) a table of counter samples."""
    columns = set(probe.csv_columns)
    if "counter_name" in columns or len(columns & set(_OWN)) >= 3:
        return True
    return len(columns) > 1 and is_wide(probe.csv_columns)


def is_wide(columns: tuple[str, ...]) -> bool:
    """Tell whether columns are those of a wide table: a time first (an index may precede it), and a metric after it."""
    time = time_column(columns[:2])
    return time is not None and any(word in name.lower() for name in columns if name != time for word in _TELLING)


def read(source: Source) -> Reading:
    """Read one file. Raises `InputError` when a column is missing or holds what it must not."""
    path = source.path
    source.advance_whole(path)
    table, findings = read_journal(path, JOURNAL)
    reading = _read(path, table)
    return replace(reading, findings=(*findings, *reading.findings))


def _read(path: Path, table: pl.DataFrame) -> Reading:
    if "counter_name" in table.columns:
        require_columns(path, table, _REFERENCE)
        return read_long(path, table, _reference_keys(table))
    if not {"metric", "value"} & set(table.columns) and is_wide(tuple(table.columns)):
        return read_wide(path, table)
    require_columns(path, table, _OWN)
    return read_long(path, table, _own_keys(path, table))


def read_long(path: Path, table: pl.DataFrame, keys: pl.DataFrame, time: str = "timestamp") -> Reading:
    """Read a table of text columns with one row per sample. ``keys``: its ``metric``, ``device``, ``pid``, ``unit``.

    Raises:
        InputError: a value or time is no number.
    """
    times, clock, findings = read_times(path, table, time)
    frame = keys.with_columns(ts_ns=times, value=numbers(path, table, "value", nullable=True))
    if lost := frame.filter(pl.col("value").is_null() | pl.col("ts_ns").is_null()).height:
        findings = (*findings, Finding("bad_values", f"{lost:,} samples without a value; left out"))
    return Reading(
        counters=joined([frame.filter(pl.col("value").is_not_null()).select(_COLUMNS)]), findings=findings, clock=clock
    )


_COLUMNS = ("ts_ns", "metric", "device", "pid", "value", "unit", "total")


def _own_keys(path: Path, table: pl.DataFrame) -> pl.DataFrame:
    pid = numbers(path, table, "pid", nullable=True).cast(pl.Int64, strict=False) if "pid" in table.columns else None
    unit = table["unit"].fill_null("") if "unit" in table.columns else pl.repeat("", table.height, eager=True)
    return own_keys(
        pl.DataFrame(
            {
                "metric": table["metric"].str.strip_chars().fill_null("(no name)"),
                "device": table["device"],
                "pid": pl.Series("pid", pid if pid is not None else [None] * table.height, dtype=pl.Int64),
                "unit": unit.str.strip_chars(),
            }
        )
    )


def own_keys(keys: pl.DataFrame) -> pl.DataFrame:
    """Put vendors' metric names, units left out and devices into our words."""
    meanings = {name: meaning_of(name) for name in keys["metric"].unique()}
    unit = pl.col("metric").replace_strict({name: m.unit for name, m in meanings.items()}, return_dtype=pl.String)
    return keys.with_columns(
        metric=pl.col("metric").replace_strict({name: m.metric for name, m in meanings.items()}, return_dtype=pl.String),
        total=pl.col("metric").replace_strict({name: m.total for name, m in meanings.items()}, return_dtype=pl.Boolean),
        unit=pl.when(pl.col("unit") == "").then(unit).otherwise("unit"),
        device=device_names(pl.col("device")),
    )


def _reference_keys(table: pl.DataFrame) -> pl.DataFrame:
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
        pl.lit(value=False).alias("total"),
    )
