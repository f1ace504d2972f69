"""Databases of AMD's recorders, read column by column with the same care as those of Nsight Systems."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rca.capture.readers.nsys_sqlite import SqliteTables
from rca.capture.readers.nsys_store import Columns
from rca.errors import InputError

_DEFAULTED = """
    SELECT CAST(tables.name AS BLOB) AS tab, CAST(columns.name AS BLOB) AS col
    FROM pragma_table_list AS tables, pragma_table_xinfo(tables.name) AS columns
    WHERE tables.schema = 'main' AND tables.type = 'table' AND columns.hidden = 0 AND columns.dflt_value IS NOT NULL
    LIMIT 100000
"""
_REMEDY = "copy it again once the recorder has ended, or record again"


class Database:
    """The real tables of one database; views, virtual tables and computed columns do not count.

    Unlike in exports of Nsight Systems, columns may have default values: rocpd declares ``extdata`` and ``guid`` so. The
    limits on text per table keep a default from filling the memory.

    Raises:
        InputError: it is damaged; so does `read`.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._tables = _Tables(path)
        except InputError as error:
            raise InputError(path, error.problem, _REMEDY) from None
        self.path = path
        self.findings = self._tables.findings

    @property
    def names(self) -> frozenset[str]:
        """Names of all tables."""
        return self._tables.names

    def columns(self, table: str) -> frozenset[str]:
        """Return the names of a table's columns; none where there is no such table."""
        return self._tables.columns(table)

    def read(self, table: str, columns: Columns) -> pl.DataFrame:
        """Read columns of one table as `SqliteTables.read` does: what is missing or of a wrong type is null."""
        try:
            return self._tables.read(table, columns)
        except InputError as error:
            raise InputError(error.path, error.problem, _REMEDY) from None


class _Tables(SqliteTables):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            defaulted = self._query(_DEFAULTED)
        except (ValueError, RuntimeError, OSError) as error:
            raise self._damaged(error) from None
        for table, column in defaulted.iter_rows():
            self._columns.setdefault(table.decode(errors="replace"), set()).add(column.decode(errors="replace"))

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._columns)
