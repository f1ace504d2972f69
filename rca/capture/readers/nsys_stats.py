"""CSV reports of ``nsys stats``: traces become events, summaries are only recognised (FORMATS.md §4.6).

The reports of one recording, ``<recording>_cuda_api_trace.csv`` and ``<recording>_cuda_gpu_trace.csv``, are read together:
only the former says which process launched what.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from rca.capture.findings import Finding, Severity
from rca.capture.model import Clock, Reading
from rca.capture.readers.csv_table import read_text_columns
from rca.capture.readers.nsys_stats_columns import plain_name, sizes, times, whole_numbers
from rca.capture.readers.nvtx_gpu_proj import SOME_GPU
from rca.capture.source import Probe, Source
from rca.capture.tables import EVENTS, HOST, UNKNOWN_RANK
from rca.errors import InputError

NAME = "nsys-stats"

_GPU_TRACE = frozenset({"start", "duration", "corrid", "strm", "name"})
_API_TRACE = frozenset({"start", "duration", "name", "result", "corrid", "pid", "tid"})
_RANGE_TRACE = frozenset({"start", "end", "duration", "name", "pid", "tid", "rangeid"})
_SUMMARIES = (frozenset({"total time", "min", "max"}), frozenset({"total", "min", "max", "operation"}))
_REPORT_IN_NAME = re.compile(
    r"_((?:cuda_(?:gpu|api|kern_exec)|nvtx|nvtx_(?:pushpop|startend|gpu_proj|kern)|osrt|syscall|um)_[a-z_]*(?:sum|trace)"
    r"|(?:gpu|cudaapi|nvtx|osrt)[a-z]*(?:sum|trace))$"
)
"""Name of the report at the end of a file's name; those in one word are of before 2022.4."""

_LONG = {"host": "H", "device": "D", "array": "A", "peer": "P", "unified": "H"}
_COPY = re.compile(r"\[CUDA memcpy (?:(?P<short>[HDAP]to[HDAP])|(?P<long>.*?))\]", re.IGNORECASE)


def matches(probe: Probe) -> bool:
    """Tell by its columns whether a file is such a report."""
    return _kind(probe.csv_columns) is not None


def _kind(columns: tuple[str, ...] | list[str]) -> str | None:
    plain = {plain_name(name) for name in columns}
    for kind, required in (("gpu", _GPU_TRACE), ("api", _API_TRACE), ("ranges", _RANGE_TRACE)):
        if required <= plain:
            return kind
    return "summary" if any(required <= plain for required in _SUMMARIES) else None


def group(path: Path) -> str:
    """Return the path without the name of the report."""
    return str(path.with_name(_REPORT_IN_NAME.sub("", path.stem)))


def read(source: Source) -> Reading:
    """Read the reports of one recording.

    Raises:
        InputError: a column is missing or holds what it must not.
    """
    events: dict[str, list[pl.DataFrame]] = {"gpu": [], "api": [], "ranges": []}
    findings: list[Finding] = []
    for path in source.paths:
        source.advance_whole(path)
        table = read_text_columns(path, ())
        kind = _kind(table.columns)
        if kind is None:
            raise InputError(path, "is not a report of nsys stats")
        if kind == "summary":
            findings.append(_summary(path))
            continue
        columns = {plain_name(name): name for name in reversed(table.columns)}
        frame = _CONVERT[kind](path, table, columns)
        kept = frame.filter(pl.col("start_ns").is_not_null() & (pl.col("dur_ns") >= 0) & pl.col("name").is_not_null())
        if lost := frame.height - kept.height:
            findings.append(Finding("bad_values", f"{path.name}: {lost:,} rows lack a time or a name; left out"))
        events[kind].append(kept)
    if events["gpu"]:
        events["gpu"] = [_with_process(pl.concat(events["gpu"]), events["api"], findings)]
    frames = [_as_events(frame) for frames in events.values() for frame in frames]
    table = pl.concat(frames) if frames else Reading().events
    return Reading(events=table, findings=tuple(findings), clock=Clock.OWN)


def _summary(path: Path) -> Finding:
    report = _REPORT_IN_NAME.search(path.stem)
    name = report[1] if report else "a summary report"
    text = f"{path.name} ({name}) holds totals only; export cuda_gpu_trace and cuda_api_trace, or the SQLite file"
    return Finding("summary_only", text, Severity.WARNING)


