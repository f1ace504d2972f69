"""Tables of samples with one column per metric into the `COUNTERS` schema, and their times, in whatever form they come."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from rca.capture.findings import Finding
from rca.capture.model import Clock, Reading
from rca.capture.readers.counter_units import UNSPLIT, Meaning, device_names, epoch_unit, in_base_units, meaning_of, rates
from rca.capture.readers.csv_table import MAX_NS, integers, nanoseconds, numbers
from rca.capture.tables import COUNTERS, HOST, empty
from rca.errors import InputError

TIME_COLUMNS = {
    "timestamp": 0, "time": 0, "ts": 0, "date": 0, "datetime": 0, "epoch": 0, "unix_time": 0,
    "timestamp_ns": 1, "ts_ns": 1, "time_ns": 1,
    "timestamp_us": 1_000, "ts_us": 1_000, "time_us": 1_000,
    "timestamp_ms": 1_000_000, "ts_ms": 1_000_000, "time_ms": 1_000_000,
    "timestamp_s": 1_000_000_000, "time_s": 1_000_000_000, "elapsed_s": 1_000_000_000,
}  # fmt: skip
"""Names of time columns, in lower case, and ns per unit; 0: told by magnitude."""
_INDEX_COLUMNS = ("index", "gpu", "gpu_index", "gpu_id", "gpu_idx", "device", "device_id", "device_index", "minor_number")
_NAME_COLUMNS = ("uuid", "gpu_uuid", "gpu_name_uuid", "pci.bus_id", "gpu_bus_id", "bus_id")
_PID_COLUMNS = ("pid", "process_id")
_NO_METRICS = {
    "name", "gpu_name", "hostname", "host", "modelname", "driver_version", "serial", "vbios_version", "count", "pstate",
    "pci.bus", "pci.device", "pci.domain", "unnamed: 0", "", "instance", "job",
}  # fmt: skip
"""Columns whose numbers, if they hold any, are no measurements."""
_OF_HOST = ("host_", "cpu_", "net_", "disk_", "process_cpu", "process_mem", "vllm:", "sglang:")

_DATE_TIME = (
    r"^(?<date>\d{4}[-/]\d{1,2}[-/]\d{1,2})[T ]+(?<time>\d{1,2}:\d{2}:\d{2})(?:[.,](?<fraction>\d{1,12}))?"
    r"\s*(?<zone>Z|UTC|[+-]\d{2}:?\d{2})?$"
)
_NUMBER = r"^([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-zµ°%][A-Za-zµ°%/]*)?$"
_HEX = r"^0x([0-9a-fA-F]{1,16})$"
_MISSING = ["", "-", "n/a", "[n/a]", "nan", "none", "null", "[not supported]", "not supported", "[unknown error]", "err!"]
_OF_GPU = re.compile(r"^gpu[ _:#\[]?(\d{1,3})\]?[ _.:/-]+(.+)$", re.IGNORECASE)
_WITH_LABELS = re.compile(r"^(?P<name>[A-Za-z_:][\w:]*)\{(?P<labels>.*)\}$")
_GPU_LABEL = re.compile(r'\bgpu="?(\d+)')


def time_column(columns: Iterable[str]) -> str | None:
    """Return the first column that is named like a time."""
    return next((name for name in columns if name.strip().lower() in TIME_COLUMNS), None)


def read_times(path: Path, table: pl.DataFrame, column: str) -> tuple[pl.Series, Clock, tuple[Finding, ...]]:
    """Return ns of a text column of epoch times or dates, what they count from, and what is to be said about them.

    Rows of a column of dates that hold none are null.

    Raises:
        InputError: a cell holds neither a number nor a date, or a time before 1970.
    """
    text = table[column].str.strip_chars()
    dates = text.str.contains(_DATE_TIME).fill_null(False)
    if dates.sum() > table.height / 2:
        return _dates(text)
    times = numbers(path, table, column)
    fixed = TIME_COLUMNS.get(column.strip().lower(), 0)
    if (times < 0).any():
        row = int((times < 0).arg_max() or 0)
        raise InputError(path, f"line {row + 2}: {column} {times[row]:g} is not a time since 1970")
    typical = float(times.median())  # type: ignore[arg-type]
    factor, clock = epoch_unit(typical)
    if fixed:
        factor, clock = fixed, Clock.UNIX if typical * fixed >= 1e17 else Clock.OWN
    if factor == 1:
        return integers(path, table, column), clock, ()
    return nanoseconds(path, column, times, factor), clock, ()


def _dates(text: pl.Series) -> tuple[pl.Series, Clock, tuple[Finding, ...]]:
    parts = text.str.extract_groups(_DATE_TIME).struct.unnest()
    moment = pl.format("{} {}", pl.col("date").str.replace_all("/", "-"), pl.col("time"))
    zone = pl.col("zone").str.replace(":", "").str.replace("Z|UTC", "+0000").fill_null("+0000")
    offset_s = zone.str.slice(1, 2).cast(pl.Int64) * 3600 + zone.str.slice(3, 2).cast(pl.Int64) * 60
    offset_s = pl.when(zone.str.starts_with("-")).then(-offset_s).otherwise(offset_s)
    fraction = pl.col("fraction").fill_null("0").str.pad_end(9, "0").str.slice(0, 9).cast(pl.Int64)
    whole_s = moment.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False).dt.epoch("s") - offset_s
    ns = parts.select(
        pl.when(whole_s.is_between(0, int(MAX_NS) // 10**9, closed="right")).then(whole_s * 10**9 + fraction)
    ).to_series()
    if not parts["zone"].null_count():
        return ns, Clock.UNIX, ()
    return ns, Clock.UNIX, (Finding("clock_offset", "its times name no time zone; taken as UTC"),)


def read_wide(path: Path, table: pl.DataFrame, names: dict[str, Meaning] | None = None) -> Reading:
    """Read a table of text columns. ``names``: what its headers mean (default: see `meaning_of`).

    Raises:
        InputError: it has no time column, or one that holds no times.
    """
    if table.height == 0:
        raise InputError(path, "has a header but no rows")
    column = time_column(table.columns)
    if column is None:
        raise InputError(path, "lacks a time column", f"one named {', '.join(list(TIME_COLUMNS)[:4])}, …")
    times, clock, findings = read_times(path, table, column)
    by_name = {name.strip().lower(): name for name in reversed(table.columns)}
    pid = next((by_name[name] for name in _PID_COLUMNS if name in by_name), None)
    device, telling = _device_column(table, by_name)
    keys = pl.DataFrame(
        {
            "ts_ns": times,
            "device": device if device is not None else pl.Series([None] * table.height, dtype=pl.String),
            "pid": table[pid].str.strip_chars().cast(pl.Int64, strict=False) if pid else pl.Series([None] * table.height),
        }
    ).with_columns(pl.col("pid").cast(pl.Int64))
    unnamed = _unnamed_gpu(times)
    metrics = [name for name in table.columns if name not in (column, pid, *telling)]
    metrics = [name for name in metrics if name.strip().lower() not in _NO_METRICS | set(_NAME_COLUMNS)]
    frames, bad = [], 0
    for name in metrics:
        frame, more = _one_metric(keys, table[name], name, names, unnamed)
        frames.append(frame)
        bad += more
    lost_rows = times.null_count()
    if bad or lost_rows:
        text = f"{bad:,} values and {lost_rows:,} times that cannot be read; left out"
        findings += (Finding("bad_values", text),)
    return Reading(counters=joined(frames), findings=findings, clock=clock)


def joined(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Return one table in the `COUNTERS` schema: totals (column ``total``) as rates, units as base units."""
    kept = [frame for frame in frames if frame.height]
    if not kept:
        return empty(COUNTERS)
    samples = pl.concat(kept).filter(pl.col("ts_ns").is_not_null())
    totals = rates(samples.filter("total"), ["metric", "device", "pid"])
    totals = totals.with_columns(unit=pl.when(pl.col("unit") == "").then(pl.lit("1")).otherwise("unit") + "/s")
    samples = pl.concat([samples.filter(~pl.col("total")), totals])
    samples = samples.with_columns(in_base_units(pl.col("value"), pl.col("unit")))
    return samples.select(pl.col(key).cast(dtype) for key, dtype in COUNTERS.items())


