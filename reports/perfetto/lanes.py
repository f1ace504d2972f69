"""Which slices of a thread must move to another line, so that what is drawn on one line nests.

Perfetto takes the slices of a thread in order of time and keeps a stack of those that are open. One that starts within an
open slice and ends after it is dropped (since v50) or moved to a track of its own, and so is one below 512 others:
``SliceTracker::MaybeCloseStack`` and ``StartSlice`` in its sources, which this module follows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MAX_DEPTH = 512
"""Slices deeper than this are dropped."""


def lanes(start: Array, duration: Array, track: Array) -> Array:
    """Return the lane of each slice within its track: 0, and more where it would cross what is open in the lanes before.

    Args:
        start: ns, ascending, of equal ones the longest first.
        duration: ns, 0 or more.
        track: any integer; slices of the same are drawn on the same line.
    """
    lane = np.zeros(len(start), dtype=np.int32)
    order = np.argsort(track, kind="stable")
    borders = np.flatnonzero(np.diff(track[order])) + 1
    for own in np.split(order, borders) if len(order) else []:
        begin, end = start[own], start[own] + duration[own]
        misfits = _in_bad_company(begin, end)
        if len(misfits):
            lane[own[misfits]] = _placed(begin[misfits].tolist(), end[misfits].tolist())
    return lane


def _in_bad_company(start: Array, end: Array) -> Array:
    """Return the slices of one track that stand in a group, of which some cross others or lie too deep.

    A group is what overlaps, with all that overlaps that. Slices nest if and only if the brackets that they open are
    closed by themselves, when each closing bracket closes the one opened last.
    """
    count = len(start)
    follow = end[:-1] <= start[1:]
    if follow.all() and not _piles_up(start, end, 1):
        return np.zeros(0, dtype=np.int64)
    at = start - start[0]
    zero = end == start
    number = np.arange(count)
    # at one time first ends, the latest begun leading; then begins in the order given, empty slices closed at once
    moment = np.concatenate([at * 2 + 1, (end - start[0]) * 2 + zero])
    tie = np.concatenate([number, np.where(zero, number, -number)])
    closes = np.repeat([0, 1], count)
    brackets = np.lexsort((closes, tie, moment))
    is_begin = brackets < count
    open_after = np.cumsum(np.where(is_begin, 1, -1))
    level = np.where(is_begin, open_after, open_after + 1)
    pairs = (brackets % count)[np.argsort(level, kind="stable")].reshape(-1, 2)
    crossed = pairs[pairs[:, 0] != pairs[:, 1]].ravel()
    ended = open_after == 0
    group = np.empty(count, dtype=np.int64)
    group[brackets[is_begin]] = (np.cumsum(ended) - ended)[is_begin]
    deepest = int(level.max())
    if _piles_up(start, end, deepest):
        return number
    bad = group[crossed]
    if deepest > MAX_DEPTH:
        bad = np.concatenate([bad, group[brackets[is_begin & (level > MAX_DEPTH)]]])
    return np.flatnonzero(np.isin(group, bad))


def _piles_up(start: Array, end: Array, depth: int) -> bool:
    """Tell whether so many empty slices stand at one time, one below the other, that some may lie too deep."""
    empty = start[end == start]
    return len(empty) > 0 and int(np.unique(empty, return_counts=True)[1].max()) + depth > MAX_DEPTH


def _placed(start: list[int], end: list[int]) -> list[int]:
    """Give each slice the first lane where it nests."""
    stacks: list[list[tuple[int, bool]]] = []
    chosen = []
    for begin, stop in zip(start, end, strict=True):
        empty = begin == stop
        lane = 0
        for lane, stack in enumerate(stacks):  # noqa: B007
            while stack and (stack[-1][0] < begin or (stack[-1][0] == begin and not (empty and stack[-1][1]))):
                stack.pop()
            if not stack or (len(stack) < MAX_DEPTH and not begin < stack[-1][0] < stop):
                break
        else:
            lane = len(stacks)
            stacks.append([])
        stacks[lane].append((stop, empty))
        chosen.append(lane)
    return chosen
