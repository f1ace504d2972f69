"""Recordings of a capture that say again what another one says; told by content and names, before anything is read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath

from rca.capture.findings import Finding, Severity
from rca.capture.model import SourceFile
from rca.capture.readers import nsys_folder, nsys_report, nsys_sqlite, nsys_stats, nvtx_gpu_proj

Recording = list[tuple[Path, SourceFile]]
"""Files that are read together; at least one."""

_EXPORTS = (nsys_sqlite.NAME, nsys_folder.NAME)
_CSV_REPORTS = (nsys_stats.NAME, nvtx_gpu_proj.NAME)
_FOLDER_SUFFIX = re.compile(r"_(pqt|arw)dir$")
"""What ``nsys export`` adds to the name of a folder (FORMATS.md §4.5)."""


def without_copies(recordings: list[Recording]) -> tuple[list[Recording], list[Finding]]:
    """Leave out a recording all of whose content another one has too, and second copies of a file within a recording.

    A file that two recordings share is no copy: processes of rocprofv3 write the same ``agent_info.csv``, and each needs it.
    """
    kept: list[Recording] = []
    findings: list[Finding] = []
    holders: dict[str, dict[int, str]] = {}  # hash, number of a recording, path
    for number, recording in enumerate(sorted(recordings, key=lambda files: -len({file.sha256 for _, file in files}))):
        whole = set.intersection(*(set(holders.get(file.sha256, ())) for _, file in recording))
        original = min(whole, default=number)
        own: Recording = []
        for path, file in recording:
            places = holders.setdefault(file.sha256, {})
            if original in places:
                findings.append(_left_out(file, f"the same content as {places[original]}; skipped"))
            else:
                places[number] = file.path
                own.append((path, file))
        if own:
            kept.append(own)
    return kept, findings


def without_conversions(recordings: list[Recording]) -> tuple[list[Recording], list[Finding]]:
    """Leave out a report of Nsight Systems beside its export, and CSV reports of ``nsys stats`` beside one of the two.

    They are told by their names. Only where nothing could read it is a report with another name, if it is the only one,
    taken for that of an export.
    """
    exports = {_name(recording): recording[0][1].path for recording in recordings if _format(recording) in _EXPORTS}
    reports = {_name(recording): recording[0][1].path for recording in recordings if _format(recording) == nsys_report.NAME}
    can_convert = shutil.which("nsys") is not None
    some_export = next(iter(exports.values()), None) if len(reports) == 1 and not can_convert else None
    sources = (reports | exports) if can_convert else exports
    kept: list[Recording] = []
    findings: list[Finding] = []
    for recording in recordings:
        if _format(recording) == nsys_report.NAME and (other := exports.get(_name(recording), some_export)):
            text = f"taken for the report that {other} was exported from; not read"
        elif _format(recording) in _CSV_REPORTS and (other := sources.get(_name(recording))):
            text = f"taken for a part of what {other} holds; not read"
        else:
            kept.append(recording)
            continue
        findings += [_left_out(file, text) for _, file in recording]
    return kept, findings


def _format(recording: Recording) -> str:
    return recording[0][1].format


def _name(recording: Recording) -> str:
    """Return folder and name of a recording of Nsight Systems, without what its tools add."""
    path = PurePosixPath(recording[0][1].path)
    if _format(recording) == nsys_folder.NAME:
        return _FOLDER_SUFFIX.sub("", str(path.parent))
    return nsys_stats.group(Path(path)) if _format(recording) in _CSV_REPORTS else str(path.with_suffix(""))


def _left_out(file: SourceFile, text: str) -> Finding:
    return Finding("duplicate", text, Severity.INFO, file.path)
