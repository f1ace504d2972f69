"""Where the time of each cycle went: a partition of the cycle, from the timeline, that sums to its duration.

GPU work counts where the cycle waited for it. Work that is launched ahead runs beside the host; it only takes time of the
cycle where the host waits for it (a synchronising call) or where the GPU falls behind its queue. So GPU work is followed in
*chains*: work that was launched before the work ahead of it ended. A chain that ends while the host does not wait, and is
followed by a launch that the host had yet to make, was hidden behind the host: the host was the bottleneck. What is left of
the cycle is the host's, told apart by what its threads did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture import Capture
from rca.capture.launches import begun_ns
from rca.capture.tables import GPU_KINDS
from rca.cycles import Rank
from rca.profile.scheduling import scheduling
from rca.stats.intervals import NOTHING, Intervals, contains, intersection, length_within, union

Ints = NDArray[np.int64]

PARTS = {
    "gpu_compute": "GPU: kernels that compute",
    "gpu_comm": "GPU: communication between GPUs",
    "gpu_copy": "GPU: copies",
    "gpu_other": "GPU: fills and the like",
    "gpu_gaps": "GPU: gaps between queued work",
    "io": "host: reading and writing",
    "runq": "host: waiting for a core",
    "sync": "host: waiting in a synchronising call, GPU idle",
    "host_calls": "host: in operators and launches",
    "host_python": "host: between calls (Python, or waiting)",
    "between": "between the annotated steps",
    "host": "host and everything else",
}
"""Parts of a cycle in the order of reports. ``host`` stands for the last five where no timeline tells them apart."""

PARTS_TABLE: dict[str, pl.DataType | type[pl.DataType]] = {"cycle": pl.Int64, "part": pl.String, "us": pl.Float64}
"""One row per (cycle, part) that is not zero; the parts of a cycle sum to its duration."""

COMMUNICATION = (
    r"(?i)nccl|rccl|all_?reduce|cross_device_reduce|all_?gather|reduce_?scatter|all_?to_?all|nvshmem|multimem|deep_?ep"
)
"""Names of kernels that exchange data between GPUs, and wait for peers; not only the libraries' own (FORMATS.md §7.8)."""

_WAITS = (
    r"Synchronize|^(cuda|hip)(Event|Stream)Query$"
    r"|^(cuda|hip)Memcpy(HtoD|DtoH|2D|3D)?(_v\d+)?$|^cuMemcpy(HtoD|DtoH|DtoD)?(_v\d+)?$"
)
"""Calls that return once the GPU has done what was queued, as copies without ``Async`` do, or that ask for it in a loop."""

_LAUNCH_NS = 20_000
"""A launch takes some 5 to 20 µs to reach an idle GPU: work launched that shortly before the GPU ran dry was late too."""


@dataclass(frozen=True)
class _Events:
    """What one process did, by kind."""

    gpu: pl.DataFrame
    host: pl.DataFrame


def timeline_parts(capture: Capture, rank: Rank) -> pl.DataFrame:
    """Partition every complete cycle of a rank; `PARTS_TABLE`.

    Args:
        capture: one side, with its events.
        rank: one of its ranks.
    """
    cycles = rank.cycles.filter("complete")
    if cycles.height == 0:
        return pl.DataFrame(schema=PARTS_TABLE)
    start, end = cycles["start_ns"].to_numpy(), cycles["end_ns"].to_numpy()
    events = _events(capture, rank)
    waits = _spans(events.host, pl.col("name").cast(pl.String).str.contains(_WAITS) | (pl.col("kind") == "sync"))
    on_path = _gpu_on_path(events, waits)
    span_end = start + (cycles["span_us"].to_numpy() * 1000).astype(np.int64)
    layers = {
        "gpu_compute": intersection(_gpu(events.gpu, "gpu_compute"), on_path),
        "gpu_comm": intersection(_gpu(events.gpu, "gpu_comm"), on_path),
        "gpu_copy": intersection(_gpu(events.gpu, "gpu_copy"), on_path),
        "gpu_other": intersection(_gpu(events.gpu, "gpu_other"), on_path),
        "gpu_gaps": on_path,
        "io": _spans(events.host, pl.col("kind") == "io"),
        "sync": waits,
        "host_calls": _spans(events.host, pl.col("kind").is_in(["op", "runtime", "driver"])),
        "host_python": union((start, np.minimum(np.maximum(span_end, start), end))),
    }
    parts: dict[str, Ints] = {}
    covered, before = NOTHING, np.zeros(len(start), dtype=np.int64)
    for part, intervals in layers.items():  # each takes what those before it left
        covered = union(covered, intervals)
        within = length_within(covered, start, end)
        parts[part], before = within - before, within
    parts["between"] = (end - start) - before
    _take_waiting(parts, _waited_ns(capture, rank, cycles))
    return as_table(cycles["cycle"].to_numpy(), {part: ns / 1000 for part, ns in parts.items()})


