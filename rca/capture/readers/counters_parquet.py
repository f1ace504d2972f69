"""Counter samples as parquet: the columns of the counters CSV, long (``timestamp`` or ``ts_ns``, metric, device, value,
unit, pid) or one column per metric.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rca.capture.model import Reading
from rca.capture.readers.counters import is_wide, own_keys, read_long
from rca.capture.readers.counters_wide import read_wide, time_column
from rca.capture.source import Probe, Source, alone
from rca.errors import InputError

NAME = "counters-parquet"
group = alone

_MAGIC = b"PAR1"
_LONG = {"metric", "value"}
_DAMAGED = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)
"""polars panics on some damaged pages."""
_MAX_ROWS = 200_000_000


def matches(probe: Probe) -> bool:
    """Tell by its columns whether a parquet file holds counter samples; others are other readers' (FORMATS.md §4.5)."""
    if not probe.head.startswith(_MAGIC):
        return False
    try:
        columns = tuple(pl.read_parquet_schema(probe.path))
    except _DAMAGED:
        return False
    return _is_long(columns) or is_wide(columns)


def read(source: Source) -> Reading:
    """Read one file.

    Raises:
        InputError: it is damaged, or a column holds what it must not.
    """
    path = source.path
    source.advance_whole(path)
    table = _as_text(path)
    if not _is_long(tuple(table.columns)):
        return read_wide(path, table)
    time = time_column(table.columns)
    if time is None or "device" not in table.columns:
        raise InputError(path, f"lacks the column {'device' if time else 'timestamp'}")
    height = table.height
    keys = pl.DataFrame(
        {
            "metric": table["metric"].fill_null("(no name)"),
            "device": table["device"],
            "pid": table["pid"].cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
            if "pid" in table.columns
            else pl.Series([None] * height, dtype=pl.Int64),
            "unit": table["unit"].fill_null("") if "unit" in table.columns else pl.repeat("", height, eager=True),
        }
    )
    return read_long(path, table, own_keys(keys), time)


def _is_long(columns: tuple[str, ...]) -> bool:
    return set(columns) >= _LONG and time_column(columns) is not None


def _as_text(path: Path) -> pl.DataFrame:
    """Return every column as text, as from a CSV file, so that one set of checks serves both; nested ones are left out."""
    try:
        lazy = pl.scan_parquet(path)
        if (rows := int(lazy.select(pl.len()).collect().item())) > _MAX_ROWS:
            raise InputError(path, f"states {rows:,} rows, more than a recording of counters has")
        schema = lazy.collect_schema()
        flat = [name for name, dtype in schema.items() if not dtype.is_nested()]
        table = lazy.select(_text(name, schema[name]) for name in flat).collect()
    except _DAMAGED as error:
        raise InputError(path, f"is a damaged parquet file: {' '.join(str(error).split())[:200]}") from None
    if table.height == 0:
        raise InputError(path, "has columns but no rows")
    return table


def _text(name: str, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.Datetime:
        return pl.col(name).dt.epoch("ns").cast(pl.String)
    return pl.col(name).cast(pl.Int64).cast(pl.String) if dtype == pl.Boolean else pl.col(name).cast(pl.String, strict=False)
