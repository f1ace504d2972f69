"""The ledger: the parts of the change in cycle time, in µs, that sum to it.

Means per cycle, over the cycles that are compared: medians of parts do not add up. Intervals are of a block bootstrap that
draws whole cycles, so that the parts of one cycle stay together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.comparison import RankComparison
from rca.profile.timeline import PARTS
from rca.stats.robust import block_picks, dependence

Floats = NDArray[np.float64]

REPLICATES = 499
TAIL = 0.025
_SEED = 20_260_902


@dataclass(frozen=True)
class Entry:
    """One part of the cycle: µs per cycle on both sides, and the change with its 95 % interval.

    The ends of the interval are None where a side has a single cycle, which says nothing of how cycles differ.
    """

    part: str
    text: str
    normal_us: float
    abnormal_us: float
    change_us: float
    low_us: float | None
    high_us: float | None

    @property
    def sure(self) -> bool:
        """Whether the interval excludes no change."""
        return self.low_us is not None and self.high_us is not None and (self.low_us > 0 or self.high_us < 0)


@dataclass(frozen=True)
class Ledger:
    """All parts of a rank's cycles.

    Attributes:
        entries: in the order of `PARTS`; parts that neither side has are left out.
        change_us: change of the mean cycle time.
        residual_us: what the parts do not account for; rounding, where the parts come from a timeline.
        timeline: whether overlaps were resolved on a timeline; else parts are summed durations.
    """

    entries: tuple[Entry, ...]
    change_us: float
    residual_us: float
    timeline: bool

    def share(self, *parts: str) -> float:
        """Return the share of the change that lies in some parts; 0 where nothing changed."""
        own = sum(entry.change_us for entry in self.entries if entry.part in parts)
        return own / self.change_us if self.change_us else 0.0


def ledger(rank: RankComparison) -> Ledger | None:
    """Return the ledger of a rank; None where its cycles are not alike, or a side has none."""
    if not rank.gate.ok or min(rank.cycle_time.n_normal, rank.cycle_time.n_abnormal) == 0:
        return None
    sides = [rank.compared.filter(pl.col("side") == side) for side in ("normal", "abnormal")]
    durations = [side["duration_us"].to_numpy() for side in sides]
    rho = dependence(*durations)
    rng = np.random.default_rng(_SEED)
    picks = [block_picks(rng, len(own), rho, REPLICATES) for own in durations]
    change = float(durations[1].mean() - durations[0].mean())
    entries = []
    for part, text in PARTS.items():
        values = [_of_part(rank, side, part) for side in sides]
        if not any(own.any() for own in values):
            continue
        replicas = values[1][picks[1]].mean(axis=1) - values[0][picks[0]].mean(axis=1)
        low, high = np.quantile(replicas, [TAIL, 1 - TAIL]).tolist() if min(map(len, durations)) > 1 else (None, None)
        before, after = (float(own.mean()) for own in values)
        entries.append(Entry(part, text, before, after, after - before, low, high))
    residual = change - sum(entry.change_us for entry in entries)
    return Ledger(tuple(entries), change, residual, rank.timeline)


def _of_part(rank: RankComparison, cycles: pl.DataFrame, part: str) -> Floats:
    own = rank.parts.filter((pl.col("side") == cycles["side"][0]) & (pl.col("part") == part)).select("cycle", "us")
    return cycles.select("cycle").join(own, on="cycle", how="left", maintain_order="left")["us"].fill_null(0.0).to_numpy()
