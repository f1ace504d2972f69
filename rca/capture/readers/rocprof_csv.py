"""CSV files of rocprofv3, of both generations, and those that ``rocpd convert`` makes (FORMATS.md §6.1).

The files of one recording, ``<prefix>_kernel_trace.csv``, ``<prefix>_hip_api_trace.csv`` and so on, are read together: only
the files of API calls say which process launched what, and only ``agent_info`` says which agents are GPUs. What a file
holds is told by its columns.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from rca.capture.bytes_in import read_chunks
from rca.capture.findings import Finding, Severity
from rca.capture.model import Clock, Reading
from rca.capture.readers.amd_spans import as_events, call_kind, call_names, copy_names, kernel_names
from rca.capture.readers.rocprof_agents import Agents
from rca.capture.source import Probe, Source
from rca.capture.tables import EVENTS, HOST, empty
from rca.errors import InputError

NAME = "rocprof-csv"

_SPAN = ("start_timestamp", "end_timestamp")
_REQUIRED = {
    "summary": ("name", "calls", "totaldurationns"),
    "agents": ("node_id", "agent_type"),
    "counters": ("counter_name", "counter_value", "kernel_name", "agent_id", "queue_id", "dispatch_id"),
    "kernels": ("kernel_name", "agent_id", "queue_id", *_SPAN),
    "copies": ("direction", "source_agent_id", "destination_agent_id", *_SPAN),
    "allocations": ("kind", "operation", *_SPAN),
    "calls": ("domain", "function", "process_id", *_SPAN),
}
"""Kinds of files, and the columns by which they are told; the first that fits. ``rocpd convert`` may spell them small."""

_INTEGERS = {
    "start_timestamp": "start_ns",
    "end_timestamp": "end_ns",
    "process_id": "pid",
    "thread_id": "tid",
    "correlation_id": "correlation",
    "stream_id": "stream",
    "queue_id": "queue",
    "dispatch_id": "dispatch",
    "allocation_size": "bytes",
    "node_id": "node",
    "logical_node_id": "logical",
}
_TEXTS = {
    "guid": "guid",
    "kernel_name": "name",
    "function": "name",
    "operation": "name",
    "domain": "domain",
    "direction": "direction",
    "agent_id": "agent",
    "source_agent_id": "source",
    "destination_agent_id": "target",
    "agent_type": "type",
    "product_name": "product",
}
_COLUMNS = _INTEGERS | _TEXTS
_OPTIONAL = ("tid", "correlation", "stream")

_CHUNK_BYTES = 16 << 20
_FILE_KIND = re.compile(
    r"(?:^|_)(?:(?:kernel|memory_copy|memory_allocation|scratch_memory|hip|hsa|marker|rccl|rocdecode|rocjpeg|ompt|kokkosp)"
    r"(?:_(?:api|core_api|runtime|runtime_api|compile|compiler|compiler_api|amd_ext_api|image_ext_api|finalizer_ext_api))?"
    r"_(?:trace|stats)|domain_stats|counter_collection|agent_info)$"
)


def matches(probe: Probe) -> bool:
    """Tell by its columns whether a file is one of rocprofv3."""
    return _kind(probe.csv_columns) is not None


def _kind(columns: tuple[str, ...] | list[str]) -> str | None:
    known = {column.lower() for column in columns}
    return next((kind for kind, required in _REQUIRED.items() if known.issuperset(required)), None)


def group(path: Path) -> str:
    """Return the path without what names a kind of file: ``<folder>/123`` of ``<folder>/123_kernel_trace.csv``."""
    return str(path.parent / _prefix(path)) if _prefix(path) else f"{path.parent}/"


def _prefix(path: Path) -> str:
    return _FILE_KIND.sub("", path.name.split(".csv")[0])


def read(source: Source) -> Reading:
    """Read the files of one recording.

    Raises:
        InputError: a file of it is no CSV.
    """
    findings: list[Finding] = []
    tables: dict[str, list[pl.DataFrame]] = {kind: [] for kind in _REQUIRED}
    for path in source.paths:
        source.advance_whole(path)
        kind, table = _read_file(path, findings)
        if kind == "summary":
            text = f"{path.name} holds totals only; record with --kernel-trace --memory-copy-trace --hip-trace"
            findings.append(Finding("summary_only", text))
        elif kind == "counters" and not {"start_ns", "end_ns"}.issubset(table.columns):
            text = f"{path.name} holds counter values of kernels without their times"
            findings.append(Finding("summary_only", text))
        else:
            tables[kind].append(table)
    recording = {kind: pl.concat(parts, how="diagonal") for kind, parts in tables.items() if parts}
    agents = Agents(recording.get("agents"))
    events = _events(recording, agents, _prefix(source.path), findings)
    meta = {"profiler": "rocprofv3"} | ({"gpu_names": agents.gpu_names} if agents.gpu_names else {})
    return Reading(events, meta=meta, findings=tuple(findings), clock=Clock.BOOT)


def _read_file(path: Path, findings: list[Finding]) -> tuple[str, pl.DataFrame]:
    """Return what a file holds, and its rows with columns named as in `_COLUMNS`."""
    content = b"".join(read_chunks(path, _CHUNK_BYTES))
    try:
        table = _parsed(content)
    except (pl.exceptions.PolarsError, ValueError):
        whole = content[: content.rfind(b"\n") + 1]  # a quote that is never closed
        try:
            table = _parsed(whole)
        except (pl.exceptions.PolarsError, ValueError) as error:
            problem = (str(error).splitlines() or ["?"])[0][:200]
            raise InputError(path, f"is not a well-formed CSV file: {problem}", "copy or convert it again") from None
        findings.append(Finding("truncated", f"{path.name}: its last line is cut off; left out", Severity.DAMAGE))
    kind = _kind(table.columns)
    if kind is None:
        raise InputError(path, "is not a CSV file of rocprofv3: it lacks the columns of one")
    columns = {column.lower(): column for column in reversed(table.columns)}
    wanted = {name: columns[key] for key, name in _COLUMNS.items() if key in columns}
    named = table.select(pl.col(column).alias(name) for name, column in wanted.items())
    named = named.filter(~pl.all_horizontal(pl.all().is_null()))  # blank lines
    integers = [name for name in dict.fromkeys(_INTEGERS.values()) if name in named.columns]
    numbers = [pl.col(name).str.strip_chars().cast(pl.Int64, strict=False) for name in integers]
    missing = [pl.lit(None, pl.Int64).alias(name) for name in _OPTIONAL if name not in named.columns]
    return kind, named.with_columns(*numbers, *missing, pl.lit(path.name).alias("path"))


def _parsed(content: bytes) -> pl.DataFrame:
    """Return the columns of `_COLUMNS`, and those that tell what a file holds."""
    wanted = set(_COLUMNS) | {column for required in _REQUIRED.values() for column in required}
    header = pl.read_csv(content, infer_schema=False, n_rows=0, encoding="utf8-lossy").columns
    columns = [column for column in header if column.lower() in wanted]
    if not columns:
        raise ValueError("none of its columns is known")
    return pl.read_csv(content, columns=columns, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True)


def _events(recording: dict[str, pl.DataFrame], agents: Agents, prefix: str, findings: list[Finding]) -> pl.DataFrame:
    calls = recording.get("calls", pl.DataFrame(schema={"pid": pl.Int64, "tid": pl.Int64, "correlation": pl.Int64}))
    found = []
    kernels = _dispatches(recording, findings)
    fallback = _main_pid(calls, kernels, prefix)
    if kernels is not None:
        found.append(_kernels(_with_pid(kernels, calls, fallback, findings), agents))
    if "copies" in recording:
        found.append(_copies(_with_pid(recording["copies"], calls, fallback, findings), agents))
    if "allocations" in recording:
        allocations = _with_pid(recording["allocations"], calls, fallback, findings)
        found.append(allocations.with_columns(kind=pl.lit("other"), name=pl.col("name").replace("", None)))
    if calls.height:
        kinds = call_kind(calls["domain"])
        linked = pl.when(pl.col("kind") != "annotation").then("correlation")
        found.append(
            calls.with_columns(kinds.cast(pl.String).alias("kind"), call_names(calls["name"]).alias("name")).with_columns(
                linked.alias("correlation")
            )
        )
    parts = [
        as_events(part, what, findings) for frame in found for (what,), part in frame.group_by("path", maintain_order=True)
    ]
    return pl.concat(parts) if parts else empty(EVENTS)


def _dispatches(recording: dict[str, pl.DataFrame], findings: list[Finding]) -> pl.DataFrame | None:
    """Return the kernels of ``kernel_trace``, else those whose counters were read: one row per counter and dispatch."""
    kernels, counters = recording.get("kernels"), recording.get("counters")
    if counters is None:
        return kernels
    name = counters["path"][0] if counters.height else "counter_collection"
    if kernels is not None and kernels.height:
        text = f"{name}: counter values of kernels are not read; their times are those of the kernel trace"
        findings.append(Finding("skipped", text, Severity.INFO))
        return kernels
    text = f"{name}: counter values of kernels are not read, only when they ran; reading counters makes kernels run alone"
    findings.append(Finding("skipped", text))
    keys = [key for key in ("guid", "pid", "dispatch", "start_ns") if key in counters.columns]
    return counters.unique(keys, keep="first", maintain_order=True)


def _main_pid(calls: pl.DataFrame, kernels: pl.DataFrame | None, prefix: str) -> int:
    """Return the process that GPU work belongs to if nothing else tells: that of the files' name, or the only one.

    Last, the lowest thread id: that of a main thread is the process id.
    """
    if prefix.isascii() and prefix.isdecimal() and len(prefix) < 12:
        return int(prefix)
    pids = calls["pid"].drop_nulls().unique()
    if pids.len() == 1:
        return int(pids[0])
    threads = kernels["tid"].drop_nulls() if kernels is not None else pl.Series(dtype=pl.Int64)
    lowest = threads.min()
    return lowest if isinstance(lowest, int) else -1


def _with_pid(work: pl.DataFrame, calls: pl.DataFrame, fallback: int, findings: list[Finding]) -> pl.DataFrame:
    """Give GPU work the process of its thread, else of its database (``Guid``), else of the call with its correlation."""
    if "pid" in work.columns and work["pid"].null_count() == 0:
        return work
    pids = [pl.col("pid")] if "pid" in work.columns else []
    keys = [key for key in ("tid", "guid", "correlation") if key in work.columns and key in calls.columns]
    keys = [key for key in keys if work[key].null_count() < work.height]
    if "tid" in keys and "correlation" in keys:
        keys.remove("correlation")  # ids repeat between processes, threads do not
    for key in keys:
        known = calls.filter(pl.col(key).is_not_null() & (pl.col(key).cast(pl.String) != "0"))
        owners = known.group_by(key).agg(pl.col("pid").first(), pl.col("pid").n_unique().alias("users"))
        shared = owners.filter(pl.col("users") > 1)
        if key == "correlation" and (lost := work.join(shared, on=key, how="semi").height):
            name = work["path"][0]
            text = f"{name}: the correlation ids of {lost:,} rows are used by several processes; counted for {fallback}"
            findings.append(Finding("shared_ids", text))
        owners = owners.filter(pl.col("users") == 1).select(key, pl.col("pid").alias(f"pid by {key}"))
        work = work.join(owners, on=key, how="left", maintain_order="left")
        pids.append(pl.col(f"pid by {key}"))
    return work.with_columns(pl.coalesce(*pids, pl.lit(fallback, pl.Int64)).alias("pid"))


def _kernels(frame: pl.DataFrame, agents: Agents) -> pl.DataFrame:
    stream = pl.coalesce("stream", "queue")
    return frame.with_columns(
        kernel_names(frame["name"]).alias("name"),
        agents.devices(frame["agent"]).alias("device"),
        stream.alias("stream"),
        stream.alias("tid"),
        kind=pl.lit("kernel"),
    )


def _copies(frame: pl.DataFrame, agents: Agents) -> pl.DataFrame:
    """Place a copy on the GPU that takes part in it; of two, on the one that it is read from."""
    from_host = pl.col("direction").str.contains("HOST_TO_")
    between = pl.col("direction").str.contains("DEVICE_TO_DEVICE") & (pl.col("source") != pl.col("target"))
    frame = frame.with_columns(
        direction=pl.when(between).then(pl.lit("PEER_TO_PEER")).otherwise("direction"),
        agent=pl.when(from_host).then("target").otherwise("source"),
        on_host=pl.col("direction").str.contains("HOST_TO_HOST"),
    )
    device = pl.when(frame["on_host"]).then(pl.lit(HOST)).otherwise(agents.devices(frame["agent"]).cast(pl.String))
    return frame.with_columns(
        copy_names(frame["direction"]).alias("name"),
        device.alias("device"),
        pl.col("stream").alias("tid"),
        kind=pl.lit("memcpy"),
    )
