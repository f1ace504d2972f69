"""What one side of a comparison holds once its files are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from rca.capture.tables import COUNTERS, CYCLE_ROWS, EVENTS, empty


@dataclass(frozen=True)
class SourceFile:
    """A file that was read. ``path`` is relative to the capture; ``format`` is the reader's name."""

    path: str
    format: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Reading:
    """What one reader got out of one file. ``meta`` holds facts of the source (rank, versions, profiler settings)."""

    events: pl.DataFrame = field(default_factory=lambda: empty(EVENTS))
    counters: pl.DataFrame = field(default_factory=lambda: empty(COUNTERS))
    cycle_rows: pl.DataFrame = field(default_factory=lambda: empty(CYCLE_ROWS))
    meta: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Capture:
    """Everything recorded on one side.

    Attributes:
        path: the folder or file as the user gave it.
        files: what was read, sorted by path; ``events["file"]`` and ``meta`` index into it.
        events: `EVENTS`, sorted by start.
        counters: `COUNTERS`, sorted by metric, device and time.
        cycle_rows: `CYCLE_ROWS` of captures that were cut and reduced before they reached us.
        meta: one dict of facts per file.
        notes: what a reader had to skip, clamp or guess, for the report.
    """

    path: Path
    files: tuple[SourceFile, ...]
    events: pl.DataFrame
    counters: pl.DataFrame
    cycle_rows: pl.DataFrame
    meta: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]

    @property
    def digest(self) -> tuple[str, ...]:
        """Content hashes of all files, independent of their names."""
        return tuple(sorted(file.sha256 for file in self.files))
