"""What a capture holds and what is wrong with it: facts for a person who wonders whether it can be compared.

Everything that can be read can be inspected: a capture without cycles, without events or cut before has nulls where a
number does not exist, and `Cycles.reason` says why. Nothing here is rounded; reports do that.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any

import polars as pl

from rca.capture import Capture, Severity
from rca.capture.counter_health import BURST_TIME, HOLE_FACTOR, of_periodic, sampling_gaps
from rca.capture.health import EPOCH_NS, count_early
from rca.capture.tables import GPU_KINDS, KINDS, UNKNOWN_RANK
from rca.cycles import Candidate, Rank, candidates, cut
from rca.errors import UsageError
from rca.inspection_model import (
    AnchorFound,
    Counter,
    Cycles,
    Device,
    Events,
    File,
    Inspection,
    Process,
    Time,
)
from rca.version import INSPECTION_SCHEMA

__all__ = ["Inspection", "describe"]

CUT_BEFORE = "per-cycle profile"
"""Kind of the anchor of captures that were cut and reduced before they reached us."""

_SEVERITIES = (Severity.DAMAGE, Severity.WARNING, Severity.INFO)
_SERIES = ["metric", "device", "pid"]


def describe(capture: Capture, cycle: str | None = None) -> Inspection:
    """Say what a capture holds.

    Args:
        capture: one side, as `rca.capture.load.load` returns it.
        cycle: name of the span that starts a cycle, or a regular expression that finds it; by default the best anchor.

    Raises:
        UsageError: ``cycle`` is not a regular expression, or the capture was cut before.
    """
    cut_before = capture.cycle_rows.height > 0
    if cycle and cut_before:
        raise UsageError("--cycle cuts traces; these per-cycle profiles were cut before")
    asked = list(candidates(capture, cycle)) if cycle else []
    found = [] if cut_before else [*asked, *candidates(capture)]
    chosen = next(iter(asked if cycle else found), None)
    ranks = cut(capture, chosen.anchor if chosen else None) if chosen or cut_before else []
    extents = _extents(capture)
    findings = dict.fromkeys(capture.findings)
    return Inspection(
        schema=INSPECTION_SCHEMA,
        path=str(capture.path),
        files=_files(capture),
        events=_events(capture),
        time=_time(capture, extents, ranks),
        ranks=_processes(capture, ranks),
        devices=_devices(capture, extents),
        counters=_counters(capture),
        cycles=_cycles(capture, ranks, chosen, cycle),
        anchors=tuple(_anchor(item) for item in found) if not cut_before else _anchors_of(ranks),
        findings=tuple(sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))),
    )


def _files(capture: Capture) -> tuple[File, ...]:
    rows = dict(capture.events["file"].value_counts().iter_rows())
    return tuple(
        File(file.path, file.format, file.size_bytes, file.sha256, rows.get(index, 0), dict(facts))
        for index, (file, facts) in enumerate(zip(capture.files, capture.meta, strict=True))
    )


def _events(capture: Capture) -> Events:
    counted = dict(capture.events["kind"].value_counts().iter_rows())
    return Events(capture.events.height, {kind: counted[kind] for kind in KINDS if kind in counted})


_Extents = dict[int, tuple[int, int]]
"""First start and last end, ns, of the events of each file; events of another time (``zero_time``) left out."""


def _extents(capture: Capture) -> _Extents:
    """Return when each file was recorded. What states the recorder's own window is no event of the program."""
    extents = {}
    events = capture.events.lazy().filter(pl.col("kind") != "window").select("file", "start_ns", "dur_ns").collect()
    for (file,), own in events.partition_by("file", as_dict=True, maintain_order=True).items():
        start = own["start_ns"].to_numpy()
        end = start + own["dur_ns"].to_numpy()
        early = count_early(start, end)
        extents[int(file)] = (int(start[early]), int(end[early:].max()))
    return extents


def _union(extents: Iterable[tuple[int, int]]) -> int:
    """Return the length of the union of a few intervals."""
    covered, reach = 0, None
    for start, end in sorted(extents):
        covered += max(0, end - (start if reach is None else max(start, reach)))
        reach = end if reach is None else max(reach, end)
    return covered


