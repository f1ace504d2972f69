"""Decompression: every format, every kind of damage, bounded memory. The originals are made here, so every byte is known."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tracemalloc
import zlib
from pathlib import Path

import pytest
import zstandard

from rca.capture import bytes_in
from rca.capture.bytes_in import Chunks, head, head_of, read_chunks
from rca.errors import InputError

TEXT = b"".join(b'{"name":"kernel %d","ts":%d}\n' % (i % 17, i * 31) for i in range(40_000))
PACK = {
    "plain": lambda data: data,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
COMPRESSED = [name for name in PACK if name != "plain"]


def write(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def unpacked(path: Path, size: int = 100_000) -> tuple[bytes, str | None]:
    chunks = Chunks(path, size)
    return b"".join(chunks), chunks.damage


@pytest.mark.parametrize("size", [1000, 65_536, 1 << 24])
@pytest.mark.parametrize("name", PACK)
def test_every_format_gives_every_byte(tmp_path: Path, name: str, size: int) -> None:
    path = write(tmp_path, PACK[name](TEXT))
    steps: list[int] = []
    chunks = Chunks(path, size, steps.append)
    pieces = list(chunks)
    assert b"".join(pieces) == TEXT
    assert chunks.damage is None
    assert {len(piece) for piece in pieces[:-1]} <= {size}
    assert sum(steps) == path.stat().st_size, "the progress bar ends at the size of the file"
    assert head(path, 5000) == TEXT[:5000]


@pytest.mark.parametrize("name", COMPRESSED)
def test_several_streams_in_one_file(tmp_path: Path, name: str) -> None:
    parts = [TEXT[:300_000], b"", TEXT[300_000:]]
    path = write(tmp_path, b"".join(PACK[name](part) for part in parts) + b"\0" * 700)
    assert unpacked(path) == (TEXT, None)


@pytest.mark.parametrize("name", COMPRESSED)
def test_what_follows_the_end_is_damage(tmp_path: Path, name: str) -> None:
    data, damage = unpacked(write(tmp_path, PACK[name](TEXT) + b"rubbish"))
    assert data == TEXT
    assert damage is not None
    assert "its end is followed by bytes that are no" in damage


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.99])
@pytest.mark.parametrize("name", COMPRESSED)
def test_a_cut_stream_gives_what_was_there(tmp_path: Path, name: str, keep: float) -> None:
    packed = PACK[name](TEXT)
    path = write(tmp_path, packed[: int(len(packed) * keep)])
    data, damage = unpacked(path)
    assert TEXT.startswith(data)
    if name == "gzip":  # deflate gives all but the last symbols
        whole = zlib.decompressobj(wbits=31).decompress(path.read_bytes())
        assert data == whole
        assert len(whole) > len(TEXT) * keep * 0.9
    assert damage == f"is cut off: the {name} stream ends before its end mark"
    with pytest.raises(InputError, match="is cut off"):
        list(read_chunks(path, 1 << 16))


def test_a_wrong_checksum_costs_no_byte(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(TEXT, mtime=0))
    packed[-6] ^= 1
    data, damage = unpacked(write(tmp_path, bytes(packed)))
    assert data == TEXT
    assert damage is not None
    assert damage.startswith("is a damaged gzip file: ")


@pytest.mark.parametrize("fallback", [False, True], ids=["isal", "zlib"])
def test_damage_in_the_middle_costs_nothing_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fallback: bool
) -> None:
    if fallback:
        monkeypatch.setattr(bytes_in, "_gunzipper", lambda: zlib.decompressobj(wbits=31))
    rng = random.Random(7)
    noise = rng.randbytes(900_000)  # stored as it is: the place of the damage is known to the byte
    first = gzip.compress(b"first", mtime=0)
    packed = bytearray(first + gzip.compress(noise, 1, mtime=0))
    assert len(packed) > len(noise)
    middle = packed.index(noise[600_000:600_064])
    block = max(at for at in range(middle - 70_000, middle) if _is_stored_header(packed, at))
    packed[block] = 0xFF  # no type of block
    data, damage = unpacked(write(tmp_path, bytes(packed)), 1 << 20)
    assert damage is not None
    assert "damaged gzip" in damage
    # the bytes before the block's header are its predecessor's last ones
    assert data == b"first" + noise[: noise.index(bytes(packed[block - 64 : block])) + 64]


def _is_stored_header(data: bytearray, at: int) -> bool:
    length, inverse = (int.from_bytes(data[at + 1 + 2 * i : at + 3 + 2 * i], "little") for i in range(2))
    return data[at] in (0, 1) and length ^ inverse == 0xFFFF


@pytest.mark.parametrize("name", COMPRESSED)
def test_memory_does_not_follow_a_bomb(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, PACK[name](bytes(150 << 20)))
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with Chunks(path, 1 << 20) as chunks:
        assert len(chunks.read(1 << 20)) == 1 << 20
        assert len(chunks.read(1 << 20)) == 1 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80 << 20, f"{peak / 1e6:.0f} MB"


@pytest.mark.parametrize("name", COMPRESSED)
def test_fuzz(tmp_path: Path, name: str) -> None:
    good = PACK[name](TEXT[:50_000]) * 2
    rng = random.Random(name)
    damaged = 0
    for _ in range(60):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.5:
            del data[rng.randrange(len(data)) :]
        path = write(tmp_path, bytes(data))
        out, damage = unpacked(path, 10_000)
        if damage is None and not data.startswith(good[:2]):
            continue  # its magic is gone: read as it is
        if damage:
            damaged += 1
            assert "\n" not in damage
        elif data.startswith(good[:2]):
            assert out in (b"", TEXT[:50_000], TEXT[:50_000] * 2) or bytes(data).startswith(out[:1])
    assert damaged > 30


def test_the_head_of_a_cut_file_is_what_is_there(tmp_path: Path) -> None:
    packed = gzip.compress(TEXT, mtime=0)
    assert head(write(tmp_path, packed[:3000]), 1 << 16) == zlib.decompressobj(wbits=31).decompress(packed[:3000])
    with pytest.raises(InputError, match="cut off"):
        head(write(tmp_path, packed[:12]))
    assert TEXT.startswith(head_of(packed[:3000]))
    assert head_of(b"") == b""


def test_a_stream_is_left_open() -> None:
    stream = io.BytesIO(gzip.compress(TEXT))
    assert b"".join(Chunks(stream, 1 << 16)) == TEXT
    assert not stream.closed


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="cannot be read"):
            Chunks(path, 10).read(1)
