"""The choice of what marks a cycle: candidates of each side, best first, and one anchor for both sides."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from rca.capture import Capture
from rca.cycles.grammar import GRAMMAR, KNOWN_FRAMES, NUMBERED, Anchor, AnchorKind
from rca.cycles.sequence import MAX_EVENTS, SEQUENCE_COLUMNS, SEQUENCE_KINDS, Mark, cycle_starts, find_mark
from rca.errors import TooLittleDataError, UsageError

NVTX_PREFIX = "nvtx:"
_OPERATOR = r"(?:aten|prim|autograd|c10d|_c10d_functional|torch|_C)::"
"""Ranges put by hand may count as work of their own (`Optimizer.step`), as operators do; these are operators."""
_PROCESS = ["file", "rank", "pid"]
_THREAD = [*_PROCESS, "tid"]
_NO_LOOP = re.compile(
    r"(?:^|[ .:])(?:_call_impl|_wrapped_call_impl|Event\.wait|Condition\.wait|wait|recv_requests)$"
    r"|(?i:nccl|layer|blocks?[._\[ ]|microbatch|micro_batch)"
)
"""Spans that recur without being the loop of a program (FORMATS.md §7.4), or as parts of its iterations."""

_EQUAL_NUMBERS: dict[tuple[str, ...], tuple[re.Pattern[str], ...]] = {
    ("annotation",): (re.compile(r"[^\s\S]"), re.compile(r"\d+")),  # none, else all
    ("python",): (re.compile(r"(?<=\.py\()\d+(?=\): )|(?<=\.py:)\d+(?=\))"),),  # lines, which the next version moves
}
"""Numbers in names that do not tell two loops apart, by kind of span."""

MIN_RECURRING = 3
MIN_FILLED = 0.25
"""A span that fills less than this share of the time from one call to the next is not what the loop does."""


@dataclass(frozen=True)
class Candidate:
    """An anchor that one side has, and what it gives for the process with most cycles: the number of its spans, the share of
    the recording from the first to the last, and the median time from one to the next."""

    anchor: Anchor
    cycles: int
    coverage: float
    median_us: float


def candidates(capture: Capture, cycle: str | None = None) -> Iterator[Candidate]:
    """Yield the anchors that a capture has, best first; with ``cycle``, only the one that the user asks for."""
    for anchor in [user_anchor(cycle, capture)] if cycle else _anchors(capture):
        spans = anchor_spans(capture, anchor)
        if spans.height:
            yield _candidate(capture, anchor, spans)


def _anchors(capture: Capture) -> Iterator[Anchor]:
    known = known_anchors(capture)
    yield from known
    for kinds in (("annotation",), ("python",)):
        if (anchor := _recurring(capture, kinds)) is not None:
            yield anchor
    if (anchor := _sequence(capture)) is not None:
        yield anchor
    yield from (anchor for anchor in known_anchors(capture, at_least=1) if anchor not in known)


def known_anchors(capture: Capture, at_least: int = MIN_RECURRING) -> list[Anchor]:
    """Return the anchors of the tables that name a span of the capture, best first.

    What any program may number (``ProfilerStep#1``) has to be there ``at_least`` so often: one alone is no loop. An
    engine's own step is one, even alone.
    """
    counts = (
        capture.events.lazy().group_by("kind", "name").len().with_columns(pl.col("kind", "name").cast(pl.String)).collect()
    )
    rows = counts.rows()
    found = []
    for anchor in (*GRAMMAR, *KNOWN_FRAMES):
        pattern = anchor.pattern
        spans = sum(n for kind, name, n in rows if pattern and kind in anchor.event_kinds and pattern.search(name))
        if spans >= (at_least if anchor in NUMBERED else 1):
            found.append(anchor)
    return found


def anchor_named(name: str) -> Anchor:
    """Return an anchor of the tables. Raises `StopIteration` for a name that is in none."""
    return next(anchor for anchor in (*GRAMMAR, *KNOWN_FRAMES) if anchor.name == name)


def _candidate(capture: Capture, anchor: Anchor, spans: pl.DataFrame) -> Candidate:
    end = pl.col("start_ns") + pl.col("dur_ns")
    process = spans.group_by(_PROCESS).len().sort("len", *_PROCESS, descending=[True, False, False, False]).head(1)
    own = spans.join(process, on=_PROCESS, how="semi")
    recorded = capture.events.lazy().filter(pl.col("kind") != "window").join(process.lazy(), on=_PROCESS, how="semi")
    extent, covered = (
        table.select(end.max() - pl.col("start_ns").min()).collect().item() for table in (recorded, own.lazy())
    )
    period = own["start_ns"].sort().diff().drop_nulls()
    typical = period.median() if len(period) else own["dur_ns"].median()
    return Candidate(anchor, own.height, min(covered / extent, 1.0) if extent else 0.0, float(typical or 0) / 1000)  # type: ignore[arg-type]


def user_anchor(text: str, *captures: Capture) -> Anchor:
    """Return the anchor that ``--cycle`` asks for: the spans of that very name, else those that the expression finds.

    ``nvtx:`` before it restricts the search to annotations.
    """
    only_ranges = text.startswith(NVTX_PREFIX)
    kinds = ("annotation", "op") if only_ranges else ("annotation", "op", "python", "runtime", "kernel")
    wanted = text.removeprefix(NVTX_PREFIX)
    named = any(_named(capture, kinds, wanted.__eq__).head(1).collect().height for capture in captures)
    expression = rf"^{re.escape(wanted)}$" if named else wanted
    try:
        re.compile(expression)
        pattern = re.compile(rf"^(?!{_OPERATOR})(?:.*?)(?:{expression})" if only_ranges else expression, re.DOTALL)
    except re.error as error:
        raise UsageError(f"--cycle {text!r} names no span and is no regular expression: {error}") from None
    return Anchor(text, pattern, kind=AnchorKind.USER, event_kinds=kinds)


def anchor_spans(capture: Capture, anchor: Anchor) -> pl.DataFrame:
    """Return the spans that start a cycle, sorted by start, in the columns of `rca.capture.tables.EVENTS`.

    Of spans inside each other only the outermost counts, and of several threads of a process only the one that spends
    most time in them: a cycle has one beginning.
    """
    if anchor.pattern is None:
        return _sequence_spans(capture, anchor)
    pattern = anchor.pattern
    outermost = _outermost(_named(capture, anchor.event_kinds, lambda name: pattern.search(name) is not None).collect())
    busy = outermost.group_by(_THREAD).agg(pl.col("dur_ns").sum()).sort("dur_ns", "tid", descending=[True, False])
    main = busy.unique(_PROCESS, keep="first", maintain_order=True).select(_THREAD)
    return outermost.join(main, on=_THREAD, how="semi").sort("start_ns", *_THREAD)


def _outermost(spans: pl.DataFrame) -> pl.DataFrame:
    end = pl.col("start_ns") + pl.col("dur_ns")
    ordered = spans.sort("start_ns", "dur_ns", descending=[False, True])
    inside = pl.col("start_ns") < end.cum_max().shift(1).over(_THREAD).fill_null(pl.col("start_ns"))
    return ordered.filter(~inside)


def _named(capture: Capture, kinds: tuple[str, ...], wanted: Callable[[str], bool]) -> pl.LazyFrame:
    """Return the events of the given kinds whose name is wanted; names are few, events are many."""
    events = capture.events.lazy().filter(pl.col("kind").is_in(list(kinds)))
    names = events.select(pl.col("name").unique()).collect().to_series()
    kept = names.filter(pl.Series([wanted(name) for name in names.cast(pl.String)], dtype=pl.Boolean))
    return events.filter(pl.col("name").is_in(kept.implode()))


def _recurring(capture: Capture, kinds: tuple[str, ...]) -> Anchor | None:
    """Find the span whose repeated outermost calls take most time; of several that take as much, the longest one.

    What runs once or twice encloses the loop or stands beside it. Numbers in names count as equal where no name recurs
    as it is.
    """
    spans = (
        _named(capture, kinds, lambda name: not _NO_LOOP.search(name))
        .select(*_THREAD, "start_ns", "dur_ns", "name")
        .collect()
    )
    names = spans["name"].unique()
    end = (spans["start_ns"] + spans["dur_ns"]).to_numpy()
    recorded_ns = float(end.max(initial=0) - spans["start_ns"].to_numpy().min(initial=2**62))
    # every function is a frame, so only those that matter count; ranges are put by hand where they matter
    at_least_ns = MIN_FILLED * recorded_ns if kinds == ("python",) else 0.0
    for numbers in _EQUAL_NUMBERS[kinds]:
        general = pl.Series([numbers.sub("#", name) for name in names.cast(pl.String)], dtype=pl.Categorical)
        named = spans.join(pl.DataFrame({"name": names, "general": general}), on="name", maintain_order="left")
        if (name := _main_loop(named, at_least_ns)) is not None:
            pattern = re.compile("^" + re.escape(name).replace(r"\#", r"(?:#|\d+)") + "$")
            return Anchor(name, pattern, kind=AnchorKind.RECURRING, event_kinds=kinds)
    return None


def _main_loop(spans: pl.DataFrame, at_least_ns: float) -> str | None:
    often = spans.filter(pl.len().over(*_THREAD, "general") >= MIN_RECURRING)
    if often.height == 0:
        return None
    loops = (
        _outermost(often)
        .group_by(*_THREAD, "general")
        .agg(
            pl.col("dur_ns").median().alias("typical"),  # one call may have waited for all that the program did before
            pl.col("start_ns").sort().diff().median().alias("period"),
            pl.len().alias("calls"),
        )
        .filter((pl.col("calls") >= MIN_RECURRING) & (pl.col("typical") >= MIN_FILLED * pl.col("period")))
        .with_columns(total=pl.col("typical") * pl.col("calls"))
        .filter(pl.col("total") >= at_least_ns)
    )
    if loops.height == 0:
        return None
    best = loops.filter(pl.col("total") >= 0.9 * pl.col("total").max())
    return str(best.sort("typical", pl.col("general").cast(pl.String), descending=[True, False])["general"][0])


def _sequence(capture: Capture) -> Anchor | None:
    """Find the repeating sequence of the process that does most."""
    work = capture.events.lazy().filter(pl.col("kind").is_in(["kernel", "memcpy", "memset", "op"]))
    process = work.group_by(_PROCESS).len().sort("len", *_PROCESS, descending=[True, False, False, False]).head(1).collect()
    if process.height == 0:
        return None
    busiest = pl.all_horizontal(pl.col(key) == process[key][0] for key in _PROCESS)
    own = capture.events.lazy().filter(busiest & pl.col("kind").is_in(list(SEQUENCE_KINDS))).select(SEQUENCE_COLUMNS)
    rows = own.select(pl.len()).collect().item()
    mark = find_mark(own.slice(max(0, (rows - MAX_EVENTS) // 2), MAX_EVENTS).collect())
    if mark is None:
        return None
    if _one_layer_each(capture, pl.all_horizontal(pl.col(key) == process[key][0] for key in _PROCESS), mark):
        return None
    name = f"repeating {'kernel' if mark.on_gpu else 'operator'} sequence from {mark.first[:60]}"
    return Anchor(name, None, kind=AnchorKind.SEQUENCE, mark=mark)


_LAYER = re.compile(r"(?:^|[^a-z])(?:blocks?|layers?|h)[._\[ ]*(\d+)", re.IGNORECASE)


def _one_layer_each(capture: Capture, busiest: pl.Expr, mark: Mark) -> bool:
    """Tell whether ranges that name a layer show that each piece of a sequence is one layer: a step runs them all."""
    own = capture.events.lazy().filter(busiest)
    ranges = own.filter(pl.col("kind").is_in(["annotation", "op", "python"]))
    names = ranges.select(pl.col("name").unique()).collect().to_series()
    layer = {name: int(match.group(1)) for name in names.cast(pl.String) if (match := _LAYER.search(name))}
    if len(set(layer.values())) < MIN_RECURRING:
        return False
    starts = cycle_starts(own.filter(pl.col("kind").is_in(list(SEQUENCE_KINDS))).select(SEQUENCE_COLUMNS).collect(), mark)
    named = (
        ranges.select("start_ns", pl.col("name").cast(pl.String))
        .filter(pl.col("name").is_in(list(layer)))
        .collect()
        .with_columns(layer=pl.col("name").replace_strict(layer, return_dtype=pl.Int64))
    )
    piece = np.searchsorted(starts, named["start_ns"].to_numpy(), side="right")
    layers_of_piece = named.with_columns(piece=pl.Series(piece)).group_by("piece").agg(pl.col("layer").n_unique())["layer"]
    return bool((layers_of_piece <= 2).mean() > 0.5)  # type: ignore[operator]


def _sequence_spans(capture: Capture, anchor: Anchor) -> pl.DataFrame:
    """Make one span per cycle: they follow each other without a gap; the last one, whose end is not known, has no length."""
    assert anchor.mark is not None  # noqa: S101  (of every anchor without a pattern)
    parts = []
    for process in capture.events.select(_PROCESS).unique().sort(_PROCESS).iter_rows():
        is_own = pl.all_horizontal(pl.col(key) == value for key, value in zip(_PROCESS, process, strict=True))
        own = capture.events.lazy().filter(is_own)
        looped = own.filter(pl.col("kind").is_in(list(SEQUENCE_KINDS))).select(SEQUENCE_COLUMNS).collect()
        starts = cycle_starts(looped, anchor.mark)
        if len(starts) < 2:
            continue
        row = own.head(1).collect().with_columns(name=pl.lit(anchor.name).cast(pl.Categorical), kind=pl.lit("annotation"))
        parts.append(
            row.select(
                pl.exclude("start_ns", "dur_ns", "kind"), kind=pl.lit("annotation").cast(capture.events.schema["kind"])
            )
            .join(pl.DataFrame({"start_ns": starts, "dur_ns": [*(starts[1:] - starts[:-1]), 0]}), how="cross")
            .select(capture.events.columns)
        )
    return pl.concat(parts).sort("start_ns") if parts else capture.events.clear()


def choose(normal: Capture, abnormal: Capture, cycle: str | None = None) -> dict[str, Anchor]:
    """Choose the anchor of each side, the same for both wherever both have one in common.

    Returns:
        ``{"normal": …, "abnormal": …}``; sides that were cut before they reached us are left out.

    Raises:
        TooLittleDataError: a side has events but no anchor is found in them.
        UsageError: ``cycle`` is no regular expression, or there is nothing that it could cut.
    """
    sides = {
        side: capture for side, capture in (("normal", normal), ("abnormal", abnormal)) if capture.cycle_rows.height == 0
    }
    if cycle and not sides:
        raise UsageError("--cycle cuts traces; these per-cycle profiles were cut before")
    if cycle:
        anchor = user_anchor(cycle, *sides.values())
        present = {side: [anchor] if anchor_spans(capture, anchor).height else [] for side, capture in sides.items()}
    elif known := _all_have([known_anchors(capture) for capture in sides.values()]):
        present = dict.fromkeys(sides, known[:1])  # the search for what repeats can be spared
    else:
        present = {side: [found.anchor for found in candidates(capture)] for side, capture in sides.items()}
    for side, anchors in present.items():
        if not anchors:
            raise TooLittleDataError(sides[side].path, *_no_cycles(sides[side], cycle))
    return _in_common(sides, present)


def _all_have(anchors: list[list[Anchor]]) -> list[Anchor]:
    return [anchor for anchor in anchors[0] if all(anchor in others for others in anchors)] if anchors else []


def _in_common(sides: dict[str, Capture], present: dict[str, list[Anchor]]) -> dict[str, Anchor]:
    """Return the first anchor that both sides have; of repeating sequences, the first one that cuts both."""
    if not present:
        return {}
    names = [{anchor.name for anchor in anchors} for anchors in present.values()]
    for anchor in next(iter(present.values())):
        if all(anchor.name in own for own in names):
            return dict.fromkeys(sides, anchor)
    for anchor in (anchor for anchors in present.values() for anchor in anchors if anchor.mark):
        if all(anchor_spans(capture, anchor).height >= MIN_RECURRING for capture in sides.values()):
            return dict.fromkeys(sides, anchor)
    return {side: anchors[0] for side, anchors in present.items()}


def _no_cycles(capture: Capture, cycle: str | None) -> tuple[str, str]:
    annotations = (
        capture.events.filter(pl.col("kind") == "annotation")["name"]
        .value_counts()
        .sort(["count", pl.col("name").cast(pl.String)], descending=[True, False])
    )
    recurring = [repr(name) for name, count in annotations.iter_rows() if count > 1][:3]
    hint = (
        f"name one that recurs with --cycle, such as {', '.join(recurring)}"
        if recurring
        else ("capture with annotations, or name a recurring span with --cycle")
    )
    if cycle:
        return f"no cycles found: no span is named or matches {cycle!r}", hint
    return "no cycles found: no annotation of a known engine, and nothing that repeats", hint
