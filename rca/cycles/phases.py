"""What a cycle did, where its annotation does not say: from the names of the frames and kernels that ran in it."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture import Capture
from rca.capture.launches import CALL_KINDS, LAUNCH_COLUMNS, begun_ns
from rca.cycles.grammar import DECODE, MIXED, PREFILL, TRAIN, UNKNOWN

Array = NDArray[Any]

_TRAIN = re.compile(r"^autograd::engine::|^Optimizer\.|Backward\d*$")
_FRAME = {
    # FORMATS.md §2.2, §7.4: the engines name the two kinds of forward pass after what they do
    PREFILL: re.compile(r"\bforward_extend\b|\bforward_prefill\b"),
    DECODE: re.compile(r"\bforward_decode\b|\bdecode_forward\b"),
}
_KERNEL = {
    # attention is computed by different kernels for many new tokens and for one; the other kernels serve both
    PREFILL: re.compile(r"prefill|context_attention|extend_attention|context_fmha|_extend_|fmha.*context", re.IGNORECASE),
    DECODE: re.compile(r"[dD]ecode(?![a-z])|paged_attention|splitkv|split_kv|mmha|single_query", re.IGNORECASE),
}
_GRAPH_LAUNCH = re.compile(r"^(cuda|hip)GraphLaunch$")
_LLM = r"kv_?cache|paged|reshape_and_cache|rotary|slot_mapping|flashinfer|top_?k_?top_?p"
"""Work that only the serving of a language model has: other programs use graphs too, and have no prompts."""
_MAX_GRAPHS = 2
"""Graph launches of a decode step: one, or two with a draft model. Graphs in pieces (one per layer) tell nothing."""


def phases_of(capture: Capture, own: pl.Expr, stated: Array, start: Array, end: Array) -> Array:
    """Return the phase of each cycle: as stated or, where no cycle's is, as its frames and kernels tell it.

    Args:
        capture: one side.
        own: which events are of the process.
        stated: what the annotations say.
        start: of each cycle, ns, rising.
        end: likewise.
    """
    if (stated != UNKNOWN).any() or len(start) == 0:
        return stated
    events = capture.events.lazy().filter(own)
    hits = partial(_hits, events, start, end)
    if (hits(("op", "annotation"), _TRAIN) > 0).mean() > 0.5:
        return np.full(len(start), TRAIN)
    for kinds, patterns in ((("python",), _FRAME), (("kernel",), _KERNEL)):
        prefill, decode = (hits(kinds, patterns[phase]) > 0 for phase in (PREFILL, DECODE))
        if (prefill | decode).any():
            return np.select([prefill & decode, prefill, decode], [MIXED, PREFILL, DECODE], UNKNOWN)
    names = events.select(pl.col("name").unique().cast(pl.String)).collect().to_series()
    if not names.str.contains(f"(?i){_LLM}").any():
        return stated
    graphs = hits(CALL_KINDS, _GRAPH_LAUNCH)
    by_graph = (graphs > 0) & (graphs <= _MAX_GRAPHS)
    if by_graph.any() and (graphs == 0).any():  # prompts are not computed by graphs (FORMATS.md §2.2)
        return np.select([by_graph, graphs == 0], [DECODE, PREFILL], UNKNOWN)
    return stated


def _hits(events: pl.LazyFrame, start: Array, end: Array, kinds: tuple[str, ...], pattern: re.Pattern[str]) -> Array:
    """Return how many events of a name run in each cycle; GPU work counts where it was launched."""
    of_kinds = events.filter(pl.col("kind").is_in(list(kinds)))
    known = of_kinds.select(pl.col("name").unique()).collect().to_series()
    names = known.filter(pl.Series([bool(pattern.search(name)) for name in known.cast(pl.String)], dtype=pl.Boolean))
    if len(names) == 0:
        return np.zeros(len(start), dtype=np.int64)
    wanted = pl.col("kind").is_in(list(kinds)) & pl.col("name").is_in(names.implode())
    calls = pl.col("kind").is_in(list(CALL_KINDS)) if "kernel" in kinds else pl.lit(False)
    found = events.filter(wanted | calls).select(*LAUNCH_COLUMNS, wanted=wanted).collect()
    at = begun_ns(found)[found["wanted"].to_numpy()]
    place = np.searchsorted(start, at, side="right") - 1
    inside = (place >= 0) & (at < end[np.maximum(place, 0)])
    return np.bincount(place[inside], minlength=len(start))
