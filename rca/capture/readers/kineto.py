"""Kineto / torch.profiler traces: Chrome-trace JSON, plain or gzipped (FORMATS.md §1).

Every complete event (``ph: X``) becomes a row of the events table. Flow arrows are left out: the same link is in
``correlation``. Times are microseconds in the file; ``baseTimeNanoseconds`` makes them wall-clock time.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from rca.capture.findings import Finding
from rca.capture.model import Reading
from rca.capture.readers.json_windows import EventArray
from rca.capture.source import Probe, Source, alone
from rca.capture.tables import EVENTS, HOST, UNKNOWN_RANK
from rca.errors import InputError

NAME = "kineto"
group = alone

_Scalar = int | float | str | None

ABSOLUTE_US = 1e14
"""A ``ts`` above this is microseconds since the Unix epoch; a smaller one is relative to ``baseTimeNanoseconds``."""

MAX_US = 4e15
MAX_DURATION_US = 1e15
"""The year 2096 and 31 years: base, time and duration together stay within int64 once they are in ns."""

_KIND_OF_CATEGORY = {
    "kernel": "kernel",
    "gpu_memcpy": "memcpy",
    "memcpy": "memcpy",
    "gpu_memset": "memset",
    "memset": "memset",
    "cuda_runtime": "runtime",
    "runtime": "runtime",
    "cuda_driver": "driver",
    "cuda_sync": "sync",
    "cpu_op": "op",
    "operator": "op",
    "user_annotation": "annotation",
    "gpu_user_annotation": "gpu_annotation",
    "python_function": "python",
    "python": "python",
    "overhead": "overhead",
    "trace": "window",
}
GPU_KINDS = ("kernel", "memcpy", "memset")
_SETTINGS = ("record_shapes", "with_stack", "profile_memory", "with_flops", "with_modules")


class _Args(msgspec.Struct, gc=False):
    correlation: _Scalar = None
    stream: _Scalar = None
    device: _Scalar = None
    bytes: _Scalar = None


class _Event(msgspec.Struct, gc=False):
    ph: str = ""
    cat: str | None = None
    name: _Scalar = None
    pid: _Scalar = None
    tid: _Scalar = None
    ts: _Scalar = None
    dur: _Scalar = None
    args: _Args | str | None = None


def matches(probe: Probe) -> bool:
    """Tell from a file's first bytes whether it is a Chrome trace."""
    head = probe.head
    start = head.lstrip(b" \t\r\n\xef\xbb\xbf")
    if start[:1] == b"[":
        return b'"ph"' in head
    return start[:1] == b"{" and (b'"traceEvents"' in head or (b'"schemaVersion"' in head and b'"deviceProperties"' in head))


def read(source: Source) -> Reading:
    """Read one trace file.

    Raises:
        InputError: the file is damaged (see `EventArray`) or its times are not numbers.
    """
    path = source.path
    source.advance_whole(path)
    array = EventArray(path, msgspec.json.Decoder(list[_Event]), _salvage)
    columns = _Columns()
    for window in array:
        columns.append(window)
    document = array.document
    meta = _facts(document)
    notes = ["holds bytes that are not UTF-8; replaced by \ufffd"] if array.not_utf8 else []
    if array.dropped:
        notes.append(f"{array.dropped:,} items of its event array are no events; left out")
    if columns.rows == 0:
        return Reading(meta=meta, findings=_findings([*notes, "holds no spans (no event with ph X)"]))
    base_ns = document.get("baseTimeNanoseconds")
    if not isinstance(base_ns, (int, float)) or not 0 <= base_ns < MAX_US * 1000:
        base_ns = None
    table = columns.table(path, int(base_ns or 0), notes)
    if base_ns is None and int(table["start_ns"].min() or 0) < ABSOLUTE_US * 1000:  # type: ignore[arg-type]
        notes.append("states no baseTimeNanoseconds: its times cannot be placed on the wall clock")
        meta["wall_clock"] = False
    return Reading(events=_with_process(table, meta, notes), meta=meta, findings=_findings(notes))


def _findings(notes: list[str]) -> tuple[Finding, ...]:
    return tuple(Finding("bad_values", note) for note in notes)


