"""Bytes of a file, decompressed on the fly in bounded memory: gzip, zstd, xz and bzip2, told by their magic bytes."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import zstandard

from rca.errors import InputError

try:  # three times as fast as zlib on traces; no wheel on some platforms
    from isal import isal_zlib

    _gunzipper: Callable[[], Any] = lambda: isal_zlib.decompressobj(wbits=31)  # noqa: E731
    _GZIP_ERRORS: tuple[Any, ...] = (zlib.error, isal_zlib.error)
except ImportError:  # pragma: no cover
    _gunzipper = lambda: zlib.decompressobj(wbits=31)  # noqa: E731
    _GZIP_ERRORS = (zlib.error,)

GZIP_MAGIC = b"\x1f\x8b"
_READ_BYTES = 256 << 10
_SALVAGE_BYTES = 4 << 10
_ZSTD_STEP_BYTES = 1 << 10
"""Its decoder takes no limit on output; a block of 4 bytes can hold 128 KiB, so a step gives at most 32 MiB."""
_XZ_MEMORY = 512 << 20
_DAMAGED: tuple[Any, ...] = (*_GZIP_ERRORS, zstandard.ZstdError, lzma.LZMAError, OSError, ValueError)
_RECAPTURE = "copy the file again, or capture again and wait until the export is done"


class _Decoder(Protocol):
    """One compressed stream (gzip calls it a member, zstd a frame). Feed it while ``hungry``, else call with ``b""``."""

    name: str
    eof: bool
    hungry: bool
    unused: bytes

    def step(self, data: bytes, limit: int) -> bytes:
        """Return up to ``limit`` more bytes (zstd: more, see `_ZSTD_STEP_BYTES`)."""
        ...


class _Gzip:
    name = "gzip"

    def __init__(self) -> None:
        self._object = _gunzipper()
        self.eof, self.hungry, self.unused = False, True, b""

    def step(self, data: bytes, limit: int) -> bytes:
        out: bytes = self._object.decompress(self._object.unconsumed_tail + data, limit)
        self.eof, self.unused = self._object.eof, self._object.unused_data
        # a full buffer may leave output inside the decoder even when all input is taken
        self.hungry = not self._object.unconsumed_tail and len(out) < limit
        return out


class _Standard:
    """Decoders of the standard library, which keep their input themselves."""

    def __init__(self, name: str, decoder: Any) -> None:
        self.name = name
        self._object = decoder
        self.eof, self.hungry, self.unused = False, True, b""

    def step(self, data: bytes, limit: int) -> bytes:
        out: bytes = self._object.decompress(data, limit)
        self.eof, self.unused, self.hungry = self._object.eof, self._object.unused_data, self._object.needs_input
        return out


class _Zstd:
    name = "zstd"

    def __init__(self) -> None:
        self._object = zstandard.ZstdDecompressor().decompressobj()
        self._input = b""
        self.eof, self.hungry, self.unused = False, True, b""

    def step(self, data: bytes, limit: int) -> bytes:  # noqa: ARG002
        waiting = self._input + data
        out: bytes = self._object.decompress(waiting[:_ZSTD_STEP_BYTES])
        self._input = waiting[_ZSTD_STEP_BYTES:]
        self.eof = self._object.eof
        self.unused = self._object.unused_data + self._input if self.eof else b""
        self.hungry = not self._input
        return out


_DECODERS: tuple[tuple[bytes, Callable[[], _Decoder]], ...] = (
    (GZIP_MAGIC, _Gzip),
    (b"\x28\xb5\x2f\xfd", _Zstd),
    (b"\xfd7zXZ\x00", lambda: _Standard("xz", lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY))),
    (b"BZh", lambda: _Standard("bzip2", bz2.BZ2Decompressor())),
)


class Chunks:
    """The decompressed content of a file in pieces of ``size``: iterate, or `read`. Damage ends it early, without an error.

    Attributes:
        damage: afterwards, None or a clause that can follow a file name (``is cut off: …``). Everything that could be
            decompressed before it was returned; of a zstd stream, all but what the last KiB of its input would give.
        taken: compressed bytes read so far.

    Args:
        source: a file, or a stream that is read from where it stands and left open.
        size: length of every piece but the last.
        on_bytes: called with the number of bytes (of the compressed file) that each step has read.

    Raises:
        InputError: from the first read: the file cannot be opened or read.
    """

    def __init__(self, source: Path | IO[bytes], size: int, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        self.damage: str | None = None
        self.taken = 0
        self._source = source
        self._size = size
        self._on_bytes = on_bytes
        self._raw: IO[bytes] | None = None if isinstance(source, Path) else source
        self._started = self._ended = False
        self._plain = False
        self._decoder: _Decoder | None = None
        self._waiting = b""
        self._surplus = b""
        self._member_start = self._member_out = 0

    def __iter__(self) -> Iterator[bytes]:
        with self:
            while piece := self.read(self._size):
                yield piece

    def __enter__(self) -> Chunks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the rest of it is not read."""
        self._ended = True
        self._surplus = b""
        if self._raw is not None and isinstance(self._source, Path):
            self._raw.close()

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes, fewer only at the end."""
        parts = []
        while size > 0:
            part, self._surplus = self._surplus, b""
            if not part and not (part := self._step(size)):
                break
            if len(part) > size:
                part, self._surplus = part[:size], part[size:]
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _step(self, limit: int) -> bytes:
        """Return some bytes; none only at the end."""
        try:
            if not self._started:
                self._start()
            while not self._ended:
                if out := self._take(limit) if self._plain else self._decode(limit):
                    return out
        except InputError:
            raise
        except OSError as error:
            raise InputError(self._path, f"cannot be read: {error.strerror or error}") from None
        return b""

    @property
    def _path(self) -> Path:
        return self._source if isinstance(self._source, Path) else Path(str(getattr(self._source, "name", "stream")))

    def _start(self) -> None:
        if isinstance(self._source, Path):
            self._raw = self._source.open("rb")
        self._started = True
        self._waiting = self._fetch(_READ_BYTES)
        self._next_member()
        self._plain = self._decoder is None

    def _fetch(self, size: int) -> bytes:
        assert self._raw is not None  # noqa: S101
        data = self._raw.read(size)
        self.taken += len(data)
        self._on_bytes(len(data))
        return data

    def _take(self, limit: int) -> bytes:
        """Pass on what is not compressed."""
        data, self._waiting = self._waiting or self._fetch(limit), b""
        self._ended = not data
        return data

    def _next_member(self) -> None:
        """Begin the stream whose first bytes wait; None if they begin none."""
        self._decoder = next((make() for magic, make in _DECODERS if self._waiting.startswith(magic)), None)
        self._member_start, self._member_out = self.taken - len(self._waiting), 0

    def _decode(self, limit: int) -> bytes:
        decoder = self._decoder
        assert decoder is not None  # noqa: S101
        if decoder.eof:
            return self._after_end(decoder)
        data, self._waiting = self._waiting, b""
        if not data and decoder.hungry and not (data := self._fetch(_READ_BYTES)):
            self._end(f"is cut off: the {decoder.name} stream ends before its end mark")
            return b""
        try:
            out = decoder.step(data, limit)
        except _DAMAGED as error:
            self._end(f"is a damaged {decoder.name} file: {' '.join(str(error).split())}")
            return self._salvage() if isinstance(decoder, _Gzip) else b""
        self._member_out += len(out)
        return out

    def _after_end(self, decoder: _Decoder) -> bytes:
        """Go on with the next stream of the same file, or end; zeros that pad the file are no damage."""
        self._waiting = (decoder.unused or self._waiting).lstrip(b"\0")
        decoder.unused = b""
        if len(self._waiting) < len(GZIP_MAGIC) + 4:
            more = self._fetch(_READ_BYTES)
            self._waiting = (self._waiting + more).lstrip(b"\0")
            if not self._waiting and not more:
                self._end(None)
                return b""
            if not self._waiting:
                return b""
        self._next_member()
        if self._decoder is None:
            self._end(f"is a damaged {decoder.name} file: its end is followed by bytes that are no {decoder.name}")
        return b""

    def _end(self, damage: str | None) -> None:
        self.damage = damage
        self._ended = True

    def _salvage(self) -> bytes:
        """Return what the step that failed would have given up to the damage.

        isal and zlib drop the output of a call that fails, and only zlib's state can be copied: so the stream is decoded
        once more, by zlib, and the input of the failing call halved until the damage alone is left.
        """
        assert self._raw is not None  # noqa: S101
        if not self._raw.seekable() or not isinstance(self._source, Path):
            return b""
        self._raw.seek(self._member_start)
        decoder, seen, kept = zlib.decompressobj(wbits=31), 0, bytearray()
        while data := self._raw.read(_SALVAGE_BYTES):
            size = len(data)
            while data and not decoder.eof:
                before = decoder.copy()
                try:
                    out = decoder.decompress(data[:size])
                except zlib.error:
                    decoder, size = before, size // 2
                    if not size:
                        return bytes(kept)
                    continue
                data = data[size:]
                kept += out[max(0, self._member_out - seen) :]
                seen += len(out)
        return bytes(kept)


def read_chunks(path: Path, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the decompressed content of ``path`` in pieces of ``chunk_bytes``.

    Raises:
        InputError: the file cannot be read, or its compressed stream is damaged or cut off.
    """
    chunks = Chunks(path, chunk_bytes)
    yield from chunks
    if chunks.damage:
        raise InputError(path, chunks.damage, _RECAPTURE)


def head(path: Path, size: int = 1 << 16) -> bytes:
    """Return up to ``size`` decompressed bytes from the start of ``path``; empty for an empty file.

    Raises:
        InputError: the file cannot be read, or not one byte of it can be decompressed.
    """
    with Chunks(path, size) as chunks:
        start = chunks.read(size)
    if chunks.damage and not start:
        raise InputError(path, chunks.damage, _RECAPTURE)
    return start


def head_of(start: bytes, size: int = 1 << 16) -> bytes:
    """Return up to ``size`` decompressed bytes of a file that begins with ``start``, itself cut off anywhere."""
    with Chunks(io.BytesIO(start), size) as chunks:
        return chunks.read(size)
