"""The way from a report to ui.perfetto.dev: which traces there are of a side, and the page that hands one over.

The page's script opens ui.perfetto.dev only when the reader presses its button, and gives it the trace by ``postMessage``:
what runs there runs in the reader's browser. Nothing is loaded from there or sent there before.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rca.capture.bytes_in import GZIP_MAGIC
from rca.errors import InputError
from rca.pictures import SIDES
from reports import html, perfetto
from reports.serve.serving import Answer, Query

UI = "https://ui.perfetto.dev"
PATIENCE_MS = (10_000, 120_000)
"""After how long without an answer the page says so, and gives up."""

_MARGIN = 4
"""A quarter of what is looked for is shown on each side of it."""

_OPENED = "chrome"
"""The format, as rca's readers call it, that Perfetto reads as it is."""


@dataclass(frozen=True)
class Place:
    """What is looked for: ns on the capture's clock, or, ``as_the_file``, as the file counts that is named.

    ``file`` is the path within the capture or the hash of a file; empty where the link names none.
    """

    ts_ns: int
    dur_ns: int
    file: str = ""
    as_the_file: bool = False


@dataclass(frozen=True)
class Trace:
    """A trace that can be handed over.

    Attributes:
        path: where it is.
        title: what Perfetto shows.
        about: what it holds, for the reader.
        find: where a place lies in it: ns of its own, and how far it goes if that is known; None for a place elsewhere.
        exact: whether cycles and findings are slices of it, so that Perfetto can select one.
        size: bytes that it must have, for it may change while the page is open.
    """

    path: Path
    title: str
    about: str
    find: Callable[[Place], tuple[int, int | None] | None]
    exact: bool
    size: int


@dataclass(frozen=True)
class Traces:
    """The traces of one side; ``notes`` say what is odd about them or why there are none."""

    traces: tuple[Trace, ...]
    notes: tuple[str, ...] = ()


def of_folder(folder: Path, side: str, report: Mapping[str, Any]) -> Traces:
    """Return the traces of a folder of reports: what `rca compare --perfetto` wrote, else the capture's own files.

    Args:
        folder: with ``perfetto/<side>.json.gz``, or without.
        side: ``normal`` or ``abnormal``.
        report: its ``report.json``; empty where there is none.
    """
    capture = next((one for one in _dicts(report.get("captures")) if one.get("side") == side), {})
    files = _dicts(capture.get("files"))
    path = folder / "perfetto" / f"{side}{perfetto.SUFFIX}"
    notes: tuple[str, ...] = ()
    if path.is_file():
        try:
            found = of_rca(path, side)
            hashes = [_hashes_of(some) for some in (perfetto.header(path).get("files"), files)]
        except (OSError, ValueError) as error:
            notes = (str(error),)
        else:
            other = files and hashes[0] != hashes[1]
            return replace(found, notes=("This trace was written from other files than this report.",)) if other else found
    originals = [_original(folder, capture, file, side) for file in files if file.get("format") == _OPENED]
    traces = tuple(one for one in originals if isinstance(one, Trace))
    return Traces(traces, (*notes, *(one for one in originals if isinstance(one, str))))


def of_rca(path: Path, side: str) -> Traces:
    """Return a trace that `reports.perfetto` wrote. Raises `ValueError` and `OSError` for anything else."""
    about = perfetto.header(path)
    events = f"{about.get('events', 0):,} events" if isinstance(about.get("events"), int) else "the events"
    text = f"{events} of the capture, its counters, and lines for cycles, phases and findings"
    find = partial(_in_trace_of_rca, about)
    return Traces((Trace(path, f"rca {side}", text, find, exact=True, size=path.stat().st_size),))


def _in_trace_of_rca(about: Mapping[str, Any], place: Place) -> tuple[int, int | None] | None:
    """Translate to the ns that a trace of ours counts."""
    at = place.ts_ns
    if place.as_the_file:
        file = _file(about.get("files"), place.file)
        if file is None or not isinstance(file.get("added_ns"), int):
            return None
        at += file["added_ns"]
    try:
        eras = [(int(start), int(end)) for start, end in about["eras"]]
        start, length = max((start for start, _ in eras if start <= at), default=eras[0][0]), int(about["length_ns"])
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None
    return at - start, length


