"""The tables of an Nsight Systems export into a `Reading`, whatever file format holds them (FORMATS.md §4)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import polars as pl

from rca.capture.findings import Finding, Severity
from rca.capture.model import Clock, Reading
from rca.capture.readers import nsys_facts, nsys_spans
from rca.capture.readers.nsys_store import Names, Part, TableStore
from rca.capture.source import Source
from rca.capture.tables import COUNTERS, EVENTS, empty

_SPANS = (
    nsys_spans.kernels,  # the largest first
    nsys_spans.cuda_calls,
    nsys_spans.ranges,
    nsys_spans.os_calls,
    nsys_spans.on_cpu,
    nsys_spans.copies,
    nsys_spans.memory_sets,
    nsys_spans.graphs,
    nsys_spans.waits,
    nsys_spans.profiler_overhead,
    nsys_spans.cupti_overhead,
)
_SAMPLES = (nsys_facts.gpu_metrics, nsys_facts.nic_metrics)

_MAX_THREADS = 4

_LONGEST_SESSION_NS = 10**17
"""Three years: later times count from 1970, the export was normalised to UTC."""

_SYNC_CALLS = {
    "cudaDeviceSynchronize": "Context Sync",
    "cuCtxSynchronize": "Context Sync",
    "cudaStreamSynchronize": "Stream Sync",
    "cuStreamSynchronize": "Stream Sync",
    "cudaEventSynchronize": "Event Sync",
    "cuEventSynchronize": "Event Sync",
    "cudaStreamWaitEvent": "Stream Wait Event",
    "cuStreamWaitEvent": "Stream Wait Event",
}


def build(store: TableStore, source: Source) -> Reading:
    """Read all tables that are known.

    Raises:
        InputError: the file is damaged.
    """
    settings = nsys_facts.export_settings(store)
    context = nsys_spans.Context(store, Names(store), nsys_facts.gpu_of(store))
    tasks: list[Callable[[], Part]] = [partial(read, context) for read in _SPANS]
    tasks += [partial(read, store) for read in _SAMPLES]
    parts = _run(tasks, source)
    spans = {read: part.events for read, part in zip(_SPANS, parts, strict=False)}
    spans[nsys_spans.waits] = _with_callers(spans[nsys_spans.waits], spans[nsys_spans.cuda_calls])
    events = _joined(list(spans.values()), empty(EVENTS))
    counters = _joined([part.counters for part in parts], empty(COUNTERS))
    findings = [finding for part in parts for finding in part.findings]
    del parts, spans
    events, cut = _closed(events)
    if cut:
        text = f"{cut:,} ranges were still open when the recording stopped; cut at its end"
        findings.append(Finding("bad_values", text, Severity.INFO))
    offset, clock = _wall_clock(store, events, counters)
    if offset:
        events = events.with_columns(pl.col("start_ns") + offset)
        counters = counters.with_columns(pl.col("ts_ns") + offset)
    findings += [*nsys_facts.export_findings(settings), *nsys_facts.messages(store)]
    meta = nsys_facts.facts(store, settings)
    return Reading(events, counters, meta=meta, findings=(*store.findings, *findings), clock=clock, added_ns=offset)


def _run(tasks: list[Callable[[], Part]], source: Source) -> list[Part]:
    sizes = sum(path.stat().st_size for path in source.paths)
    parts = []
    with ThreadPoolExecutor(max(1, min(source.workers, _MAX_THREADS))) as pool:
        for number, part in enumerate(pool.map(lambda task: task(), tasks), start=1):
            parts.append(part)
            source.advance(sizes * number // len(tasks) - sizes * (number - 1) // len(tasks))
    return parts


def _joined(tables: list[pl.DataFrame], none: pl.DataFrame) -> pl.DataFrame:
    filled = [table for table in tables if table.height]
    return pl.concat(filled) if filled else none


def _with_callers(waits: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """Give synchronisations the thread of the call that they belong to, and the name that fits it.

    ``syncType`` alone does not tell: cudaDeviceSynchronize has three different ones, depending on the version.
    """
    if waits.is_empty():
        return waits
    key = ["pid", "correlation"]
    calls = calls.join(waits, on=key, how="semi").unique(key, keep="first")
    calls = calls.select(*key, caller="tid", call=pl.col("name").cast(pl.String))
    name = pl.col("call").replace_strict(_SYNC_CALLS, default=None, return_dtype=pl.String).cast(pl.Categorical)
    return (
        waits.join(calls, on=key, how="left", maintain_order="left")
        .with_columns(pl.coalesce("caller", "tid").alias("tid"), pl.coalesce(name, "name").alias("name"))
        .select(list(EVENTS))
    )


def _closed(events: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """End what was still going on with the last event; return also how many those are."""
    open_ones = events["dur_ns"].null_count()
    if open_ones:
        last = events.select((pl.col("start_ns") + pl.col("dur_ns").fill_null(0)).max()).item()
        until_last = (last - pl.col("start_ns")).clip(0, nsys_spans.MAX_DURATION_NS)
        events = events.with_columns(pl.col("dur_ns").fill_null(until_last))
    return events, open_ones


def _wall_clock(store: TableStore, events: pl.DataFrame, counters: pl.DataFrame) -> tuple[int, Clock]:
    """Return what to add to times, and what they count from then (FORMATS.md §4.2)."""
    times = events["start_ns"] if events.height else counters["ts_ns"]
    some = times.gather_every(1 + times.len() // 1000)
    if some.len() and int(some.median() or 0) > _LONGEST_SESSION_NS:  # type: ignore[arg-type]
        return 0, Clock.UNIX
    start = nsys_facts.session_start(store)
    return (0, Clock.OWN) if start is None else (start, Clock.UNIX)