def _gpu(path: Path, table: pl.DataFrame, columns: dict[str, str]) -> pl.DataFrame:
    names = table[columns["name"]]
    frame = _spans(path, table, columns).with_columns(
        correlation=whole_numbers(path, table, columns["corrid"]),
        stream=whole_numbers(path, table, columns["strm"]),
        bytes=sizes(path, table, columns["bytes"]) if "bytes" in columns else None,
        source=_text(table, columns, "srcmemkd"),
        target=_text(table, columns, "dstmemkd"),
        index=_text(table, columns, "device").str.extract(r"\((\d+)\)\s*$"),
    )
    kinds = pl.DataFrame({"name": names.unique()})
    kinds = kinds.with_columns(
        kind=pl.when(pl.col("name").str.contains(r"(?i)^\[CUDA memcpy"))
        .then(pl.lit("memcpy"))
        .when(pl.col("name").str.contains(r"(?i)^\[CUDA memset"))
        .then(pl.lit("memset"))
        .otherwise(pl.lit("kernel")),
        direction=pl.Series([_direction(name or "") for name in kinds["name"]], dtype=pl.String),
    )
    known = pl.col("source").is_not_null() & pl.col("target").is_not_null()
    copy = pl.format("Memcpy {}", "direction")
    memory = pl.format(" ({} -> {})", "source", "target")
    return frame.join(kinds, on="name", how="left", nulls_equal=True, maintain_order="left").with_columns(
        pl.when(pl.col("kind") == "memcpy")
        .then(pl.when(known).then(copy + memory).otherwise(copy))
        .when(pl.col("kind") == "memset")
        .then(pl.lit("Memset (Device)"))
        .otherwise("name")
        .alias("name"),
        device=pl.when(pl.col("index").is_not_null()).then(pl.format("GPU {}", "index")).otherwise(pl.lit(SOME_GPU)),
        tid=pl.col("stream"),
    )


def _direction(name: str) -> str:
    """Return ``HtoD`` for both ``[CUDA memcpy HtoD]`` and ``[CUDA memcpy Host-to-Device]``."""
    found = _COPY.match(name)
    if not found:
        return "Unknown"
    if found["short"]:
        return found["short"].upper().replace("TO", "to")
    ends = re.split(r"-to-", found["long"].lower().removeprefix("unified "), maxsplit=1)
    letters = [_LONG.get(end.strip(), "") for end in ends]
    return "to".join(letters) if len(letters) == 2 and all(letters) else "Unknown"


def _api(path: Path, table: pl.DataFrame, columns: dict[str, str]) -> pl.DataFrame:
    is_driver = pl.col("name").str.contains(r"^cu[A-Z]")
    return _spans(path, table, columns).with_columns(
        name=pl.col("name").str.replace(r"_v\d+$", ""),
        kind=pl.when(is_driver).then(pl.lit("driver")).otherwise(pl.lit("runtime")),
        device=pl.lit(HOST),
        correlation=whole_numbers(path, table, columns["corrid"]),
        pid=whole_numbers(path, table, columns["pid"]),
        tid=whole_numbers(path, table, columns["tid"]),
    )


def _ranges(path: Path, table: pl.DataFrame, columns: dict[str, str]) -> pl.DataFrame:
    return _spans(path, table, columns).with_columns(
        kind=pl.lit("annotation"),
        device=pl.lit(HOST),
        pid=whole_numbers(path, table, columns["pid"]),
        tid=whole_numbers(path, table, columns["tid"]),
    )


_CONVERT = {"gpu": _gpu, "api": _api, "ranges": _ranges}


def _spans(path: Path, table: pl.DataFrame, columns: dict[str, str]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "start_ns": times(path, table, columns["start"]),
            "dur_ns": times(path, table, columns["duration"]),
            "name": table[columns["name"]],
        }
    )


def _text(table: pl.DataFrame, columns: dict[str, str], name: str) -> pl.Series:
    if name not in columns:
        return pl.Series([None], dtype=pl.String).new_from_index(0, table.height)
    return table[columns[name]].replace(["", "-"], None)


def _with_process(gpu: pl.DataFrame, api: list[pl.DataFrame], findings: list[Finding]) -> pl.DataFrame:
    """Give GPU work the process of its launch; a GPU trace has no pid, and correlation ids repeat between processes."""
    if not api:
        return gpu
    calls = pl.concat(api).drop_nulls("correlation").group_by("correlation")
    launchers = calls.agg(pl.col("pid").min(), pl.col("pid").n_unique().alias("users"))
    shared = launchers.filter(pl.col("users") > 1)
    if shared.height:
        text = f"{shared.height:,} correlation ids are used by several processes; their GPU work is counted for none"
        findings.append(Finding("shared_ids", text))
    unique = launchers.filter(pl.col("users") == 1).select("correlation", "pid")
    return gpu.join(unique, on="correlation", how="left", maintain_order="left")


def _as_events(frame: pl.DataFrame) -> pl.DataFrame:
    missing = {key: pl.lit(None).alias(key) for key in EVENTS if key not in frame.columns}
    missing |= {"rank": pl.lit(UNKNOWN_RANK).alias("rank"), "file": pl.lit(0).alias("file")}
    frame = frame.with_columns(missing.values()).with_columns(pl.col("pid", "tid").cast(pl.Int64).fill_null(-1))
    return frame.select(pl.col(key).cast(dtype) for key, dtype in EVENTS.items())
