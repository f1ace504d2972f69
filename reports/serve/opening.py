"""What `rca open` serves of a path: a folder of reports, a report, or two captures that are compared first."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path
from threading import Lock

from rca.capture import Progress
from rca.capture.load import load, no_progress
from rca.errors import InputError
from rca.pictures import SIDES, SideName
from reports import perfetto
from reports.serve import handover
from reports.serve.serving import SHUT, Answer, Names, Query

REPORT = "report.html"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
}
_FILES = (
    "report.md",
    "report.json",
    "report.jira.txt",
    "comparison.csv",
    "cycles.csv",
    "phases.csv",
    "operators.csv",
)
"""What `rca compare -o` writes beside the page."""

_HASH = re.compile(r"'sha(?:256|384|512)-[A-Za-z0-9+/=]+'")
_INLINE = f"{SHUT}; style-src 'unsafe-inline'; img-src data:"


class Site:
    """What there is to serve of a path; as a context manager, so that temporary traces end with it.

    Args:
        path: a folder that `rca compare -o` wrote, a folder with ``normal`` and ``abnormal``, or a report in HTML.
        progress: called as captures are read.

    Raises:
        InputError: there is nothing to open, or it cannot be read.
    """

    def __init__(self, path: Path, progress: Progress = no_progress) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        report = _report_at(path)
        if report is not None:
            self.names = _of_report(report)
            return
        self._temporary = tempfile.TemporaryDirectory(prefix="rca-open-")
        try:
            self.names = _of_captures({side: path / side for side in SIDES}, Path(self._temporary.name), progress)
        except BaseException:
            self._temporary.cleanup()
            raise

    def __enter__(self) -> Names:
        return self.names

    def __exit__(self, *_: object) -> None:
        if self._temporary:
            self._temporary.cleanup()


def _report_at(path: Path) -> Path | None:
    """Return the page at a path, None where there are two captures to compare. Raises `InputError` for anything else."""
    try:
        path.stat()
        is_folder = path.is_dir()
        if not is_folder and path.suffix.lower() in (".html", ".htm"):
            return path
        if is_folder and (path / REPORT).is_file():
            return path / REPORT
        if is_folder and all((path / side).exists() for side in SIDES):
            return None
        has_json = is_folder and (path / "report.json").is_file()
    except FileNotFoundError:
        raise InputError(path, "does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not is_folder:
        raise InputError(path, "is not a report", f"expected an .html file, or a folder with {REPORT}")
    if has_json:
        raise InputError(path, f"has no {REPORT}", "rca compare NORMAL ABNORMAL -o DIR writes it")
    raise InputError(path, f"holds no {REPORT}, and no normal and abnormal that could be compared")


def _of_report(report: Path) -> Names:
    """Serve files as they are at the moment; a comparison that is made anew needs only a reload."""
    folder = report.parent
    try:
        report.read_bytes()
    except OSError as error:
        raise InputError(report, f"cannot be read: {error.strerror or error}") from None
    names: dict[str, Callable[[Query], Answer]] = {"/": lambda _: _page_of(report.read_bytes())}
    names |= {f"/{name}": partial(_file, folder / name) for name in _FILES if report.name == REPORT}
    traces = lambda side: handover.of_folder(folder, side, _json_of(report))  # noqa: E731
    redact = " --redact" if handover.is_redacted(_json_of(report)) else ""
    remedy = f"rca compare NORMAL ABNORMAL -o {_quoted(folder)} --force --perfetto {_quoted(folder / 'perfetto')}{redact}"
    return {**names, **handover.Pages(traces, remedy).names(), **_ICON}


def _json_of(report: Path) -> dict[str, object]:
    return handover.report_of(report.parent) if report.name == REPORT else {}


def _of_captures(sides: Mapping[SideName, Path], folder: Path, progress: Progress) -> Names:
    """Compare, keep the page in memory, and write a side's trace when it is first asked for."""
    from rca import api  # noqa: PLC0415  (not needed for a report that is there)
    from rca.kinds import kind_of  # noqa: PLC0415
    from reports.page.render import page  # noqa: PLC0415

    if kind_of(sides["normal"], sides["abnormal"]) != "capture":
        raise InputError(sides["normal"].parent, "holds no captures", "compare logs and model runs by rca compare -o DIR")
    result = api.compare(sides["normal"], sides["abnormal"], progress=progress, cached=False, pictures=True)
    text = page(result).encode()
    lock = Lock()

    def traces(side: str) -> handover.Traces:
        own: SideName = "normal" if side == "normal" else "abnormal"
        path = folder / f"{own}{perfetto.SUFFIX}"
        with lock:
            if not path.exists():
                capture = load(sides[own])
                compared = result.normal if own == "normal" else result.abnormal
                if capture.digest != compared.digest:
                    raise InputError(sides[own], "has changed since it was compared", "start rca open once more")
                perfetto.write(path, perfetto.trace(result, own, capture))
        return handover.of_rca(path, own)

    return {"/": lambda _: _page_of(text), **handover.Pages(traces, "").names(), **_ICON}


def _page_of(html: bytes) -> Answer:
    """Return a page; of its scripts only those run that it names itself, by their hashes."""
    found = _OwnPolicy()
    found.feed(html[:_HEAD_BYTES].decode(errors="replace"))
    scripts = f"; script-src {' '.join(found.scripts)}" if found.scripts else ""
    return Answer(_KINDS[".html"], html, _INLINE + scripts)


_HEAD_BYTES = 16 << 10
"""The policy of a page stands before all that it is about."""


class _OwnPolicy(HTMLParser):
    """Collects the hashes of scripts in the Content-Security-Policy of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at ``<meta http-equiv="Content-Security-Policy">``."""
        values = dict(attrs)
        if tag == "meta" and (values.get("http-equiv") or "").lower() == "content-security-policy":
            for directive in (values.get("content") or "").split(";"):
                name, *sources = directive.split() or [""]
                if name == "script-src":
                    self.scripts += [source for source in sources if _HASH.fullmatch(source)]


def _file(path: Path, _: Query) -> Answer:
    return Answer(_KINDS[path.suffix], path)


_ICON: Names = {"/favicon.ico": lambda _: Answer("image/x-icon", b"", status=HTTPStatus.NO_CONTENT)}
"""Browsers ask for it; that there is none is no error to show."""


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
