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
    n = calls.height
    order = calls.with_row_index("row").sort("pid", "tid", "start_ns", "dur_ns", descending=[False, False, False, True])
    start = order["start_ns"].to_numpy()
    duration = order["dur_ns"].to_numpy()
    thread = order.select(pl.struct("pid", "tid").rle_id()).to_series().to_numpy().astype(np.int64)
    parent = _parents(start, start + duration, thread)
    inside = np.bincount(parent[parent >= 0], weights=duration[parent >= 0], minlength=n)
    own = np.empty(n, dtype=np.int64)
    own[order["row"].to_numpy()] = np.maximum(duration - inside.astype(np.int64), 0)
    return own


def _parents(start: Ints, end: Ints, thread: Ints) -> Ints:
    """Return the row of the innermost call that encloses each row, -1 for none.

    Rows are sorted by thread and start, longest first among equals. The depth of a row is the number of calls open at
    its start; its parent is the last row before it that is one level up.
    """
    n = len(start)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    low = int(start.min())
    span = int(end.max()) - low + 2
    begin_key = thread * span + (start - low)
    end_key = np.sort(thread * span + (end - low))
    row = np.arange(n)
    depth = row - np.searchsorted(end_key, begin_key, side="right")
    by_depth = depth * n + row
    order = np.argsort(by_depth)
    before = np.searchsorted(by_depth[order], (depth - 1) * n + row) - 1
    candidate = order[np.maximum(before, 0)]
    encloses = (before >= 0) & (depth[candidate] == depth - 1) & (thread[candidate] == thread) & (end[candidate] >= end)
    return np.where(encloses, candidate, -1)
