"""Prometheus: replies of its HTTP API to ``query`` and ``query_range``, and ``/metrics`` pages (FORMATS.md §2.4, §3.4).

Totals become rates per second under their own name. Buckets of histograms are left out; their ``_sum`` and ``_count``
give the mean.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import polars as pl

from rca.capture.bytes_in import head
from rca.capture.findings import Finding, Severity
from rca.capture.model import Clock, Reading
from rca.capture.readers.counter_units import Meaning, epoch_unit, meaning_of
from rca.capture.readers.counters_wide import joined
from rca.capture.readers.csv_table import MAX_NS
from rca.capture.readers.monitor_text import header_in, read_content, read_lines
from rca.capture.source import Probe, Source, alone
from rca.capture.tables import HOST
from rca.errors import InputError

NAME = "prometheus"
group = alone

_REPLY = re.compile(rb'^\s*\{\s*"status"\s*:\s*"(?:success|error)"')
_PAGE = r"^# (?:HELP \S+ |TYPE \S+ (?:counter|gauge|histogram|summary|untyped|unknown|info)\s*$)"
_SAMPLE = r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+([-+.\w]+)(?:\s+(-?[\d.eE+]+))?\s*(?:#.*)?$"
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')
_GPU_LABELS = ("gpu", "gpu_id", "gpu_index", "minor_number", "index")
_TOTALS = ("_total", "_sum", "_count")
_QUERY = "(query)"
"""Metric of a result that has no name: that of an expression such as ``rate(…)``."""

Labels = dict[str, str]


class _Series(msgspec.Struct):
    metric: Labels = {}
    values: list[tuple[float, str]] = []
    value: tuple[float, str] | None = None


class _Reply(msgspec.Struct):
    status: str
    data: msgspec.Raw = msgspec.Raw(b"")
    errorType: str = ""  # noqa: N815
    error: str = ""


class _Results(msgspec.Struct):
    result: list[_Series]


class _Type(msgspec.Struct):
    resultType: str = ""  # noqa: N815


def matches(probe: Probe) -> bool:
    """Tell an API reply by its first key, a page by its comments."""
    return _REPLY.match(probe.head) is not None or header_in(probe.head, _PAGE)


def read(source: Source) -> Reading:
    """Read one file.

    Raises:
        InputError: it is a reply that reports an error, or none at all.
    """
    path = source.path
    source.advance_whole(path)
    return _read_reply(path) if head(path, 64).lstrip().startswith(b"{") else _read_page(path)


def _read_reply(path: Path) -> Reading:
    content, damage = read_content(path)
    if damage:
        raise InputError(path, damage, "save it again")
    try:
        reply = msgspec.json.decode(content, type=_Reply)
        if reply.status != "success":
            problem = " ".join(f"{reply.errorType}: {reply.error}".split())[:300]
            raise InputError(path, f"is an error reply of Prometheus ({problem})", "run the query again")
        kind = msgspec.json.decode(reply.data, type=_Type).resultType
        if kind not in ("matrix", "vector"):
            text = f"a result of type {kind[:40]!r} holds no samples; skipped"
            return Reading(findings=(Finding("skipped", text),))
        series = msgspec.json.decode(reply.data, type=_Results).result
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(path, f"is no reply of Prometheus: {' '.join(str(error).split())}", "save it again") from None
    labelled = []
    for one in series:
        samples = one.values or ([one.value] if one.value else [])
        times, values = zip(*samples, strict=True) if samples else ((), ())
        labelled.append(
            (one.metric, pl.DataFrame({"ts": times, "text": values}, schema={"ts": pl.Float64, "text": pl.String}))
        )
    return _reading(labelled)


def _read_page(path: Path) -> Reading:
    lines, findings = read_lines(path)
    parts = lines.filter(~lines.str.starts_with("#")).str.extract_groups(_SAMPLE).struct.unnest()
    parts.columns = ["name", "labels", "text", "ts"]
    timed = parts.filter(pl.col("name").is_not_null() & pl.col("ts").is_not_null())
    if not timed.height:
        text = f"one instant of {parts['name'].drop_nulls().len():,} values without times: nothing can be said of its course"
        return Reading(findings=(*findings, Finding("summary_only", text, Severity.INFO)))
    labelled = []
    for part in timed.with_columns(pl.col("labels").fill_null("")).partition_by("name", "labels", maintain_order=True):
        labels = dict(_LABEL.findall(part["labels"][0])) | {"__name__": part["name"][0]}
        labelled.append((labels, part.select(pl.col("ts").cast(pl.Float64, strict=False), "text")))
    reading = _reading(labelled)
    return replace(reading, findings=findings + reading.findings)


def _reading(labelled: list[tuple[Labels, pl.DataFrame]]) -> Reading:
    """Make counters of series: labels, and a table of ``ts`` (any epoch unit) and ``text``."""
    kept = [(labels, table) for labels, table in labelled if not labels.get("__name__", "").endswith("_bucket")]
    uuids = sorted({labels["UUID"] for labels, _ in kept if "UUID" in labels})
    places = [_place(labels, uuids) for labels, _ in kept]
    shared = Counter(places)
    differing = _differing([labels for labels, _ in kept], places)
    frames, odd, clock = [], 0, Clock.UNIX
    for (labels, table), place in zip(kept, places, strict=True):
        meaning, device, pid = place
        if shared[place] > 1:
            suffix = ",".join(f"{key}={labels[key]}" for key in sorted(differing[place]) if key in labels)
            device = f"{device} {{{suffix}}}"
        typical = table["ts"].drop_nulls().drop_nans().median()
        factor, clock = epoch_unit(float(typical)) if isinstance(typical, (int, float)) else (10**9, clock)
        value = table["text"].cast(pl.Float64, strict=False)
        frame = pl.DataFrame({"ts": table["ts"], "value": value})
        good = frame.filter(pl.col("value").is_finite() & (pl.col("ts").is_between(0, MAX_NS / factor)))
        odd += frame.height - good.height
        frames.append(_samples(good, factor, meaning, device, pid))
    findings = (Finding("bad_values", f"{odd:,} values are NaN, infinite or no numbers; left out"),) if odd else ()
    return Reading(counters=joined(frames), findings=findings, clock=clock)


def _samples(frame: pl.DataFrame, factor: int, meaning: Meaning, device: str, pid: int | None) -> pl.DataFrame:
    return frame.select(
        ts_ns=(pl.col("ts") * (factor // 1000)).round().cast(pl.Int64) * 1000
        if factor >= 1000
        else pl.col("ts").cast(pl.Int64),
        device=pl.lit(device),
        pid=pl.lit(pid, pl.Int64),
        value="value",
        unit=pl.lit(meaning.unit),
        metric=pl.lit(meaning.metric),
        total=pl.lit(meaning.total),
    )


def _place(labels: Labels, uuids: list[str]) -> tuple[Meaning, str, int | None]:
    """Return what a series is, of which device and process."""
    name = labels.get("__name__", _QUERY)
    meaning = meaning_of(name)
    if not meaning.total and meaning.metric == name and name.endswith(_TOTALS):
        meaning = Meaning(name, "s" if "_seconds_" in name else "1", total=True)
    pid = labels.get("pid", "")
    return meaning, _device(labels, uuids, name), int(pid) if pid.isdecimal() and len(pid) < 10 else None


def _device(labels: Labels, uuids: list[str], name: str) -> str:
    for key in _GPU_LABELS:
        if labels.get(key, "").isdecimal():
            return f"GPU {int(labels[key])}"
    if match := re.fullmatch(r"nvidia(\d+)", labels.get("device", "")):
        return f"GPU {int(match[1])}"
    if "UUID" in labels:
        return f"GPU {uuids.index(labels['UUID'])}"
    if name.startswith("node_cpu") and labels.get("cpu", "").isdecimal():
        return f"CPU {int(labels['cpu'])}"
    return HOST


def _differing(labels: list[Labels], places: list[tuple[Meaning, str, int | None]]) -> dict[object, set[str]]:
    """Return, per place that several series share, the labels in which they differ."""
    members: dict[object, list[Labels]] = {}
    for place, own in zip(places, labels, strict=True):
        members.setdefault(place, []).append(own)
    return {
        place: {key for own in group_ for key in {*own, *group_[0]} if group_[0].get(key) != own.get(key)}
        for place, group_ in members.items()
        if len(group_) > 1
    }
