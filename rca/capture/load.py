"""A folder or file into a `Capture`: find the files, tell their formats by content, read them, join the tables."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rca.capture import bytes_in
from rca.capture.model import Capture, Reading, SourceFile
from rca.capture.readers import counters, cycle_profile, kineto
from rca.capture.tables import COUNTERS, CYCLE_ROWS, EVENTS, empty
from rca.errors import InputError

_READERS = (kineto, cycle_profile, counters)
"""Asked in this order. A reader has ``NAME``, ``matches(head)`` and ``read(path)``."""

Progress = Callable[[str, int, int], None]
"""Called with (file, bytes read so far, bytes in all) before each file and once at the end."""


def no_progress(file: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class _Found:
    path: Path
    relative: str
    reader: object
    size: int


def load(path: Path, progress: Progress = no_progress) -> Capture:
    """Read everything below ``path`` that a reader knows.

    Raises:
        InputError: the path does not exist, holds nothing that can be read as a capture, or a file of it is damaged.
    """
    found, notes = _find(path)
    total = sum(item.size for item in found)
    done = 0
    files: list[SourceFile] = []
    readings: list[Reading] = []
    for item in found:
        progress(item.relative, done, total)
        done += item.size
        digest = _sha256(item.path)
        if twin := next((file.path for file in files if file.sha256 == digest), None):
            notes.append(f"{item.relative}: the same content as {twin}; skipped")
            continue
        reading: Reading = item.reader.read(item.path)  # type: ignore[attr-defined]
        name: str = item.reader.NAME  # type: ignore[attr-defined]
        index = pl.lit(len(files), pl.Int32).alias("file")
        files.append(SourceFile(item.relative, name, item.size, digest))
        events, rows = (table.with_columns(index) for table in (reading.events, reading.cycle_rows))
        readings.append(Reading(events, reading.counters, rows, reading.meta))
        notes += [f"{item.relative}: {note}" for note in reading.notes]
    progress("", total, total)
    return Capture(
        path=path,
        files=tuple(files),
        events=_joined([r.events for r in readings], EVENTS).sort("start_ns", "dur_ns", descending=[False, True]),
        counters=_joined([r.counters for r in readings], COUNTERS)
        .unique(maintain_order=True)
        .sort(pl.col("metric").cast(pl.String), pl.col("device").cast(pl.String), "pid", "ts_ns", "value"),
        cycle_rows=_joined([r.cycle_rows for r in readings], CYCLE_ROWS),
        meta=tuple(r.meta for r in readings),
        notes=tuple(notes),
    )


def _find(path: Path) -> tuple[list[_Found], list[str]]:
    """Return the files that a reader claims, and notes on those that none does."""
    try:
        candidates = [path] if not stat.S_ISDIR(path.stat().st_mode) else _walk(path)
    except FileNotFoundError:
        raise InputError(path, "does not exist") from None
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from None
    if not candidates:
        raise InputError(path, "is an empty folder", "give a folder with traces, per-cycle profiles or counters")
    found: list[_Found] = []
    notes: list[str] = []
    for file in candidates:
        relative = (file.name if file == path else file.relative_to(path).as_posix()).encode(errors="replace").decode()
        head = bytes_in.head(file)
        reader = next((r for r in _READERS if r.matches(head)), None)
        if reader is not None:
            found.append(_Found(file, relative, reader, file.stat().st_size))
        elif not head:
            notes.append(f"{relative}: empty file; skipped")
        elif _looks_like_trace(file, head):
            raise InputError(file, "is not a trace that can be read", "expected a Chrome / torch.profiler JSON trace")
        else:
            notes.append(f"{relative}: no format that is known; skipped")
    if not any(item.reader in (kineto, cycle_profile) for item in found):
        what = "only counters, no trace" if found else f"no trace among its {len(candidates)} file(s)"
        raise InputError(path, f"holds {what}", "expected torch.profiler traces (.json, .json.gz) or result_perf_data.csv")
    return found, notes


def _walk(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise InputError(error.filename or folder, f"cannot be read: {error.strerror}")

    files = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(file for file in files if file.is_file())


def _looks_like_trace(file: Path, head: bytes) -> bool:
    """Tell a damaged trace from a file that was never meant to be one."""
    return "trace" in file.name.lower() and file.name.lower().removesuffix(".gz").endswith(".json") and b"{" in head[:64]


def _joined(tables: list[pl.DataFrame], schema: dict[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    filled = [table for table in tables if table.height]
    return pl.concat(filled) if filled else empty(schema)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
