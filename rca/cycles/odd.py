"""Cycles that stick out of their phase: they are named and marked, and take part in everything all the same."""

from __future__ import annotations

import itertools

import polars as pl

from rca.stats.robust import outliers


def outlying_cycles(cycles: pl.DataFrame) -> dict[str, list[int]]:
    """Return the numbers of the outliers among the complete cycles of each phase that has any (see `outliers`).

    Args:
        cycles: `rca.cycles.CYCLES` of one rank.
    """
    found = {}
    for (phase,), own in sorted(cycles.filter("complete").group_by("phase", maintain_order=True)):
        if odd := own.filter(outliers(own["duration_us"].to_numpy()))["cycle"].to_list():
            found[str(phase)] = odd
    return found


def warm_up_cycles(cycles: pl.DataFrame) -> list[int]:
    """Return the first cycles in time as long as they are outliers: they may be warm-up."""
    odd = {number for numbers in outlying_cycles(cycles).values() for number in numbers}
    return list(itertools.takewhile(odd.__contains__, cycles.sort("start_ns", "cycle")["cycle"]))
