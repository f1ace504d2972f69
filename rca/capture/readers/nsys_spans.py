"""Spans of an Nsight Systems export: GPU work, CUDA calls, NVTX ranges, OS calls, on-CPU slices (FORMATS.md §4.4).

Each function reads one table. Times stay as they are in the file; `nsys_tables` puts them on the wall clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from rca.capture.findings import Finding
from rca.capture.readers.nsys_store import INT, NO_NAME, TEXT, Columns, Names, Part, TableStore, categorical
from rca.capture.tables import EVENTS, HOST, UNKNOWN_RANK

MAX_NS = 4 * 10**18
"""The year 2096."""
MAX_DURATION_NS = 10**18
"""31 years: start, duration and wall-clock offset together stay within int64."""

_ABI_SUFFIX = r"_v\d+$"
_TIMES = {"start": INT, "end": INT}
_GPU = {**_TIMES, "deviceId": INT, "streamId": INT, "correlationId": INT, "globalPid": INT}
_NO_STREAM = 2**32 - 1

_COPY = ("Unknown", "HtoD", "DtoH", "HtoA", "AtoH", "AtoA", "AtoD", "DtoA", "DtoD", "HtoH", "PtoP")
_UNIFIED_COPY = {11: "HtoD", 12: "DtoH", 13: "DtoD"}
_MEMORY = ("Pageable", "Pinned", "Device", "Array", "Managed", "Device Static", "Managed Static", "Unknown")
_SYNC = {1: "Event Sync", 2: "Stream Wait Event", 3: "Stream Sync", 4: "Context Sync"}
_OVERHEAD = {
    2: "Driver JIT compiler",
    3: "CUPTI buffer flush",
    4: "CUPTI instrumentation",
    5: "CUPTI resource",
    6: "Runtime module loading",
    7: "Lazy function loading",
    8: "Command Buffer Full",
}

NVTX_RANGES = (59, 60, 70, 71)
_NVTX_DOMAIN = 75

_IO_CALL = r"^_*(p?(read|write)v?(64)?2?|fread|fwrite|fgets|fputs|fflush|fsync|fdatasync|sendfile(64)?)(_unlocked|_chk)?$"

_CALL_NUMBER = r"(?:, (?:seq|op_id) = \d+)+$"
"""What `torch.autograd.profiler.emit_nvtx` adds to the name of an operator: numbers of the call."""


@dataclass(frozen=True)
class Context:
    """What the tables of one export share."""

    store: TableStore
    names: Names
    gpu_of: pl.DataFrame
    """``pid``, ``deviceId``, ``gpu``: the GPUs that a process sees under another number than theirs."""


def kernels(context: Context) -> Part:
    """Read kernels; named by their full signature."""
    source = "CUPTI_ACTIVITY_KIND_KERNEL"
    rows = context.store.read(source, {**_GPU, "demangledName": INT})
    name = context.names.of(rows["demangledName"])
    if name.null_count():
        short = context.names.of(context.store.read(source, {"shortName": INT})["shortName"])
        name = pl.select(pl.coalesce(name, short)).to_series()
    table, findings = _checked(rows.with_columns(name.alias("label")), source)
    return Part(_gpu_events(context, table, "kernel", table["label"]), findings=findings)


def copies(context: Context) -> Part:
    """Read memory copies; named as Kineto does, ``Memcpy HtoD (Pinned -> Device)``."""
    columns = {**_GPU, "bytes": INT, "copyKind": INT, "srcKind": INT, "dstKind": INT}
    table, findings = _read(context, "CUPTI_ACTIVITY_KIND_MEMCPY", columns)
    kinds = table.select(
        pl.col("copyKind").fill_null(0).clip(0, 99) * 10_000
        + pl.col("srcKind").fill_null(7).clip(0, 99) * 100
        + pl.col("dstKind").fill_null(7).clip(0, 99)
    ).to_series()
    return Part(_gpu_events(context, table, "memcpy", categorical(kinds, _each(_copy_name))), findings=findings)


def _copy_name(code: int) -> str:
    kind, source, target = code // 10_000, code // 100 % 100, code % 100
    if kind in _UNIFIED_COPY:
        return f"Memcpy {_UNIFIED_COPY[kind]} (Unified)"
    label = _COPY[kind] if kind < len(_COPY) else "Unknown"
    return f"Memcpy {label} ({_memory(source)} -> {_memory(target)})"


def _memory(kind: int) -> str:
    return _MEMORY[kind] if 0 <= kind < len(_MEMORY) else "Unknown"


def memory_sets(context: Context) -> Part:
    """Read memory sets; named as Kineto does, ``Memset (Device)``."""
    table, findings = _read(context, "CUPTI_ACTIVITY_KIND_MEMSET", {**_GPU, "bytes": INT, "memKind": INT})
    name = categorical(table["memKind"].fill_null(2), _each(lambda kind: f"Memset ({_memory(kind)})"))
    return Part(_gpu_events(context, table, "memset", name), findings=findings)


def graphs(context: Context) -> Part:
    """Read launches of CUDA graphs that were traced as a whole; named by ``graphId``, the order of creation."""
    table, findings = _read(context, "CUPTI_ACTIVITY_KIND_GRAPH_TRACE", {**_GPU, "graphId": INT})
    if table.is_empty():
        return Part(findings=findings)
    name = categorical(table["graphId"], _each(_graph_name))
    text = (
        f"{table.height:,} launches of CUDA graphs were traced as a whole, their kernels are invisible; "
        "record with --cuda-graph-trace=node to see them"
    )
    findings = (*findings, Finding("graph_level", text))
    return Part(_gpu_events(context, table, "kernel", name), findings=findings)


def _graph_name(graph: int | None) -> str:
    """Name a graph by a number that is the same in the next run; addresses are not."""
    return f"CUDA graph {graph}" if graph is not None and 0 <= graph < 2**32 else "CUDA graph"


def cuda_calls(context: Context) -> Part:
    """Read calls of the CUDA runtime (event class 0) and driver (1)."""
    columns = {**_TIMES, "eventClass": INT, "globalTid": INT, "correlationId": INT, "nameId": INT}
    table, findings = _read(context, "CUPTI_ACTIVITY_KIND_RUNTIME", columns)
    kind = pl.when(pl.col("eventClass") == 1).then(pl.lit("driver")).otherwise(pl.lit("runtime"))
    name = context.names.of(table["nameId"], strip=_ABI_SUFFIX)
    return Part(_host_events(table, kind, name, correlation=pl.col("correlationId")), findings=findings)


def waits(context: Context) -> Part:
    """Read synchronisations, as seen by CUPTI. They have no thread; `nsys_tables` adds it from the call."""
    table, findings = _read(context, "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", {**_GPU, "syncType": INT})
    name = categorical(table["syncType"], _each(lambda kind: _SYNC.get(kind, "Sync")))
    table = table.with_columns(pl.col("globalPid").alias("globalTid"))
    stream = pl.when(pl.col("streamId") != _NO_STREAM).then(pl.col("streamId"))
    events = _host_events(table, pl.lit("sync"), name, correlation=pl.col("correlationId"), stream=stream)
    return Part(events, findings=findings)


def ranges(context: Context) -> Part:
    """Read NVTX ranges; those of a domain with a known name are called ``domain:text``, as nsys itself does.

    What PyTorch's ``emit_nvtx`` writes are operators; the running numbers in their names are left out.
    """
    columns = {**_TIMES, "eventType": INT, "text": TEXT, "textId": INT, "globalTid": INT, "domainId": INT}
    every = context.store.read("NVTX_EVENTS", columns)
    domain_rows = every.filter(pl.col("eventType") == _NVTX_DOMAIN)
    table, findings = _checked(every.filter(pl.col("eventType").is_in(NVTX_RANGES)), "NVTX_EVENTS", may_be_open=True)
    registered = context.names.of(table["textId"], strip=_CALL_NUMBER)
    text = categorical(table["text"], lambda texts: texts.str.replace(_CALL_NUMBER, ""))
    is_operator = table["text"].str.contains(_CALL_NUMBER).fill_null(False)
    table = table.with_columns(text.alias("label"), registered.alias("registered"), is_operator.alias("operator"), _pid())
    table = table.with_columns(pl.coalesce("label", "registered"))
    if domain_rows.height:
        table = _with_domain(context, table, domain_rows)
    kind = pl.when("operator").then(pl.lit("op")).otherwise(pl.lit("annotation"))
    return Part(_host_events(table, kind, table["label"]), findings=findings)


def _with_domain(context: Context, table: pl.DataFrame, domain_rows: pl.DataFrame) -> pl.DataFrame:
    key = ["pid", "domainId"]
    registered = context.names.of(domain_rows["textId"]).cast(TEXT)
    domains = (
        domain_rows.with_columns(_pid(), domain=pl.coalesce("text", registered))
        .filter(pl.col("domainId") != 0)
        .unique(key, keep="first")
        .select(*key, "domain")
    )
    labels = table.select(*key, "label").unique().join(domains, on=key)
    labels = labels.with_columns(full=pl.format("{}:{}", "domain", pl.col("label").cast(TEXT)).cast(pl.Categorical))
    joined = table.join(
        labels.select(*key, "label", "full"), on=[*key, "label"], how="left", nulls_equal=True, maintain_order="left"
    )
    return joined.with_columns(label=pl.coalesce("full", "label"))


def os_calls(context: Context) -> Part:
    """Read libc calls that may block; calls within calls are left out."""
    columns = {**_TIMES, "globalTid": INT, "nameId": INT, "nestingLevel": INT}
    nested = "nestingLevel" in context.store.columns("OSRT_API")
    table = context.store.read("OSRT_API", columns)
    table, findings = _checked(table.filter(pl.col("nestingLevel") == 0) if nested else table, "OSRT_API", may_be_open=True)
    name = context.names.of(table["nameId"])
    is_io = categorical(table["nameId"], lambda ids: _io_or_other(context.names.of(ids)))
    return Part(_host_events(table.with_columns(is_io.alias("io")), pl.col("io").cast(TEXT), name), findings=findings)


def _io_or_other(names: pl.Series) -> pl.Series:
    is_io = names.cast(TEXT).str.contains(_IO_CALL).fill_null(False)
    return pl.select(pl.when(is_io).then(pl.lit("io")).otherwise(pl.lit("other"))).to_series()


def on_cpu(context: Context) -> Part:
    """Pair each thread's scheduling in with its next scheduling out. Thread 0 is the idle task."""
    table = context.store.read("SCHED_EVENTS", {"start": INT, "isSchedIn": INT, "globalTid": INT})
    following = pl.all().shift(-1).over("globalTid").name.prefix("next_")
    slices = (
        table.drop_nulls()
        .filter(pl.col("globalTid") % 2**24 != 0)
        .sort("globalTid", "start", maintain_order=True)
        .with_columns(following)
        .filter((pl.col("isSchedIn") == 1) & (pl.col("next_isSchedIn") == 0))
        .rename({"next_start": "end"})
    )
    slices, findings = _checked(slices, "SCHED_EVENTS")
    name = pl.Series("name", ["oncpu"], dtype=pl.Categorical).new_from_index(0, slices.height)
    return Part(_host_events(slices, pl.lit("oncpu"), name), findings=findings)


