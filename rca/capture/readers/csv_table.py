"""CSV files into typed columns: what every CSV reader here does with missing columns, text in number columns and NaN."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import polars as pl

from rca.capture.bytes_in import read_chunks
from rca.capture.findings import Finding
from rca.errors import InputError

_CHUNK_BYTES = 16 << 20
_MAX_BYTES = 1 << 30
MAX_NS = 9e18
"""int64 ends a little later, in the year 2262."""


def read_text_columns(path: Path, required: Collection[str]) -> pl.DataFrame:
    """Read a CSV file with every column as text.

    Raises:
        InputError: no rows, not UTF-8, ragged lines, more than 2 GiB, two columns of one name, or one of the ``required``
            columns is missing.
    """
    return _parsed(path, _content(path), required)


def read_journal(path: Path, header: str) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """Read a CSV file, every column as text. Of one with the ``header`` of a journal, a last line without end is left out.

    Raises:
        InputError: as `read_text_columns`.
    """
    content = _content(path)
    last = content[content.rfind(b"\n") + 1 :]
    if not last or not content.startswith(header.encode() + b"\n"):
        return _parsed(path, content, ()), ()
    finding = Finding("truncated", "ends within a line, which is left out: whoever wrote it was stopped")
    return _parsed(path, content[: -len(last)], ()), (finding,)


def _parsed(path: Path, content: bytes, required: Collection[str]) -> pl.DataFrame:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(path, f"is not UTF-8 text (byte {error.start:,})", "save it as UTF-8") from None
    try:
        table = pl.read_csv(content, infer_schema=False)
    except pl.exceptions.NoDataError:
        raise InputError(path, "is empty") from None
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise InputError(path, f"is not a well-formed CSV file: {str(error).splitlines()[0]}") from None
    try:
        table = table.rename({name: name.strip().lstrip("\ufeff") for name in table.columns})
    except pl.exceptions.DuplicateError as error:
        raise InputError(path, f"has two columns of one name: {str(error).splitlines()[0]}") from None
    require_columns(path, table, required)
    if table.height == 0:
        raise InputError(path, "has a header but no rows")
    return table


def _content(path: Path) -> bytes:
    """Return a file decompressed; a small one may hold very much."""
    parts, size = [], 0
    for part in read_chunks(path, _CHUNK_BYTES):
        size += len(part)
        if size > _MAX_BYTES:
            raise InputError(path, f"holds more than {_MAX_BYTES >> 20:,} MiB of text", "cut it into parts")
        if len(part) == _CHUNK_BYTES and b"\n" not in part:
            raise InputError(path, f"has a line of more than {_CHUNK_BYTES >> 20} MiB", "is this a CSV file?")
        parts.append(part)
    return b"".join(parts)


def require_columns(path: Path, table: pl.DataFrame, required: Collection[str]) -> None:
    """Raise `InputError` where a column is missing."""
    if missing := [name for name in required if name not in table.columns]:
        raise InputError(path, f"lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")


def numbers(path: Path, table: pl.DataFrame, column: str, *, nullable: bool = False) -> pl.Series:
    """Return a text column as float64; with ``nullable``, empty cells and ``NaN`` become null.

    Raises:
        InputError: a cell holds text, an infinity, or, unless ``nullable``, nothing.
    """
    text = table[column].str.strip_chars().replace("", None)
    values = text.cast(pl.Float64, strict=False)
    bad = text.is_not_null() & values.is_null()
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise InputError(path, f"line {row + 2}: column {column} holds {text[row][:60]!r}, not a number")
    if (infinite := values.is_infinite().fill_null(False)).any():
        row = int(infinite.arg_max() or 0)
        raise InputError(path, f"line {row + 2}: column {column} is infinite")
    values = values.fill_nan(None)
    if not nullable and values.null_count():
        row = int(values.is_null().arg_max() or 0)
        raise InputError(path, f"line {row + 2}: column {column} is empty or NaN")
    return values


def nanoseconds(path: Path, column: str, times: pl.Series, factor: float) -> pl.Series:
    """Return times as whole ns. Raises `InputError` for one that no clock can have written."""
    if (impossible := times.abs() * factor > MAX_NS).any():
        row = int(impossible.arg_max() or 0)
        raise InputError(path, f"line {row + 2}: column {column} holds {times[row]:g}, which is no time")
    return (times * factor).round().cast(pl.Int64)


def integers(path: Path, table: pl.DataFrame, column: str) -> pl.Series:
    """Return a text column as whole numbers. Raises `InputError` like `numbers`, for a fraction, and beyond int64."""
    values = numbers(path, table, column)
    if (fraction := values != values.round()).any():
        row = int(fraction.arg_max() or 0)
        raise InputError(path, f"line {row + 2}: column {column} holds {table[column][row]!r}, not a whole number")
    if (large := values.abs() >= MAX_NS).any():
        row = int(large.arg_max() or 0)
        raise InputError(path, f"line {row + 2}: column {column} holds {table[column][row]!r}, which is too large")
    return table[column].str.strip_chars().cast(pl.Int64, strict=False).fill_null(values.cast(pl.Int64, strict=False))
