"""Files of /proc and /sys that are read again and again: kept open, since opening costs more than reading."""

from __future__ import annotations

import os
import resource
from pathlib import Path

_BYTES = 1 << 18


class KeptOpen:
    """A small file of the kernel, opened once."""

    def __init__(self, path: Path | str) -> None:
        """Open it. Raises OSError as `open` does."""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, size: int = _BYTES) -> bytes:
        """Return its content now, as far as ``size``. Raises OSError where what it told of is gone.

        The kernel may give no more than a page at a time.
        """
        content = os.pread(self._file, size, 0)
        while len(content) < size and (more := os.pread(self._file, size - len(content), len(content))):
            content += more
        return content

    def close(self) -> None:
        """Close it; again does no harm."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def raise_file_limit() -> None:
    """Let this process keep as many files open as it may: there is one per watched thread."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def text_of(path: Path | str, default: str = "") -> str:
    """Return a small file's text without white space at its ends; ``default`` where it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a third of the cost of a text file object
    except OSError:
        return default
    try:
        content = b""
        while part := os.read(file, _BYTES):
            content += part
        return content.decode(errors="replace").strip()
    except OSError:
        return default
    finally:
        os.close(file)


def number_of(path: Path | str) -> float | None:
    """Return the number that a small file holds; None where there is none."""
    try:
        return float(text_of(path))
    except ValueError:
        return None
