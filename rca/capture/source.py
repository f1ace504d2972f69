"""What a reader is asked with (`Probe`) and what it reads (`Source`), and the contract of a reader."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from rca.capture.model import Reading

HEAD_BYTES = 1 << 16
SQLITE_MAGIC = b"SQLite format 3\x00"


@dataclass(frozen=True)
class Probe:
    """A file as a reader sees it before it says whether it can read it. ``head``: its first `HEAD_BYTES`, decompressed."""

    path: Path
    head: bytes

    @cached_property
    def csv_columns(self) -> tuple[str, ...]:
        """Column names, if this is a CSV file: its first line, split at commas, without quotes."""
        first_line = self.head.split(b"\n", 1)[0].decode("utf-8", errors="replace").lstrip("\ufeff")
        return tuple(name.strip().strip('"') for name in first_line.split(","))

    @cached_property
    def sqlite_tables(self) -> frozenset[str]:
        """Names of the tables and views, if this is an SQLite database that can be opened; else empty."""
        if not self.head.startswith(SQLITE_MAGIC):
            return frozenset()
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError), contextlib.closing(open_sqlite(self.path)) as database:
            database.text_factory = lambda text: text.decode(errors="replace")
            return frozenset(str(name) for (name,) in database.execute("SELECT name FROM sqlite_master"))
        return frozenset()


@dataclass(frozen=True)
class Source:
    """One file, or the files of one recording that only make sense together.

    Attributes:
        paths: sorted.
        advance: to be called with the number of bytes read since the last call; drives the progress bar.
        workers: processes that may be used.
    """

    paths: tuple[Path, ...]
    advance: Callable[[int], None] = lambda _: None
    workers: int = 1

    @property
    def path(self) -> Path:
        """The first file: the only one of most sources."""
        return self.paths[0]

    def advance_whole(self, path: Path) -> None:
        """Report a file as read in one go."""
        self.advance(path.stat().st_size)


class Reader(Protocol):
    """A module of `rca.capture.readers`."""

    NAME: str
    """Format name, as reports print it."""

    def matches(self, probe: Probe) -> bool:
        """Tell by content whether this reader can, or is meant to, read the file."""
        ...

    def group(self, path: Path) -> str:
        """Return the key of the recording that a file belongs to: files of one key are read together."""
        ...

    def read(self, source: Source) -> Reading:
        """Read one source.

        Raises:
            InputError: it is damaged beyond use, or not what it looks like.
        """
        ...


def alone(path: Path) -> str:
    """Be the ``group`` of a format in which every file stands for itself."""
    return str(path)


def open_sqlite(path: Path) -> sqlite3.Connection:
    """Open a database read-only and without touching its folder (no journal, no lock).

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)
