"""Self time of nested calls, without a loop over events."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def self_time_ns(calls: pl.DataFrame) -> Ints:
    """Return for each call its duration less that of the calls directly inside it.

    Args:
        calls: ``pid``, ``tid``, ``start_ns``, ``dur_ns``; in any order. Calls of one thread nest or follow each other.

    Returns:
        ns, in the order of the rows, never below 0.
    """
    own = np.zeros(calls.height, dtype=np.int64)
    # a call of no length holds nothing and takes nothing; integer-microsecond exporters write many
    order = (
        calls.lazy()
        .with_row_index("row")
        .filter(pl.col("dur_ns") > 0)
        .sort("pid", "tid", "start_ns", "dur_ns", descending=[False, False, False, True])
        .select("row", "start_ns", "dur_ns", thread=pl.struct("pid", "tid").rle_id())
        .collect()
    )
    if order.height == 0:
        return own
    start, duration = order["start_ns"].to_numpy(), order["dur_ns"].to_numpy()
    thread = order["thread"].to_numpy().astype(np.int64)
    parent = parents(start, start + duration, thread)
    inside = np.zeros(order.height, dtype=np.int64)
    np.add.at(inside, parent[parent >= 0], duration[parent >= 0])
    own[order["row"].to_numpy()] = np.maximum(duration - inside, 0)
    return own


def parents(start: Ints, end: Ints, thread: Ints) -> Ints:
    """Return the row of the innermost call that encloses each row, -1 for none.

    Args:
        start, end: ns.
        thread: number of the thread; calls of one nest or follow each other.

    Rows are sorted by thread and start, longest first among equals. The depth of a row is the number of calls open at
    its start; its parent is the last row before it that is one level up.
    """
    n = len(start)
    _, place = np.unique(np.concatenate([start, end]), return_inverse=True)  # order is all that matters, and it is small
    begin_key = thread * 2 * n + place[:n]
    end_key = np.sort(thread * 2 * n + place[n:])
    row = np.arange(n)
    depth = row - np.searchsorted(end_key, begin_key, side="right")
    by_depth = depth * n + row
    order = np.argsort(by_depth)
    before = np.searchsorted(by_depth[order], (depth - 1) * n + row) - 1
    candidate = order[np.maximum(before, 0)]
    encloses = (before >= 0) & (depth[candidate] == depth - 1) & (thread[candidate] == thread) & (end[candidate] >= end)
    return np.where(encloses, candidate, -1)
