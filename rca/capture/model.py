"""What one side of a comparison holds once its files are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import polars as pl

from rca.capture.findings import Finding
from rca.capture.tables import COUNTERS, CYCLE_ROWS, EVENTS, empty


class Clock(StrEnum):
    """What the times of a source count from."""

    UNIX = "unix"
    """ns since 1970."""
    BOOT = "boot"
    """ns since the machine started (CLOCK_BOOTTIME, CLOCK_MONOTONIC)."""
    OWN = "own"
    """A zero of the source's own."""


@dataclass(frozen=True)
class SourceFile:
    """A file that was read. ``path`` is relative to the capture; ``format`` is the reader's name."""

    path: str
    format: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Reading:
    """What one reader got out of one source.

    ``meta`` holds facts of the source for reports (rank, versions, profiler settings), never environment variables or
    free text that may hold secrets. ``clock`` is what the times count from, ``added_ns`` what was added to the times that
    the source itself states, so that a moment can be found again in the file.
    """

    events: pl.DataFrame = field(default_factory=lambda: empty(EVENTS))
    counters: pl.DataFrame = field(default_factory=lambda: empty(COUNTERS))
    cycle_rows: pl.DataFrame = field(default_factory=lambda: empty(CYCLE_ROWS))
    meta: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    clock: Clock = Clock.UNIX
    added_ns: int = 0


@dataclass(frozen=True)
class Capture:
    """Everything recorded on one side.

    Attributes:
        path: the folder or file as the user gave it.
        files: what was read, sorted by path; ``events["file"]`` and ``meta`` index into it.
        events: `EVENTS`, sorted by start.
        counters: `COUNTERS`, sorted by metric, device and time.
        cycle_rows: `CYCLE_ROWS` of captures that were cut and reduced before they reached us.
        meta: one dict of facts per file. ``added_ns`` of a file with events: see `Reading`.
        findings: what is wrong or odd about it, in the order in which it was found.
    """

    path: Path
    files: tuple[SourceFile, ...]
    events: pl.DataFrame
    counters: pl.DataFrame
    cycle_rows: pl.DataFrame
    meta: tuple[dict[str, Any], ...]
    findings: tuple[Finding, ...]

    @property
    def digest(self) -> tuple[str, ...]:
        """Content hashes of all files, independent of their names."""
        return tuple(sorted(file.sha256 for file in self.files))
