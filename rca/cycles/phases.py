"""What a cycle did, where its annotation does not say: from the names of the frames and kernels that ran in it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture import Capture
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


def with_phases(capture: Capture, pid: int, files: tuple[int, ...], cycles: pl.DataFrame) -> pl.DataFrame:
    """Fill in the phase of cycles where no cycle's phase is known; cycles of which nothing tells stay unknown."""
    if (cycles["phase"] != UNKNOWN).any() or cycles.height == 0:
        return cycles
    own = capture.events.filter((pl.col("pid") == pid) & pl.col("file").is_in(files))
    if _mostly(_hits(own, ("op", "annotation"), _TRAIN, cycles) > 0):
        return cycles.with_columns(phase=pl.lit(TRAIN))
    for kinds, patterns in ((("python",), _FRAME), (("kernel",), _KERNEL)):
        prefill, decode = (_hits(own, kinds, patterns[phase], cycles) > 0 for phase in (PREFILL, DECODE))
        if (prefill | decode).any():
            phase = np.select([prefill & decode, prefill, decode], [MIXED, PREFILL, DECODE], UNKNOWN)
            return cycles.with_columns(phase=pl.Series(phase))
    if not own["name"].unique().cast(pl.String).str.contains(f"(?i){_LLM}").any():
        return cycles
    graphs = _hits(own, ("runtime", "driver"), _GRAPH_LAUNCH, cycles)
    by_graph = (graphs > 0) & (graphs <= _MAX_GRAPHS)
    if by_graph.any() and (graphs == 0).any():  # prompts are not computed by graphs (FORMATS.md §2.2)
        return cycles.with_columns(phase=pl.Series(np.select([by_graph, graphs == 0], [DECODE, PREFILL], UNKNOWN)))
    return cycles


def _mostly(flags: Array) -> bool:
    return bool(flags.mean() > 0.5)


def _hits(own: pl.DataFrame, kinds: tuple[str, ...], pattern: re.Pattern[str], cycles: pl.DataFrame) -> Array:
    """Return how many events of a name run in each cycle; GPU work counts where it was launched."""
    events = own.filter(pl.col("kind").is_in(list(kinds)))
    names = [name for name in events["name"].unique().cast(pl.String) if pattern.search(name)]
    named = events.filter(pl.col("name").cast(pl.String).is_in(names)) if names else events.clear()
    if "kernel" in kinds and named.height:
        calls = own.filter(pl.col("kind").is_in(["runtime", "driver"]) & pl.col("correlation").is_not_null())
        launch = calls.unique("correlation", keep="first").select("correlation", launched_ns="start_ns")
        named = named.join(launch, on="correlation", how="left").with_columns(
            start_ns=pl.col("launched_ns").fill_null(pl.col("start_ns"))
        )
    start, end, at = (column.to_numpy() for column in (cycles["start_ns"], cycles["end_ns"], named["start_ns"]))
    place = np.searchsorted(start, at, side="right") - 1
    inside = (place >= 0) & (at < end[np.maximum(place, 0)])
    return np.bincount(place[inside], minlength=cycles.height)
