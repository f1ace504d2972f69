"""Which rank the others wait for: of the ranks of one job, the one that waits least in collectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture.tables import HOST
from rca.comparison import RankComparison
from rca.verdict.observe import Observations, compared
from rca.verdict.recorded import Samples

Floats = NDArray[np.float64]

LEAST_WAIT = 0.05
"""Waiting of the others that grew by less than this share of the cycle is the usual jitter of ranks."""


def lags(ranks: Sequence[RankComparison]) -> list[Observations]:
    """Return the signal ``lag`` of the rank that the others wait for, nothing for the others.

    A collective ends for all at once; whoever enters it last waits least. So the growth of waiting of each rank is set
    against that of the others: a rank whose own waiting did not grow, while that of all others did, holds them up.
    """
    nothing: list[Observations] = [{} for _ in ranks]
    alike = [rank for rank in ranks if rank.gate.ok and min(rank.cycle_time.n_normal, rank.cycle_time.n_abnormal) > 1]
    if len(alike) < 2 or len(alike) < len(ranks):
        return nothing
    waits = [[_waiting_us(rank, side) for side in ("normal", "abnormal")] for rank in ranks]
    change = np.array([float(after.mean() - before.mean()) for before, after in waits])
    for growth in (change, -change):  # it lags now, or it did on the normal side
        last = int(growth.argmin())
        others = np.delete(growth, last)
        least = LEAST_WAIT * min(ranks[last].cycle_time.normal_us, ranks[last].cycle_time.abnormal_us)
        if others.min() >= least and growth[last] <= others.min() / 2:
            break
    else:
        return nothing
    pooled = [np.mean([_cut(wait[i], waits, i) for j, wait in enumerate(waits) if j != last], axis=0) for i in (0, 1)]
    about = ("lag", HOST, f"time the other ranks wait for {ranks[last].role}", "µs per cycle", ("collectives",))
    before, after = (Samples(values, float(len(values))) for values in pooled)
    seen = compared(about, before, after, least)
    found = list(nothing)
    found[last] = {("lag", HOST): seen} if seen else {}
    return found


def _waiting_us(rank: RankComparison, side: str) -> Floats:
    """Return µs that a rank spends in communication, one value per compared cycle."""
    cycles = rank.compared.filter(pl.col("side") == side).select("cycle")
    own = rank.communication.filter(pl.col("side") == side).select("cycle", "us")
    joined = cycles.join(own, on="cycle", how="left", maintain_order="left")["us"].fill_null(0.0)
    return np.asarray(joined.to_numpy())


def _cut(values: Floats, waits: Sequence[Sequence[Floats]], side: int) -> Floats:
    return values[: min(len(wait[side]) for wait in waits)]
