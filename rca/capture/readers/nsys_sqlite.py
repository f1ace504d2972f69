"""Nsight Systems exports as SQLite databases (FORMATS.md §4).

Tables are read with ADBC, straight into columns. A database is somebody else's file and SQLite is lenient, so: only real
tables are read, never views, virtual tables or computed columns; a table cannot give more rows or text than its file has
room for (pages that refer to each other could go on for ever); and values of a wrong type are left out.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import adbc_driver_manager
import adbc_driver_sqlite
import polars as pl

from rca.capture.findings import Finding, Severity
from rca.capture.model import Reading
from rca.capture.readers.nsys_store import INT, MAX_TEXT_BYTES, TEXT, Columns
from rca.capture.readers.nsys_tables import build
from rca.capture.source import Probe, Source, alone
from rca.errors import InputError

NAME = "nsys-sqlite"
group = alone

_TELLING = ("NVTX_EVENTS", "META_DATA_EXPORT", "EXPORT_META_DATA", "SCHED_EVENTS", "OSRT_API", "GPU_METRICS")

_BATCH_ROWS = 1 << 16
"""Fastest of 2**10, 2**16, 2**20; ADBC also settles a column's type by its first batch."""

_MIN_ROW_BYTES = 6
"""A row takes at least a cell of 4 bytes and its pointer."""

_Error = (adbc_driver_manager.Error, pl.exceptions.PolarsError, pl.exceptions.PanicException)

_SCHEMA = """
    SELECT CAST(tables.name AS BLOB) AS tab, CAST(columns.name AS BLOB) AS col, columns.hidden
    FROM pragma_table_list AS tables, pragma_table_xinfo(tables.name) AS columns
    WHERE tables.schema = 'main' AND tables.type = 'table' LIMIT 100000
"""


def matches(probe: Probe) -> bool:
    """Tell by its tables whether a database is an export of Nsight Systems."""
    tables = probe.sqlite_tables
    cupti = any(name.startswith("CUPTI_ACTIVITY_KIND_") for name in tables)
    return "StringIds" in tables and (cupti or not tables.isdisjoint(_TELLING))


def read(source: Source) -> Reading:
    """Read one database.

    Raises:
        InputError: it is damaged.
    """
    return build(SqliteTables(source.path), source)