def _time(capture: Capture, extents: _Extents, ranks: list[Rank]) -> Time:
    if extents:
        of, spans = "events", list(extents.values())
    elif capture.counters.height:
        of, spans = "counters", [capture.counters.select(pl.col("ts_ns").min(), pl.col("ts_ns").max().alias("to")).row(0)]
    elif ranks:
        of = "cycles"
        spans = [rank.cycles.select(pl.col("start_ns").min(), pl.col("end_ns").max()).row(0) for rank in ranks]
    else:
        return Time(None, None, None, None, None)
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    wall = first > EPOCH_NS and not any(finding.code == "no_wall_clock" for finding in capture.findings)
    start, end = (_utc(moment) if wall else None for moment in (first, last))
    return Time(of, start, end, (last - first) / 1e9, _union(spans) / 1e9)


def _utc(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 10**9)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _processes(capture: Capture, ranks: list[Rank]) -> tuple[Process, ...]:
    """Return the processes with cycles, then those without."""
    on_gpu = pl.col("kind").is_in(list(GPU_KINDS))
    rows = (
        capture.events.lazy()
        .filter(~pl.col("kind").is_in(["window", "overhead", "gpu_annotation"]))  # of no process, some of them
        .group_by("rank", "pid", "file")
        .agg(pl.col("device").filter(on_gpu).unique().alias("gpus"))
        .sort("rank", "pid", "file")
        .collect()
    )
    with_cycles = [_with_cycles(capture, rank) for rank in ranks]
    taken = {(rank.rank, rank.pid, file) for rank in ranks for file in rank.files}
    others = [row for row in rows.iter_rows() if row[:3] not in taken]
    of_the_job = [row for row in others if row[0] != UNKNOWN_RANK or row[3]]
    rest: dict[tuple[int, int], list[tuple[Any, ...]]] = {}
    for row in of_the_job or ([] if with_cycles else others):
        rest.setdefault(row[:2], []).append(row)
    return (*with_cycles, *(_without_cycles(capture, own) for own in rest.values()))


def _with_cycles(capture: Capture, rank: Rank) -> Process:
    return Process(
        role=rank.role,
        rank=None if rank.rank == UNKNOWN_RANK else rank.rank,
        pid=rank.pid,
        files=_paths(capture, rank.files),
        world_size=_world_size(capture, rank.files),
        cycles=rank.cycles.height,
        complete=int(rank.cycles["complete"].sum()),
        coverage=rank.coverage,
        phases=_phases(rank),
        median_us=_median_us(rank),
        phase_median_us={phase: _median_us(rank, phase) for phase in _phases(rank)},
    )


def _without_cycles(capture: Capture, rows: list[tuple[Any, ...]]) -> Process:
    rank, pid = rows[0][:2]
    files = tuple(row[2] for row in rows)
    gpus = " + ".join(sorted({gpu for row in rows for gpu in row[3]}, key=_natural))
    role = f"rank {rank}" if rank != UNKNOWN_RANK else gpus or "rank ?"
    number = None if rank == UNKNOWN_RANK else rank
    return Process(role, number, pid, _paths(capture, files), _world_size(capture, files), 0, 0, None, {}, None, {})


def _paths(capture: Capture, files: Iterable[int]) -> tuple[str, ...]:
    return tuple(capture.files[file].path for file in sorted(files))


def _world_size(capture: Capture, files: Iterable[int]) -> int | None:
    sizes = [capture.meta[file].get("world_size") for file in files]
    return max(
        (size for size in sizes if isinstance(size, int) and not isinstance(size, bool) and 0 < size < 2**31), default=None
    )


def _phases(rank: Rank) -> dict[str, int]:
    return dict(rank.cycles["phase"].value_counts().sort("phase").iter_rows())


def _median_us(rank: Rank, phase: str | None = None) -> float | None:
    cycles = rank.cycles.filter("complete")
    median = (cycles.filter(phase=phase) if phase else cycles)["duration_us"].median()
    return None if median is None else float(median)  # type: ignore[arg-type]


def _devices(capture: Capture, extents: _Extents) -> tuple[Device, ...]:
    events = dict(capture.events["device"].value_counts().iter_rows())
    series = capture.counters.group_by("device").agg(pl.struct("metric", "pid").n_unique())
    counters = dict(series.with_columns(pl.col("device").cast(pl.String)).iter_rows())
    gpus = {row[0]: row[1:] for row in _gpu_work(capture).iter_rows()}
    names = {*events, *counters, *capture.cycle_rows["device"].cast(pl.String).unique()}
    devices = []
    for name in sorted(names, key=_natural):
        busy_ns, streams, files = gpus.get(name, (None, None, ()))
        recorded = _union(extents[file] for file in files if file in extents)
        share = min(busy_ns / recorded, 1.0) if busy_ns is not None and recorded else None
        devices.append(Device(name, events.get(name, 0), share, streams, counters.get(name, 0)))
    return tuple(devices)


