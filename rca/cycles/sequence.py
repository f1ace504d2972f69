"""Cycles of a trace that nobody annotated: the sequence of GPU work (or of operators) that repeats.

A loop runs the same functions in every iteration, each of them as often as in the others; that is how its period is
found. A function that runs exactly once an iteration (the *pivot*) cuts the recording; for the right pivot, most
functions have the same number of calls in every piece. A layer of a model repeats too, but is not a cycle: what runs
before the first and after the last layer of a step (embedding, sampling) never runs between two layers.

Where an iteration begins cannot be read from what repeats: a loop has no first element. It is put where the host pauses
longest between two recorded calls: there the loop around the recorded work is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture.launches import begun_ns
from rca.capture.names import family
from rca.capture.tables import GPU_KINDS

Array = NDArray[Any]

SEQUENCE_COLUMNS = ("start_ns", "dur_ns", "name", "kind", "tid", "correlation", "file")
SEQUENCE_KINDS = ("kernel", "memcpy", "memset", "op", "runtime", "driver")
"""What is needed of events here, and of which."""

MAX_EVENTS = 1_000_000
"""Events from the middle of a recording that are enough to find what repeats."""

MIN_CYCLES = 3
MIN_TOKENS = 12
MIN_FUNCTIONS = 3
"""Of which a recording consists: one or two kernels over and over are no loop of a program."""

MAX_TOKENS = 200_000
"""The period is looked for in this many calls from the middle of the recording; it is applied to all."""

MAX_PART_OF_MORE = 0.15
"""Share of the functions that may run only before the first and after the last piece, or in every n-th piece: for the
layers of a model it is a quarter or more; for its steps next to nothing, or what sets the program up."""

MIN_SHARE = 0.25
"""Share of the functions that must run equally often in (nearly) every piece; phases that alternate lower it."""

_EQUAL = 0.10
_MOST = 0.75
_ALMOST_BEST = 0.9
_MAX_PERIODS = 64
_MAX_CELLS = 20_000_000
"""Pieces times functions that are counted at once (some 500 MB); tiny pieces of a trace of many functions are more."""
_LEAD = 0.1
"""Share of the pause before a cycle's first recorded call that is counted to the cycle: what leads up to the call."""

_LONG_PAUSE, _LEAST_PAUSE_NS = 5.0, 20_000
_NOTABLE_PAUSE = 0.25
_PAUSES_WITHIN = 0.05


@dataclass(frozen=True)
class Mark:
    """What starts a cycle of a repeating sequence.

    Attributes:
        pivot: function that runs once a cycle, and whether it is GPU work (else a host call).
        first: host call (or GPU work, where there are no host calls) that begins the cycle.
        occurrence: which call of ``first`` that is: counted from the pivot before it, from 0.
        calls: how many calls of ``first`` a cycle has.
        from_next: the count is more reliable from the pivot behind it, which is nearer.
    """

    pivot: str
    on_gpu: bool
    first: str
    occurrence: int
    calls: int
    from_next: bool


@dataclass(frozen=True)
class _Calls:
    """Calls in time order: ``start`` and ``end`` in ns, ``code`` into ``names``."""

    start: Array
    end: Array
    code: Array
    names: list[str]


