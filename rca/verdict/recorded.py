"""What one side's counters say, as one value per stretch of time: the values that evidence is tested on.

Counters are rates or levels, each the mean since the sample before, taken at periods of their own that stretch under load.
So they are integrated, and averaged over the stretches between the samples of the slowest one; several counters can then be
set against each other. Profiles that were cut before they reached us state a mean per cycle instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture import Capture
from rca.capture.readers.counter_units import UNSPLIT
from rca.capture.tables import HOST
from rca.comparison.robust import mu_values
from rca.profile import Profile
from rca.profile.counters_join import norm_factor

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MARGIN_NS = 2_000_000_000
"""Without a manifest that says what was recorded, counters this near to the trace still tell of it."""
MIN_TICKS = 4
"""Samples near the trace that make those further away unnecessary."""
MAX_STRETCHES = 64
MAX_WRITING = 0.25
"""A stretch that the server spent on its trace for more than this share tells nothing of how it serves."""
SETTLE_NS = 200_000_000
"""After a server has written its trace it takes a moment to be what it was."""


_OF_SERVING = re.compile(
    r"host_cpu_|process_|thread_|gpu_|core_usage|host_procs_|pressure_cpu|cgroup_pressure_cpu|(vllm|sglang):num_|vllm:(iter|kv|gpu_cache)"
)
"""Counters that are other while a server writes its trace. Limits, pressure and traffic of others go on meanwhile."""
_OF_STEPS = re.compile(r"vllm:iter|sglang:gen_throughput")
"""How fast steps are: the profiler slows them too."""


_OF_EACH = ("process_allowed_cores", "process_nice")
"""Metrics of processes that do not add up: the server's processes are averaged, else one fewer of them would be a change."""
_OF_BUSIEST = ("disk_busy", "disk_latency")
MIN_SHARE = 0.25
"""A process that was sampled less often than this share of the longest-lived one must not decide how finely it is looked."""


@dataclass(frozen=True)
class Samples:
    """Values in time order. ``worth`` is the most independent values that they can be: the times the counter was sampled."""

    value: Floats
    worth: float


