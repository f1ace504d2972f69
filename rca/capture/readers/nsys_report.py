"""Reports of Nsight Systems as it writes them, ``.nsys-rep`` and ``.qdrep``: a format of the vendor's own, which only its
own tool can convert (FORMATS.md §4.1). Where ``nsys`` is installed it is asked to.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from shlex import quote

from rca.capture.findings import Finding, Severity
from rca.capture.model import Reading
from rca.capture.readers import nsys_sqlite
from rca.capture.readers.nsys_tables import build
from rca.capture.source import Probe, Source, alone
from rca.errors import InputError

NAME = "nsys-report"
group = alone

_SUFFIXES = (".nsys-rep", ".qdrep")
_TIMEOUT_S = 900


def matches(probe: Probe) -> bool:
    """Tell by name, and by not being text, whether a file is a report."""
    return probe.path.name.endswith(_SUFFIXES) and b"\0" in probe.head


def read(source: Source) -> Reading:
    """Convert a report with ``nsys``, if there is one, and read the result; else say what to do."""
    path = source.path
    nsys = shutil.which("nsys")
    if nsys is None:
        source.advance_whole(path)
        return _unread(path, "")
    with tempfile.TemporaryDirectory(prefix="rca-nsys-") as folder:
        target = Path(folder, "export.sqlite")
        command = [nsys, "export", "--type=sqlite", "--force-overwrite=true", "-o", str(target), str(path.absolute())]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
        except subprocess.TimeoutExpired:
            return _unread(path, f"nsys export took more than {_TIMEOUT_S} s; ")
        except OSError as error:
            return _unread(path, f"nsys cannot be run: {error.strerror}; ")
        if done.returncode or not target.is_file():
            return _unread(path, f"nsys export failed with code {done.returncode}; ")
        try:
            reading = build(nsys_sqlite.SqliteTables(target), replace(source, advance=lambda _: None))
        except InputError as error:
            return _unread(path, f"what nsys export wrote cannot be read: {error.problem}; ")
        finally:
            source.advance_whole(path)
    note = Finding("needs_export", "converted with the nsys on this machine", Severity.INFO)
    return replace(reading, findings=(*reading.findings, note))


def _unread(path: Path, reason: str) -> Reading:
    target = path.with_suffix(".sqlite").name
    command = f"nsys export --type=sqlite -o {quote(target)} {quote(path.name)}"
    return Reading(findings=(Finding("needs_export", f"{reason}not read; convert it with: {command}", Severity.DAMAGE),))
