"""What marks a cycle: the grammar of the engines' annotations, and the choice of one anchor for both sides."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from rca.capture import Capture
from rca.errors import TooLittleDataError, UsageError

PREFILL, DECODE, MIXED, IDLE, UNKNOWN = "prefill", "decode", "mixed", "idle", "unknown"


@dataclass(frozen=True)
class Work:
    """What one cycle did, as far as its annotation says: phase, requests in the batch, tokens computed."""

    phase: str = UNKNOWN
    batch: int | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Anchor:
    """A kind of span that starts a cycle. ``name`` is what reports print; ``work`` reads the span's own name."""

    name: str
    pattern: re.Pattern[str]
    work: Callable[[re.Match[str]], Work]


def _engine_step(match: re.Match[str]) -> Work:
    """``execute_context_<n>(<tokens>)_generation_<n>(<tokens>)``, or the detailed form that leads with all tokens."""
    total, context_requests, context, generation_requests, generation = match.groups()
    n_context, n_generation = int(context_requests), int(generation_requests)
    if n_context and n_generation:
        phase = MIXED
    elif n_context:
        phase = PREFILL
    else:
        phase = DECODE if n_generation else IDLE
    if total is None and context.isdigit() and generation.isdigit():
        total = int(context) + int(generation)
    return Work(phase, n_context + n_generation, None if total is None else int(total))


_SGLANG_PHASE = {"DECODE": DECODE, "EXTEND": PREFILL, "MIXED": MIXED, "IDLE": IDLE}


def _sglang_step(match: re.Match[str]) -> Work:
    mode, batch, tokens = match.groups()
    phase = _SGLANG_PHASE.get(mode, UNKNOWN)
    n_batch = int(batch) if batch else None
    if tokens:
        return Work(phase, n_batch, int(tokens))
    return Work(phase, n_batch, n_batch if phase == DECODE else None)


def _plain(_match: re.Match[str]) -> Work:
    return Work()


GRAMMAR = (
    # vLLM 0.14 to 0.33; the detailed form also in SGLang of mid-2026 (FORMATS.md §3.2, §2.2)
    Anchor(
        "execute_context_…_generation_…",
        re.compile(r"^execute_(?:(\d+)_)?context_(\d+)\(([^)]*)\)_generation_(\d+)\(([^)]*)\)"),
        _engine_step,
    ),
    # SGLang 0.5.12 and later (FORMATS.md §2.2)
    Anchor("step[…]", re.compile(r"^step\[(\w+)(?: bs=(\d+))?(?: toks=(\d+))?"), _sglang_step),
    # torch.profiler.schedule, any program
    Anchor("ProfilerStep#", re.compile(r"^ProfilerStep#\d+$"), _plain),
)
"""Tried in this order. A new engine or wording is one more row."""

IDLE_MARKS = re.compile(r"^scheduler\.idle$")
"""Spans that an engine writes while it has nothing to do."""


def user_anchor(text: str, *captures: Capture) -> Anchor:
    """Return the anchor that ``--cycle`` asks for: the spans of that very name, else those that the expression finds."""
    named = any((_candidates(capture)["name"].cast(pl.String) == text).any() for capture in captures)
    try:
        return Anchor(text, re.compile(rf"^{re.escape(text)}$" if named else text), _plain)
    except re.error as error:
        raise UsageError(f"--cycle {text!r} names no span and is no regular expression: {error}") from None


def anchor_spans(capture: Capture, anchor: Anchor) -> pl.DataFrame:
    """Return the host spans that ``anchor`` matches, sorted by start.

    Of spans inside each other only the outermost counts, and of several threads of a process only the one that spends
    most time in them: a cycle has one beginning.
    """
    host = _candidates(capture)
    names = host["name"].unique().cast(pl.String)
    wanted = [name for name in names if anchor.pattern.search(name)]
    thread = ["file", "rank", "pid", "tid"]
    end = pl.col("start_ns") + pl.col("dur_ns")
    spans = host.filter(pl.col("name").cast(pl.String).is_in(wanted)).sort("start_ns", "dur_ns", descending=[False, True])
    inside = pl.col("start_ns") < end.cum_max().shift(1).over(thread).fill_null(pl.col("start_ns"))
    outermost = spans.filter(~inside)
    busy = outermost.group_by(thread).agg(pl.col("dur_ns").sum()).sort("dur_ns", "tid", descending=[True, False])
    main = busy.unique(thread[:3], keep="first", maintain_order=True).select(thread)
    return outermost.join(main, on=thread, how="semi").sort("start_ns")


def _candidates(capture: Capture) -> pl.DataFrame:
    return capture.events.filter(pl.col("kind").is_in(["annotation", "op", "python"]))


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
    candidates = (user_anchor(cycle, *sides.values()),) if cycle else GRAMMAR
    present = {
        side: [anchor for anchor in candidates if anchor_spans(capture, anchor).height] for side, capture in sides.items()
    }
    for side, anchors in present.items():
        if not anchors:
            raise TooLittleDataError(sides[side].path, *_no_cycles(sides[side], cycle))
    common = [anchor for anchor in candidates if all(anchor in anchors for anchors in present.values())]
    return {side: (common or anchors)[0] for side, anchors in present.items()}


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
    return f"no cycles found: none of {', '.join(anchor.name for anchor in GRAMMAR)} is in its traces", hint
