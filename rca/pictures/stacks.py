"""Call trees of both sides in one, for a differential flame graph (Gregg, "Differential Flame Graphs", 2014)."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture import Capture
from rca.capture.tables import HOST
from rca.comparison import RankComparison
from rca.cycles import Rank
from rca.pictures.model import SideName, Stacks
from rca.profile.self_time import parents

MAX_NODES = 3_000
MIN_SHARE = 0.001
"""Of the mean cycle: a path that takes less on both sides is left out, with all that it calls."""

_MAX_DEPTH = 250
_CALLS = ("python", "op", "runtime", "driver", "sync", "annotation")

Ints = NDArray[np.int64]


def calls_in_cycles(capture: Capture, rank: Rank, compared: RankComparison, side: SideName) -> pl.DataFrame:
    """Return the host calls of one side that begin in the cycles compared: ``side, tid, start_ns, dur_ns, name``.

    Numbers that differ from step to step and addresses are no names: ``ProfilerStep#7`` is ``ProfilerStep#N`` here.
    """
    own = (
        capture.events.lazy()
        .filter(rank.owns() & pl.col("kind").is_in(list(_CALLS)) & (pl.col("device") == HOST) & (pl.col("dur_ns") > 0))
        .select("start_ns", "dur_ns", _path_name(), "tid")
        .collect()
    )
    cycles = compared.compared.filter(pl.col("side") == side).sort("start_ns")
    if cycles.height == 0:
        return own.clear().select(pl.lit(side).alias("side"), pl.all())
    start = own["start_ns"].to_numpy()
    at = np.searchsorted(cycles["start_ns"].to_numpy(), start, side="right") - 1
    inside = (at >= 0) & (start < cycles["end_ns"].to_numpy()[np.maximum(at, 0)])
    return own.filter(pl.Series(inside)).select(pl.lit(side).alias("side"), pl.all())


def _path_name() -> pl.Expr:
    name = pl.col("name").cast(pl.String)
    numbered = name.str.replace_all(r"\d+", "N")
    return pl.when(pl.col("kind") == "annotation").then(numbered).otherwise(name.str.replace_all("0x[0-9a-f]{6,}", "0x…"))


def stacks(calls: dict[SideName, pl.DataFrame], compared: RankComparison) -> Stacks | None:
    """Return the call trees of both sides in one; None where no call is inside another one.

    Args:
        calls: of both sides, see `calls_in_cycles`.
        compared: the rank.
    """
    table = pl.concat([calls["normal"], calls["abnormal"]])
    threads = pl.struct("side", "tid").rank("dense").cast(pl.Int64)
    table = table.with_columns(thread=threads, code=pl.col("name").rank("dense").cast(pl.Int64)).sort(
        "thread", "start_ns", "dur_ns", "name", descending=[False, False, True, False]
    )
    if table.height == 0:
        return None
    start = table["start_ns"].to_numpy()
    parent = parents(start, start + table["dur_ns"].to_numpy(), table["thread"].to_numpy())
    if (parent < 0).all():
        return None
    node, node_parent, node_code = _paths(parent, table["code"].to_numpy())
    abnormal = (table["side"] == "abnormal").to_numpy()
    times = []
    for side, rows in (("normal", ~abnormal), ("abnormal", abnormal)):
        cycles = compared.compared.filter(pl.col("side") == side).height
        total = np.bincount(node[rows & (node >= 0)], table["dur_ns"].to_numpy()[rows & (node >= 0)], len(node_parent))
        times.append(total / 1000 / max(cycles, 1))
    names = table.select("code", "name").unique("code").sort("code")["name"].to_list()
    mean_us = [value for value in compared.distribution.row(-1)[1:] if value]
    kept = _kept(np.maximum(*times), node_parent, MIN_SHARE * max(mean_us, default=0.0))
    place = np.full(len(node_parent) + 1, -1)
    place[kept] = np.arange(len(kept))
    nodes = pl.DataFrame(
        {
            "name": [names[node_code[row] - 1] for row in kept],
            "parent": place[node_parent[kept]],
            "normal_us": times[0][kept],
            "abnormal_us": times[1][kept],
        }
    )
    left_out, deeper = len(node_parent) - len(kept), int((node < 0).sum())
    note = "host calls that begin in the cycles compared, all threads; mean time per cycle, calls inside included"
    note += f"; {left_out:,} paths below {MIN_SHARE:.1%} of a cycle are left out" if left_out else ""
    note += f"; {deeper:,} calls more than {_MAX_DEPTH} deep are left out" if deeper else ""
    return Stacks(nodes, note)


def _paths(parent: Ints, code: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the path of each call as a node, and each node's parent and name; level by level from the top.

    Calls deeper than `_MAX_DEPTH` have node -1.
    """
    node = np.full(len(parent), -1)
    node_parent, node_code = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    level = np.flatnonzero(parent < 0)
    children = np.argsort(parent, kind="stable")
    sorted_parent = parent[children]
    for _ in range(_MAX_DEPTH):
        if len(level) == 0:
            break
        above = np.where(parent[level] >= 0, node[np.maximum(parent[level], 0)], -1)
        pairs, which = np.unique(np.stack([above, code[level]]), axis=1, return_inverse=True)
        node[level] = len(node_parent) + which.ravel()
        node_parent = np.concatenate([node_parent, pairs[0]])
        node_code = np.concatenate([node_code, pairs[1]])
        first, last = (np.searchsorted(sorted_parent, level, side=side) for side in ("left", "right"))
        level = children[_ranges(first, last)]
    return node, node_parent, node_code


def _ranges(first: Ints, last: Ints) -> Ints:
    """Return the numbers of all ranges ``first[i]:last[i]``, one after the other."""
    lengths = last - first
    before = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(lengths.sum()) + np.repeat(first - before, lengths))


def _kept(time: NDArray[np.float64], node_parent: Ints, least: float) -> Ints:
    """Return the nodes that are shown, parents first: those that take enough, and whose callers are shown."""
    threshold = max(least, float(np.sort(time)[-MAX_NODES]) if len(time) > MAX_NODES else 0.0)
    enough = (time >= threshold) & (time > 0)
    for row in range(len(node_parent)):  # parents come before their children
        if node_parent[row] >= 0 and not enough[node_parent[row]]:
            enough[row] = False
    return np.flatnonzero(enough)