def find_mark(own: pl.DataFrame) -> Mark | None:
    """Find what starts a cycle in the events of one process; None where nothing repeats often enough."""
    work, on_gpu = _work(own)
    if len(work.code) < MIN_TOKENS:
        return None
    middle = len(work.code) // 2
    part = slice(max(0, middle - MAX_TOKENS // 2), middle + MAX_TOKENS // 2)
    most = _optimizer_steps(own)
    pivot = _pivot(_Calls(work.start[part], work.end[part], work.code[part], work.names), most)
    if pivot is None:
        return None
    host = _host_calls(own) if on_gpu else work
    calls = host if len(host.code) >= MIN_TOKENS else work
    first = _first_call(calls, work.start[work.code == pivot])
    return None if first is None else Mark(work.names[pivot], on_gpu, *first)


def cycle_starts(own: pl.DataFrame, mark: Mark) -> Array:
    """Return the times (ns) at which the cycles of one process begin."""
    work, on_gpu = _work(own)
    if on_gpu != mark.on_gpu or mark.pivot not in work.names:
        return np.zeros(0, dtype=np.int64)
    host = _host_calls(own) if on_gpu else work
    calls = host if len(host.code) >= MIN_TOKENS else work
    if mark.first not in calls.names:
        return np.zeros(0, dtype=np.int64)
    pivots = work.start[work.code == work.names.index(mark.pivot)]
    start = calls.start[calls.code == calls.names.index(mark.first)]
    piece = np.searchsorted(pivots, start, side="right") - 1
    forward = np.arange(len(start)) - np.searchsorted(piece, piece, side="left")
    backward = np.searchsorted(piece, piece, side="right") - np.arange(len(start))
    from_next = np.full(len(start), mark.from_next)
    from_next[piece < 0] = True  # what came before the recording is not known
    from_next[piece == len(pivots) - 1] = False  # nor what came after it
    begins = np.where(from_next, backward == mark.calls - mark.occurrence, forward == mark.occurrence)
    order = np.flatnonzero(calls.code == calls.names.index(mark.first))[begins]
    pause = calls.start[order] - np.maximum.accumulate(calls.end)[np.maximum(order - 1, 0)]
    starts: Array = start[begins] - (_LEAD * np.maximum(pause, 0)).astype(np.int64)
    return starts


def _work(own: pl.DataFrame) -> tuple[_Calls, bool]:
    """Return the work that may repeat: GPU work by the time of its launch, else the outermost operators of a thread."""
    if own["kind"].is_in(list(GPU_KINDS)).sum() < MIN_TOKENS:
        return _outermost_ops(own), False
    launched = own.with_columns(start_ns=pl.Series(begun_ns(own)), at=pl.col("start_ns")).filter(
        pl.col("kind").is_in(list(GPU_KINDS))
    )
    return _calls(launched.sort("start_ns", "at", maintain_order=True)), True


def _outermost_ops(own: pl.DataFrame) -> _Calls:
    ops = own.filter(pl.col("kind") == "op")
    if ops.height == 0:
        return _calls(ops)
    busiest = ops.group_by("tid").len().sort("len", "tid", descending=[True, False])["tid"][0]
    thread = ops.filter(pl.col("tid") == busiest).sort("start_ns", "dur_ns", descending=[False, True])
    end = (thread["start_ns"] + thread["dur_ns"]).to_numpy()
    inside = np.zeros(thread.height, dtype=bool)
    inside[1:] = thread["start_ns"].to_numpy()[1:] < np.maximum.accumulate(end)[:-1]
    return _calls(thread.filter(~pl.Series(inside)))


def _host_calls(own: pl.DataFrame) -> _Calls:
    """Return all recorded host calls of all threads: a pause is a time without any of them."""
    return _calls(
        own.filter(pl.col("kind").is_in(["op", "runtime", "driver"])).sort("start_ns", "dur_ns", descending=[False, True])
    )


def _calls(events: pl.DataFrame) -> _Calls:
    """Take calls by the family of their names: another batch size means other tile sizes, and the same step."""
    distinct = events["name"].unique()
    families = [family(name) for name in distinct.cast(pl.String)]
    known = sorted(set(families))
    number = {name: position for position, name in enumerate(known)}
    place_of = np.zeros(int(distinct.to_physical().to_numpy().max(initial=0)) + 1, dtype=np.uint32)
    place_of[distinct.to_physical().to_numpy()] = [number[name] for name in families]
    start = events["start_ns"].to_numpy()
    return _Calls(start, start + events["dur_ns"].to_numpy(), place_of[events["name"].to_physical().to_numpy()], known)


def _optimizer_steps(own: pl.DataFrame) -> int | None:
    """Return how many training steps end in these events; None where nothing says that it is training."""
    names = own.filter(pl.col("kind") == "op")["name"].value_counts().with_columns(pl.col("name").cast(pl.String))
    steps = names.filter(pl.col("name").str.starts_with(_ENDS_ITERATION))["count"]
    return int(steps.max()) if len(steps) else None  # type: ignore[arg-type]


def _pivot(work: _Calls, most: int | None) -> int | None:
    """Return the function that cuts the calls into the pieces that are most alike and cover most of the recording.

    Coverage weighs most: the decode steps of a capture are more alike than all its steps, and leave its prefills uncut.
    Training has no more cycles than optimizer steps (``most``); what repeats more often are its micro-batches.
    """
    code, n_names = work.code, len(work.names)
    count = np.bincount(code, minlength=n_names)
    likely_count = (count >= MIN_CYCLES) & (count <= (len(code) if most is None else most + 1))
    if (count > 0).sum() < MIN_FUNCTIONS or not likely_count.any():
        return None
    periods, votes = np.unique(count[likely_count], return_counts=True)
    likely = np.argsort(-votes, kind="stable")[:_MAX_PERIODS]
    whole = float(work.end.max() - work.start[0]) or 1.0
    found = []
    for period, vote in zip(periods[likely], votes[likely], strict=True):
        pivot = min(np.flatnonzero(count == period), key=lambda name: (_irregularity(np.flatnonzero(code == name)), name))
        at = np.flatnonzero(code == pivot)
        if len(at) * n_names > _MAX_CELLS:
            continue
        alike = _likeness(code, at, n_names)
        covered = float(work.start[at[-1]] - work.start[at[0]]) / whole
        is_whole = max(alike.outside, alike.every_nth) <= MAX_PART_OF_MORE and not _pauses_every_nth(work, at)
        if is_whole and alike.steady >= MIN_SHARE:
            found.append((alike.steady * alike.present * covered**3, int(vote), int(period), int(pivot)))
    if not found:
        return None
    best = max(score for score, *_ in found)
    return max((vote, period, pivot) for score, vote, period, pivot in found if score >= _ALMOST_BEST * best)[-1]


def _pauses_every_nth(work: _Calls, at: Array) -> bool:
    """Tell whether long pauses come in every n-th piece exactly: then the pieces are parts, with pauses between wholes."""
    pause = np.maximum(work.start[1:] - np.maximum.accumulate(work.end)[:-1], 0)
    longest = np.maximum.reduceat(pause, at[:-1])
    long = np.flatnonzero(longest > max(_LONG_PAUSE * float(np.median(longest)), _LEAST_PAUSE_NS))
    apart = np.diff(long)
    return len(long) >= MIN_CYCLES and bool((apart == apart[0]).all()) and int(apart[0]) > 1


def _irregularity(at: Array) -> float:
    distance = np.diff(at)
    typical = float(np.median(distance))
    return float(np.median(np.abs(distance - typical))) / typical


@dataclass(frozen=True)
class _Likeness:
    """How alike pieces are, as shares of all functions that run."""

    steady: float
    """About the same number of calls in most pieces."""
    present: float
    """Calls in most pieces."""
    outside: float
    """Calls before the first and after the last piece only."""
    every_nth: float
    """One or two calls in every n-th piece exactly, or in a single one: the pieces are parts of a longer cycle."""


def _likeness(code: Array, at: Array, n_names: int) -> _Likeness:
    """Compare the pieces between the calls ``at``."""
    pieces = len(at) - 1
    piece = np.searchsorted(at, np.arange(len(code)), side="right") - 1
    inside = (piece >= 0) & (piece < pieces)
    cell = code[inside].astype(np.int64) * pieces + piece[inside]
    calls = np.bincount(cell, minlength=n_names * pieces).reshape(n_names, pieces)
    ran = np.bincount(code, minlength=n_names) > 0
    typical = np.median(calls, axis=1)
    equal = (np.abs(calls - typical[:, None]) <= _EQUAL * typical[:, None]).mean(axis=1) >= _MOST
    present = (calls > 0).mean(axis=1) >= _MOST
    rare = np.flatnonzero(~present & (calls.max(axis=1, initial=0) <= 2) & calls.any(axis=1))
    regular = sum(len(set(np.diff(np.flatnonzero(calls[name])))) <= 1 for name in rare)
    all_that_run = float(ran.sum())
    return _Likeness(
        steady=(equal & present).sum() / all_that_run,
        present=present.sum() / all_that_run,
        outside=(ran & ~calls.any(axis=1)).sum() / all_that_run,
        every_nth=regular / all_that_run,
    )


_ENDS_ITERATION = "Optimizer.step#"
"""Written by torch around the last thing that a training step does."""


def _first_call(calls: _Calls, pivots: Array) -> tuple[str, int, int, bool] | None:
    """Choose the call that begins a cycle: the one after the optimizer, else after the longest pause of the host.

    Between two steps a host often pauses several times (results are handled, then the next batch is put together);
    the step begins after the last of the notable pauses.
    """
    pieces = len(pivots) - 1
    reach = np.maximum.accumulate(calls.end)
    pause = np.zeros(len(calls.start), dtype=np.int64)
    pause[1:] = np.maximum(calls.start[1:] - reach[:-1], 0)
    piece = np.searchsorted(pivots, calls.start, side="right") - 1
    table = (
        pl.DataFrame({"piece": piece, "code": calls.code, "pause": pause, "start": calls.start})
        .filter((pl.col("piece") >= 0) & (pl.col("piece") < pieces))
        .with_columns(occurrence=pl.int_range(pl.len()).over("piece", "code"), calls=pl.len().over("piece", "code"))
    )
    offset = table["start"].to_numpy() - pivots[table["piece"].to_numpy()]
    after_optimizer = _after_optimizer(calls)[(piece >= 0) & (piece < pieces)]
    steady = (
        table.with_columns(offset=pl.Series(offset), after=pl.Series(after_optimizer))
        .group_by("code", "occurrence")
        .agg(pl.col("pause").median(), pl.col("offset").median(), pl.col("calls").median(), pl.col("after").mean(), pl.len())
        .filter(pl.col("len") >= _MOST * pieces)
        .sort("pause", "code", "occurrence", descending=[True, False, False])
    )
    if steady.height == 0:
        return None
    ends = steady.filter(pl.col("after") >= _MOST)
    period = float(np.median(np.diff(pivots)))
    chosen = ends.row(0, named=True) if ends.height else _last_notable(steady, period)
    nearer_to_next = chosen["offset"] > period / 2
    return calls.names[chosen["code"]], int(chosen["occurrence"]), round(chosen["calls"]), nearer_to_next


def _last_notable(steady: pl.DataFrame, period: float) -> dict[str, Any]:
    longest = steady.row(0, named=True)
    after = (pl.col("offset") - longest["offset"]) % period
    notable = steady.filter((pl.col("pause") >= _NOTABLE_PAUSE * longest["pause"]) & (after <= _PAUSES_WITHIN * period))
    return notable.with_columns(after=after).sort("after", descending=True).row(0, named=True)


def _after_optimizer(calls: _Calls) -> Array:
    """Tell which call is the first one after an optimizer step has ended."""
    steps = [code for code, name in enumerate(calls.names) if name.startswith(_ENDS_ITERATION)]
    ends = np.sort(calls.end[np.isin(calls.code, steps)])
    first = np.zeros(len(calls.start), dtype=bool)
    at = np.searchsorted(calls.start, ends)
    first[at[at < len(first)]] = True
    return first