def _salvage(item: Any) -> _Event | None:
    """Make an event of an object whose fields have odd types: those that cannot be used count as missing."""
    if not isinstance(item, dict) or not isinstance(item.get("ph"), str):
        return None
    args = item.get("args")
    fields = {key: _scalar(item.get(key)) for key in ("name", "pid", "tid", "ts", "dur")}
    category = item.get("cat")
    return _Event(
        ph=item["ph"],
        cat=category if isinstance(category, str) else None,
        args=_Args(**{key: _scalar(args.get(key)) for key in _Args.__struct_fields__}) if isinstance(args, dict) else None,
        **fields,
    )


def _scalar(value: Any) -> _Scalar:
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None


class _Columns:
    """Columns of the spans seen so far; texts are dictionary-coded window by window."""

    def __init__(self) -> None:
        self.rows = 0
        self._numbers: dict[str, list[np.ndarray[Any, Any]]] = {}
        self._codes: dict[str, dict[Hashable, int]] = {key: {} for key in ("name", "cat", "pid", "tid", "device")}

    def append(self, window: list[_Event]) -> None:
        spans = [event for event in window if event.ph == "X"]
        if not spans:
            return
        self.rows += len(spans)
        args = [event.args if isinstance(event.args, _Args) else _NO_ARGS for event in spans]
        self._add("ts", _floats(event.ts for event in spans))
        self._add("dur", _floats(event.dur for event in spans))
        self._add("name", self._coded("name", (event.name for event in spans)))
        self._add("cat", self._coded("cat", (event.cat for event in spans)))
        self._add("pid", self._coded("pid", (event.pid for event in spans)))
        self._add("tid", self._coded("tid", (event.tid for event in spans)))
        self._add("device", self._coded("device", (arg.device for arg in args)))
        self._add("stream", _floats(arg.stream for arg in args))
        self._add("correlation", _floats(arg.correlation for arg in args))
        self._add("bytes", _floats(arg.bytes for arg in args))

    def table(self, path: Path, base_ns: int, notes: list[str]) -> pl.DataFrame:
        """Return the rows in the `EVENTS` schema, unsorted, rank not yet known."""
        frame = pl.DataFrame({key: np.concatenate(parts) for key, parts in self._numbers.items()})
        if frame["ts"].is_nan().any():
            raise InputError(path, f"has {frame['ts'].is_nan().sum():,} spans without a time (ts)", "export it again")
        impossible = frame.filter((pl.col("ts").abs() > MAX_US) | (pl.col("dur").fill_nan(0).abs() > MAX_DURATION_US))
        if impossible.height:
            ts, dur = impossible.select("ts", "dur").row(0)
            raise InputError(
                path, f"has a span at {ts:g} us of {dur:g} us, which no clock can have written", "export it again"
            )
        if negative := frame.filter(pl.col("dur") < 0).height:
            notes.append(f"{negative:,} spans have a negative duration; counted as 0")
        if missing := frame["dur"].is_nan().sum():
            notes.append(f"{missing:,} spans have no duration; counted as 0")
        cat = self._decoded("cat", frame["cat"], lambda value: str(value or "").lower())
        kind = cat.replace_strict(_KIND_OF_CATEGORY, default="other", return_dtype=pl.String)
        name = self._decoded("name", frame["name"], str)
        is_gpu = kind.is_in(list(GPU_KINDS))
        pid = self._decoded("pid", frame["pid"], _last_integer)
        tid = self._decoded("tid", frame["tid"], _last_integer)
        device = self._decoded("device", frame["device"], _device_index).fill_null(pid)
        nullable = {
            key: frame[key].fill_nan(None).cast(pl.Int64, strict=False) for key in ("stream", "correlation", "bytes")
        }
        return pl.DataFrame(
            {
                "start_ns": base_ns + _nanoseconds(frame["ts"]),
                "dur_ns": (frame["dur"].fill_nan(0).clip(lower_bound=0) * 1000).round().cast(pl.Int64),
                "name": name.cast(pl.Categorical),
                "kind": kind,
                "pid": pid,
                "tid": tid,
                "device": pl.select(pl.when(is_gpu).then(pl.format("GPU {}", device)).otherwise(pl.lit(HOST))).to_series(),
                "stream": pl.select(pl.when(is_gpu).then(nullable["stream"].fill_null(tid))).to_series(),
                "correlation": nullable["correlation"],
                "bytes": nullable["bytes"],
            }
        )

    def _add(self, key: str, values: np.ndarray[Any, Any]) -> None:
        self._numbers.setdefault(key, []).append(values)

    def _coded(self, key: str, values: Iterable[Hashable]) -> np.ndarray[Any, Any]:
        codes = self._codes[key]
        return np.array([codes.setdefault(value, len(codes)) for value in values], dtype=np.uint32)

    def _decoded(self, key: str, codes: pl.Series, convert: Callable[[Any], Any]) -> pl.Series:
        """Turn codes back into values, converting each distinct value once."""
        return pl.Series(key, [convert(value) for value in self._codes[key]]).gather(codes)