def _gpu_work(capture: Capture) -> pl.DataFrame:
    """Return busy time (union of the spans), streams and files of every GPU that has work."""
    start, end = pl.col("start_ns"), pl.col("start_ns") + pl.col("dur_ns")
    before = end.cum_max().shift(1).fill_null(start)  # what was covered when a span begins; events are sorted by start
    return (
        capture.events.lazy()
        .filter(pl.col("kind").is_in(list(GPU_KINDS)))
        .group_by("device", maintain_order=True)
        .agg(
            (end - pl.max_horizontal(start, before)).clip(lower_bound=0).sum().alias("busy_ns"),
            pl.struct("pid", "stream").filter(pl.col("stream").is_not_null()).n_unique().alias("streams"),
            pl.col("file").unique().alias("files"),
        )
        .with_columns(pl.col("device").cast(pl.String))
        .collect()
    )


def _natural(name: str) -> tuple[bool, str, int, str]:
    """Sort the host first, and ``GPU 2`` before ``GPU 10``."""
    kind, number, rest = re.match(r"(\D*)(\d{0,9})(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    return name != "Host", kind, int(number or -1), rest


def _counters(capture: Capture) -> tuple[Counter, ...]:
    if capture.counters.height == 0:
        return ()
    gap_ns, value = pl.col("ts_ns").diff(), pl.col("value")
    gap_ns = gap_ns.filter(gap_ns > 0)
    in_bursts = gap_ns.median() * gap_ns.len() < BURST_TIME * gap_ns.sum()
    table = capture.counters.group_by(_SERIES, maintain_order=True).agg(
        pl.col("unit").first().cast(pl.String),
        pl.len().alias("samples"),
        pl.when(~in_bursts).then(gap_ns.median() / 1e6).alias("period_ms"),
        value.min().alias("min"),
        value.mean().alias("mean"),
        value.max().alias("max"),
    )
    holes = (
        of_periodic(sampling_gaps(capture))
        .group_by(_SERIES)
        .agg((pl.col("gap") > HOLE_FACTOR * pl.col("period")).sum().cast(pl.Int64).alias("holes"))
    )
    rows = table.join(holes, on=_SERIES, how="left", nulls_equal=True, maintain_order="left")
    named = (Counter(**{**row, "unit": row["unit"] or ""}) for row in rows.iter_rows(named=True))
    return tuple(sorted(named, key=lambda item: (item.metric, _natural(item.device), item.pid or -1)))


def _cycles(capture: Capture, ranks: list[Rank], chosen: Candidate | None, cycle: str | None) -> Cycles:
    if not ranks:
        return Cycles(0, 0, None, None, None, None, {}, None, {}, _why_none(capture, cycle))
    rank = max(ranks, key=lambda rank: rank.cycles.height)
    complete = int(rank.cycles["complete"].sum())
    return Cycles(
        count=rank.cycles.height,
        complete=complete,
        rank=rank.role,
        anchor=rank.anchor,
        kind=str(chosen.anchor.kind) if chosen else CUT_BEFORE,
        coverage=rank.coverage,
        phases=_phases(rank),
        median_us=_median_us(rank),
        phase_median_us={phase: _median_us(rank, phase) for phase in _phases(rank)},
        reason=None if complete else "none of the cycles is complete",
    )


def _why_none(capture: Capture, cycle: str | None) -> str:
    if capture.events.height == 0:
        return "the capture holds no events" + (", only counters" if capture.counters.height else "")
    if cycle:
        return f"no span is named or matches {cycle!r}"
    return "no annotation of a known engine, and nothing that repeats: name a span that recurs with --cycle"


def _anchor(found: Candidate) -> AnchorFound:
    return AnchorFound(found.anchor.name, str(found.anchor.kind), found.cycles, found.coverage, found.median_us)


def _anchors_of(ranks: list[Rank]) -> tuple[AnchorFound, ...]:
    """Return the anchors that the cycles of per-cycle profiles were cut by, most cycles first."""
    most = sorted(ranks, key=lambda rank: (-rank.cycles.height, rank.anchor))
    by_name = {rank.anchor: rank for rank in reversed(most)}
    found = [AnchorFound(name, CUT_BEFORE, rank.cycles.height, None, _median_us(rank)) for name, rank in by_name.items()]
    return tuple(sorted(found, key=lambda item: (-item.cycles, item.name)))
