"""Decoded columns of a Chrome trace into the events table."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture.findings import Finding, Severity
from rca.capture.readers.chrome_events import CODED, Columns, Window, joined, joined_integers
from rca.capture.readers.chrome_processes import launching_pid, ranks_of_rows
from rca.capture.tables import EVENTS, GPU_KINDS, HOST, KIND, KINDS

Array = NDArray[Any]

_KIND_OF_CATEGORY = {
    # Kineto (FORMATS.md §1.5), today's and the legacy names, and kunlun's (§7.1)
    "kernel": "kernel",
    "gpu_memcpy": "memcpy",
    "memcpy": "memcpy",
    "gpu_memset": "memset",
    "memset": "memset",
    "cuda_runtime": "runtime",
    "runtime": "runtime",
    "xpu_runtime": "runtime",
    "privateuse1_runtime": "runtime",
    "mtia_runtime": "runtime",
    "cuda_driver": "driver",
    "xpu_driver": "driver",
    "privateuse1_driver": "driver",
    "cuda_sync": "sync",
    "xpu_sync": "sync",
    "cpu_op": "op",
    "operator": "op",
    "hpu_op": "op",
    "user_annotation": "annotation",
    "gpu_user_annotation": "gpu_annotation",
    "python_function": "python",
    "python": "python",
    "overhead": "overhead",
    "trace": "window",
    "cat_app": "runtime",
    "cat_disk": "io",
    "cat_memory": "io",
    "cat_net": "io",
    # viztracer's function calls
    "fee": "python",
}
_STEP_OP = re.compile(r"^ProfilerStep#\d+$")
"""An annotation that old exporters wrote in the category of operators."""

_WORK_ANNOTATION = re.compile(r"^(enumerate\(DataLoader\)#|Optimizer\.)")
"""Annotations that torch itself puts around work done in plain Python: functions of a profile like any operator."""


def events_table(columns: Columns, base_ns: int, rank: int, findings: list[Finding]) -> pl.DataFrame:
    """Return all spans in the `EVENTS` schema, sorted by start, longest first among equals."""
    if columns.halves:
        columns.spans.append(_paired(columns, findings))
    windows = columns.spans
    start, duration = joined(windows, "start") + base_ns, joined(windows, "dur")
    order = np.lexsort((-duration, start))
    values: dict[str, list[Any]] = {key: list(columns.codes[key]) for key in CODED}
    code = {key: joined(windows, key)[order] for key in CODED}
    kind = _kinds(values, code)
    on_gpu = np.isin(kind, [KINDS.index(name) for name in GPU_KINDS])
    tid = _decoded(values["tid"], code["tid"], number_in)
    pid = _decoded(values["pid"], code["pid"], number_in)
    stream, has_stream = (column[order] for column in joined_integers(windows, "stream"))
    correlation, has_correlation = (column[order] for column in joined_integers(windows, "correlation"))
    n_bytes, has_bytes = (column[order] for column in joined_integers(windows, "bytes"))
    device = _devices(values, code, on_gpu)
    start, duration = start[order], duration[order]
    del order
    ranks = ranks_of_rows(values["pid"], code["pid"], values["rank"], code["rank"])
    names_process = np.array([isinstance(value, str) and "(" in value for value in values["pid"]], dtype=bool)[code["pid"]]
    pid = launching_pid(pid, kind, on_gpu & ~names_process, ranks, (correlation, has_correlation), findings)
    return pl.DataFrame(
        {
            "start_ns": start,
            "dur_ns": duration,
            "name": pl.Series(values["name"], dtype=pl.String).cast(pl.Categorical).gather(code["name"]),
            "kind": pl.Series(KINDS, dtype=KIND).gather(kind),
            "pid": pid,
            "tid": tid,
            "rank": pl.Series(np.full(len(start), rank) if ranks is None else ranks, dtype=pl.Int32),
            "device": device,
            "stream": _nullable(np.where(has_stream, stream, tid), on_gpu),
            "correlation": _nullable(correlation, has_correlation),
            "bytes": _nullable(n_bytes, has_bytes),
            "file": pl.Series([0], dtype=pl.Int32).new_from_index(0, len(start)),
        },
        schema=EVENTS,
    )


def _paired(columns: Columns, findings: list[Finding]) -> tuple[int, Window]:
    """Make spans of begin and end events: within a thread, the two of one depth that follow each other belong together."""
    windows = columns.halves
    index = max((number for number, _ in (*columns.spans, *windows)), default=0) + 1
    keys = [key for key in windows[0][1] if key != "is_end"]
    is_end, start = joined(windows, "is_end"), joined(windows, "start")
    halves: Window = {}
    for key in keys:
        if key in ("correlation", "stream", "bytes"):
            values, present = joined_integers(windows, key)
            halves[key] = np.where(present, values, np.iinfo(np.int64).min)
        elif key != "start":
            halves[key] = joined(windows, key)
    thread = halves["pid"].astype(np.int64) << 32 | halves["tid"]
    order = np.lexsort((np.arange(len(start)), start, thread))
    step = np.where(is_end[order], -1, 1)
    depth = np.cumsum(step) + is_end[order]  # an end has the depth of its begin
    by_depth = order[np.lexsort((np.arange(len(order)), depth, thread[order]))]
    level = np.empty_like(depth)
    level[order] = depth
    first, second = by_depth[:-1], by_depth[1:]
    pairs = ~is_end[first] & is_end[second] & (thread[first] == thread[second]) & (level[first] == level[second])
    begin, end = first[pairs], second[pairs]  # of one thread and depth by time: no end is before its begin
    if lost := len(start) - 2 * len(begin):
        findings.append(
            Finding("bad_values", f"{lost:,} begin or end events have no counterpart; left out", Severity.WARNING)
        )
    spans = {key: values[begin] for key, values in halves.items()}
    return index, spans | {"start": start[begin], "dur": start[end] - start[begin]}


def _kinds(values: dict[str, list[Any]], code: dict[str, Array]) -> Array:
    """Return the kind of each event as its position in `KINDS`."""
    kinds = [_KIND_OF_CATEGORY.get(str(category or "").lower()) for category in values["cat"]]
    if not any(kinds):  # a general Chrome trace: whatever it calls its spans, they are nested calls
        kinds = ["op"] * len(kinds)
    kind = np.array([KINDS.index(name or "other") for name in kinds], dtype=np.uint8)[code["cat"]]
    scheduled = np.array([_scheduler_kind(str(name)) for name in values["name"]], dtype=np.int16)[code["name"]]
    of_cpu = np.array([str(category).lower() == "cat_cpu" for category in values["cat"]], dtype=bool)[code["cat"]]
    for pattern, written, meant in ((_STEP_OP, "op", "annotation"), (_WORK_ANNOTATION, "annotation", "op")):
        named = np.array([bool(pattern.match(str(name))) for name in values["name"]], dtype=bool)[code["name"]]
        kind[named & (kind == KINDS.index(written))] = KINDS.index(meant)
    slices = of_cpu & (scheduled >= 0)
    kind[slices] = scheduled[slices]
    return kind


def _scheduler_kind(name: str) -> int:
    if name.startswith("oncpu"):
        return KINDS.index("oncpu")
    return KINDS.index("runq") if name == "runq" else -1


def _decoded(values: list[Any], codes: Array, convert: Callable[[Any], int]) -> Array:
    """Turn codes back into numbers, converting each distinct value once."""
    return np.array([convert(value) for value in values], dtype=np.int64)[codes]


_INTEGER = re.compile(r"\d+")


def number_in(value: object) -> int:
    """Return the number in a pid or tid such as ``5555``, ``"stream 7"`` or ``"host1(8752)"``; a stable code for text."""
    if isinstance(value, (int, float)) and math.isfinite(value) and abs(value) < 2**62:
        return int(value)
    found = _INTEGER.findall(str(value))
    return int(found[-1][-18:]) if found else -1 - zlib.crc32(str(value).encode())


_DEVICE_IN_TID = re.compile(r"device:?\s*\(?(\d{1,18})")
_NO_NUMBER = -(2**63)


def _devices(values: dict[str, list[Any]], code: dict[str, Array], on_gpu: Array) -> pl.Series:
    """Name the device of each event: stated in its args, else in its tid, else (Kineto) the pid of a GPU row."""
    in_args = _numbers([None if value in (None, "") else number_in(value) for value in values["device"]])
    found = [_DEVICE_IN_TID.search(str(value)) for value in values["tid"]]
    in_tid = _numbers([int(match.group(1)) if match else None for match in found])
    in_pid = _numbers([number_in(value) for value in values["pid"]])
    number = in_pid[code["pid"][on_gpu]]
    for better, key in ((in_tid, "tid"), (in_args, "device")):
        known = better[code[key][on_gpu]]
        number = np.where(known != _NO_NUMBER, known, number)
    distinct, inverse = np.unique(number, return_inverse=True)
    position = np.zeros(len(on_gpu), dtype=np.uint32)
    position[on_gpu] = inverse + 1
    return pl.Series([HOST, *(f"GPU {index}" for index in distinct)], dtype=pl.String).cast(pl.Categorical).gather(position)


def _numbers(values: list[int | None]) -> Array:
    return np.array([_NO_NUMBER if value is None else value for value in values], dtype=np.int64)


def _nullable(values: Array, present: Array) -> pl.Series:
    """Return a column that is null where there is no value."""
    column = pl.Series(values, dtype=pl.Int64)
    return column if present.all() else column.set(pl.Series(~present), None)
