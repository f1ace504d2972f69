"""Curves of how cycle times are distributed."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import binom, gaussian_kde

from rca.comparison import RankComparison
from rca.pictures.model import Distribution, SideCurve, SideName

MIN_FOR_CURVE = 8
"""Of fewer cycles only the points are shown: a smooth curve would say more than they do."""

_STEPS = 160


def distributions(rank: RankComparison) -> tuple[Distribution, ...]:
    """Return the distributions of cycle times of one rank, one per phase that has cycles on both sides.

    The density is a Gaussian kernel estimate of log durations (Scott's bandwidth), for cycle times are skewed to the right
    and cannot be negative. The interval of the median is the one of order statistics (sign test), so it assumes nothing of
    the distribution; it takes cycles for independent.
    """
    found = []
    for phase in sorted(rank.compared["phase"].unique()):
        own = rank.compared.filter(pl.col("phase") == phase)
        normal, abnormal = (_durations(own, side) for side in ("normal", "abnormal"))
        if len(normal) and len(abnormal):
            grid = _grid(np.concatenate([normal, abnormal]))
            found.append(Distribution(rank.role, phase, _curve(normal, grid), _curve(abnormal, grid)))
    return tuple(found)


def _durations(cycles: pl.DataFrame, side: SideName) -> NDArray[np.float64]:
    own = cycles.filter((pl.col("side") == side) & (pl.col("duration_us") > 0))
    return own["duration_us"].to_numpy()


def _grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    logs = np.log(values)
    margin = 0.05 * (logs.max() - logs.min()) or 0.05
    return np.exp(np.linspace(logs.min() - margin, logs.max() + margin, _STEPS))


def _curve(values: NDArray[np.float64], grid: NDArray[np.float64]) -> SideCurve:
    low, high = median_interval(values)
    points, median = tuple(values.tolist()), float(np.median(values))
    logs = np.log(values)
    if len(values) < MIN_FOR_CURVE or logs.std() <= 1e-9:
        return SideCurve(points, (), (), median, low, high)
    density = gaussian_kde(logs)(np.log(grid)) / grid
    return SideCurve(points, tuple(grid.tolist()), tuple(density.tolist()), median, low, high)


def median_interval(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Return the 95 % interval of the median by order statistics; None twice for fewer than 6 values, which allow none.

    Source: David and Nagaraja, Order Statistics, 7.1: P(x(k) <= median <= x(n+1-k)) = 1 - 2 P(Binomial(n, 1/2) < k).
    """
    n = len(values)
    k = int(binom.ppf(0.025, n, 0.5))
    if k < 1:
        return None, None
    ordered = np.sort(values)
    return float(ordered[k - 1]), float(ordered[n - k])
