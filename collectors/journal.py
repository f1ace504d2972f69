"""Samples on their way to the disk: one CSV file per sampler, appended to once a second, so that a collector that is killed
loses no more than the last second. A full disk loses nothing until the memory set aside for that is used up.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from collectors.sampling import FIELDS, Note, Sample

MAX_WAITING = 4 << 20
"""Bytes of samples kept in memory while the disk is full; after that the oldest are lost, and counted."""


class Journal:
    """Appends samples to ``<folder>/<name>.csv``, which is made with the first of them. One thread adds, any flushes."""

    def __init__(self, folder: Path, name: str, note: Note) -> None:
        self.path = folder / f"{name}.csv"
        self.samples = 0
        self.lost = 0
        self._note = note
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._failed = ""
        self._lock = threading.Lock()
        self._file: int | None = None
        self._begun = False

    def add(self, samples: Sequence[Sample]) -> None:
        """Take samples of one tick."""
        rows = [
            f"{ts},{metric},{_cell(device)},{value:.9g},{unit},{'' if pid is None else pid}\n"
            for ts, metric, device, value, unit, pid in samples
        ]
        if not rows:
            return
        if not self.samples:
            rows.insert(0, ",".join(FIELDS) + "\n")
        self.samples += len(samples)
        text = "".join(rows).encode(errors="replace")
        with self._lock:
            self._waiting.append(text)
            self._size += len(text)

    def flush(self) -> None:
        """Write what waits. What a full disk refuses waits for the next time."""
        with self._lock:
            try:
                while self._waiting:
                    rest = self._waiting.popleft()
                    while rest:
                        written = self._write_or_put_back(rest)
                        rest = rest[written:]
            except OSError as error:
                self._kept(error)
            else:
                self._recovered()

    def close(self) -> None:
        """Write what waits, and close the file; what still cannot be written is lost, and counted."""
        self.flush()
        with self._lock:
            lines = sum(part.count(b"\n") for part in self._waiting)
            self.lost += lines - (lines > 0 and not self._begun)  # the first line has the names of the columns
            self._waiting.clear()
            if self._file is not None:
                os.close(self._file)

    def _write_or_put_back(self, rest: bytes) -> int:
        try:
            if self._file is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
                self._file = os.open(self.path, flags, 0o600)
            written = os.write(self._file, rest)
        except OSError:
            self._waiting.appendleft(rest)
            raise
        self._size -= written
        self._begun = True
        return written

    def _kept(self, error: OSError) -> None:
        problem = error.strerror or str(error)
        if problem != self._failed:
            self._failed = problem
            self._note("disk_full", f"{self.path.name} cannot be written: {problem}; its samples wait in memory")
        while self._size > MAX_WAITING and len(self._waiting) > 1:
            oldest = self._waiting[1]  # the first may be the rest of a line that is half written
            del self._waiting[1]
            self._size -= len(oldest)
            self.lost += oldest.count(b"\n")

    def _recovered(self) -> None:
        if self._failed:
            self._failed = ""
            self._note("disk_full", f"{self.path.name} can be written again; {self.lost:,} samples were lost")


def _cell(text: str) -> str:
    """Quote a device name that holds what means something in CSV: names of threads are their owners' to choose."""
    return text if text.isalnum() or not set(text) & set('",\n\r') else '"' + text.replace('"', '""') + '"'
