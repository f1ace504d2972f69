"""Columns of the CSV files of ``nsys stats``: headers carry units, which depend on ``--timeunit`` (FORMATS.md §4.6)."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from rca.capture.readers.csv_table import integers, nanoseconds, numbers

_UNIT = re.compile(r"\s*\(([^()]*)\)\s*$")

_NS = {"ns": 1, "nsec": 1, "us": 10**3, "usec": 10**3, "μs": 10**3, "µs": 10**3, "ms": 10**6, "msec": 10**6, "s": 10**9}
_NS |= {"sec": 10**9, "seconds": 10**9, "milliseconds": 10**6, "microseconds": 10**3, "nanoseconds": 1}
_BYTES = {"b": 1, "bytes": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def plain_name(column: str) -> str:
    """Return a column's name without its unit, in lower case."""
    return _UNIT.sub("", column).strip().lower()


def _unit(column: str) -> str:
    found = _UNIT.search(column)
    return found[1].strip().lower() if found else ""


def times(path: Path, table: pl.DataFrame, column: str) -> pl.Series:
    """Return a column of times in ns; empty cells are null.

    Raises:
        InputError: a cell holds something else than a time.
    """
    values = numbers(path, table, column, nullable=True)
    factor = _NS.get(_unit(column), 1)
    converted = nanoseconds(path, column, values, factor)
    exact = table[column].str.strip_chars().cast(pl.Int64, strict=False) if factor == 1 else None
    return converted if exact is None else exact.fill_null(converted)


def sizes(path: Path, table: pl.DataFrame, column: str) -> pl.Series:
    """Return a column of sizes in bytes; empty cells are null. Raises `InputError` like `times`."""
    values = numbers(path, table, column, nullable=True)
    return (values * _BYTES.get(_unit(column), 1)).round().cast(pl.Int64, strict=False)


def whole_numbers(path: Path, table: pl.DataFrame, column: str) -> pl.Series:
    """Return a column of ids; empty cells are null. Raises `InputError` for text and fractions."""
    values = numbers(path, table, column, nullable=True)
    filled = table.with_columns(pl.when(values.is_null()).then(pl.lit("0")).otherwise(pl.col(column)).alias(column))
    return integers(path, filled, column).set(values.is_null(), None)
