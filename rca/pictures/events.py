"""What of a comparison needs the events of its captures: one side after the other, so that one is in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from rca.capture import Capture
from rca.comparison import RankComparison
from rca.pictures.excerpt import excerpt, shown_cycles
from rca.pictures.model import Excerpt, Pictures, RankPictures, SideName
from rca.pictures.stacks import calls_in_cycles, stacks

_NO_EVENTS = "there are no single events: the capture holds per-cycle profiles, which were made from them"


@dataclass(frozen=True)
class SidePictures:
    """What one side adds, per rank: its cycles, and the calls in those that are compared."""

    excerpts: tuple[tuple[Excerpt, ...], ...]
    calls: tuple[pl.DataFrame, ...]


def picture_side(capture: Capture, ranks: Sequence[RankComparison], side: SideName) -> SidePictures:
    """Take what pictures need out of the events of one side."""
    excerpts, calls = [], []
    for rank in ranks:
        own = rank.normal if side == "normal" else rank.abnormal
        has_events = rank.profiles[0 if side == "normal" else 1].from_events
        excerpts.append(tuple(excerpt(capture, own, of) for of in shown_cycles(rank, side)) if has_events else ())
        calls.append(calls_in_cycles(capture, own, rank, side))
    return SidePictures(tuple(excerpts), tuple(calls))


def picture_ranks(ranks: Sequence[RankComparison], sides: dict[SideName, SidePictures]) -> Pictures:
    """Put both sides together."""
    found = []
    for number, rank in enumerate(ranks):
        excerpts = (*sides["normal"].excerpts[number], *sides["abnormal"].excerpts[number])
        trees = stacks({side: own.calls[number] for side, own in sides.items()}, rank)
        found.append(RankPictures(rank.role, excerpts, trees, "" if excerpts else _NO_EVENTS))
    return Pictures(tuple(found))
