"""Archives: what is wanted comes out byte by byte, nothing else, and nothing that an archive states is trusted."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
import zstandard

from rca.capture.archives import Limits, Unpacked, is_archive, open_archive
from rca.capture.bytes_in import head
from rca.errors import InputError

RNG = random.Random(3)
TRACE = b'{"traceEvents": [' + b",".join(b'{"ts": %d}' % RNG.randrange(10**9) for _ in range(20_000)) + b"]}"
FILES = {
    "side/rank0.json": TRACE,
    "side/rank1.json.gz": gzip.compress(TRACE, mtime=0),
    "side/readme.txt": b"nothing to see" * 5000,
    "counters.csv": b"timestamp,metric,device,value\n1,a,b,1\n",
}
PACK = {
    "tar": lambda data: data,
    "tar.gz": lambda data: gzip.compress(data, mtime=0),
    "tar.zst": zstandard.compress,
    "tar.xz": lzma.compress,
    "tar.bz2": bz2.compress,
}


def tar_of(files: dict[str, bytes], **info: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in info.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def wanted(name: str, start: bytes) -> bool:
    return start.startswith((b'{"traceEvents"', b"timestamp,"))


def unpack(folder: Path, content: bytes, limits: Limits | None = None) -> Unpacked:
    path = folder / "capture.bin"  # told by content, not by name
    path.write_bytes(content)
    into = folder / "into"
    into.mkdir(exist_ok=True)
    result = open_archive(path, wanted, into, limits or Limits(total_bytes=1 << 30))
    for member in result.members:
        assert member.path.resolve().is_relative_to(into.resolve())
        assert member.path.is_file()
        assert not member.path.is_symlink()
    return result


def contents(result: Unpacked) -> dict[str, bytes]:
    return {member.name: member.path.read_bytes() for member in result.members}


def texts(result: Unpacked) -> str:
    assert all("\n" not in finding.text for finding in result.findings)
    return " | ".join(f"{finding.code}: {finding.text}" for finding in result.findings)


WANTED = {name: FILES[name] for name in ("side/rank0.json", "side/rank1.json.gz", "counters.csv")}


@pytest.mark.parametrize("kind", [*PACK, "zip", "zip stored"])
def test_what_is_wanted_comes_out(tmp_path: Path, kind: str) -> None:
    if kind.startswith("zip"):
        packed = zip_of(FILES, zipfile.ZIP_STORED if "stored" in kind else zipfile.ZIP_DEFLATED)
    else:
        packed = PACK[kind](tar_of(FILES))
    result = unpack(tmp_path, packed)
    assert is_archive(head(tmp_path / "capture.bin"))
    assert contents(result) == WANTED
    assert result.findings == []


def test_no_archive_is_taken_for_one() -> None:
    for start in (b"", b"{}", TRACE, b"PK", b"x" * 1000, gzip.compress(b"x")):
        assert not is_archive(start)


def test_archives_in_archives_one_level_deep(tmp_path: Path) -> None:
    innermost = zip_of({"deep.json": TRACE})
    inner = PACK["tar.gz"](tar_of({"a/rank0.json": TRACE, "b/inner.zip": innermost}))
    result = unpack(tmp_path, zip_of({"node1.tgz": inner, "top.json": TRACE}))
    assert contents(result) == {"node1.tgz/a/rank0.json": TRACE, "top.json": TRACE}
    assert "skipped: node1.tgz/b/inner.zip: an archive in an archive in an archive" in texts(result)
    left = [path for path in (tmp_path / "into").rglob("*") if path.is_file()]
    assert len(left) == 2, "the inner archive itself does not stay"


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_names_lead_nowhere(tmp_path: Path, make) -> None:
    evil = ["../../up.json", "/abs.json", "a/../../b.json", "c:\\d\\e.json", "x" * 90 + ".json", "n\nl.json", "é ü.json"]
    result = unpack(tmp_path, make(dict.fromkeys(evil, TRACE)))
    assert len(result.members) == len(evil)
    assert {path.name for path in tmp_path.iterdir()} == {"capture.bin", "into"}
    assert [m.name for m in result.members[:4]] == ["up.json", "abs.json", "a/b.json", "c:/d/e.json"]
    assert all("\n" not in m.name for m in result.members)
    assert all(m.path.name.isascii() for m in result.members)


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    hidden = {"__MACOSX/._rank0.json": TRACE, "./.git/x.json": TRACE, "a/._b.json": TRACE, "./a/b.json": TRACE}
    assert list(contents(unpack(tmp_path, tar_of(hidden)))) == ["a/b.json"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_stay_out(tmp_path: Path, kind: bytes) -> None:
    packed = tar_of({"link.json": b""}, type=kind, linkname="/etc/passwd")
    result = unpack(tmp_path, packed[:1024].ljust(1024, b"\0") + b"\0" * 1024)
    assert result.members == []
    assert "1 links, devices or sparse files; skipped" in texts(result)


def test_links_in_a_zip_stay_out(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("link.json")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    result = unpack(tmp_path, out.getvalue())
    assert result.members == []
    assert "a link or device" in texts(result)


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_a_cut_tar_keeps_what_came_before(tmp_path: Path, kind: str, keep: float) -> None:
    rng = random.Random(5)  # files that have nothing in common, lest the first one hold them all
    files = {f"r{i}.json": b'{"traceEvents"' + rng.randbytes(40_000).hex().encode() for i in range(10)}
    packed = PACK[kind](tar_of(files))
    result = unpack(tmp_path, packed[: int(len(packed) * keep)])
    got = contents(result)
    whole = [name for name, content in got.items() if content == files[name]]
    assert whole == [f"r{i}.json" for i in range(len(whole))]
    if kind != "tar.bz2":  # whose blocks of 900 kB come as a whole
        assert 10 * keep - 2 <= len(whole) <= 10 * keep
    assert len(got) - len(whole) <= 1, "and the one that was cut, as far as it goes"
    assert "truncated: " in texts(result)
    assert "what came before was read" in texts(result)


def test_a_damaged_header_is_no_end(tmp_path: Path) -> None:
    packed = bytearray(tar_of({"a.json": TRACE, "b.json": TRACE}))
    second = packed.index(b"b.json")
    packed[second + 150] ^= 0xFF
    result = unpack(tmp_path, bytes(packed))
    assert list(contents(result)) == ["a.json"]
    assert "is a damaged tar archive: " in texts(result)


def test_a_tar_without_its_end_mark(tmp_path: Path) -> None:
    packed = tar_of({"a.json": TRACE})
    result = unpack(tmp_path, packed[: 512 + -(-len(TRACE) // 512) * 512])
    assert contents(result) == {"a.json": TRACE}
    assert "truncated" in texts(result)


def test_a_cut_zip_is_said_to_be_cut(tmp_path: Path) -> None:
    result = unpack(tmp_path, zip_of(FILES)[:-30])
    assert result.members == []
    assert "truncated: is a damaged zip archive, or cut off" in texts(result)


def test_a_damaged_member_does_not_cost_the_others(tmp_path: Path) -> None:
    packed = bytearray(zip_of({"a.json": TRACE, "b.json": TRACE}, zipfile.ZIP_STORED))
    packed[packed.index(TRACE) + 100_000] ^= 1
    result = unpack(tmp_path, bytes(packed))
    assert contents(result)["b.json"] == TRACE
    assert "truncated: a.json: is damaged: Bad CRC-32" in texts(result)


def test_a_password_is_not_asked_for(tmp_path: Path) -> None:
    packed = bytearray(zip_of({"a.json": TRACE}))
    packed[6] |= 1
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    result = unpack(tmp_path, bytes(packed))
    assert result.members == []
    assert "skipped: a.json: cannot be unpacked" in texts(result)


BOMB = b'{"traceEvents": [' + b" " * (30 << 20)
TIGHT = Limits(total_bytes=10 << 20)


@pytest.mark.parametrize("kind", [*PACK, "zip"])
def test_a_bomb_ends_at_the_limit(tmp_path: Path, kind: str) -> None:
    files = {"good.json": TRACE, "bomb.json": BOMB, "late.json": TRACE}
    packed = zip_of(files) if kind == "zip" else PACK[kind](tar_of(files))
    result = unpack(tmp_path, packed, TIGHT)
    assert contents(result) == {"good.json": TRACE}
    assert "skipped: unpacking stopped here: what is unpacked would exceed the limit" in texts(result)
    assert sum(path.stat().st_size for path in (tmp_path / "into").rglob("*") if path.is_file()) == len(TRACE)


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_what_grows_too_much_is_a_bomb(tmp_path: Path, kind: str) -> None:
    files = {"good.json": TRACE, "bomb.json": BOMB}
    packed = zip_of(files) if kind == "zip" else PACK[kind](tar_of(files))
    result = unpack(tmp_path, packed, Limits(total_bytes=1 << 30, ratio=50, ratio_from_bytes=1 << 20))
    assert contents(result) == {"good.json": TRACE}
    assert "grows more than 50-fold" in texts(result)


def test_a_bomb_in_an_inner_archive(tmp_path: Path) -> None:
    result = unpack(tmp_path, zip_of({"a.json": TRACE, "inner.tar.gz": PACK["tar.gz"](tar_of({"b.json": BOMB}))}), TIGHT)
    assert contents(result) == {"a.json": TRACE}
    assert "unpacking stopped" in texts(result)


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_many_members(tmp_path: Path, make) -> None:
    result = unpack(tmp_path, make({f"{i}.json": TRACE[:30] for i in range(30)}), Limits(1 << 20, members=20))
    assert len(result.members) <= 20
    assert "holds more than 20 files" in texts(result)


def test_a_long_header_is_not_read_into_memory(tmp_path: Path) -> None:
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 50 << 20
    packed = gzip.compress(tar_of({"a.json": TRACE})[: 512 + -(-len(TRACE) // 512) * 512] + long.tobuf() + bytes(50 << 20))
    result = unpack(tmp_path, packed)
    assert contents(result) == {"a.json": TRACE}
    assert "a header is longer than 2 MiB" in texts(result)


def test_headers_of_headers(tmp_path: Path) -> None:
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 5
    packed = (long.tobuf() + b"name\0".ljust(512, b"\0")) * 2000
    assert "truncated" in texts(unpack(tmp_path, packed))


def test_a_table_of_contents_that_states_too_much(tmp_path: Path) -> None:
    packed = bytearray(zip_of({"a.json": TRACE}))
    packed[-22 + 12 : -22 + 16] = struct.pack("<I", 500 << 20)
    assert "holds more than" in texts(unpack(tmp_path, bytes(packed)))


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.zip"
    path.write_bytes(zip_of(FILES))
    monkeypatch.setattr("rca.capture.archives.Path.open", full)
    with pytest.raises(InputError, match="No space left"):
        open_archive(path, wanted, tmp_path)


@pytest.mark.parametrize("kind", [*PACK, "zip"])
def test_fuzz(tmp_path: Path, kind: str) -> None:
    files = {"a.json": TRACE[:3000], "b/c.json": TRACE[:3000], "inner.zip": zip_of({"d.json": TRACE[:2000]})}
    good = zip_of(files) if kind == "zip" else PACK[kind](tar_of(files))
    rng = random.Random(kind)
    complaints = 0
    for _ in range(120):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns of duplicate names
            result = unpack(tmp_path, bytes(data))
        complaints += bool(texts(result))
    assert complaints > 40
