"""What ``nvidia-smi`` prints: ``--query-gpu=… --format=csv -l N``, ``dmon`` and ``pmon``.

Its times are local ones without a zone. dmon and pmon print none at all unless asked to (``-o DT``).
"""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import polars as pl

from rca.capture.findings import Finding
from rca.capture.model import Reading
from rca.capture.readers.counter_units import DMON, NVIDIA_SMI, PMON
from rca.capture.readers.counters_wide import read_wide, time_column
from rca.capture.readers.monitor_text import header_in, read_lines, tables, ticks
from rca.capture.source import Probe, Source, alone
from rca.errors import InputError

NAME = "nvidia-smi"
group = alone

_MONITOR = r"^#\s*(?:date\s+)?(?:time\s+)?gpu\s.*\b(?:sm|pwr|mclk|pclk|fb|rxpci|pviol|type)\b"
_BARE_ROW = re.compile(rb"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3}, ")
_UNIT = re.compile(r"\s\[[^\]]*\]$")
_BY_UNIT = {"%": "utilization.gpu", "MHz": "clocks.sm", "W": "power.draw", "MiB": "memory.used"}
"""What a column without a name most likely is, if it is the only one with this unit."""


def matches(probe: Probe) -> bool:
    """Tell by the first lines."""
    fields = {_UNIT.sub("", name) for name in probe.csv_columns}
    if fields & NVIDIA_SMI.keys() and len(fields) > 1:
        return True
    return _BARE_ROW.match(probe.head) is not None or header_in(probe.head, _MONITOR)


def read(source: Source) -> Reading:
    """Read one file.

    Raises:
        InputError: it holds no samples, or is no table.
    """
    path = source.path
    source.advance_whole(path)
    lines, findings = read_lines(path)
    monitor = tables(lines, f"(?i){_MONITOR}")
    if monitor:
        reading = _monitor(path, monitor)
    elif lines.len() and _BARE_ROW.match(lines[0].encode()):
        reading = _bare(path, lines)
    else:
        reading = _query(path, lines)
    return replace(reading, findings=findings + reading.findings)


def _query(path: Path, lines: pl.Series) -> Reading:
    table = _csv(path, lines)
    if time_column(table.columns) is None:
        table = table.with_columns(
            ticks(table, ["index"]).cast(pl.String) if "index" in table.columns else _row_numbers(table)
        )
    return read_wide(path, table)


def _row_numbers(table: pl.DataFrame) -> pl.Series:
    return pl.Series("time_s", range(table.height)).cast(pl.String)


def _csv(path: Path, lines: pl.Series, *, header: bool = True) -> pl.DataFrame:
    content = "\n".join(lines.str.strip_chars(" \t\r\ufeff").str.replace_all(r"\s*,\s*", ",")).encode()
    try:
        table = pl.read_csv(
            io.BytesIO(content), infer_schema=False, has_header=header, quote_char=None, truncate_ragged_lines=True
        )
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise InputError(path, f"is not a well-formed CSV file: {(str(error).splitlines() or ['empty'])[0]}") from None
    if table.height == 0:
        raise InputError(path, "has a header but no rows")
    return table


def _bare(path: Path, lines: pl.Series) -> Reading:
    """Read a file written with ``noheader``: what is the only column of its unit can be named, the rest cannot."""
    table = _csv(path, lines, header=False)
    time, *columns = table.columns
    units = {
        name: str(table[name].str.extract(r"^\s*\d[\d.]*\s*([A-Za-z%]+)\s*$").drop_nulls().mode().first() or "")
        for name in columns
    }
    names = {time: "timestamp"}
    for unit, field in _BY_UNIT.items():
        if len(of_unit := [name for name in columns if units[name] == unit]) == 1:
            names[of_unit[0]] = field
    index = columns[0] if columns else time
    if not units.get(index, "") and table[index].str.contains(r"^\s*\d{1,2}\s*$").all() and index != time:
        names[index] = "index"
    left = len(columns) - len(names) + 1
    text = f"it has no header line: columns are told by their units, and {left} of {len(columns)} cannot be told; left out"
    reading = read_wide(path, table.select(list(names)).rename(names))
    return replace(reading, findings=(Finding("skipped", f"{text} (record without noheader)"), *reading.findings))


def _monitor(path: Path, parts: list[pl.DataFrame]) -> Reading:
    readings = [_monitor_part(path, part) for part in parts]
    counters = pl.concat([reading.counters for reading in readings])
    findings = tuple(dict.fromkeys(finding for reading in readings for finding in reading.findings))
    return Reading(counters=counters, findings=findings, clock=readings[0].clock)


def _monitor_part(path: Path, table: pl.DataFrame) -> Reading:
    names = PMON if "pid" in table.columns else DMON
    key = ["gpu", "pid"] if "pid" in table.columns else ["gpu"]
    if "date" in table.columns and "time" in table.columns:
        day = pl.col("date").str.replace(r"^(\d{4})(\d\d)(\d\d)$", "$1-$2-$3")
        times = table.select(timestamp=pl.format("{} {}", day, "time"))
    elif "time" in table.columns:
        times = table.select(time_s=_seconds_of_day(pl.col("time")))
    else:
        times = pl.DataFrame({"time_s": ticks(table, key)})
    wanted = [name for name in table.columns if name in names or name in key]
    return read_wide(path, times.cast(pl.String).hstack(table.select(wanted)), names)


def _seconds_of_day(time: pl.Expr) -> pl.Expr:
    """Return seconds since the first midnight; a time that falls by hours is of the next day."""
    parts = [time.str.extract(r"^(\d{1,2}):(\d{2}):(\d{2})", part).cast(pl.Float64) for part in (1, 2, 3)]
    seconds = (parts[0] * 3600 + parts[1] * 60 + parts[2]).forward_fill().fill_null(0)
    return seconds + 86_400 * (seconds.diff().fill_null(0) < -43_200).cum_sum()
