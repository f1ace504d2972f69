"""Bytes of a file, decompressed on the fly."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from rca.errors import InputError

try:  # three times as fast as zlib on traces; no wheel on some platforms
    from isal import igzip, isal_zlib

    _open_gzip: Callable[..., Any] = igzip.open
    _DAMAGED: tuple[Any, ...] = (zlib.error, isal_zlib.error, gzip.BadGzipFile)
except ImportError:  # pragma: no cover
    _open_gzip = gzip.open
    _DAMAGED = (zlib.error, gzip.BadGzipFile)

GZIP_MAGIC = b"\x1f\x8b"
_TRUNCATED = "is cut off: the gzip stream ends before its end mark"
_RECAPTURE = "copy the file again, or capture again and wait until the export is done"


def read_chunks(path: Path, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the decompressed content of ``path`` in pieces of about ``chunk_bytes``.

    Gzip is told by its magic bytes, never by the file's name.

    Raises:
        InputError: the file cannot be read, or its gzip stream is damaged or cut off.
    """
    try:
        with _open(path) as stream:
            while chunk := stream.read(chunk_bytes):
                yield chunk
    except EOFError:
        raise InputError(path, _TRUNCATED, _RECAPTURE) from None
    except _DAMAGED as error:
        raise InputError(path, f"is a damaged gzip file: {error}", _RECAPTURE) from None
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from None


def head(path: Path, size: int = 1 << 16) -> bytes:
    """Return up to ``size`` decompressed bytes from the start of ``path``; empty for an empty file."""
    return next(read_chunks(path, size), b"")


def _open(path: Path) -> IO[bytes]:
    raw = path.open("rb")
    try:
        magic = raw.read(2)
        raw.seek(0)
    except OSError:
        raw.close()
        raise
    if magic != GZIP_MAGIC:
        return raw
    raw.close()
    return cast("IO[bytes]", _open_gzip(path, "rb"))