def _device_column(table: pl.DataFrame, by_name: dict[str, str]) -> tuple[pl.Series | None, tuple[str, ...]]:
    """Return our device names, and the columns that told them; GPUs known by an id only are counted as they appear."""
    for name in _INDEX_COLUMNS:
        if name in by_name:
            return table.select(device_names(pl.col(by_name[name]))).to_series(), (by_name[name],)
    for name in _NAME_COLUMNS:
        if name in by_name:
            order = {key: f"GPU {number}" for number, key in enumerate(table[by_name[name]].unique(maintain_order=True))}
            return table[by_name[name]].replace_strict(order, return_dtype=pl.String), (by_name[name],)
    return None, ()


def _unnamed_gpu(times: pl.Series) -> str:
    """Return the device of GPU metrics without one: several rows per tick are several GPUs, which cannot be told apart."""
    gaps = times.drop_nulls().sort().diff().drop_nulls()
    period = gaps.quantile(0.95)
    if period is None:
        return "GPU 0"
    return UNSPLIT if (gaps <= period / 10).sum() > gaps.len() / 10 else "GPU 0"


def _one_metric(
    keys: pl.DataFrame, cells: pl.Series, header: str, names: dict[str, Meaning] | None, unnamed: str
) -> tuple[pl.DataFrame, int]:
    """Return the samples of one column, and how many of its cells are neither numbers nor known signs for "none"."""
    device, name = _split_header(header)
    meaning = meaning_of(name, names)
    metric = meaning.metric
    if device is not None and not metric.lower().startswith(("gpu", "process_gpu", "dcgm")):
        meaning = meaning_of(f"gpu_{name}", names)
        metric = meaning.metric
    text = cells.str.strip_chars()
    value = text.str.extract(_NUMBER, 1).cast(pl.Float64)
    value = value.fill_null(text.str.extract(_HEX, 1).str.to_integer(base=16, strict=False).cast(pl.Float64))
    value = value.set(value.is_infinite().fill_null(False), None)
    if value.null_count() == value.len():
        return pl.DataFrame(), 0
    bad = int((value.is_null() & ~text.fill_null("").str.to_lowercase().is_in(_MISSING)).sum())
    unit = text.str.extract(_NUMBER, 2).fill_null(meaning.unit)
    of_gpu = "gpu" in metric or device is not None
    where = pl.lit(device) if device is not None else pl.col("device")
    if of_gpu:
        where = pl.when(where.is_null() | (where == HOST)).then(pl.lit(unnamed)).otherwise(where)
    elif metric.startswith(_OF_HOST):
        where = pl.when(where.is_null() | where.str.starts_with("GPU")).then(pl.lit(HOST)).otherwise(where)
    frame = keys.with_columns(
        value=value,
        unit=unit,
        device=where.fill_null(HOST),
        metric=pl.lit(metric),
        total=pl.lit(meaning.total),
    )
    return frame.filter(pl.col("value").is_not_null()), bad


def _split_header(header: str) -> tuple[str | None, str]:
    """Return the device that a header names, and the rest: ``gpu0_power``, ``DCGM_FI_DEV_GPU_TEMP{gpu="0"}``."""
    header = header.strip()
    if match := _WITH_LABELS.match(header):
        gpu = _GPU_LABEL.search(match["labels"])
        return (f"GPU {int(gpu[1])}" if gpu else None), match["name"]
    if match := _OF_GPU.match(header):
        return f"GPU {int(match[1])}", match[2]
    return None, header
