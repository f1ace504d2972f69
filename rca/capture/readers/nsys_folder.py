"""Nsight Systems exports as folders with one Parquet or Arrow file per table: ``nsys export --type=parquetdir`` or
``arrowdir`` (FORMATS.md §4.5). The tables are those of the SQLite export.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from rca.capture.findings import Finding
from rca.capture.model import Reading
from rca.capture.readers.nsys_store import INT, MAX_TEXT_BYTES, TEXT, Columns
from rca.capture.readers.nsys_tables import build
from rca.capture.source import Probe, Source
from rca.errors import InputError

NAME = "nsys-folder"

_MAGIC = {".parquet": b"PAR1", ".arrow": b"ARROW1"}
_TELLING = (
    "CUPTI_ACTIVITY_KIND_KERNEL",
    "CUPTI_ACTIVITY_KIND_RUNTIME",
    "NVTX_EVENTS",
    "META_DATA_EXPORT",
    "EXPORT_META_DATA",
    "SCHED_EVENTS",
    "OSRT_API",
    "GPU_METRICS",
)
_TABLE = re.compile(r"[A-Z][A-Z0-9_]{3,}|StringIds|ThreadNames|ProcessStreams")

_SPARE_ROWS = 1_000_000
"""A table may have a row per byte of its file, and this many more: compression beyond that is no recording's."""

_Error = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)


def matches(probe: Probe) -> bool:
    """Tell by magic, name and neighbours whether a file is a table of an exported folder."""
    suffix = probe.path.suffix
    if suffix not in _MAGIC or not probe.head.startswith(_MAGIC[suffix]) or not _TABLE.fullmatch(probe.path.stem):
        return False
    return any(probe.path.with_name(table + suffix).exists() for table in _TELLING)


def group(path: Path) -> str:
    """Return the folder: its files are one export."""
    return str(path.parent / path.suffix)


def read(source: Source) -> Reading:
    """Read one folder.

    Raises:
        InputError: a file of it is damaged.
    """
    return build(FolderTables(source.paths), source)


class FolderTables:
    """The tables of one folder; see `nsys_store.TableStore`."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.path = paths[0].parent
        self.findings: list[Finding] = []
        self._files = {path.stem: path for path in paths}

    def columns(self, table: str) -> frozenset[str]:
        """Return the names of a table's columns."""
        path = self._files.get(table)
        if path is None:
            return frozenset()
        try:
            return frozenset(_scan(path).collect_schema())
        except _Error as error:
            raise _damaged(path, error) from None

    def read(self, table: str, columns: Columns) -> pl.DataFrame:
        """Read columns of one table."""
        present = self.columns(table).intersection(columns)
        if not present:
            return pl.DataFrame(schema=dict(columns))
        path = self._files[table]
        try:
            rows = _scan(path).select(pl.len()).collect().item()
            if rows > path.stat().st_size + _SPARE_ROWS:
                raise InputError(path, f"is damaged: claims {rows:,} rows, more than a file of its size can hold")
            frame = _scan(path).select([name for name in columns if name in present]).collect()
            typed = frame.select(_typed(frame[name], dtype) for name, dtype in columns.items() if name in present)
        except _Error as error:
            raise _damaged(path, error) from None
        for name in present:
            lost = typed[name].null_count() - frame[name].null_count()
            if lost and columns[name] is INT:
                text = f"table {table}, {name}: {lost:,} values that are no whole numbers; left out"
                self.findings.append(Finding("bad_values", text))
        return typed.select(
            pl.col(name) if name in present else pl.lit(None, dtype).alias(name) for name, dtype in columns.items()
        )


def _scan(path: Path) -> pl.LazyFrame:
    return pl.scan_parquet(path, glob=False) if path.suffix == ".parquet" else pl.scan_ipc(path, glob=False)


def _typed(column: pl.Series, dtype: type[pl.DataType]) -> pl.Series:
    """Return a column as the type asked for; what cannot be converted is null."""
    if column.dtype.is_nested():
        return pl.Series(column.name, [None], dtype=dtype).new_from_index(0, column.len())
    if dtype is TEXT:
        texts = column.cast(TEXT, strict=False)
        return texts.str.slice(0, MAX_TEXT_BYTES).replace("", None)
    if column.dtype.is_unsigned_integer():  # ids with a high hardware number
        return column.cast(pl.UInt64).reinterpret(signed=True)
    return column.cast(dtype, strict=False)


def _damaged(path: Path, error: BaseException) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(path, f"is damaged: {reason[:200]}", "export it again with nsys export")
