"""What lies in a folder: every file, the reader that claims it, its content hash; duplicates and strangers named."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import TracebackType

from rca.capture import bytes_in, manifest
from rca.capture.archives import is_archive, open_archive
from rca.capture.copies import Recording, without_conversions, without_copies
from rca.capture.findings import Finding, Severity
from rca.capture.model import SourceFile
from rca.capture.readers import nsys_report, op_table
from rca.capture.readers.registry import READERS
from rca.capture.source import HEAD_BYTES, SQLITE_MAGIC, Probe, Reader
from rca.errors import InputError


@dataclass(frozen=True)
class Found:
    """The files of one recording, read together by ``reader``; ``paths`` and ``files`` go together.

    ``boot_to_unix_ns``: what the nearest manifest, in its folder or one above, adds to times since the machine's start.
    """

    reader: Reader
    paths: tuple[Path, ...]
    files: tuple[SourceFile, ...]
    boot_to_unix_ns: int | None = None


@dataclass(frozen=True)
class Listing:
    """All recordings below one path, sorted by their first file, and what is to be said about the rest.

    Use it as a context manager: what had to be unpacked from archives is deleted at its end.
    """

    path: Path
    found: tuple[Found, ...]
    findings: tuple[Finding, ...]
    _unpacked: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """Every file that will be read."""
        return tuple(file for found in self.found for file in found.files)

    @property
    def digest(self) -> str:
        """One hash of all that reading depends on: content and names of all files, clocks, the tool that converts some."""
        content = [f"{file.path} {file.format} {file.sha256}" for file in self.files]
        content += [str(found.boot_to_unix_ns) for found in self.found]
        if any(file.format == nsys_report.NAME for file in self.files):
            content.append(str(shutil.which("nsys")))
        return hashlib.sha256("\n".join(content).encode()).hexdigest()

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._unpacked.close()


def is_capture_file(path: Path) -> bool:
    """Tell by its first bytes whether a file makes a capture: a reader knows it, or it is an archive that may hold some.

    A table of operators is no capture by itself.
    """
    try:
        probe = Probe(path, bytes_in.head(path, HEAD_BYTES))
    except InputError:
        return False
    reader = _reader_of(probe)
    return is_archive(probe.head) or (reader is not None and reader.NAME != op_table.NAME)


@dataclass(frozen=True)
class _Candidate:
    path: Path
    relative: str


def discover(path: Path) -> Listing:
    """List what can be read below ``path``; archives are unpacked as far as that is needed.

    Raises:
        InputError: the path does not exist, is an empty folder, or holds no file that any reader knows.
    """
    with contextlib.ExitStack() as unpacked:
        listing = _listed(path, _candidates(path), unpacked)
        return Listing(path, *listing, unpacked.pop_all())


def _listed(
    path: Path, candidates: list[_Candidate], unpacked: contextlib.ExitStack
) -> tuple[tuple[Found, ...], tuple[Finding, ...]]:
    findings: list[Finding] = []
    groups: dict[tuple[str, str], Recording] = {}
    clocks = {} if path.is_dir() else {_TOP: manifest.boot_to_unix_ns(path.with_name(manifest.NAME))}
    problems: list[InputError] = []
    waiting = list(reversed(candidates))
    while waiting:
        candidate = waiting.pop()
        is_manifest = candidate.path.name == manifest.NAME
        if is_manifest and (offset := manifest.boot_to_unix_ns(candidate.path)) is not None:
            clocks[PurePosixPath(candidate.relative).parent] = offset
        try:
            probe = Probe(candidate.path, bytes_in.head(candidate.path, HEAD_BYTES))
            if is_archive(probe.head):
                members, remarks = _members(candidate, unpacked)
                waiting += reversed(members)
                findings += remarks
                continue
            reader = _reader_of(probe)
            if reader is None:
                expected = is_manifest or _is_log(candidate.relative, clocks)
                findings += [] if expected else [_stranger(probe, candidate.relative)]
                continue
        except InputError as problem:
            problems.append(problem)
            findings.append(Finding("skipped", f"{problem.problem}; left out", Severity.DAMAGE, candidate.relative))
            continue
        file = SourceFile(candidate.relative, reader.NAME, candidate.path.stat().st_size, _sha256(candidate.path))
        groups.setdefault((reader.NAME, reader.group(candidate.path)), []).append((candidate.path, file))
    if not groups and problems:
        raise problems[0]
    if not groups:
        remedy = "expected traces (torch.profiler, Nsight Systems, rocprofv3, …) or result_perf_data.csv"
        raise InputError(path, f"holds no trace among its {len(candidates)} file(s)", remedy)
    recordings, copies = without_copies(list(groups.values()))
    recordings, conversions = without_conversions(recordings)
    found = [_found(recording, clocks) for recording in recordings]
    return tuple(sorted(found, key=lambda item: item.files[0].path)), (*findings, *copies, *conversions)


_TOP = PurePosixPath(".")


def _is_log(relative: str, clocks: dict[PurePosixPath, int | None]) -> bool:
    """Tell the logs of a capture that has a manifest: what they say is for people."""
    folder = PurePosixPath(relative).parent
    return folder.name == "logs" and folder.parent in clocks


def _found(recording: Recording, clocks: dict[PurePosixPath, int | None]) -> Found:
    paths, files = zip(*recording, strict=True)
    reader = next(reader for reader in READERS if files[0].format == reader.NAME)
    offsets = (clocks.get(folder) for folder in PurePosixPath(files[0].path).parents)
    return Found(reader, paths, files, next((offset for offset in offsets if offset is not None), None))


def _reader_of(probe: Probe) -> Reader | None:
    return next((reader for reader in READERS if reader.matches(probe)), None)


_BINARY_MAGIC = (SQLITE_MAGIC, b"PAR1", b"ARROW1")
"""Of these formats the first bytes say nothing about the content."""


def _members(archive: _Candidate, unpacked: contextlib.ExitStack) -> tuple[list[_Candidate], list[Finding]]:
    """Unpack the members that a reader may know, in the folders that the archive has them in."""

    def wanted(name: str, head: bytes) -> bool:
        is_manifest = PurePosixPath(name).name == manifest.NAME
        return is_manifest or head.startswith(_BINARY_MAGIC) or _reader_of(Probe(Path(name), head)) is not None

    folder = Path(unpacked.enter_context(tempfile.TemporaryDirectory(prefix="rca-")))
    contents = open_archive(archive.path, wanted, folder)
    remarks = [
        replace(remark, file=f"{archive.relative}/{remark.file}" if remark.file else archive.relative)
        for remark in contents.findings
    ]
    members = []
    for member in {member.name: member for member in contents.members}.values():  # of two with one name the last counts
        place, relative = folder / "members" / member.name, f"{archive.relative}/{member.name}"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            member.path.rename(place)
        except OSError as error:  # no file system takes the name, or not beside the others
            text = f"cannot be unpacked: {error.strerror}; skipped"
            remarks.append(Finding("skipped", text, Severity.WARNING, relative))
        else:
            members.append(_Candidate(place, relative))
    if not members and not remarks:
        remarks = [
            Finding("skipped", "an archive without a file of a known format; skipped", Severity.INFO, archive.relative)
        ]
    return sorted(members, key=lambda member: member.relative), remarks


def _stranger(probe: Probe, relative: str) -> Finding:
    """Say why a file is not read; raise for one that was meant to be a trace."""
    if not probe.head:
        return Finding("skipped", "empty file; skipped", Severity.INFO, relative)
    if probe.head.startswith(_BINARY_MAGIC):
        problem = "is a database or table that no reader knows, or is cut off or damaged"
        raise InputError(probe.path, problem, "export or copy it again")
    if _looks_like_trace(probe):
        raise InputError(probe.path, "is not a trace that can be read", "expected a Chrome / torch.profiler JSON trace")
    return Finding("skipped", "no format that is known; skipped", Severity.INFO, relative)


def _candidates(path: Path) -> list[_Candidate]:
    try:
        files = [path] if not stat.S_ISDIR(path.stat().st_mode) else _walk(path)
    except FileNotFoundError:
        raise InputError(path, "does not exist") from None
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from None
    if not files:
        raise InputError(path, "is an empty folder", "give a folder with traces, per-cycle profiles or counters")
    relative = [file.name if file == path else file.relative_to(path).as_posix() for file in files]
    return [_Candidate(file, name.encode(errors="replace").decode()) for file, name in zip(files, relative, strict=True)]


def _walk(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise InputError(error.filename or folder, f"cannot be read: {error.strerror}")

    files = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(file for file in files if file.is_file())


def _looks_like_trace(probe: Probe) -> bool:
    """Tell a damaged trace from a file that was never meant to be one."""
    name = probe.path.name.lower()
    return "trace" in name and name.removesuffix(".gz").endswith(".json") and b"{" in probe.head[:64]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
