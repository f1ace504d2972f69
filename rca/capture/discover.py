"""What lies in a folder: every file, the reader that claims it, its content hash; duplicates and strangers named."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from rca.capture import bytes_in
from rca.capture.findings import Finding, Severity
from rca.capture.model import SourceFile
from rca.capture.readers.registry import READERS
from rca.capture.source import HEAD_BYTES, Probe, Reader
from rca.errors import InputError


@dataclass(frozen=True)
class Found:
    """The files of one recording, read together by ``reader``; ``paths`` and ``files`` go together."""

    reader: Reader
    paths: tuple[Path, ...]
    files: tuple[SourceFile, ...]


@dataclass(frozen=True)
class Listing:
    """All recordings below one path, sorted by their first file, and what is to be said about the rest."""

    path: Path
    found: tuple[Found, ...]
    findings: tuple[Finding, ...]

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """Every file that will be read."""
        return tuple(file for found in self.found for file in found.files)

    @property
    def digest(self) -> str:
        """One hash of the content and the names of all files."""
        content = "\n".join(f"{file.path} {file.sha256}" for file in self.files)
        return hashlib.sha256(content.encode()).hexdigest()


def discover(path: Path) -> Listing:
    """List what can be read below ``path``.

    Raises:
        InputError: the path does not exist, is an empty folder, or holds no file that any reader knows.
    """
    candidates = _candidates(path)
    findings: list[Finding] = []
    groups: dict[tuple[str, str], list[tuple[Path, SourceFile]]] = {}
    readers = {reader.NAME: reader for reader in READERS}
    by_hash: dict[str, str] = {}
    for file in candidates:
        relative = (file.name if file == path else file.relative_to(path).as_posix()).encode(errors="replace").decode()
        probe = Probe(file, bytes_in.head(file, HEAD_BYTES))
        reader = next((reader for reader in READERS if reader.matches(probe)), None)
        if reader is None:
            findings.append(_stranger(probe, relative))
            continue
        digest = _sha256(file)
        if digest in by_hash:
            text = f"the same content as {by_hash[digest]}; skipped"
            findings.append(Finding("duplicate", text, Severity.INFO, relative))
            continue
        by_hash[digest] = relative
        source_file = SourceFile(relative, reader.NAME, file.stat().st_size, digest)
        groups.setdefault((reader.NAME, reader.group(file)), []).append((file, source_file))
    if not groups:
        remedy = "expected traces (torch.profiler, Nsight Systems, rocprofv3, …) or result_perf_data.csv"
        raise InputError(path, f"holds no trace among its {len(candidates)} file(s)", remedy)
    found = [
        Found(readers[name], tuple(file for file, _ in members), tuple(source for _, source in members))
        for (name, _), members in groups.items()
    ]
    return Listing(path, tuple(sorted(found, key=lambda item: item.files[0].path)), tuple(findings))


def _stranger(probe: Probe, relative: str) -> Finding:
    """Say why a file is not read; raise for one that was meant to be a trace."""
    if not probe.head:
        return Finding("skipped", "empty file; skipped", Severity.INFO, relative)
    if _looks_like_trace(probe):
        raise InputError(probe.path, "is not a trace that can be read", "expected a Chrome / torch.profiler JSON trace")
    return Finding("skipped", "no format that is known; skipped", Severity.INFO, relative)


def _candidates(path: Path) -> list[Path]:
    try:
        candidates = [path] if not stat.S_ISDIR(path.stat().st_mode) else _walk(path)
    except FileNotFoundError:
        raise InputError(path, "does not exist") from None
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from None
    if not candidates:
        raise InputError(path, "is an empty folder", "give a folder with traces, per-cycle profiles or counters")
    return candidates


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