def profiler_overhead(context: Context) -> Part:
    """Read when nsys itself held up a thread."""
    return _overhead(context, "PROFILER_OVERHEAD")


def cupti_overhead(context: Context) -> Part:
    """Read what CUPTI counts as overhead: its own, and the driver's (full command buffer, module loading)."""
    return _overhead(context, "CUPTI_ACTIVITY_KIND_OVERHEAD")


def _overhead(context: Context, source: str) -> Part:
    table, findings = _read(context, source, {**_TIMES, "globalTid": INT, "nameId": INT, "overheadType": INT})
    by_type = categorical(table["overheadType"], _each(lambda kind: _OVERHEAD.get(kind, "Profiler overhead")))
    name = table.select(pl.coalesce(context.names.of(table["nameId"]), by_type)).to_series()
    return Part(_host_events(table, pl.lit("overhead"), name), findings=findings)


def _each(convert: Callable[[int], str]) -> Callable[[pl.Series], pl.Series]:
    """Apply a function to each of a few distinct numbers."""
    return lambda values: pl.Series([convert(value) for value in values], dtype=TEXT)


def _read(context: Context, table: str, columns: Columns) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    return _checked(context.store.read(table, columns), table)


def _checked(rows: pl.DataFrame, table: str, *, may_be_open: bool = False) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """Replace ``end`` by ``dur``, in ns; leave out rows with times that cannot be."""
    start, end = pl.col("start"), pl.col("end")
    possible = (
        start.is_between(-MAX_NS, MAX_NS).fill_null(False)
        & end.is_between(-MAX_NS, MAX_NS).fill_null(may_be_open)
        & (end - start <= MAX_DURATION_NS).fill_null(True)
    )
    kept = rows.filter(possible)
    findings = []
    if lost := rows.height - kept.height:
        findings.append(Finding("bad_values", f"table {table} has {lost:,} rows with missing or impossible times; left out"))
    if negative := int((kept["end"] < kept["start"]).sum()):
        text = f"table {table} has {negative:,} rows that end before they start; counted as 0"
        findings.append(Finding("bad_values", text))
    return kept.with_columns(dur=(end - start).clip(lower_bound=0)).drop("end"), tuple(findings)


