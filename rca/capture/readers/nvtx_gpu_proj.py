"""NVTX ranges projected on the GPU work that they launched: ``nvtx_gpu_proj_trace`` of ``nsys stats`` (CSV) and of
``nsys recipe`` (Parquet) (FORMATS.md §4.6).

Each row is two spans: the range on the host, and the time from the start of its first to the end of its last GPU work.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rca.capture.findings import Finding, Severity
from rca.capture.model import Clock, Reading
from rca.capture.readers.csv_table import read_text_columns
from rca.capture.readers.nsys_stats_columns import plain_name, times, whole_numbers
from rca.capture.source import Probe, Source, alone
from rca.capture.tables import EVENTS, HOST, UNKNOWN_RANK
from rca.errors import InputError

NAME = "nvtx-gpu-proj"
group = alone

SOME_GPU = "GPU ?"
"""The report does not say on which GPU a range's work ran."""

_REQUIRED = ("name", "projected start", "projected duration")
_TIMES = ("projected start", "projected duration", "orig start", "orig duration")
_IDS = ("pid", "tid", "rank")
_MAX_NS = 4 * 10**18
_Error = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)


def matches(probe: Probe) -> bool:
    """Tell by its columns whether a file is such a report."""
    if probe.head.startswith(b"PAR1"):
        try:
            columns = list(pl.read_parquet_schema(probe.path))
        except _Error:
            return False
    else:
        columns = list(probe.csv_columns)
    return set(_REQUIRED).issubset(plain_name(name) for name in columns)


def read(source: Source) -> Reading:
    """Read one file.

    Raises:
        InputError: it is damaged, or a column is missing or holds what it must not.
    """
    path = source.path
    source.advance_whole(path)
    with path.open("rb") as stream:
        is_parquet = stream.read(4) == b"PAR1"
    table = _from_parquet(path) if is_parquet else _from_csv(path)
    original = table.height
    table = table.filter(pl.col("name").is_not_null())
    findings = []
    if nameless := original - table.height:
        text = f"{nameless:,} rows without a name (GPU work outside all ranges) left out"
        findings.append(Finding("bad_values", text, Severity.INFO))
    has_ranks = table["rank"].n_unique() > 1  # a report of one recording calls it rank 0, whichever it was
    table = table.with_columns(
        pl.col("rank").fill_null(UNKNOWN_RANK) if has_ranks else pl.lit(UNKNOWN_RANK).alias("rank"),
        pl.col("pid", "tid").fill_null(-1),
    )
    host = _events(table, "orig", "annotation", HOST)
    on_gpu = _events(table, "projected", "gpu_annotation", SOME_GPU)
    events = pl.concat([host, on_gpu])
    if lost := 2 * table.height - events.height:
        findings.append(Finding("bad_values", f"{lost:,} ranges with missing or impossible times left out"))
    return Reading(events=events, findings=tuple(findings), clock=Clock.OWN)


def _from_parquet(path: Path) -> pl.DataFrame:
    try:
        names = {name: plain_name(name) for name in pl.read_parquet_schema(path)}
        wanted = {name: plain for name, plain in names.items() if plain in ("name", *_TIMES, *_IDS)}
        rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
        if rows > path.stat().st_size + 1_000_000:
            raise InputError(path, f"is damaged: claims {rows:,} rows, more than a file of its size can hold")
        table = pl.read_parquet(path, columns=list(wanted), glob=False).rename(wanted)
        numbers = [pl.col(key).cast(pl.Int64, strict=False) for key in (*_TIMES, *_IDS) if key in table.columns]
        return _filled(table.with_columns(*numbers, pl.col("name").cast(pl.String)))
    except _Error as error:
        raise InputError(path, f"is damaged: {(str(error).splitlines() or ['?'])[0][:200]}", "export it again") from None


def _from_csv(path: Path) -> pl.DataFrame:
    table = read_text_columns(path, ())
    columns = {plain_name(name): name for name in table.columns}
    if missing := [name for name in _REQUIRED if name not in columns]:
        raise InputError(path, f"lacks the column {missing[0]}")
    found = {"name": table[columns["name"]].replace("", None)}
    found |= {key: times(path, table, columns[key]) for key in _TIMES if key in columns}
    found |= {key: whole_numbers(path, table, columns[key]) for key in _IDS if key in columns}
    return _filled(pl.DataFrame(found))


def _filled(table: pl.DataFrame) -> pl.DataFrame:
    missing = [key for key in (*_TIMES, *_IDS) if key not in table.columns]
    return table.with_columns(pl.lit(None, pl.Int64).alias(key) for key in missing)


def _events(table: pl.DataFrame, times_of: str, kind: str, device: str) -> pl.DataFrame:
    start, duration = pl.col(f"{times_of} start"), pl.col(f"{times_of} duration")
    possible = table.filter(start.is_between(-_MAX_NS, _MAX_NS) & duration.is_between(0, 10**18))
    filled = {"start_ns": start, "dur_ns": duration, "kind": pl.lit(kind), "device": pl.lit(device), "file": pl.lit(0)}
    filled |= dict.fromkeys(("stream", "correlation", "bytes"), pl.lit(None))
    return possible.select(filled.get(key, pl.col(key)).cast(dtype).alias(key) for key, dtype in EVENTS.items())
