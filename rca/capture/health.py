"""The "doctor": what is wrong with a capture that no single reader can see, and what its settings do to a comparison.

Public: `check`, for one capture, and `compare_settings`, for the two sides. Both only look: nothing is repaired here.
Each check is one function whose docstring says which physics of recorders it rests on. Silence is the rule: what an
ordinary, healthy recording shows as well (an idle server, work cut by the edges of the recording, launches that a CUDA
graph swallows) is no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture.counter_health import clock_jumped, counters_apart, counters_with_holes
from rca.capture.findings import Finding, Severity
from rca.capture.model import Capture
from rca.capture.settings import compare_settings, settings_within
from rca.capture.words import share_of, time_text

__all__ = ["check", "compare_settings"]

Ints = NDArray[np.int64]

LAUNCH = r"^(?:cuda|cu|hip)\w*Launch\w*Kernel|^(?:cuda|cu|hip)GraphLaunch|^(?:cudaLaunch|hipLaunchByPtr)$"
"""Calls that start work on a GPU: FORMATS.md §1.7, §1.8. Host functions and copies are not among them."""

GRAPH_LAUNCH = r"^(?:cuda|cu|hip)GraphLaunch"
CAPTURE_BEGINS, CAPTURE_ENDS = r"StreamBeginCapture", r"StreamEndCapture"

NOTABLE_SHARE = 0.001
"""Fewer lost or unlinked rows than one in a thousand change no number that a report prints."""

LOST_SHARE = 0.01
"""From one row in a hundred on, per-cycle counts and times are off by as much as the changes that are looked for."""

CLOCK_JITTER_NS = 1_000
"""Host and GPU stamps are mapped on one clock to within about this, and old traces hold whole µs (FORMATS.md §1.3)."""

LAUNCH_COST_NS = 10_000
"""A launch takes 5 to 10 µs to reach an idle GPU: work that is earlier than that by the clock is no rounding."""

FAR_AWAY = 10
"""Events this many times the length of all others before them are of another time."""

AN_HOUR_NS = 3_600_000_000_000
"""A server may idle for minutes before the load begins; a profiler left on for an hour before it is a wrong stamp."""

EPOCH_NS = 10**17
"""Stamps above are wall-clock time (after 1973), which no event at 0 can belong to."""

STEP_BACK_NS = 1_000_000
STEADY_CALLS = 3
"""Correlation ids count calls, so time must not fall while they rise. Three calls in a row that are later by 1 ms than
one with a higher id are no thread that was descheduled between taking its id and reading the clock."""

NOT_THE_PROFILER = r"(?i)command buffer|function loading|module loading|compiler"
"""CUDA's own delays, which recorders write in the same category: a launch waits for room in a full queue (that is the
GPU's pace), a module is loaded or compiled on first use. They happen without a profiler as well."""

STALL_NS = 1_000_000
STALL_SHARE = 0.01
"""A profiler row is a stall when it is as long as a short decode step, or 1 % of the recording."""

EDGE_SHARE = 0.01
"""Profilers allocate when they start and flush when they stop: rows in the first and last 1 % are outside the cycles."""

OVERHEAD_SHARE, OVERHEAD_WARNING = 0.01, 0.05
"""Below 1 % the profiler's rows are lost in the noise of cycle times; above 5 % they are as large as what is looked for."""


def check(capture: Capture) -> tuple[Finding, ...]:
    """Return what is wrong with a capture, check by check and within a check file by file."""
    recordings = list(_recordings(capture))
    found = [finding for test in _PER_FILE for rec in recordings for finding in test(rec)]
    spans = _joined_spans([(rec.first, rec.last) for rec in recordings])
    for span in spans:  # between two recordings nobody expects a sample
        found += clock_jumped(capture, span) + counters_with_holes(capture, span)
    if not spans:
        found += counters_with_holes(capture, None)
    found += counters_apart(capture, (spans[0][0], spans[-1][1]) if spans else None)
    return tuple(found + _rank_missing(capture) + settings_within(capture))


