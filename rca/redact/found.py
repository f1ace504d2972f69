"""What is private in a result: collected before anything is replaced, so that it has one stand-in wherever it occurs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import polars as pl

from rca.bench.model import BenchRun
from rca.capture.findings import Finding
from rca.capture.model import Capture, SourceFile
from rca.inspection_model import File, Inspection
from rca.redact import keys, shapes, words
from rca.startup import StartupComparison
from rca.startup.model import Startup
from rca.startup.read import Startups
from rca.sweep.model import Sweep

_NUMBER_AFTER = re.compile(r"#\d+$")
"""Of the start in a log, of the run in a text."""

_HOLDERS = (pl.DataFrame, Mapping, list, tuple, set, frozenset)


class Found:
    """What is private in a result, and the texts that its tables hold.

    Attributes:
        files: of captures, in their order.
        wholes: other ways to write a file's path -> as it is in ``files``.
        roots: what was given on the command line, and the folders that it lies in -> their stand-ins.
        sides: the same by side, for a capture that is compared with itself.
        names: texts in tables, and in fields that hold the same.
        unique: by id of a table and name of a column, the different values of each column of texts.
    """

    def __init__(self) -> None:
        self.hosts: set[str] = set()
        self.files: dict[str, None] = {}  # an ordered set
        self.wholes: dict[str, str] = {}
        self.roots: dict[str, str] = {}
        self.sides: dict[tuple[str, str], str] = {}
        self.models: set[str] = set()
        self.commands: set[str] = set()
        self.users: set[str] = set()
        self.versions: set[str] = set()
        self.names: set[str] = set()
        self.unique: dict[tuple[int, str], pl.Series] = {}
        self._seen: dict[int, Any] = {}  # holds them, so that no id is given twice
        self._texts: set[str] = set()

    def walk(self, thing: Any, key: str = "", side: str = "") -> None:
        """Collect from a result and all that is in it; ``key`` is where it stands, ``side`` of what comparison."""
        if isinstance(thing, Enum):
            return
        if isinstance(thing, str):
            self._text(thing, key)
        elif isinstance(thing, PurePath):
            self._shaped(str(thing))
        elif (isinstance(thing, _HOLDERS) or dataclasses.is_dataclass(thing)) and id(thing) not in self._seen:
            self._seen[id(thing)] = thing
            self._inside(thing, key, side)

    def _inside(self, thing: Any, key: str, side: str) -> None:
        if isinstance(thing, pl.DataFrame):
            self._table(thing)
        elif isinstance(thing, Mapping):
            for name, value in thing.items():
                self.walk(name, "" if " " in str(name) else keys.NAME, side)
                self.walk(value, str(name), side_of(str(name), side))
        elif dataclasses.is_dataclass(thing):
            self._capture(thing, side)
            self._startup(thing)
            self._other(thing, side)
            for field in dataclasses.fields(thing):
                self.walk(getattr(thing, field.name), keys.field(field.name), side_of(field.name, side))
        else:
            if keys.kind_of(key) == "command" and len(thing) > 1:
                self.commands.add(" ".join(map(str, thing)))
            for value in thing:
                self.walk(value, key, side)

    def _capture(self, thing: Any, side: str) -> None:
        if isinstance(thing, Capture | Inspection):
            self._root(str(thing.path), f"{side} capture".strip(), side)
        elif isinstance(thing, SourceFile | File):
            self._file(thing.path)
        elif isinstance(thing, Finding):
            self._file(thing.file)

    def _startup(self, thing: Any) -> None:
        if isinstance(thing, StartupComparison):
            for path, side in zip(thing.paths, ("normal", "abnormal"), strict=True):
                self._root(str(path), side, side)
        elif isinstance(thing, Startups):
            for start in thing.starts:
                self._start(start)
            for remark in thing.warnings:  # of files that are no start-up
                self._file(remark.partition(": ")[0])

    def _start(self, start: Startup) -> None:
        """Take a start's file; the start is called as it, but in tables that were made by hand."""
        name = _NUMBER_AFTER.sub("", start.name)
        of_file = PurePath(start.file).as_posix().endswith(PurePath(name).as_posix())
        own = name if of_file else PurePath(start.file).name
        self._file(own)
        self.wholes.setdefault(start.file, own)

    def _other(self, thing: Any, side: str) -> None:
        if isinstance(thing, BenchRun):
            self._source(thing.source, side or "model run", side)
            if thing.label == PurePath(_NUMBER_AFTER.sub("", thing.source)).name:
                self.roots.setdefault(thing.label, self.roots[thing.source])
        elif isinstance(thing, Sweep):
            self._source(thing.source, "sweep", side)

    def _source(self, source: str, label: str, side: str) -> None:
        if number := _NUMBER_AFTER.search(source):
            self._root(source[: number.start()], label, side)
            label += number[0]
        self._root(source, label, side)

    def _root(self, path: str, label: str, side: str) -> None:
        self.roots.setdefault(path, label)
        self.sides[side, path] = label
        parent = PurePath(path).parent
        if len(parent.parts) > 1:
            self.roots.setdefault(str(parent), words.PATH)

    def _file(self, path: str) -> None:
        if not path:
            return
        self.files[path] = None
        last = PurePath(path).name
        if last != path:
            self.wholes.setdefault(last, path)
        if host := shapes.host_of_trace(last):
            self.hosts.add(host)

    def _table(self, table: pl.DataFrame) -> None:
        for column in table.get_columns():
            if is_text(column.dtype):
                unique = column.unique(maintain_order=True).drop_nulls()
                self.unique[id(table), column.name] = unique
                texts = unique.cast(pl.String).to_list()
                self.names.update(texts)
                for text in texts:
                    self._shaped(text, is_name=True)
            elif column.dtype.is_nested() or column.dtype == pl.Object:
                self.walk(column.to_list())

    def _text(self, text: str, key: str) -> None:
        if not text or words.is_placeholder(text):
            return
        kind = keys.kind_of(key)
        if kind == "name":
            self.names.add(text)
        elif kind == "command" and " " in text:
            self.commands.add(text)
        elif kind == "version" and "/" not in text and re.search(r"\d\.\d", text):
            self.versions.add(text)
        elif kind == "host" and "://" not in text:
            self._add_hosts(map(shapes.without_port, re.split(r"[\s,;]+", text)))
        elif kind == "model" and words.is_local_model(text):
            self.models.add(text)
        elif kind == "user" and not words.is_word(text):
            self.users.add(text)
        if kind != "version":
            self._shaped(text, kind == "name")

    def _shaped(self, text: str, is_name: bool = False) -> None:
        """Collect hosts and users that texts name by their shape."""
        if text not in self._texts:
            self._texts.add(text)
            self._add_hosts(shapes.hosts_in(text, is_name))
            self.users.update(shapes.users_in(text))

    def _add_hosts(self, hosts: Iterable[str]) -> None:
        self.hosts.update(host for host in hosts if words.is_host(host) and not words.is_anywhere(host))


def side_of(name: str, side: str) -> str:
    """Return the side of a comparison on which lies what has a name, within something on a side."""
    return name if name in ("normal", "abnormal") else side


def is_text(dtype: pl.DataType) -> bool:
    """Tell a column of texts."""
    return dtype in (pl.String, pl.Categorical) or isinstance(dtype, pl.Enum)