class Recorded:
    """One side, as one rank of it sees the machine.

    Args:
        capture: the side; its events are not needed.
        profile: of the rank; None where nothing was cut into cycles.
        cores: of the host; 0 where that is not known.
    """

    def __init__(self, capture: Capture, profile: Profile | None, cores: int) -> None:
        self.cores = cores
        self.profile = profile
        self._mu = mu_values(profile, profile.rank.cycles) if profile is not None and not profile.from_events else None
        names = pl.col("metric", "device", "unit").cast(pl.String)
        counters = capture.counters.with_columns(names).filter(pl.col("value").is_finite() & (pl.col("device") != UNSPLIT))
        meta = capture.meta
        self._table = self._near_the_cycles(counters, known_recording=any("recorded_by" in own for own in meta))
        self._writing = [tuple(pair) for own in meta for pair in own.get("writing_ns", [])]
        self._profiled = [tuple(pair) for own in meta for pair in own.get("profiled_ns", [])]
        watched = {pid for own in meta for pid in own.get("watched_pids", [])}
        self._pids = watched or ({profile.rank.pid} if profile else set())
        of_pid = str(profile.rank.pid) if profile else ""
        self._gpus: list[int] = next((own["gpus_of"][of_pid] for own in meta if of_pid in own.get("gpus_of", {})), [])
        self._series: dict[tuple[str, str], list[tuple[Ints, Floats]]] = {}
        self._shared: set[str] | None = None

    def share_with(self, other: Recorded) -> None:
        """Read only what both sides recorded: a reader that falls back on one side only would compare unlike quantities."""
        self._shared = other._shared = self._metrics() & other._metrics()

    def _metrics(self) -> set[str]:
        return {*self._table["metric"].unique(), *(metric for metric, _ in self._mu or ())}

    def _near_the_cycles(self, counters: pl.DataFrame, known_recording: bool) -> pl.DataFrame:
        """Leave out what was sampled at other times than the trace, unless all is one recording, or nothing else is left."""
        if self.profile is None or known_recording or counters.height == 0:
            return counters
        first, last = self.profile.rank.cycles["start_ns"].min(), self.profile.rank.cycles["end_ns"].max()
        near = pl.col("ts_ns").is_between(pl.lit(first) - MARGIN_NS, pl.lit(last) + MARGIN_NS)
        ticks = counters.group_by("metric").agg(pl.col("ts_ns").filter(near).n_unique().alias("near"))
        enough = ticks.filter(pl.col("near") >= MIN_TICKS)["metric"].to_list()
        return counters.filter(near | ~pl.col("metric").is_in(enough))

    @property
    def cut_before(self) -> bool:
        """Whether the values are means per cycle that were made elsewhere."""
        return self._mu is not None

    @property
    def own_cpu_share(self) -> float:
        """What turns the server's CPU time into a share of all cores; 0 where the number of cores is not known.

        Profiles that were cut before state it as a share already.
        """
        return 1.0 if self.cut_before else 1 / self.cores if self.cores else 0.0

    def busy_clock(self) -> Samples | None:
        """Return the clock of the cores, weighed by how busy each was: idle cores rest at a low clock, and slow nothing."""
        cores = sorted(d for d in self._table["device"].unique() if d.startswith("CPU "))
        busy = [core for core in cores if self._of("cpu_frequency", core) and self._of("core_usage", core)]
        if self.cut_before or not busy:
            found = self.read(("cpu_frequency", HOST))
            return found[0] if found else None
        columns = self.read(*((metric, core) for metric in ("cpu_frequency", "core_usage") for core in busy))
        if not columns:
            return None
        clock, usage = (np.array([one.value for one in half]) for half in (columns[: len(busy)], columns[len(busy) :]))
        weight = np.maximum(usage, 1e-3)
        return Samples((clock * weight).sum(axis=0) / weight.sum(axis=0), min(one.worth for one in columns))

    def gpus(self) -> list[str]:
        """Return the GPUs that the rank used or, where nothing was cut, all that were sampled."""
        if self.profile is not None:
            return sorted(d for d in self.profile.rows["device"].unique() if d.startswith("GPU"))
        return sorted(d for d in self._table["device"].unique() if d.startswith("GPU "))

    def read(self, *wanted: tuple[str, str]) -> list[Samples] | None:
        """Return the values of several (metric, device), side by side; None where one of them was not sampled.

        ``device`` is that of the trace: counters of GPUs are looked up by the driver's number where the manifest states it.
        Of a metric of processes the sum over those of the server is given (the mean of what does not add up), of one of
        cores the mean.
        """
        if self._shared is not None and any(metric not in self._shared for metric, _ in wanted):
            return None
        if self._mu is not None and any(key in self._mu for key in wanted):
            return self._from_cycles(wanted)  # what a profile states per cycle is of its own devices; the rest is as sampled
        series = [self._of(metric, self._sampled_device(device)) for metric, device in wanted]
        if any(not own for own in series):
            return None
        of_serving = any(_OF_SERVING.match(metric) for metric, _ in wanted)
        grid = _grid([one for own in series for one in own], self._writing if of_serving else [])
        if len(grid) < 3:
            return None
        means = [[_means(ts, value, grid) for ts, value in own] for own in series]
        columns = [_joined(metric, own) for (metric, _), own in zip(wanted, means, strict=True)]
        keep = np.all([np.any(~np.isnan(own), axis=0) for own in means], axis=0)
        if of_serving:
            keep &= ~_during(grid, self._writing)
        if any(_OF_STEPS.match(metric) for metric, _ in wanted):
            keep &= ~_during(grid, self._profiled)
        if keep.sum() < 2:
            return None
        return [Samples(column[keep], float(keep.sum())) for column in columns]

    def _from_cycles(self, wanted: tuple[tuple[str, str], ...]) -> list[Samples] | None:
        assert self._mu is not None  # noqa: S101  (the caller has seen it)
        found = [self._mu.get(key) for key in wanted]
        if any(one is None for one in found):
            return None
        length = min(len(one[0]) for one in found if one)
        return [
            Samples(one[0][:length] * norm_factor(metric, 1) / 100, one[1])
            for (metric, _), one in zip(wanted, found, strict=True)
            if one
        ]

    def _sampled_device(self, device: str) -> str:
        ordinal = device.removeprefix("GPU ")
        if device.startswith("GPU ") and ordinal.isdigit() and int(ordinal) < len(self._gpus):
            return f"GPU {self._gpus[int(ordinal)]}"
        return device

    def _of(self, metric: str, device: str) -> list[tuple[Ints, Floats]]:
        """Return the series that add up to a metric: one, or one per process."""
        key = (metric, device)
        if key not in self._series:
            self._series[key] = self._looked_up(metric, device)
        return self._series[key]

    def _looked_up(self, metric: str, device: str) -> list[tuple[Ints, Floats]]:
        own = self._table.filter(pl.col("metric") == metric)
        if own["pid"].null_count() < own.height:
            ours = own.filter(pl.col("pid").is_in(list(self._pids))) if self._pids else own
            own = ours if ours.height else own.filter(pl.lit(not self._pids))
        exact = own.filter(pl.col("device") == device)
        own = exact if exact.height or device != HOST else own.filter(~pl.col("device").str.starts_with("GPU "))
        if own.height == 0:
            return []
        each = pl.col("device") if metric.startswith("disk_") else pl.lit("")  # disks add up, or the busiest one tells
        parts = own.group_by("pid", each.alias("of"), "ts_ns").agg(pl.col("value").mean()).sort("pid", "of", "ts_ns")
        series = [
            (part["ts_ns"].to_numpy(), part["value"].to_numpy())
            for _, part in parts.group_by("pid", "of", maintain_order=True)
            if part.height > 1
        ]
        longest = max((len(ts) for ts, _ in series), default=0)
        return [(ts, value) for ts, value in series if len(ts) >= MIN_SHARE * longest]