def summed_parts(rows: pl.DataFrame, cycles: pl.DataFrame) -> pl.DataFrame:
    """Partition cycles by the summed times of their functions: all that a per-cycle profile allows; `PARTS_TABLE`.

    Streams and threads overlap, so a part is cut to what those before it left of the cycle.

    Args:
        rows: `rca.profile.build.ROWS` of one rank.
        cycles: its cycles.
    """
    communicates = pl.col("function").str.contains(COMMUNICATION)
    part = (
        pl.when(pl.col("device").str.starts_with("GPU") & communicates)
        .then(pl.lit("gpu_comm"))
        .when(pl.col("class").str.starts_with("gpu_memcpy"))
        .then(pl.lit("gpu_copy"))
        .when(pl.col("device").str.starts_with("GPU"))
        .then(pl.lit("gpu_compute"))
        .when(pl.col("class") == "disk_read_and_write")
        .then(pl.lit("io"))
        .when(pl.col("class") == "runq")
        .then(pl.lit("runq"))
    )
    single = rows.unique(["cycle", "function", "device"], keep="first", maintain_order=True)
    summed = single.with_columns(part=part).filter(pl.col("part").is_not_null()).group_by("cycle", "part", "device")
    # GPUs work side by side: the busiest one tells
    busiest = summed.agg(pl.col("duration_us").sum()).group_by("cycle", "part").agg(pl.col("duration_us").max())
    complete = cycles.filter("complete")
    number, left = complete["cycle"].to_numpy(), complete["duration_us"].to_numpy().copy()
    parts = {}
    for name in ("gpu_compute", "gpu_comm", "gpu_copy", "io", "runq"):
        own = complete.select("cycle").join(
            busiest.filter(pl.col("part") == name), on="cycle", how="left", maintain_order="left"
        )
        parts[name] = np.minimum(own["duration_us"].fill_null(0.0).to_numpy(), left)
        left = left - parts[name]
    return as_table(number, parts | {"host": left})


def as_table(cycle: NDArray[np.int64], parts: dict[str, NDArray[np.float64]]) -> pl.DataFrame:
    """Return parts, one array of µs per cycle each, as `PARTS_TABLE`."""
    tables = [
        pl.DataFrame({"cycle": cycle, "part": [part] * len(cycle), "us": us}, schema=PARTS_TABLE).filter(pl.col("us") > 0)
        for part, us in parts.items()
    ]
    return pl.concat(tables).sort("cycle", "part")


def _events(capture: Capture, rank: Rank) -> _Events:
    kinds = (*GPU_KINDS, "runtime", "driver", "sync", "op", "io")
    own = (
        capture.events.lazy()
        .filter(rank.owns() & pl.col("kind").is_in(list(kinds)))
        .select("start_ns", "dur_ns", "name", "kind", "correlation", "file")
        .collect()
    )
    own = own.with_columns(begun_ns=pl.Series(begun_ns(own)))
    on_gpu = pl.col("kind").is_in(list(GPU_KINDS))
    name = pl.col("name").cast(pl.String)
    part = (
        pl.when(pl.col("kind") == "memcpy")
        .then(pl.lit("gpu_copy"))
        .when(pl.col("kind") == "memset")
        .then(pl.lit("gpu_other"))
        .when(name.str.contains(COMMUNICATION))
        .then(pl.lit("gpu_comm"))
        .otherwise(pl.lit("gpu_compute"))
    )
    names = own.filter(on_gpu).select("name", "kind").unique().with_columns(part=part)
    gpu = own.filter(on_gpu).join(names, on=["name", "kind"], how="left", maintain_order="left")
    return _Events(gpu.sort("start_ns", maintain_order=True), own.filter(~on_gpu))


def _spans(events: pl.DataFrame, wanted: pl.Expr) -> Intervals:
    own = events.filter(wanted).select("start_ns", end_ns=pl.col("start_ns") + pl.col("dur_ns"))
    return union((own["start_ns"].to_numpy(), own["end_ns"].to_numpy()))


def _gpu(gpu: pl.DataFrame, part: str) -> Intervals:
    return _spans(gpu, pl.col("part") == part)


def _gpu_on_path(events: _Events, waits: Intervals) -> Intervals:
    """Return the chains of GPU work that cycles waited for, and of other chains what the host waited for."""
    gpu = events.gpu.filter(pl.col("dur_ns") > 0)
    if gpu.height == 0:
        return NOTHING
    start, end = gpu["start_ns"].to_numpy(), (gpu["start_ns"] + gpu["dur_ns"]).to_numpy()
    if events.host.height == 0:  # nobody recorded the launches
        return union((start, end))
    launched = gpu["begun_ns"].to_numpy()
    busy_until = np.concatenate([[start[0]], np.maximum.accumulate(end)[:-1]])
    begins = (start > busy_until) & (launched > busy_until - _LAUNCH_NS)
    begins[0] = True
    first = np.flatnonzero(begins)
    chain_end = np.maximum.accumulate(end)[np.append(first[1:] - 1, len(end) - 1)]
    chains = Intervals(start[first], chain_end)
    awaited = contains(waits, chain_end)
    awaited[-1] = True  # of the last one nobody knows
    whole = Intervals(chains.start[awaited], chains.end[awaited])
    return union(whole, intersection(union(chains), waits))


def _waited_ns(capture: Capture, rank: Rank, cycles: pl.DataFrame) -> Ints:
    """Return how long each cycle's threads waited for a core, where that was recorded."""
    found = scheduling(capture, rank, "runq")
    if found is None:
        return np.zeros(cycles.height, dtype=np.int64)
    waited = found.group_by("cycle").agg(pl.col("own_ns").sum())
    joined = cycles.select("cycle").join(waited, on="cycle", how="left", maintain_order="left")
    return joined["own_ns"].fill_null(0).to_numpy()


def _take_waiting(parts: dict[str, Ints], waited: Ints) -> None:
    """Move the time that threads waited for a core out of the host's parts.

    Of several threads only the sum is known, not whether they waited at once: so no more than the host's time is taken.
    """
    parts["runq"] = np.zeros_like(waited)
    for part in ("host_python", "between", "host_calls", "sync"):
        taken = np.minimum(parts[part], waited - parts["runq"])
        parts[part] = parts[part] - taken
        parts["runq"] = parts["runq"] + taken