_NO_ARGS = _Args()


def _nanoseconds(us: pl.Series) -> pl.Series:
    """Return whole ns; the whole microseconds apart, since ns since 1970 do not fit a double."""
    whole = us.floor()
    return whole.cast(pl.Int64) * 1000 + ((us - whole) * 1000).round().cast(pl.Int64)


def _floats(values: Iterable[_Scalar]) -> np.ndarray[Any, Any]:
    """Return float64, NaN where there is no number. Whole microseconds since 1970 are exact (1.8e15 < 2**53)."""
    items = list(values)
    try:
        return np.array(items, dtype=np.float64)  # None becomes NaN
    except (ValueError, TypeError):
        return np.array([_to_float(item) for item in items], dtype=np.float64)


def _to_float(value: _Scalar) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


_INTEGER = re.compile(r"\d+")


def _last_integer(value: _Scalar) -> int:
    """Return the number in a pid or tid such as ``5555``, ``"stream 7"`` or ``"[TP00] 8752"``; a stable code for text."""
    if isinstance(value, (int, float)) and math.isfinite(value) and abs(value) < 2**62:
        return int(value)
    found = _INTEGER.findall(str(value))
    return int(found[-1]) % 2**62 if found else -1 - zlib.crc32(str(value).encode())


def _device_index(value: _Scalar) -> int | None:
    return None if value is None or value == "" else _last_integer(value)


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


def _with_process(table: pl.DataFrame, meta: dict[str, Any], notes: list[str]) -> pl.DataFrame:
    """Give GPU rows the pid of the process that launched them, and all rows their rank.

    In a merged file, where several processes launch, the launching call's correlation tells; ids that several processes
    used say nothing, and their rows stay with the process that has most rows.
    """
    rank = meta.get("rank", UNKNOWN_RANK)
    host = table.filter(pl.col("kind").is_in(["op", "runtime", "annotation", "python"]))
    main_pid = host["pid"].mode().min() if host.height else -1
    on_gpu = pl.col("kind").is_in(list(GPU_KINDS))
    calls = table.filter(pl.col("kind").is_in(["runtime", "driver"]) & pl.col("correlation").is_not_null())
    launcher = calls.group_by("correlation").agg(pl.col("pid").min().alias("launcher"), pl.col("pid").n_unique().alias("n"))
    if calls["pid"].n_unique() > 1 and (shared := launcher.filter(pl.col("n") > 1).height):
        notes.append(f"{shared:,} correlation ids are used by several processes; their GPU work is counted for one of them")
    unique = launcher.filter(pl.col("n") == 1).select("correlation", "launcher")
    return (
        table.join(unique, on="correlation", how="left", maintain_order="left")
        .with_columns(
            pid=pl.when(on_gpu).then(pl.col("launcher").fill_null(main_pid)).otherwise(pl.col("pid")),
            rank=pl.lit(rank if isinstance(rank, int) and 0 <= rank < 2**31 else UNKNOWN_RANK),
            file=pl.lit(0),
        )
        .select(pl.col(key).cast(dtype) for key, dtype in EVENTS.items())
    )
