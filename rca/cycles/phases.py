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
    own = capture.events.lazy().filter((pl.col("pid") == pid) & pl.col("file").is_in(files))
    if _mostly(_hits(own, ("op", "annotation"), _TRAIN, cycles) > 0):
        return cycles.with_columns(phase=pl.lit(TRAIN))
    for kinds, patterns in ((("python",), _FRAME), (("kernel",), _KERNEL)):
        prefill, decode = (_hits(own, kinds, patterns[phase], cycles) > 0 for phase in (PREFILL, DECODE))
        if (prefill | decode).any():
            phase = np.select([prefill & decode, prefill, decode], [MIXED, PREFILL, DECODE], UNKNOWN)
            return cycles.with_columns(phase=pl.Series(phase))
    names = own.select(pl.col("name").unique().cast(pl.String)).collect().to_series()
    if not names.str.contains(f"(?i){_LLM}").any():
        return cycles
    graphs = _hits(own, ("runtime", "driver"), _GRAPH_LAUNCH, cycles)
    by_graph = (graphs > 0) & (graphs <= _MAX_GRAPHS)
    if by_graph.any() and (graphs == 0).any():  # prompts are not computed by graphs (FORMATS.md §2.2)
        return cycles.with_columns(phase=pl.Series(np.select([by_graph, graphs == 0], [DECODE, PREFILL], UNKNOWN)))
    return cycles


def _mostly(flags: Array) -> bool:
    return bool(flags.mean() > 0.5)


def _hits(own: pl.LazyFrame, kinds: tuple[str, ...], pattern: re.Pattern[str], cycles: pl.DataFrame) -> Array:
    """Return how many events of a name run in each cycle; GPU work counts where it was launched."""
    events = own.filter(pl.col("kind").is_in(list(kinds)))
    known = events.select(pl.col("name").unique()).collect().to_series()
    names = known.filter(pl.Series([bool(pattern.search(name)) for name in known.cast(pl.String)], dtype=pl.Boolean))
    if len(names) == 0:
        return np.zeros(cycles.height, dtype=np.int64)
    named = events.filter(pl.col("name").is_in(names.implode())).select("correlation", "start_ns")
    if "kernel" in kinds:
        calls = own.filter(pl.col("kind").is_in(["runtime", "driver"]) & pl.col("correlation").is_not_null())
        launch = calls.select("correlation", launched_ns="start_ns").unique("correlation", keep="first", maintain_order=True)
        named = named.join(launch, on="correlation", how="left").with_columns(
            pl.coalesce("launched_ns", "start_ns").alias("start_ns")
        )
    at = named.select("start_ns").collect().to_series().to_numpy()
    start, end = cycles["start_ns"].to_numpy(), cycles["end_ns"].to_numpy()
    place = np.searchsorted(start, at, side="right") - 1
    inside = (place >= 0) & (at < end[np.maximum(place, 0)])
    return np.bincount(place[inside], minlength=cycles.height)
