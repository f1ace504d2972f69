"""Files that lie in a tar (plain or compressed) or zip archive: those that are wanted, unpacked into a folder.

An archive may come from anyone: names are not trusted, links and devices are left out, and `Limits` end what would fill
the disk. Whatever was unpacked before that, or before damage, is kept.
"""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from rca.capture.bytes_in import Chunks, head_of
from rca.capture.findings import Finding, Severity
from rca.errors import InputError

Wanted = Callable[[str, bytes], bool]
"""Asked with a member's name and its first 64 KiB, decompressed."""

_HEAD_BYTES = 1 << 16
_COPY_BYTES = 1 << 20
_HEADER_BYTES = 2 << 20
"""What tar headers between two files may take; long names and extended headers are read into memory."""
_DIRECTORY_BYTES_PER_MEMBER = 512
_TAR_BUFFER_BYTES = 256 << 10
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_TAR_MAGIC = (b"ustar\x00", b"ustar ")
_BOUNDED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of the others, `zipfile` decompresses as much as one read brings, however much that is."""
_DAMAGED_TAR = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, KeyError, IndexError)
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OverflowError, OSError, KeyError)


@dataclass(frozen=True)
class Limits:
    """Where unpacking ends.

    Attributes:
        total_bytes: unpacked in all, skipped members of a tar included; None: 64 GiB, or what the disk has free less 1 GiB.
        members: files in the archive, wanted or not.
        ratio: a tar or a member of a zip that grows more than so many times is refused ...
        ratio_from_bytes: ... once it is larger than this.
    """

    total_bytes: int | None = None
    members: int = 20_000
    ratio: int = 1000
    ratio_from_bytes: int = 1 << 30


@dataclass(frozen=True)
class Member:
    """One unpacked file. ``name``: as the archive has it, without what could lead out of a folder; ``path``: where it is."""

    name: str
    path: Path


@dataclass
class Unpacked:
    """What came out of an archive, in its order, and what did not and why."""

    members: list[Member] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def is_archive(head: bytes) -> bool:
    """Tell from a file's first 64 KiB, decompressed (as in `Probe.head`), whether `open_archive` can read it."""
    return head.startswith(_ZIP_MAGIC) or head[257:263] in _TAR_MAGIC


def open_archive(path: Path, wanted: Wanted, into: Path, limits: Limits = Limits()) -> Unpacked:
    """Unpack the members of ``path`` that are ``wanted`` into a new folder below ``into``, which must exist.

    Compressed members stay compressed. Archives within the archive are opened too, those within them are not.

    Raises:
        InputError: the archive cannot be read, or the disk is full.
    """
    total = limits.total_bytes
    if total is None:
        total = max(0, min(64 << 30, shutil.disk_usage(into).free - (1 << 30)))
    work = _Work(path, wanted, Path(tempfile.mkdtemp(prefix="archive-", dir=into)), limits, total)
    try:
        work.open(path, "")
    except _LimitError as limit:
        work.skipped("", f"unpacking stopped here: {limit}", Severity.DAMAGE)
    except OSError as error:
        raise InputError(path, f"cannot be unpacked: {error.strerror or error}") from None
    return work.unpacked


class _LimitError(Exception):
    """A limit on the whole is reached."""


class _Budgeted:
    """A tar's decompressed bytes for `tarfile`, which trusts every size that a header states."""

    def __init__(self, chunks: Chunks, work: _Work) -> None:
        self._chunks = chunks
        self._work = work
        self._read = 0
        self.allowance = _HEADER_BYTES

    def read(self, size: int) -> bytes:
        self.allowance -= size
        if self.allowance < 0:
            raise tarfile.ReadError("a header is longer than 2 MiB")
        data = self._chunks.read(size)
        self._read += len(data)
        self._work.spend(len(data))
        limits = self._work.limits
        if self._read > limits.ratio_from_bytes and self._read > limits.ratio * self._chunks.taken:
            raise _LimitError(f"it grows more than {limits.ratio:,}-fold")
        return data


