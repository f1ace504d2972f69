"""Sets of time intervals: unions, intersections, and how much of them lies in each of many windows.

A set is a pair of sorted int64 arrays (starts, ends) of disjoint intervals; no loop over intervals anywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Intervals(NamedTuple):
    """Disjoint intervals in rising order."""

    start: Ints
    end: Ints


NOTHING = Intervals(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def union(*sets: tuple[Ints, Ints]) -> Intervals:
    """Return the union of any intervals, each given as (starts, ends) in any order."""
    return _covered(sets, 1)


def intersection(one: Intervals, two: Intervals) -> Intervals:
    """Return where both sets are."""
    return _covered((one, two), 2)


def _covered(sets: tuple[tuple[Ints, Ints], ...], depth: int) -> Intervals:
    """Return where at least ``depth`` of the intervals overlap; those that only touch are joined."""
    start = np.concatenate([s for s, _ in sets]) if sets else NOTHING.start
    end = np.concatenate([e for _, e in sets]) if sets else NOTHING.end
    long = end > start
    start, end = start[long], end[long]
    at = np.concatenate([start, end])
    step = np.concatenate([np.ones(len(start), dtype=np.int64), -np.ones(len(end), dtype=np.int64)])
    order = np.lexsort((-step, at))  # at one time, what begins comes before what ends
    level = np.cumsum(step[order])
    inside = level >= depth
    was_inside = np.concatenate([[False], inside[:-1]])
    at = at[order]
    found = Intervals(at[inside & ~was_inside], at[~inside & was_inside])
    return Intervals(*(edge[found.end > found.start] for edge in found))


def length_within(covered: Intervals, start: Ints, end: Ints) -> Ints:
    """Return how much of each window [start, end) is covered, in the unit of the times."""
    return _length_before(covered, end) - _length_before(covered, start)


def _length_before(covered: Intervals, at: Ints) -> Ints:
    if len(covered.start) == 0:
        return np.zeros(len(at), dtype=np.int64)
    total = np.concatenate([[0], np.cumsum(covered.end - covered.start)])
    index = np.searchsorted(covered.start, at, side="right")
    last = np.maximum(index - 1, 0)
    overhang = np.where(index > 0, np.maximum(covered.end[last] - at, 0), 0)
    return np.asarray(total[index] - overhang)


def contains(covered: Intervals, at: Ints) -> NDArray[np.bool_]:
    """Tell which times lie in the set, its ends included."""
    if len(covered.start) == 0:
        return np.zeros(len(at), dtype=bool)
    last = np.searchsorted(covered.start, at, side="right") - 1
    return (last >= 0) & (at <= covered.end[np.maximum(last, 0)])
