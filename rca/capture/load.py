"""A folder or file into a `Capture`: read what `discover` found and join the tables."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from rca.capture.discover import Found, Listing, discover
from rca.capture.findings import Finding
from rca.capture.health import check
from rca.capture.model import Capture, Clock, Reading
from rca.capture.source import Source
from rca.capture.tables import COUNTERS, CYCLE_ROWS, EVENTS, empty

Progress = Callable[[str, int, int], None]
"""Called with (file, bytes read so far, bytes in all) as reading goes on, and once at the end."""


def no_progress(file: str, done: int, total: int) -> None:
    """Report nothing."""


def load(path: Path, progress: Progress = no_progress) -> Capture:
    """Read everything below ``path`` that a reader knows.

    Raises:
        InputError: the path does not exist, holds nothing that can be read as a capture, or a file of it is damaged.
    """
    with discover(path) as listing:
        return read(listing, progress)


def read(listing: Listing, progress: Progress = no_progress) -> Capture:
    """Read what was listed.

    Raises:
        InputError: a file is damaged beyond use.
    """
    total = sum(file.size_bytes for file in listing.files)
    done = 0
    findings = list(listing.findings)
    readings: list[Reading] = []
    index = 0
    for found in listing.found:
        reading = found.reader.read(_source(found, progress, done, total))
        done += sum(file.size_bytes for file in found.files)
        column = pl.lit(index, pl.Int32).alias("file")
        events, rows = (table.with_columns(column) for table in (reading.events, reading.cycle_rows))
        readings.append(replace(reading, events=events, cycle_rows=rows))
        findings += [replace(item, file=item.file or found.files[0].path) for item in reading.findings]
        if reading.clock is not Clock.UNIX and (events.height or reading.counters.height):
            text = f"its times count from {_ORIGIN[reading.clock]}: they cannot be placed on the wall clock"
            findings.append(Finding("no_wall_clock", text, file=found.files[0].path))
        index += len(found.files)
    progress("", total, total)
    capture = Capture(
        path=listing.path,
        files=listing.files,
        events=_joined([r.events for r in readings], EVENTS).sort("start_ns", "dur_ns", descending=[False, True]),
        counters=_joined([r.counters for r in readings], COUNTERS)
        .unique(maintain_order=True)
        .sort(pl.col("metric").cast(pl.String), pl.col("device").cast(pl.String), "pid", "ts_ns", "value"),
        cycle_rows=_joined([r.cycle_rows for r in readings], CYCLE_ROWS),
        meta=_meta_by_file(listing, readings),
        findings=tuple(findings),
    )
    return replace(capture, findings=(*capture.findings, *check(capture)))


_ORIGIN = {Clock.BOOT: "the machine's start", Clock.OWN: "a zero of their own"}


def _source(found: Found, progress: Progress, done: int, total: int) -> Source:
    read_so_far = done

    def advance(more: int) -> None:
        nonlocal read_so_far
        read_so_far = min(read_so_far + more, total)
        progress(found.files[0].path, read_so_far, total)

    advance(0)
    return Source(found.paths, advance, os.cpu_count() or 1)


def _meta_by_file(listing: Listing, readings: list[Reading]) -> tuple[dict[str, object], ...]:
    """Return one dict per file; the facts of a recording of several files stand with its first one."""
    return tuple(
        reading.meta if position == 0 else {}
        for found, reading in zip(listing.found, readings, strict=True)
        for position, _ in enumerate(found.files)
    )


def _joined(tables: list[pl.DataFrame], schema: dict[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    filled = [table for table in tables if table.height]
    return pl.concat(filled) if filled else empty(schema)