def _joined_spans(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join the times of recordings that overlap."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


@dataclass(frozen=True)
class _Recording:
    """The events of one file. ``early``: how many of the first ones are of another time (see `count_early`)."""

    path: str
    all_events: pl.DataFrame
    early: int
    codes: frozenset[str]

    @cached_property
    def events(self) -> pl.DataFrame:
        return self.all_events.slice(self.early)

    @cached_property
    def first(self) -> int:
        return int(self.events["start_ns"][0])

    @cached_property
    def last(self) -> int:
        """End of the recorder's window; of the last event where it states none."""
        window = self.events.lazy().filter(pl.col("kind") == "window").select("start_ns", "dur_ns").collect()
        ends = (window if window.height else self.events).select((pl.col("start_ns") + pl.col("dur_ns")).max())
        return int(ends.item())

    @cached_property
    def calls(self) -> pl.DataFrame:
        """Runtime and driver calls that have a correlation id, by process and id; one row each."""
        return (
            self.events.lazy()
            .filter(pl.col("kind").is_in(["runtime", "driver"]) & (pl.col("correlation") > 0))
            .select("pid", "tid", "correlation", "start_ns", "name")
            .unique(["pid", "correlation"], keep="first", maintain_order=True)
            .collect()
        )

    @cached_property
    def gpu(self) -> pl.DataFrame:
        return (
            self.events.lazy()
            .filter(pl.col("kind").is_in(["kernel", "memcpy", "memset"]))
            .select("kind", "pid", "start_ns", "dur_ns", pl.col("correlation").fill_null(0))
            .collect()
        )

    @cached_property
    def gpu_by_call(self) -> pl.DataFrame:
        """First start and number of GPU rows of each correlation id: a graph launch starts many."""
        linked = self.gpu.filter(pl.col("correlation") > 0)
        return linked.group_by("pid", "correlation").agg(pl.col("start_ns").min().alias("begins"), pl.len().alias("rows"))

    @cached_property
    def linked(self) -> pl.DataFrame:
        """Every call with the begin of the GPU work that it started; null where there is none."""
        return self.calls.join(self.gpu_by_call, on=["pid", "correlation"], how="left", maintain_order="left")

    @cached_property
    def linkable(self) -> bool:
        """Whether ids tell which call started which work: not where several processes used the same ones."""
        return "shared_ids" not in self.codes

    def finding(self, code: str, text: str, severity: Severity = Severity.WARNING) -> Finding:
        return Finding(code, text, severity, self.path)

    def at(self, time_ns: int) -> str:
        return f"at {time_text(time_ns - self.first)} into the recording"


def _recordings(capture: Capture) -> Iterator[_Recording]:
    traces = capture.events["file"].unique().sort().to_list()
    for index in traces:
        events = capture.events if len(traces) == 1 else capture.events.filter(pl.col("file") == index)
        path = capture.files[int(index)].path
        codes = frozenset(finding.code for finding in capture.findings if finding.file == path)
        start = events["start_ns"].to_numpy()
        yield _Recording(path, events, count_early(start, start + events["dur_ns"].to_numpy()), codes)


def count_early(start: Ints, end: Ints) -> int:
    """Count the leading events that belong to another time: see `_zero_time`."""
    at_zero = int((start <= 0).sum()) if start[len(start) // 2] > EPOCH_NS else 0
    if len(start) < 2:
        return 0
    gaps = start[1:] - np.maximum.accumulate(end)[:-1]
    widest = int(gaps.argmax())
    rest = int(end.max() - start[widest + 1])
    floor = 0 if start[0] == 0 else AN_HOUR_NS
    isolated = widest < len(start) // 2 and gaps[widest] > max(FAR_AWAY * rest, floor)
    return max(at_zero, widest + 1 if isolated else 0)


def _zero_time(rec: _Recording) -> list[Finding]:
    """Events at time 0, or in a cluster of their own long before all others.

    Recorders write 0 for a stamp that they never took, and Kineto clamps times before its base to 0 (FORMATS.md §1.3):
    such an event lies up to three months before the rest. An idle start of minutes is no fault: hence `AN_HOUR_NS`,
    except for events at exactly 0.
    """
    if not rec.early:
        return []
    away = time_text(rec.first - int(rec.all_events["start_ns"][rec.early - 1]))
    text = f"{share_of(rec.early, rec.all_events.height)} events are at a time of their own, {away} before all others"
    return [rec.finding("zero_time", text)]


def _dropped_kernels(rec: _Recording) -> list[Finding]:
    """Launches whose work never appears, although the file has GPU rows: the recorder ran out of buffers.

    Not counted: launches inside a stream capture, which run only when their graph is launched; launches at the end whose
    work may have begun after the recording (as close to the end as the longest wait seen in the queue); graph launches
    where graphs were traced as a whole (finding ``graph_level``).
    """
    if rec.gpu_by_call.height == 0 or not rec.linkable:
        return []
    wanted = _named(rec.calls, LAUNCH, but=GRAPH_LAUNCH if "graph_level" in rec.codes else None)
    launches = rec.linked.filter(wanted & ~_capturing(rec.calls))
    longest_wait = launches.select((pl.col("begins") - pl.col("start_ns")).max()).item() or 0
    lost = launches.filter(pl.col("begins").is_null() & (pl.col("start_ns") < rec.last - longest_wait))
    if lost.height <= NOTABLE_SHARE * launches.height:
        return []
    text = (
        f"{share_of(lost.height, launches.height)} launches have no GPU work, the first {rec.at(int(lost['start_ns'][0]))}: "
        "GPU time is missing there"
    )
    severe = lost.height >= LOST_SHARE * launches.height
    return [rec.finding("dropped_kernels", text, Severity.DAMAGE if severe else Severity.INFO)]


def _capturing(calls: pl.DataFrame) -> pl.Series:
    """Tell which calls were made while their thread captured a graph."""
    begins, ends = _named(calls, CAPTURE_BEGINS), _named(calls, CAPTURE_ENDS)
    if not begins.any() and not ends.any():
        return pl.repeat(False, calls.height, eager=True)
    level = calls.select("pid", "tid", change=begins.cast(pl.Int32) - ends.cast(pl.Int32))
    level = level.with_columns(depth=pl.col("change").cum_sum().over("pid", "tid"))
    # a capture that was open when the recording began has an end without a beginning: the lowest depth is its level
    lowest = pl.col("depth").min().over("pid", "tid").clip(upper_bound=0)
    return level.select(pl.col("depth") > lowest).to_series()


def _named(calls: pl.DataFrame, pattern: str, but: str | None = None) -> pl.Series:
    """Tell which calls have a name that ``pattern`` finds and ``but`` does not: names are few, calls are many."""
    names = calls["name"].unique()
    text = names.cast(pl.String)
    wanted = text.str.contains(pattern) & (~text.str.contains(but) if but else True)
    return calls["name"].is_in(names.filter(wanted).implode())


def _no_host_events(rec: _Recording) -> list[Finding]:
    """GPU work without the call that started it: calls were not recorded, or lost.

    Work with ids below the first recorded call's was launched before the recording began, and is no finding: ids count
    up in a process. Copies without an id are none either (rocprofv3 writes 0 for them: FORMATS.md §6.1).
    """
    gpu = rec.gpu.filter((pl.col("correlation") > 0) | (pl.col("kind") == "kernel"))
    if gpu.height == 0 or not rec.linkable:
        return []
    if rec.calls.height == 0 or rec.gpu_by_call.height == 0:
        what = "has no host calls" if rec.calls.height == 0 else "does not say which call started which GPU work"
        text = f"{what}: its {gpu.height:,} GPU rows are placed by their own time, and host time is unknown"
        return [rec.finding("no_host_events", text)]
    began = rec.calls.group_by("pid").agg(pl.col("correlation").min().alias("first_call"))
    launched_before = (pl.col("correlation") > 0) & (pl.col("correlation") < pl.col("first_call"))
    orphans = (
        gpu.join(rec.calls, on=["pid", "correlation"], how="anti")
        .join(began, on="pid", how="left")
        .filter(~launched_before.fill_null(False))
    )
    if orphans.height <= NOTABLE_SHARE * gpu.height:
        return []
    text = f"{share_of(orphans.height, gpu.height)} GPU rows have no host call that started them, though calls were recorded"
    severe = orphans.height >= LOST_SHARE * gpu.height
    return [rec.finding("no_host_events", text, Severity.WARNING if severe else Severity.INFO)]


def _negative_launch_latency(rec: _Recording) -> list[Finding]:
    """GPU work that begins before the call that launched it: the GPU's clock was mapped wrongly on the host's.

    Before CUDA 11.6 the mapping drifts by some µs (FORMATS.md §1.3): an `INFO`. Beyond what a launch itself takes, all
    waiting times and the order of host and GPU work are wrong.
    """
    if not rec.linkable:
        return []
    pairs = rec.linked.filter(pl.col("begins").is_not_null())
    amount = (pairs["start_ns"] - pairs["begins"]).to_numpy()
    early = amount[amount > CLOCK_JITTER_NS]
    if len(early) <= NOTABLE_SHARE * pairs.height:
        return []
    typical, most = int(np.median(early)), int(early.max())
    text = (
        f"{share_of(len(early), pairs.height)} calls are later than the GPU work that they started, by {time_text(typical)} "
        f"(median) to {time_text(most)}: the GPU's clock is off"
    )
    return [rec.finding("negative_launch_latency", text, Severity.WARNING if typical > LAUNCH_COST_NS else Severity.INFO)]


def _clock_set_back(rec: _Recording) -> list[Finding]:
    """Time that falls while correlation ids rise: the clock was set back while recording (see `STEADY_CALLS`)."""
    found = []
    for (pid,), calls in sorted(rec.calls.group_by("pid"), key=lambda group: str(group[0])):
        ordered = calls.sort("correlation")["start_ns"].to_numpy()
        if len(ordered) <= STEADY_CALLS:
            continue
        steady = np.lib.stride_tricks.sliding_window_view(ordered, STEADY_CALLS).min(axis=1)
        back = np.maximum.accumulate(steady)[:-1] - ordered[STEADY_CALLS:]
        if (by := int(back.max())) > STEP_BACK_NS:
            at = rec.at(int(ordered[STEADY_CALLS + int(back.argmax())]))
            text = f"calls of process {pid} go back in time by {time_text(by)} {at}: its clock was set while it recorded"
            found.append(rec.finding("clock_jump", text))
    return found


def _profiler(rec: _Recording) -> list[Finding]:
    """Rows in which the profiler itself worked: buffers flushed and requested, instrumentation (FORMATS.md §1.7, §4.4).

    A stall is one long row inside the recording; the overhead is the time in which at least one such row runs.
    """
    rows = rec.events.filter(pl.col("kind") == "overhead")
    rows = rows.filter(~pl.col("name").cast(pl.String).str.contains(NOT_THE_PROFILER))
    span = rec.last - rec.first
    if rows.height == 0 or span <= 0:
        return []
    start, duration = rows["start_ns"].to_numpy(), rows["dur_ns"].to_numpy()
    edge = EDGE_SHARE * span
    inside = (start > rec.first + edge) & (start + duration < rec.last - edge)
    stalls = rows.filter(pl.Series(inside & ((duration > STALL_NS) | (duration > STALL_SHARE * span))))
    found = []
    if stalls.height:
        longest = stalls.row(int(stalls["dur_ns"].arg_max() or 0), named=True)
        text = (
            f"the profiler held up the program {stalls.height:,} time{'s' * (stalls.height > 1)}, for at most "
            f"{time_text(longest['dur_ns'])} ({longest['name']}) {rec.at(longest['start_ns'])}"
        )
        large = int(stalls["dur_ns"].sum()) > STALL_SHARE * span
        found.append(rec.finding("profiler_stall", text, Severity.WARNING if large else Severity.INFO))
    share = _covered(start, start + duration) / span
    if share > OVERHEAD_SHARE:
        text = f"the profiler's own work takes {share:.1%} of the recording ({rows.height:,} row{'s' * (rows.height > 1)})"
        severity = Severity.WARNING if share > OVERHEAD_WARNING else Severity.INFO
        found.append(rec.finding("profiler_overhead", text, severity))
    return found


def _covered(start: Ints, end: Ints) -> int:
    """Return the length of the union of intervals that are sorted by start."""
    reach = np.maximum.accumulate(end)
    before = np.concatenate([start[:1], reach[:-1]])
    return int(np.maximum(reach - np.maximum(start, before), 0).sum())


def _rank_missing(capture: Capture) -> list[Finding]:
    """Ranks that the job has and the capture has not: who waits for whom cannot be seen (FORMATS.md §1.2)."""
    stated: list[dict[str, Any]] = [facts for facts in capture.meta if _is_count(facts.get("world_size"))]
    if not stated:
        return []
    world = max(facts["world_size"] for facts in stated)
    ranks = sorted({facts["rank"] for facts in stated if _is_count(facts.get("rank"))})
    if not ranks or len(ranks) >= world:
        return []
    shown = ", ".join(map(str, ranks[:8])) + (", …" if len(ranks) > 8 else "")
    only = f"only rank{'s' * (len(ranks) > 1)} {shown} of a job of {world:,}: a straggler among the others cannot be seen"
    return [Finding("rank_missing", only)]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


_PER_FILE: tuple[Callable[[_Recording], list[Finding]], ...] = (
    _zero_time,
    _dropped_kernels,
    _no_host_events,
    _negative_launch_latency,
    _clock_set_back,
    _profiler,
)