def _original(folder: Path, capture: Mapping[str, Any], file: Mapping[str, Any], side: str) -> Trace | str:
    """Return a file of the capture, if it is still the one that was read, or why it is not offered."""
    name, size, sha256 = (str(file.get("path", "")), file.get("size_bytes"), file.get("sha256"))
    path = _found(folder, str(capture.get("path", "")), name, size)
    if path is None:
        return f"{name} is not where it was when it was compared."
    if _sha256(path) != sha256:
        return f"{name} has changed since it was compared."
    with path.open("rb") as stream:
        head = stream.read(64)
    if not head.startswith(GZIP_MAGIC) and head.lstrip()[:1] not in (b"{", b"["):
        return f"{name} is compressed in a way that Perfetto does not read."
    added = (file.get("facts") or {}).get("added_ns") if isinstance(file.get("facts"), dict) else None

    def find(place: Place) -> tuple[int, int | None] | None:
        if place.file and not _file([file], place.file):
            return None
        if place.as_the_file:
            return place.ts_ns, None
        return (place.ts_ns - added, None) if isinstance(added, int) else None

    about = "the file as it was captured, without lines of rca"
    return Trace(path, f"rca {side} {path.name}", about, find, exact=False, size=path.stat().st_size)


def _found(folder: Path, capture: str, name: str, size: object) -> Path | None:
    """Look for a file where the report says, from here, from the folder of reports, and from the one around it.

    It is the right one only if its content is: whoever wrote the report cannot name a file whose content he does not know.
    """
    for base in (Path(), folder, Path(os.path.abspath(folder)).parent):
        for path in (base / capture / name, base / capture):
            try:
                if path.is_file() and path.stat().st_size == size and path.name == Path(name).name:
                    return path
            except (OSError, ValueError):
                continue
    return None


_known: dict[tuple[str, int, int], str] = {}


def _sha256(path: Path) -> str:
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _known:
        with path.open("rb") as stream:
            _known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _known[key]


def _file(files: object, wanted: str) -> dict[str, Any] | None:
    """Find a file by its hash or by its path."""
    return next((file for file in _dicts(files) if wanted in (file.get("sha256"), file.get("path"))), None)


def _hashes_of(files: object) -> set[object]:
    return {file.get("sha256") for file in _dicts(files)}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


@dataclass
class Pages:
    """The pages of both sides, and the traces behind them.

    Attributes:
        traces: finds what there is of a side; asked anew for each page.
        remedy: the command that writes traces.
    """

    traces: Callable[[str], Traces]
    remedy: str
    _found: dict[str, Traces] = field(default_factory=dict)

    def names(self) -> dict[str, Callable[[Query], Answer]]:
        """Return what `reports.serving` serves."""
        made: dict[str, Callable[[Query], Answer]] = {}
        for side in SIDES:
            made[f"/perfetto/{side}"] = partial(self._page, side)
            made[f"/perfetto/{side}/trace"] = partial(self._trace, side)
        return made

    def _page(self, side: str, query: Query) -> Answer:
        found = self._found[side] = self.traces(side)
        place, remark = _asked(query)
        return page(side, found, place, self.remedy, [remark] if remark else [])

    def _trace(self, side: str, query: Query) -> Answer:
        found = self._found.get(side) or self.traces(side)
        number = query.get("n", "0")
        if re.fullmatch("[0-9]{1,6}", number) is None or int(number) >= len(found.traces):
            raise InputError(f"trace {number[:6]} of the {side} side", "is not there", "load the page once more")
        trace = found.traces[int(number)]
        if not trace.path.is_file() or trace.path.stat().st_size != trace.size:
            raise InputError(trace.path, "has changed", "load the page once more")
        return Answer("application/octet-stream", trace.path)


