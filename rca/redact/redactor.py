"""Results without what is private: the copy of a result in which every text has been replaced."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeVar, cast

import numpy as np
import polars as pl

from rca.redact import keys, words
from rca.redact.found import Found, side_of
from rca.redact.standins import StandIns

T = TypeVar("T")


def redacted(result: T) -> T:
    """Return the same result without what is private in it; `Redactor` for several that belong together."""
    return Redactor()(result)


class Redactor:
    """Redacts results so that the same host, file or function has the same stand-in in all of them.

    A result is made of frozen dataclasses, tuples, lists, dicts, `polars.DataFrame`, paths and texts; anything else in it is
    left as it is. What is redacted already does not change any more.
    """

    def __init__(self) -> None:
        self._standins = StandIns()

    def __call__(self, result: T) -> T:
        """Return the result redacted."""
        found = Found()
        found.walk(result)
        self._standins.learn(found)
        return cast(T, _Copy(self._standins, found.unique).of(result))

    def name(self, text: str) -> str:
        """Return the name of a function, metric or device as it is in the results redacted so far."""
        return self._standins.name(text)


class _Copy:
    """Makes the copy; what holds nothing private is not copied, and what was one thing stays one."""

    def __init__(self, standins: StandIns, unique: Mapping[tuple[int, str], pl.Series]) -> None:
        self._standins = standins
        self._unique = unique
        self._made: dict[tuple[int, str], tuple[Any, Any]] = {}

    def of(self, thing: Any, key: str = "", side: str = "") -> Any:
        """Return the copy of what stands behind a key, on a side of a comparison."""
        if isinstance(thing, Enum):
            return thing
        if isinstance(thing, str):
            return self._standins.value(key, thing, side)
        if isinstance(thing, PurePath):
            return self._standins.path(thing, side)
        if (known := self._made.get((id(thing), side))) is not None:
            return known[1]
        made = self._inside(thing, key, side)
        self._made[id(thing), side] = (thing, made)  # holds it, so that its id is not given to another
        return made

    def _inside(self, thing: Any, key: str, side: str) -> Any:
        if isinstance(thing, pl.DataFrame):
            return self._table(thing)
        if isinstance(thing, Mapping):
            return self._mapping(thing, side)
        if isinstance(thing, (list, tuple, set, frozenset)):
            return self._several(thing, key, side)
        if dataclasses.is_dataclass(thing):
            return self._fields(thing, side)
        return thing

    def _fields(self, thing: Any, side: str) -> Any:
        values = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
        made = {name: self.of(value, keys.field(name), side_of(name, side)) for name, value in values.items()}
        if all(made[name] is value for name, value in values.items()):
            return thing
        shown = copy.copy(thing)
        for name, value in made.items():
            object.__setattr__(shown, name, value)
        return shown

    def _mapping(self, thing: Mapping[Any, Any], side: str) -> Mapping[Any, Any]:
        made: dict[Any, Any] = {}
        same = True
        for name, value in thing.items():
            shown = self.of(name, "" if " " in str(name) else keys.NAME)  # no word of a key is a host
            own = self.of(value, str(name), side_of(str(name), side))
            plain, number = shown, 1
            while shown in made:
                number += 1
                shown = f"{plain} ({number})"
            same = same and shown is name and own is value
            made[shown] = own
        return thing if same else made

    def _several(self, thing: Any, key: str, side: str) -> Any:
        if keys.kind_of(key) == "command" and any(isinstance(value, str) for value in thing):
            return type(thing)([words.COMMAND])
        made = [self.of(value, key, side) for value in thing]
        if all(new is old for new, old in zip(made, thing, strict=True)):
            return thing
        return type(thing)(*made) if hasattr(thing, "_fields") else type(thing)(made)

    def _table(self, table: pl.DataFrame) -> pl.DataFrame:
        columns = table.get_columns()
        made = [self._column(column, self._unique.get((id(table), column.name))) for column in columns]
        return table if all(new is old for new, old in zip(made, columns, strict=True)) else pl.DataFrame(made)

    def _column(self, column: pl.Series, unique: pl.Series | None) -> pl.Series:
        if unique is None:
            return self._nested(column)
        old = unique.cast(pl.String).to_list()
        new = [self._standins.name(text) for text in old]
        if old == new:
            return column
        if column.dtype == pl.String:
            return column.replace(old, new)
        if isinstance(column.dtype, pl.Enum):
            categories = dict.fromkeys(self._standins.name(text) for text in column.dtype.categories)
            return column.cast(pl.String).replace(old, new).cast(pl.Enum(list(categories)))
        return _gathered(column, unique, new)

    def _nested(self, column: pl.Series) -> pl.Series:
        if not (column.dtype.is_nested() or column.dtype == pl.Object):
            return column
        values = column.to_list()
        made = self.of(values)
        return column if made is values else pl.Series(column.name, made, dtype=column.dtype)


def _gathered(column: pl.Series, unique: pl.Series, new: Iterable[str]) -> pl.Series:
    """Put other categories in place of a column's, by their codes: much faster than by their texts."""
    codes = unique.to_physical().to_numpy()
    place = np.zeros(int(codes.max()) + 2, dtype=np.uint32)
    place[codes] = np.arange(len(codes))
    place[-1] = len(codes)
    texts = pl.Series(column.name, [*new, None], dtype=column.dtype)
    return texts.gather(place[column.to_physical().fill_null(len(place) - 1).to_numpy()])
