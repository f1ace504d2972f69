"""Decoding one trace in several processes: each inflates the whole file and decodes every n-th window.

Inflating twice costs less than sending windows to another process. Processes are started afresh, not forked: a fork of a
process whose libraries run threads may hang.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rca.capture.readers.chrome_events import Columns
from rca.capture.readers.chrome_windows import NoEventsError, NotPlainError, read_windows

MAX_WORKERS = 4
"""Beyond it the inflating, which is not shared, outweighs the decoding, which is."""

_BYTES_PER_WORKER = 48 << 20
_COMPRESSED_BYTES_PER_WORKER = 3 << 20
"""What takes several times as long to decode as a process takes to start."""


def useful_workers(path: Path, available: int) -> int:
    """Return how many processes read a file fastest."""
    with path.open("rb") as stream:
        compressed = stream.read(1) not in (b"{", b"[", b" ", b"\n", b"\xef")
    per_worker = _COMPRESSED_BYTES_PER_WORKER if compressed else _BYTES_PER_WORKER
    return max(1, min(available, MAX_WORKERS, path.stat().st_size // per_worker))


def read_parallel(path: Path, workers: int, on_bytes: Callable[[int], None]) -> tuple[Columns, dict[str, Any]]:
    """Decode a file in ``workers`` processes, this one among them.

    Returns and raises the same as `read_windows`.
    """
    others = [_start(path, worker, workers) for worker in range(1, workers)]
    try:
        columns, document = read_windows(path, 0, workers, on_bytes)
        for process in others:
            columns.merge(_result(process))
    finally:
        for process in others:
            process.kill()
            process.communicate()
    return columns, document


def _start(path: Path, worker: int, workers: int) -> subprocess.Popen[bytes]:
    # -P: without it the current folder comes first, and a msgspec.py that lies there would be run
    command = [sys.executable, "-P", "-m", "rca.capture.readers.chrome_worker", str(path), str(worker), str(workers)]
    return subprocess.Popen(  # noqa: S603  (our own interpreter and module)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(_import_path())},
    )


def _import_path() -> list[str]:
    """Return the folders that this process imports from, wherever it got them; never "the current folder".

    Last comes the one that this package lies in, which may have been found in the current folder.
    """
    folders = [folder for folder in sys.path if isinstance(folder, str) and os.path.isabs(folder)]
    package = str(Path(__file__).absolute().parents[3])
    return [folder for folder in (*folders, package) if os.pathsep not in folder]


def _result(process: subprocess.Popen[bytes]) -> Columns:
    assert process.stdout is not None  # noqa: S101  (a pipe was asked for)
    try:
        columns = pickle.load(process.stdout)  # noqa: S301  (written by this very module)
    except (EOFError, pickle.UnpicklingError) as error:
        raise NotPlainError(f"a worker process failed: {error}") from None
    if not isinstance(columns, Columns):
        raise NotPlainError("a worker process could not decode its part")
    return columns


def main() -> None:
    """Decode one part and write it to stdout, pickled; None where the part cannot be decoded."""
    path, worker, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    columns: Columns | None
    try:
        columns, _ = read_windows(path, worker, workers)
    except (NotPlainError, NoEventsError):
        columns = None
    pickle.dump(columns, sys.stdout.buffer, protocol=5)


if __name__ == "__main__":
    main()