class SqliteTables:
    """The tables of one database; see `nsys_store.TableStore`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.findings: list[Finding] = []
        self._size = path.stat().st_size
        self._max_rows = self._size // _MIN_ROW_BYTES + 1
        self._columns: dict[str, set[str]] = {}
        try:
            schema = self._query(_SCHEMA)
        except _Error as error:
            raise self._damaged(error) from None
        computed = set()
        for table_name, column, hidden in schema.iter_rows():
            table = table_name.decode(errors="replace")
            self._columns.setdefault(table, set()).add(column.decode(errors="replace"))
            if hidden:
                computed.add(table)
        for table in sorted(computed):
            del self._columns[table]
            text = f"table {table[:100]!r} has computed columns, which Nsight Systems does not write; not read"
            self.findings.append(Finding("skipped", text))

    def columns(self, table: str) -> frozenset[str]:
        """Return the names of a table's columns."""
        return frozenset(self._columns.get(table, ()))

    def read(self, table: str, columns: Columns) -> pl.DataFrame:
        """Read columns of one table."""
        present = {name: dtype for name, dtype in columns.items() if name in self._columns.get(table, ())}
        if not present:
            return pl.DataFrame(schema=dict(columns))
        try:
            frame = self._read(table, present)
        except _Error as error:
            raise self._damaged(error) from None
        if frame.height >= self._max_rows:
            raise InputError(self.path, f"is damaged: table {table} has more rows than the file has room for")
        return frame.select(
            pl.col(name) if name in present else pl.lit(None, dtype).alias(name) for name, dtype in columns.items()
        )

    def _read(self, table: str, columns: Columns) -> pl.DataFrame:
        texts = [name for name, dtype in columns.items() if dtype is TEXT]
        if texts:
            self._require_room(table, texts)
        expressions = {name: _text(name) if name in texts else f'"{name}"' for name in columns}
        try:
            frame = self._query(self._select(table, expressions))
        except pl.exceptions.PolarsError:  # types differ between batches
            frame = pl.DataFrame()
        if any(frame.schema.get(name) != INT for name in columns if name not in texts):
            frame = self._read_mixed(table, expressions, [name for name in columns if name not in texts])
        return frame.with_columns(self._decoded(table, frame[name]) for name in texts)

    def _read_mixed(self, table: str, expressions: dict[str, str], numbers: list[str]) -> pl.DataFrame:
        """Read a table whose number columns also hold something else."""
        wrong = " + ".join(f"""(typeof("{name}") NOT IN ('integer', 'null'))""" for name in numbers)
        count = self._query(f"SELECT total(n) FROM ({self._select(table, {'n': wrong})})").item()  # noqa: S608
        text = f"table {table} has {count:,.0f} values that are no whole numbers; left out"
        self.findings.append(Finding("bad_values", text))
        guarded = {name: f"""CASE typeof("{name}") WHEN 'integer' THEN "{name}" END""" for name in numbers}
        frame = self._query(self._select(table, expressions | guarded))
        return frame.with_columns(pl.col(numbers).cast(INT))

    def _select(self, table: str, expressions: dict[str, str]) -> str:
        columns = ", ".join(f'{expression} AS "{name}"' for name, expression in expressions.items())
        return f'SELECT {columns} FROM "{table}" LIMIT {self._max_rows}'  # noqa: S608 (all names are constants of ours)

    def _require_room(self, table: str, texts: list[str]) -> None:
        """Refuse texts that take more room than the file has; their lengths are known without reading them."""
        length = " + ".join(f'min(coalesce(octet_length("{name}"), 0), {MAX_TEXT_BYTES})' for name in texts)
        total = self._query(f"SELECT total(n) FROM ({self._select(table, {'n': length})})").item()  # noqa: S608
        if total > 4 * self._size:  # numbers that stand for texts grow when they are written out
            raise InputError(self.path, f"is damaged: table {table} has more text than the file has room for")

    def _decoded(self, table: str, column: pl.Series) -> pl.Series:
        """Return bytes as text. They are not asked for as text because nothing would check that they are UTF-8."""
        if column.dtype != pl.Binary:  # a table without rows
            return column.cast(TEXT)
        try:
            texts = column.cast(TEXT)
        except pl.exceptions.PolarsError:
            self.findings.append(
                Finding("repaired", f"table {table}, {column.name}: bytes that are not UTF-8 replaced", Severity.INFO)
            )
            texts = pl.Series(column.name, [item.decode(errors="replace") for item in column])
        return texts.set(texts == "", None)

    def _query(self, sql: str) -> pl.DataFrame:
        uri = f"file:{quote(str(self.path.absolute()))}?mode=ro&immutable=1"
        with (
            adbc_driver_sqlite.connect(uri) as database,
            adbc_driver_manager.AdbcConnection(database) as connection,
            adbc_driver_manager.AdbcStatement(connection) as statement,
        ):
            statement.set_options(**{adbc_driver_sqlite.StatementOptions.BATCH_ROWS.value: str(_BATCH_ROWS)})
            statement.set_sql_query(sql)
            stream, _ = statement.execute_query()
            return pl.DataFrame(stream)

    def _damaged(self, error: Exception) -> InputError:
        reason = str(error).split("[SQLite] ")[-1].splitlines()[0]
        remedy = "export it again with nsys export --type=sqlite"
        return InputError(self.path, f"is a damaged SQLite database: {reason}", remedy)


def _text(name: str) -> str:
    """Return SQL for a text as bytes, never null: the type of a column shows in its first batch, which may be all null."""
    length = f'octet_length("{name}")'
    too_long = f"CAST('(text of ' || {length} || ' bytes)' AS BLOB)"
    return f"""coalesce(CASE WHEN {length} <= {MAX_TEXT_BYTES} THEN CAST("{name}" AS BLOB) ELSE {too_long} END, x'')"""
