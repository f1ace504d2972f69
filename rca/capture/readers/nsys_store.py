"""What the Nsight Systems readers have in common: the tables of an export, whatever file format holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import polars as pl

from rca.capture.findings import Finding
from rca.capture.tables import COUNTERS, EVENTS, empty

INT = pl.Int64
TEXT = pl.String
Columns = Mapping[str, type[pl.DataType]]
"""Names of columns and what they are to hold: `INT` or `TEXT`."""

MAX_TEXT_BYTES = 1 << 16
"""Longer names are not read; the longest of CUTLASS have some 10 kB."""

NO_NAME = "(no name)"


class TableStore(Protocol):
    """The tables of one export. Which ones and which columns exist depends on the exporter's version (FORMATS.md §4.4)."""

    path: Path
    findings: list[Finding]
    """What was wrong with values read so far."""

    def columns(self, table: str) -> frozenset[str]:
        """Return the names of a table's columns; none where there is no such table."""
        ...

    def read(self, table: str, columns: Columns) -> pl.DataFrame:
        """Read columns of one table, in the order of ``columns``, with exactly the types asked for.

        A column that the table lacks, an empty text, and a value of another type are null. A table that does not exist has
        no rows. May be called from several threads at once.

        Raises:
            InputError: the file is damaged.
        """
        ...


@dataclass(frozen=True)
class Part:
    """What one or a few tables gave. An event that was still going on when the recording ended has a null ``dur_ns``."""

    events: pl.DataFrame = field(default_factory=lambda: empty(EVENTS))
    counters: pl.DataFrame = field(default_factory=lambda: empty(COUNTERS))
    findings: tuple[Finding, ...] = ()


def categorical(values: pl.Series, convert: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Turn values of few kinds into categories; ``convert`` sees each distinct value once."""
    distinct = values.unique()
    table = pl.DataFrame({"key": distinct, "value": convert(distinct).cast(pl.Categorical)})
    return values.alias("key").to_frame().join(table, on="key", how="left", nulls_equal=True, maintain_order="left")["value"]


class Names:
    """The texts that ``nameId``, ``textId``, ``demangledName`` and the like refer to: table StringIds."""

    def __init__(self, store: TableStore) -> None:
        strings = store.read("StringIds", {"id": INT, "value": TEXT})
        self._strings = strings.unique("id", keep="first")

    def of(self, ids: pl.Series, strip: str = "") -> pl.Series:
        """Return names as categories, less what matches the regular expression ``strip``; null where there is none."""

        def convert(distinct: pl.Series) -> pl.Series:
            texts = distinct.alias("id").to_frame().join(self._strings, on="id", how="left", maintain_order="left")["value"]
            return texts.str.replace(strip, "") if strip else texts

        return categorical(ids, convert)
