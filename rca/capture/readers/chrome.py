"""Chrome-trace JSON of any writer, plain or compressed: Kineto / torch.profiler, kunlun, viztracer and others.

Every span (``ph: X``, or ``B`` and ``E``) becomes a row of the events table, every counter value (``ph: C``) one of the
counters table. Flow arrows are left out: the same link is in ``correlation``. Times are microseconds in the file;
``baseTimeNanoseconds`` makes them wall-clock time (FORMATS.md §1, §7.1).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rca.capture.findings import Finding, Severity
from rca.capture.memory import give_back
from rca.capture.model import Clock, Reading
from rca.capture.readers import chrome_windows
from rca.capture.readers.chrome_counters import counters_table
from rca.capture.readers.chrome_damage import Damage, read_damaged
from rca.capture.readers.chrome_events import MAX_US, Columns
from rca.capture.readers.chrome_table import events_table
from rca.capture.readers.chrome_windows import NoEventsError, NotPlainError
from rca.capture.readers.chrome_worker import read_parallel, useful_workers
from rca.capture.source import Probe, Source, alone
from rca.capture.tables import EVENTS, UNKNOWN_RANK, empty
from rca.errors import InputError

NAME = "chrome"
group = alone

ABSOLUTE_NS = 1e17
"""A time above this is since the Unix epoch; a smaller one is relative to ``baseTimeNanoseconds``, or to nothing known."""

_SETTINGS = ("record_shapes", "with_stack", "profile_memory", "with_flops", "with_modules")
_FIRST_KEYS = (b'"traceEvents"', b'"schemaVersion"', b'"deviceProperties"', b'"distributedInfo"', b'"baseTimeNanoseconds"')
_PHASE = re.compile(rb'"ph"\s*:\s*"[A-Za-z]"')
_RECAPTURE = "capture again, and wait until the export is done"


def matches(probe: Probe) -> bool:
    """Tell from a file's first bytes whether it is a Chrome trace."""
    start = probe.head.lstrip(b" \t\r\n\xef\xbb\xbf")
    if start[:1] == b"[":
        return _PHASE.search(probe.head) is not None
    return start[:1] == b"{" and any(key in probe.head for key in _FIRST_KEYS)


def read(source: Source) -> Reading:
    """Read one trace file, as far as it can be read; findings say what is lost.

    Raises:
        InputError: it holds no event array, or nothing in that can be read.
    """
    path = source.path
    columns, document, damage = _decoded(source)
    findings = _damage_findings(path, columns, damage)
    findings += _odd_values(columns)
    meta = _facts(document)
    base = document.get("baseTimeNanoseconds")
    base_ns = int(base) if isinstance(base, (int, float)) and 0 <= base < MAX_US * 1000 else None
    rank = meta.get("rank", UNKNOWN_RANK)
    rank = rank if isinstance(rank, int) and 0 <= rank < 2**31 else UNKNOWN_RANK
    clock = Clock.UNIX if base_ns is not None or _latest_ns(columns) >= ABSOLUTE_NS else Clock.OWN
    counters = counters_table(columns, base_ns or 0)
    if not columns.spans and not columns.halves:
        note = Finding("bad_values", "holds no spans (no event with ph X)")
        return Reading(empty(EVENTS), counters, meta=meta, findings=(*findings, note), clock=clock)
    events = events_table(columns, base_ns or 0, rank, findings)
    del columns
    give_back()
    return Reading(events, counters, meta=meta, findings=tuple(findings), clock=clock, added_ns=base_ns or 0)


def _latest_ns(columns: Columns) -> int:
    """Return the latest time of a span, or else of a counter value: as the file has it, without its base.

    The latest, since single events at 0 among others on the wall clock are a fault of their own.
    """
    spans = [window["start"] for _, window in (*columns.spans, *columns.halves)]
    times = spans if any(map(len, spans)) else [window["ts"] for _, window in columns.samples]
    return max((int(values.max(initial=0)) for values in times), default=2**62)


def _decoded(source: Source) -> tuple[Columns, dict[str, Any], Damage | None]:
    """Decode the file fast if it is well-formed, else with patience."""
    path = source.path
    workers = useful_workers(path, source.workers)
    try:
        return *read_parallel(path, workers, source.advance), None
    except NotPlainError:
        pass
    except NoEventsError:
        raise InputError(path, 'holds no "traceEvents" array', "is this a Chrome / torch.profiler trace?") from None
    try:
        return read_damaged(path, source.advance)
    except NoEventsError:
        raise InputError(path, "is cut off or damaged before its first event", _RECAPTURE) from None


def _damage_findings(path: Path, columns: Columns, damage: Damage | None) -> list[Finding]:
    """Say what is lost. Raises `InputError` where nothing is left."""
    if damage is None:
        return []
    count = sum(len(window["start"]) for _, window in columns.spans)
    others = any(len(next(iter(window.values()))) for _, window in (*columns.halves, *columns.samples))
    if not count and not others and (damage.cut_off or damage.broken_items):
        reason = damage.cut_off or "its events are not valid JSON"
        raise InputError(path, f"nothing in it can be read: {reason}", _RECAPTURE)
    findings = []
    if damage.cut_off:
        lost = "; what followed its events (clock base, settings) is lost too" if damage.document_lost else ""
        text = f"{damage.cut_off}; the {count:,} spans before that were read{lost}"
        findings.append(Finding("truncated", text, Severity.DAMAGE))
    elif damage.document_lost:
        findings.append(Finding("repaired", "what stands around its events is not valid JSON; left out"))
    if damage.tail_too_long:
        text = f"what follows its events is longer than {chrome_windows.MAX_BYTES >> 20} MiB and was not read"
        findings.append(Finding("skipped", text))
    if damage.broken_items:
        findings.append(Finding("repaired", f"{damage.broken_items:,} events are not valid JSON; left out", Severity.DAMAGE))
    if damage.repairs:
        findings.append(Finding("repaired", "holds invalid literals, escapes or control characters; replaced"))
    if damage.not_utf8:
        findings.append(Finding("repaired", "holds bytes that are not UTF-8; replaced by \ufffd"))
    return findings


_ODD = {
    "negative duration": "spans have a negative duration; counted as 0",
    "no duration": "spans have no duration; counted as 0",
    "no time": "events have no time (ts); left out",
    "impossible time": "spans have a time or duration that no clock can have written; left out",
    "no event": "items of its event array are no events; left out",
}


def _odd_values(columns: Columns) -> list[Finding]:
    return [Finding("bad_values", f"{columns.counts[kind]:,} {text}") for kind, text in _ODD.items() if columns.counts[kind]]


def _facts(document: dict[str, Any]) -> dict[str, Any]:
    """Pick the facts that matter for a comparison; free metadata may hold secrets and stays out."""
    facts: dict[str, Any] = {}
    distributed = document.get("distributedInfo")
    if isinstance(distributed, dict):
        facts |= {key: distributed[key] for key in ("rank", "world_size", "backend") if key in distributed}
    facts |= {key: value for key, value in document.items() if key.endswith("_version") and not isinstance(value, dict)}
    facts |= {key: bool(document[key]) for key in _SETTINGS if key in document}
    if isinstance(document.get("host_name"), str):
        facts["host_name"] = document["host_name"]
    devices = document.get("deviceProperties")
    if isinstance(devices, list):
        facts["gpu_names"] = sorted({str(d["name"]) for d in devices if isinstance(d, dict) and d.get("name")})
    return facts