@dataclass
class _Work:
    """One call of `open_archive`; all limits are shared with the archives within the archive."""

    path: Path
    wanted: Wanted
    folder: Path
    limits: Limits
    left: int
    seen: int = 0
    unpacked: Unpacked = field(default_factory=Unpacked)

    def open(self, path: Path, prefix: str) -> None:
        with path.open("rb") as file:
            is_zip = file.read(4).startswith(_ZIP_MAGIC)
        (self._zip if is_zip else self._tar)(path, prefix)

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _LimitError("what is unpacked would exceed the limit on its size or what the disk has free")

    def skipped(self, name: str, text: str, severity: Severity = Severity.WARNING) -> None:
        self.unpacked.findings.append(Finding("skipped", f"{name}: {text}" if name else text, severity))

    def truncated(self, prefix: str, text: str) -> None:
        where = prefix.removesuffix("/")
        text = f"{where}: {text}" if where else text
        self.unpacked.findings.append(Finding("truncated", text, Severity.DAMAGE))

    def _count(self) -> None:
        self.seen += 1
        if self.seen > self.limits.members:
            raise _LimitError(f"it holds more than {self.limits.members:,} files")

    def _tar(self, path: Path, prefix: str) -> None:
        odd = 0
        with Chunks(path, _COPY_BYTES) as chunks:
            try:
                for info, archive in _tar_members(_Budgeted(chunks, self)):
                    self._count()
                    name = _clean(info.name)
                    if info.isdir() or not name:
                        continue
                    stream = None if info.issparse() or not info.isreg() else archive.extractfile(info)
                    if stream is None:
                        odd += 1
                    else:
                        self._member(stream, prefix + name, prefix, spend=False)
                damage = chunks.damage
            except _DAMAGED_TAR as error:
                damage = chunks.damage or f"is a damaged tar archive: {_one_line(error)}"
        if damage:
            self.truncated(prefix, f"{damage}; what came before was read")
        if odd:
            self.skipped(prefix.removesuffix("/"), f"{odd:,} links, devices or sparse files; skipped", Severity.INFO)

    def _zip(self, path: Path, prefix: str) -> None:
        try:
            self._check_directory(path)
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    self._count()
                    self._zip_member(archive, info, prefix)
        except _DAMAGED_ZIP as error:
            self.truncated(prefix, f"is a damaged zip archive, or cut off: {_one_line(error)} (try zip -FF)")

    def _check_directory(self, path: Path) -> None:
        """Refuse a table of contents that would take much memory; `zipfile` reads it as a whole."""
        with path.open("rb") as file:
            file.seek(-min(path.stat().st_size, (1 << 16) + 22), 2)
            end = file.read()
        at = end.rfind(b"PK\x05\x06")
        if 0 <= at <= len(end) - 22:
            size = int.from_bytes(end[at + 12 : at + 16], "little")
            if size > self.limits.members * _DIRECTORY_BYTES_PER_MEMBER:
                raise _LimitError(f"it holds more than {self.limits.members:,} files")

    def _zip_member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, prefix: str) -> None:
        name = _clean(info.filename)
        if info.is_dir() or not name:
            return
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) and not stat.S_ISREG(mode):
            self.skipped(prefix + name, "a link or device; skipped", Severity.INFO)
            return
        limits = self.limits
        if info.file_size > limits.ratio_from_bytes and info.file_size > limits.ratio * info.compress_size:
            self.skipped(prefix + name, f"grows more than {limits.ratio:,}-fold, as only a bomb does; skipped")
            return
        if info.compress_type not in _BOUNDED_METHODS:
            self.skipped(prefix + name, "compressed by a rare method; skipped (unpack the archive yourself)")
            return
        try:
            with archive.open(info) as stream:
                self._member(stream, prefix + name, prefix, spend=True)
        except (NotImplementedError, RuntimeError) as error:  # a password
            self.skipped(prefix + name, f"cannot be unpacked: {_one_line(error)}; skipped")
        except _DAMAGED_ZIP as error:
            self.truncated(prefix + name, f"is damaged: {_one_line(error)}; what came before the damage was kept")

    def _member(self, stream: IO[bytes], name: str, prefix: str, *, spend: bool) -> None:
        """Unpack one member if it is wanted, or open it if it is an archive."""
        start = stream.read(_HEAD_BYTES)
        head = head_of(start)
        nested = is_archive(head)
        if nested and prefix:
            self.skipped(name, "an archive in an archive in an archive; skipped")
            return
        if not nested and not self.wanted(name, head):
            return
        target = self.folder / f"{self.seen:05d}-{_file_name(name)}"
        if not nested:
            self.unpacked.members.append(Member(name, target))
        try:
            self._write(stream, start, target, spend=spend)
            if nested:
                self.open(target, name + "/")
        except _LimitError:
            self.unpacked.members = [member for member in self.unpacked.members if member.path != target]
            target.unlink()
            raise
        finally:
            if nested:
                target.unlink(missing_ok=True)

    def _write(self, stream: IO[bytes], start: bytes, target: Path, *, spend: bool) -> None:
        try:
            out = target.open("xb")
        except OSError as error:
            raise InputError(self.path, f"cannot be unpacked: {error.strerror or error}") from None
        with out:
            while start:
                if spend:
                    self.spend(len(start))
                try:
                    out.write(start)
                    out.flush()
                except OSError as error:
                    raise InputError(self.path, f"cannot be unpacked: {error.strerror or error}") from None
                start = stream.read(_COPY_BYTES)


class _Header(tarfile.TarInfo):
    """Says aloud what `tarfile` takes for the end of an archive: a header that is damaged, cut off or missing."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error}, where a header is due") from None


def _tar_members(source: _Budgeted) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """Yield a tar's members in order; each must be read before the next is asked for."""
    with tarfile.open(fileobj=source, mode="r|", bufsize=_TAR_BUFFER_BYTES, tarinfo=_Header) as archive:  # type: ignore[call-overload]
        while (info := archive.next()) is not None:
            archive.members = []  # it would keep them all
            source.allowance = info.size + _HEADER_BYTES
            yield info, archive


def _clean(name: str) -> str:
    """Return a name fit to be shown, below the archive; empty for what is hidden."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if not parts or parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts):
        return ""
    return "".join(letter if letter.isprintable() else "?" for letter in "/".join(parts))


def _file_name(name: str) -> str:
    """Return the last part of a name as one that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name.rsplit("/", 1)[-1])[-120:]


def _one_line(error: BaseException) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return " ".join(text.split()) or type(error).__name__