def _during(grid: Ints, times: list[tuple[int, ...]]) -> NDArray[np.bool_]:
    """Tell which stretches lie for a good part in times in which the server did something else than serve."""
    lost = np.zeros(len(grid) - 1)
    for begins, ends in times:
        lost += np.maximum(np.minimum(grid[1:], ends + SETTLE_NS) - np.maximum(grid[:-1], begins), 0)
    return np.asarray(lost > MAX_WRITING * np.diff(grid))


def _grid(series: list[tuple[Ints, Floats]], left_out: list[tuple[int, ...]]) -> Ints:
    """Return the edges of stretches: the times of the series that was sampled least often, thinned if there are many.

    A sample tells of the time since the one before; the first one's is taken to be as long as the others'.
    """
    slowest, _ = max(series, key=lambda one: float(np.median(np.diff(one[0]))))
    period = int(np.median(np.diff(slowest)))
    edges = np.concatenate([[slowest[0] - period], slowest])
    apart = np.concatenate([[True], np.diff(edges // max(period // 2, 1)) > 0])  # a moment is no stretch
    stretches: Ints = edges[apart]
    if len(stretches) < 2:
        return stretches
    used = int((~_during(stretches, left_out)).sum())  # a server may write for most of a capture
    return stretches[:: max(1, -(-used // MAX_STRETCHES))]


def _joined(metric: str, columns: list[Floats]) -> Floats:
    """Join the series of one metric: processes and traffic add up, levels are averaged, the busiest disk tells."""
    if metric in _OF_EACH:
        return _mean(columns)
    if metric in _OF_BUSIEST:
        return np.asarray(np.nan_to_num(np.array(columns)).max(axis=0))
    joined: Floats = np.nansum(columns, axis=0)
    return joined


def _mean(columns: list[Floats]) -> Floats:
    """Return the mean over processes of each stretch, of those that were sampled in it."""
    known = np.array([~np.isnan(column) for column in columns])
    mean: Floats = np.nansum(columns, axis=0) / np.maximum(known.sum(axis=0), 1)
    return mean


def _means(ts: Ints, value: Floats, grid: Ints) -> Floats:
    """Return the mean of a counter over each stretch; NaN where it was not sampled for most of it."""
    begins = ts[0] - int(np.median(np.diff(ts)))
    at = np.concatenate([[0.0], (ts - begins).astype(float)])
    total = np.concatenate([[0.0], np.cumsum(value * np.diff(at))])
    edges = np.clip(grid, begins, ts[-1]) - begins
    covered = np.diff(edges)
    with np.errstate(divide="ignore", invalid="ignore"):
        means: Floats = np.diff(np.interp(edges.astype(float), at, total)) / covered
    return np.where(covered > np.diff(grid) / 2, means, np.nan)


def known_cores(normal: Capture, abnormal: Capture) -> int:
    """Return the number of cores of the host; 0 where nothing states it: a guess would make up other programs."""
    stated = [meta["cores"] for side in (normal, abnormal) for meta in side.meta if isinstance(meta.get("cores"), int)]
    sampled = [
        side.counters.filter(pl.col("device").cast(pl.String).str.starts_with("CPU "))["device"].n_unique()
        for side in (normal, abnormal)
    ]
    return max([*stated, *sampled], default=0)
