"""Curves of how cycle times are distributed."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import binom, gaussian_kde

from rca.comparison import RankComparison
from rca.pictures.model import Distribution, SideCurve, SideName

Floats = NDArray[np.float64]

MIN_FOR_CURVE = 8
"""Of fewer cycles only the points are shown: a smooth curve would say more than they do."""

_STEPS = 160
_MOST = 400
"""Values that a bandwidth is chosen by; of more, so many quantiles: every pair is looked at."""
_FACTORS = np.geomspace(0.12, 1.2, 14)
"""Of Scott's bandwidth, that is right for one normal hump: two groups, or a hump with stragglers, need less."""


def distributions(rank: RankComparison) -> tuple[Distribution, ...]:
    """Return the distributions of cycle times of one rank, one per phase that has cycles on both sides.

    The density is a Gaussian kernel estimate of log durations, for cycle times are skewed to the right and cannot be
    negative; see `bandwidth`. The interval of the median is the one of order statistics (sign test), so it assumes nothing
    of the distribution; it takes cycles for independent.
    """
    found = []
    for phase in sorted(rank.compared["phase"].unique()):
        own = rank.compared.filter(pl.col("phase") == phase)
        normal, abnormal = (_durations(own, side) for side in ("normal", "abnormal"))
        if len(normal) and len(abnormal):
            found.append(Distribution(rank.role, phase, _curve(normal), _curve(abnormal)))
    return tuple(found)


def _durations(cycles: pl.DataFrame, side: SideName) -> Floats:
    own = cycles.filter((pl.col("side") == side) & (pl.col("duration_us") > 0))
    return own["duration_us"].to_numpy()


def _curve(values: Floats) -> SideCurve:
    low, high = median_interval(values)
    points, median = tuple(values.tolist()), float(np.median(values))
    logs = np.log(values)
    if len(values) < MIN_FOR_CURVE or logs.std() <= 1e-9:
        return SideCurve(points, (), (), median, low, high)
    width = bandwidth(logs)
    grid = np.linspace(logs.min() - 3 * width, logs.max() + 3 * width, _STEPS)
    density = gaussian_kde(logs, width / logs.std(ddof=1))(grid) / np.exp(grid)
    return SideCurve(points, tuple(np.exp(grid).tolist()), tuple(density.tolist()), median, low, high)


def bandwidth(values: Floats) -> float:
    """Return the bandwidth of a Gaussian kernel by least-squares cross-validation, within a tenth and 1.2 of Scott's.

    Source: Bowman, "An alternative method of cross-validation for the smoothing of density estimates", Biometrika 71, 1984.
    """
    scott = float(values.std(ddof=1)) * float(len(values)) ** -0.2
    few = np.quantile(values, (np.arange(_MOST) + 0.5) / _MOST) if len(values) > _MOST else values
    n = len(few)
    squared = (few[:, None] - few[None, :]) ** 2
    others = ~np.eye(n, dtype=bool)

    def loss(width: float) -> float:
        overlap = np.exp(-squared / (4 * width**2)).mean() / math.sqrt(4 * math.pi * width**2)
        left_out = np.exp(-squared[others] / (2 * width**2)).sum() / (n * (n - 1) * math.sqrt(2 * math.pi * width**2))
        return float(overlap - 2 * left_out)

    widths: list[float] = (scott * _FACTORS).tolist()
    return min(widths, key=loss)


def median_interval(values: Floats) -> tuple[float | None, float | None]:
    """Return the 95 % interval of the median by order statistics; None twice for fewer than 6 values, which allow none.

    Source: David and Nagaraja, Order Statistics, 7.1: P(x(k) <= median <= x(n+1-k)) = 1 - 2 P(Binomial(n, 1/2) < k).
    """
    n = len(values)
    k = int(binom.ppf(0.025, n, 0.5))
    if k < 1:
        return None, None
    ordered = np.sort(values)
    return float(ordered[k - 1]), float(ordered[n - k])
