"""A folder or file into a `Capture`: read what `discover` found and join the tables."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from rca.capture import manifest
from rca.capture.discover import Found, Listing, discover
from rca.capture.findings import Finding, Severity
from rca.capture.health import check
from rca.capture.model import Capture, Clock, Reading
from rca.capture.readers.registry import NO_TRACES
from rca.capture.source import Source
from rca.capture.tables import COUNTERS, CYCLE_ROWS, EVENTS, HOST, UNKNOWN_RANK, empty
from rca.errors import InputError

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
    """Read what was listed; the findings of the listing come first.

    Raises:
        InputError: no trace can be read, or a file of counters or of per-cycle profiles is damaged: those have no parts
            that could be left out without a word on what they would have said.
    """
    total = sum(file.size_bytes for file in listing.files)
    done = 0
    findings = list(listing.findings)
    readings: list[Reading] = []
    problems: list[InputError] = []
    for found in listing.found:
        try:
            reading = found.reader.read(_source(found, progress, done, total))
        except InputError as problem:
            if found.reader in NO_TRACES:
                raise
            problems.append(problem)
            reading = Reading(findings=(Finding("skipped", f"{problem.problem}; left out", Severity.DAMAGE),))
        done += sum(file.size_bytes for file in found.files)
        if reading.clock is Clock.BOOT and found.boot_to_unix_ns is not None:
            reading = _shifted(reading, found.boot_to_unix_ns)
        readings.append(_numbered(reading, sum(len(before.files) for before in listing.found[: len(readings)])))
        findings += [replace(item, file=item.file or found.files[0].path) for item in reading.findings]
        if reading.clock is not Clock.UNIX and (reading.events.height or reading.counters.height):
            text = f"its times count from {_ORIGIN[reading.clock]}: they cannot be placed on the wall clock"
            findings.append(Finding("no_wall_clock", text, file=found.files[0].path))
    progress("", total, total)
    if problems and not any(reading.events.height or reading.cycle_rows.height for reading in readings):
        raise problems[0]
    findings += _without_repeats(listing, readings)
    capture = Capture(
        path=listing.path,
        files=listing.files,
        events=_in_order(_joined([r.events for r in readings], EVENTS)),
        counters=_joined([r.counters for r in readings], COUNTERS)
        .unique(maintain_order=True)
        .sort(pl.col("metric", "device").cast(pl.String), "pid", "ts_ns", "value", pl.col("unit").cast(pl.String)),
        cycle_rows=_joined([r.cycle_rows for r in readings], CYCLE_ROWS),
        meta=_meta_by_file(listing, readings),
        findings=tuple(findings),
    )
    del readings
    return replace(capture, findings=(*capture.findings, *check(capture)))


def _numbered(reading: Reading, index: int) -> Reading:
    """Say in the tables which file they are from."""
    column = pl.lit(index, pl.Int32).alias("file")
    events, rows = (table.with_columns(column) for table in (reading.events, reading.cycle_rows))
    return replace(reading, events=events, cycle_rows=rows)


def _shifted(reading: Reading, by_ns: int) -> Reading:
    """Place a reading on the wall clock."""
    text = f"its times were shifted by {by_ns:,} ns, from the machine's start to the wall clock (from {manifest.NAME})"
    return replace(
        reading,
        events=reading.events.with_columns(pl.col("start_ns") + by_ns),
        counters=reading.counters.with_columns(pl.col("ts_ns") + by_ns),
        findings=(*reading.findings, Finding("clock_offset", text, Severity.INFO)),
        clock=Clock.UNIX,
        added_ns=reading.added_ns + by_ns,
    )


def _without_repeats(listing: Listing, readings: list[Reading]) -> list[Finding]:
    """Drop the events of files that only repeat what other files hold: merged traces beside those they were made of."""
    if sum(reading.events.height > 0 for reading in readings) < 2:
        return []
    recordings = [_processes(reading.events) for reading in readings]
    findings = []
    for index in sorted(range(len(readings)), key=lambda i: (len(recordings[i]), i), reverse=True):
        others = {process for other, held in enumerate(recordings) if other != index for process in held}
        if recordings[index] and all(_is_among(process, others) for process in recordings[index]):
            readings[index] = replace(readings[index], events=readings[index].events.clear())
            recordings[index] = set()
            text = "holds only events that other files of the capture hold too; left out"
            findings.append(Finding("duplicate", text, Severity.INFO, listing.found[index].files[0].path))
    return findings


Process = tuple[int, tuple[int, ...]]


def _processes(events: pl.DataFrame) -> set[Process]:
    """Return what tells the recordings of processes apart: rank, and pid, number of events, first and last time.

    Of events on the host, for copies of a trace need not place GPU work alike; of the others where there are no such.
    """
    per_process = (
        events.lazy()
        .filter(~pl.col("kind").is_in(["window", "overhead"]))
        .group_by("rank", "pid", (pl.col("device") == HOST).alias("on_host"))
        .agg(pl.len(), pl.col("start_ns").min(), (pl.col("start_ns") + pl.col("dur_ns")).max().alias("end_ns"))
        .collect()
    )
    on_host = per_process.filter("on_host")
    rows = (on_host if on_host.height else per_process).drop("on_host").rows()
    return {(row[0], row[1:]) for row in rows}


def _is_among(process: Process, others: set[Process]) -> bool:
    """Tell whether another file has the same process; its rank may be unknown to one of the two."""
    rank, recording = process
    ranks = {other for other, same in others if same == recording}
    return bool(ranks) and (rank == UNKNOWN_RANK or bool(ranks & {rank, UNKNOWN_RANK}))


def _in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Sort by start, longest first among equals; most captures are one sorted file, and a copy is not free."""
    start, dur = events["start_ns"].to_numpy(), events["dur_ns"].to_numpy()
    later = start[1:] > start[:-1]
    if (later | ((start[1:] == start[:-1]) & (dur[1:] <= dur[:-1]))).all():
        return events
    return events.sort("start_ns", "dur_ns", descending=[False, True], maintain_order=True)


_ORIGIN = {Clock.BOOT: "the machine's start", Clock.OWN: "a zero of their own"}


def _source(found: Found, progress: Progress, done: int, total: int) -> Source:
    read_so_far = done

    def advance(more: int) -> None:
        nonlocal read_so_far
        read_so_far = min(read_so_far + more, total)
        progress(found.files[0].path, read_so_far, total)

    advance(0)
    return Source(found.paths, advance, len(os.sched_getaffinity(0)))


def _meta_by_file(listing: Listing, readings: list[Reading]) -> tuple[dict[str, object], ...]:
    """Return one dict per file; the facts of a recording of several files stand with its first one."""
    return tuple(
        _facts(reading) if position == 0 else {}
        for found, reading in zip(listing.found, readings, strict=True)
        for position, _ in enumerate(found.files)
    )


def _facts(reading: Reading) -> dict[str, object]:
    has_times = reading.events.height or reading.cycle_rows.height
    return reading.meta | {"added_ns": reading.added_ns} if has_times else reading.meta


def _joined(tables: list[pl.DataFrame], schema: dict[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    filled = [table for table in tables if table.height]
    return pl.concat(filled) if filled else empty(schema)