def _pid(column: str = "globalTid") -> pl.Expr:
    """Return the process of a ``globalTid`` or ``globalPid`` (FORMATS.md §4.3)."""
    return ((pl.col(column) // 2**24) % 2**24).alias("pid")


def _gpu_events(context: Context, table: pl.DataFrame, kind: str, name: pl.Series) -> pl.DataFrame:
    table = table.with_columns(_pid("globalPid"))
    gpu = table["deviceId"]
    if context.gpu_of.height:
        joined = table.select("pid", "deviceId").join(
            context.gpu_of, on=["pid", "deviceId"], how="left", maintain_order="left"
        )
        gpu = joined.select(pl.coalesce("gpu", "deviceId")).to_series()
    device = categorical(gpu, _each(lambda index: f"GPU {'?' if index is None else index}"))
    columns: dict[str, pl.Expr | pl.Series] = {
        "pid": pl.col("pid"),
        "tid": pl.col("streamId"),
        "device": device,
        "stream": pl.col("streamId"),
        "correlation": pl.col("correlationId"),
        "bytes": pl.col("bytes") if "bytes" in table.columns else pl.lit(None),
    }
    return _events(table, pl.lit(kind), name, columns)


def _host_events(
    table: pl.DataFrame, kind: pl.Expr, name: pl.Series, correlation: pl.Expr | None = None, stream: pl.Expr | None = None
) -> pl.DataFrame:
    columns = {
        "pid": _pid(),
        "tid": pl.col("globalTid") % 2**24,
        "device": pl.lit(HOST),
        "stream": pl.lit(None) if stream is None else stream,
        "correlation": pl.lit(None) if correlation is None else correlation,
        "bytes": pl.lit(None),
    }
    return _events(table, kind, name, columns)


def _events(table: pl.DataFrame, kind: pl.Expr, name: pl.Series, columns: Mapping[str, pl.Expr | pl.Series]) -> pl.DataFrame:
    filled = {
        "start_ns": pl.col("start"),
        "dur_ns": pl.col("dur"),
        "name": name.fill_null(NO_NAME) if name.null_count() else name,
        "kind": kind,
        "rank": pl.lit(UNKNOWN_RANK),
        "file": pl.lit(0),
        **columns,
    }
    columns_of = {key: pl.lit(value) if isinstance(value, pl.Series) else value for key, value in filled.items()}
    frame = table.select(columns_of[key].cast(dtype).alias(key) for key, dtype in EVENTS.items())
    return frame.with_columns(pl.col("pid", "tid").fill_null(-1))
