"""How the time per cycle of each function is distributed."""

from __future__ import annotations

import numpy as np
import polars as pl

from rca.comparison import RankComparison
from rca.comparison.robust import matrices, time_per_cycle
from rca.pictures.model import SideName

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def function_quantiles(rank: RankComparison, side: SideName) -> list[list[float]]:
    """Return µs per cycle at `QUANTILES` for each row of ``rank.functions``; empty lists where no cycle is compared.

    A cycle in which a function did not run counts as 0, as everywhere.
    """
    profile = rank.profiles[0 if side == "normal" else 1]
    cycles = rank.compared.filter(pl.col("side") == side)
    if cycles.height == 0:
        return [[] for _ in range(rank.functions.height)]
    time, _ = matrices(time_per_cycle(profile, cycles), rank.functions, cycles)
    found: list[list[float]] = np.quantile(time, QUANTILES, axis=0).T.tolist()
    return found