def _asked(query: Query) -> tuple[Place | None, str]:
    """Return the place in a link: ``ts``, ``dur`` in ns of the capture, or ``ts_us``, ``dur_us`` of the ``file``."""
    file = query.get("file", "")
    try:
        if "ts" in query:
            return Place(_whole(query["ts"]), _whole(query.get("dur", "0")), file), ""
        if "ts_us" in query:
            return Place(_from_us(query["ts_us"]), _from_us(query.get("dur_us", "0")), file, as_the_file=True), ""
    except ValueError:
        return None, "The link names no moment that can be read, so the whole trace is shown."
    return None, ""


_MOST_NS = 2**63


def _whole(text: str) -> int:
    if len(text) > 25 or not -_MOST_NS < (value := int(text)) < _MOST_NS:
        raise ValueError
    return value


def _from_us(text: str) -> int:
    value = float(text) if len(text) <= 40 else float("nan")
    if not abs(value) < _MOST_NS / 1000:
        raise ValueError
    return round(value * 1000)


def page(side: str, found: Traces, place: Place | None, remedy: str, remarks: Sequence[str] = ()) -> Answer:
    """Return the page that hands a trace of one side to Perfetto."""
    hashes = [_hash(trace, place) for trace in found.traces]
    notes = [*remarks, *found.notes]
    if place is not None and hashes and not any(hashes):
        notes.append("Where the place of the link lies in the trace is not known, so the whole trace is shown.")
    hrefs = [f"{side}/trace?n={number}" for number in range(len(found.traces))]
    traces = [
        {"name": trace.path.name, "about": trace.about, "size": _size(trace.size), "href": href}
        for trace, href in zip(found.traces, hrefs, strict=True)
    ]
    handed = [
        {"href": href, "name": trace.path.name, "title": trace.title, "hash": where}
        for trace, href, where in zip(found.traces, hrefs, hashes, strict=True)
    ]
    script, style = html.joined("handover.js"), html.joined("handover.css")
    text = (
        html.templates()
        .get_template("handover.html.j2")
        .render(
            side=side,
            other="abnormal" if side == "normal" else "normal",
            traces=traces,
            checked=next((number for number, where in enumerate(hashes) if where), 0),
            notes=notes,
            remedy=remedy,
            ui=UI,
            place=_length(place.dur_ns) if place is not None and any(hashes) else "",
            data={"ui": UI, "traces": handed, "patience_ms": PATIENCE_MS},
            script=Markup(script),  # noqa: S704  (this project's own files)
            style=Markup(style),  # noqa: S704
        )
    )
    policy = html.policy(style, script, ("connect-src 'self'", "frame-ancestors 'none'"))
    return Answer("text/html; charset=utf-8", text.encode(), policy)


def _hash(trace: Trace, place: Place | None) -> str:
    """Return what tells Perfetto where to look (the part of its address after ``#!/?``); empty for the whole trace."""
    where = trace.find(place) if place is not None else None
    if place is None or where is None:
        return ""
    at, length = where
    dur = max(place.dur_ns, 0)
    margin = dur // _MARGIN if length is not None else 0
    start, end = max(at - margin, 0), at + max(dur, 1) + margin
    if length is not None:  # what lies outside of the trace is not shown at all
        start, end = min(start, max(length - 1, 0)), min(end, max(length, 1))
    if not 0 <= start < end:
        return ""
    selected = f"&ts={at}&dur={dur}" if trace.exact else ""
    return f"visStart={start}&visEnd={end}{selected}"


def _length(ns: int) -> str:
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 1000)):
        if ns >= size:
            return f"{ns / size:.4g} {unit}"
    return f"{ns} ns"


def _size(size: int) -> str:
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if size >= bytes_:
            return f"{size / bytes_:.3g} {unit}"
    return f"{size} B"


def report_of(folder: Path) -> dict[str, Any]:
    """Return a folder's ``report.json``; empty where there is none that can be read."""
    try:
        report = json.loads((folder / "report.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def is_redacted(report: Mapping[str, Any]) -> bool:
    """Tell a ``report.json`` that does not say where its captures are: what is written anew must not say it either."""
    return any(one.get("path") == f"{one.get('side')} capture" for one in _dicts(report.get("captures")))
