"""Programs that use one resource up: ``python -m lab.hogs spin --cores 0,1 --duty 50 --seconds 60 --ready FILE``.

Each ends when its stdin does (its lab is gone), or after ``--seconds``. ``--ready`` is written when it is at work.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from collectors.samplers.procfs import text_of
from lab.priority import hogs_first

_PERIOD_SECONDS = 0.02
_BLOCK_BYTES = 4 << 20
_FILE_BLOCKS = 64
_STREAM_BYTES = 256 << 20
_MATRIX = 128
"""Three float32 matrices of 128 × 128 stay in the second-level cache: arithmetic, not memory, is what is used up."""

_CHUNK_BYTES = 64 << 20
_OOM_FIRST = "1000"
"""If memory runs out after all, the kernel is to end this program and no other."""


def spin() -> Callable[[], None]:
    """Scalar arithmetic."""

    def work() -> None:
        value = 1.0
        for _ in range(2_000):
            value = value * 1.0000001 + 1e-9

    return work


def vector() -> Callable[[], None]:
    """Fused multiply-adds on full vectors: what makes a CPU lower its clock first."""
    import numpy as np  # noqa: PLC0415  (the other hogs do not need it)

    one = np.full((_MATRIX, _MATRIX), 1.0 / _MATRIX, dtype=np.float32)
    out = np.empty_like(one)

    def work() -> None:
        for _ in range(4):
            np.matmul(one, one, out=out)

    return work


def stream() -> Callable[[], None]:
    """Copies that no cache holds."""
    import numpy as np  # noqa: PLC0415

    source = np.ones(_STREAM_BYTES, dtype=np.uint8)
    target = np.empty_like(source)
    parts = itertools.cycle(range(0, _STREAM_BYTES, _BLOCK_BYTES))

    def work() -> None:
        at = next(parts)
        target[at : at + _BLOCK_BYTES] = source[at : at + _BLOCK_BYTES]

    return work


def burn(kind: str, cores: list[int], duty: float, first: bool, ready: Path | None) -> None:
    """Keep each of the cores busy for ``duty`` % of the time, by one process each.

    With ``first`` they come before programs of normal priority, where that is permitted: so they get what the dial says.
    What a busy loop of normal priority gets beside a server that polls is up to the kernel: half of the core, or nothing.
    """
    for core in cores[1:]:
        if os.fork() == 0:
            _end_with_parent()
            cores = [core]
            break
    os.sched_setaffinity(0, {cores[0]})
    if first:
        hogs_first()
    work = {"spin": spin, "vector": vector, "stream": stream}[kind]()
    work()
    _say_ready(ready)
    busy = _PERIOD_SECONDS * duty / 100
    while True:
        began = time.monotonic()
        while time.monotonic() - began < busy:
            work()
        if duty < 100:
            time.sleep(max(0.0, _PERIOD_SECONDS - (time.monotonic() - began)))


def write(folder: Path, writers: int, ready: Path | None) -> None:
    """Write to a disk without a cache, a block at a time, and wait for each to arrive: ``writers`` of them at once."""
    at_work = threading.Barrier(writers + 1)
    for number in range(writers):
        _in_a_thread(_write, folder, number, at_work)
    at_work.wait()
    _say_ready(ready)
    threading.Event().wait()


def _write(folder: Path, number: int, at_work: threading.Barrier) -> None:
    block = mmap.mmap(-1, _BLOCK_BYTES)  # aligned to pages, as writing past the cache requires
    block.write(os.urandom(_BLOCK_BYTES))
    path = folder / f".rca-lab-hog-{os.getpid()}-{number}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_DSYNC
    try:
        file = os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError:  # a file system that knows no direct writes
        file = os.open(path, flags, 0o600)
    path.unlink()  # gone, whatever ends this program
    os.pwrite(file, block, 0)
    at_work.wait()
    while True:
        for at in range(_FILE_BLOCKS):
            os.pwrite(file, block, at * _BLOCK_BYTES)


def memory(leave: int, read: int, folder: Path, ready: Path | None) -> None:
    """Take memory until ``leave`` bytes are available, keep it so, and read a file so that the kernel has to reclaim.

    No more is taken than was available at the beginning: what is swapped out is not to be replaced.
    """
    Path("/proc/self/oom_score_adj").write_text(_OOM_FIRST)
    held: list[mmap.mmap] = []
    pages = bytes(_CHUNK_BYTES)
    most = max(0, _available() - leave) // _CHUNK_BYTES
    if read:
        _in_a_thread(_read_through, folder / f".rca-lab-hog-{os.getpid()}", read)
    while True:
        available = _available()
        if available > leave + _CHUNK_BYTES and len(held) < most:
            held.append(mmap.mmap(-1, _CHUNK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            held[-1].write(pages)
            continue
        if available < leave - _CHUNK_BYTES and held:
            held.pop().close()
            continue
        _say_ready(ready)
        ready = None
        time.sleep(0.05)


def _read_through(path: Path, size: int) -> None:
    """Read a file that is larger than what memory is left, again and again: the page cache has to turn over."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    path.unlink()
    for _ in range(0, size, _BLOCK_BYTES):
        os.write(file, bytes(_BLOCK_BYTES))
    os.fsync(file)
    while True:
        os.lseek(file, 0, os.SEEK_SET)
        while os.read(file, _BLOCK_BYTES):
            pass


def _available() -> int:
    line = next(line for line in text_of("/proc/meminfo").splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def drop(every: float, ready: Path | None) -> None:
    """Drop the page cache every so many seconds."""
    _say_ready(ready)
    while True:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("1")
        time.sleep(every)


def _in_a_thread(work: Callable[..., None], *arguments: object) -> None:
    """Run a part of a hog. If it fails the hog ends: half of it is not what the dial says."""

    def run() -> None:
        try:
            work(*arguments)
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=run, daemon=True).start()


def _say_ready(ready: Path | None) -> None:
    if ready:
        ready.touch()


def _end_with_parent() -> None:
    """End a forked child when the first process does."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _end_with_stdin() -> None:
    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Parse the command line and be a hog."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["spin", "vector", "stream", "write", "memory", "drop"])
    parser.add_argument("--cores", type=lambda text: [int(core) for core in text.split(",")], default=[0])
    parser.add_argument("--duty", type=float, default=100.0, help="%% of the time")
    parser.add_argument("--first", action="store_true", help="before programs of normal priority")
    parser.add_argument("--writers", type=int, default=1)
    parser.add_argument("--leave", type=int, default=1 << 30, help="bytes")
    parser.add_argument("--read", type=int, default=0, help="bytes of the file that is read again and again")
    parser.add_argument("--every", type=float, default=1.0, help="seconds")
    parser.add_argument("--folder", type=Path, default=Path("."))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--ready", type=Path)
    arguments = parser.parse_args()
    signal.alarm(arguments.seconds)  # ends this process; its children end with it
    _end_with_stdin()
    match arguments.kind:
        case "write":
            write(arguments.folder, arguments.writers, arguments.ready)
        case "memory":
            memory(arguments.leave, arguments.read, arguments.folder, arguments.ready)
        case "drop":
            drop(arguments.every, arguments.ready)
        case _:
            burn(arguments.kind, arguments.cores, arguments.duty, arguments.first, arguments.ready)


if __name__ == "__main__":
    main()
