"""Nsight Systems: its command lines (FORMATS.md §4.7), for a program that we start and for a server that runs under it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rca.errors import RcaError

EXPORTS = ("sqlite", "parquetdir")
_TRACE = ["--trace=cuda,nvtx,osrt", "--cuda-graph-trace=node"]
_RECORD = ["--sample=none", "--cpuctxsw=process-tree"]
_TIMEOUT_SECONDS = 600
_LAUNCH = "nsys launch --session-new=rca --trace=cuda,nvtx,osrt --cuda-graph-trace=node --trace-fork-before-exec=true"


class NsysError(RcaError):
    """Nsight Systems is missing, or one of its commands failed."""

    exit_code = 2


def find() -> str:
    """Return the program. Raises `NsysError` where there is none."""
    path = shutil.which("nsys")
    if path is None:
        raise NsysError("nsys (Nsight Systems) is not on the PATH: install it, or leave --nsys out")
    return path


def profile_command(nsys: str, report: Path, command: Sequence[str]) -> list[str]:
    """Return the command that runs a program under the recorder. ``report``: without its ending."""
    options = [*_TRACE, "--trace-fork-before-exec=true", *_RECORD, "--force-overwrite=true"]
    return [nsys, "profile", *options, f"--output={report}", "--", *command]


def start_command(nsys: str, session: str, report: Path) -> list[str]:
    """Return the command that begins to record in a session."""
    return [nsys, "start", f"--session={session}", *_RECORD, "--force-overwrite=true", f"--output={report}"]


def stop_command(nsys: str, session: str) -> list[str]:
    """Return the command that ends recording in a session; the program goes on."""
    return [nsys, "stop", f"--session={session}"]


def export_command(nsys: str, report: Path, kind: str) -> list[str]:
    """Return the command that converts a report beside it into one of `EXPORTS`."""
    target = report.with_name(report.stem + (".sqlite" if kind == "sqlite" else "_pqtdir"))
    return [nsys, "export", f"--type={kind}", "--force-overwrite=true", f"--output={target}", str(report)]


def the_session(nsys: str) -> str:
    """Return the name of the only session there is. Raises `NsysError` where there is none, or a choice."""
    listing = run([nsys, "sessions", "list"])
    rows = [line.split() for line in listing.splitlines() if re.match(r"^\s*\d+\s", line)]
    names = [row[-1] for row in rows]
    if len(names) == 1:
        return names[0]
    if not names:
        raise NsysError(f"no nsys session runs: start the server with `{_LAUNCH} SERVER…`")
    raise NsysError(f"{len(names)} nsys sessions run ({', '.join(names)}): shut all but the server's down")


def run(command: Sequence[str]) -> str:
    """Run one of the commands above; return what it printed. Raises `NsysError` with its last line where it fails."""
    try:
        ran = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NsysError(f"{' '.join(command[:2])}: {error}") from None
    if ran.returncode != 0:
        last = (ran.stderr.strip() or ran.stdout.strip() or f"exit code {ran.returncode}").splitlines()[-1]
        raise NsysError(f"{' '.join(command[:2])} failed: {last}")
    return ran.stdout


def export_all(nsys: str, folder: Path, kind: str) -> int:
    """Export every report in a folder; return their number. Readers leave a report out beside its export."""
    reports = sorted(folder.glob("*.nsys-rep"))
    for report in reports:
        run(export_command(nsys, report, kind))
    return len(reports)
