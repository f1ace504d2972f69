"""Statistics that a verdict can rest on: one value per cycle, rank-based, with intervals, serial dependence counted.

Sources: Hodges & Lehmann, Ann. Math. Stat. 34 (1963); Cliff, Psychol. Bull. 114 (1993); Künsch, Ann. Stat. 17 (1989) for
the moving-block bootstrap; Carlstein, Ann. Stat. 14 (1986) for the block length of an AR(1) series; Hesterberg, Am. Stat.
69 (2015) for the small-sample expansion of percentile intervals; Benjamini & Hochberg, JRSS B 57 (1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
_MAX_POINTS = 256
_SEED = 20_260_901


@dataclass(frozen=True)
class Shift:
    """An effect with its interval: abnormal − normal, or abnormal / normal for `ratio`."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class RankTest:
    """Mann-Whitney p-values and Cliff's δ = P(y > x) − P(y < x), from −1 (all of y below x) to 1; one per column."""

    p: Floats
    delta: Floats


def hodges_lehmann(x: Floats, y: Floats) -> float:
    """Return the median of all differences y − x; beyond `_MAX_POINTS` values a side is thinned to its quantiles."""
    return float(np.median(np.subtract.outer(_thin(y), _thin(x))))


def autocorrelation(x: Floats) -> float:
    """Return the lag-1 autocorrelation of a series in time order; 0 where it cannot be told from none.

    Short series say little: values within ±2/√n of zero, the usual 95 % band, count as none.
    """
    n = len(x)
    if n < 8:
        return 0.0
    ranks = scipy_stats.rankdata(x)  # one outlier must not pose as independence
    centred = ranks - ranks.mean()
    power = float(centred @ centred)
    if power == 0:
        return 0.0
    rho = float(centred[1:] @ centred[:-1]) / power
    return min(rho, 0.99) if rho > 2 / math.sqrt(n) else 0.0


def effective_n(x: Floats) -> float:
    """Return the number of independent values that a serially dependent series is worth: n (1 − ρ) / (1 + ρ)."""
    rho = autocorrelation(x)
    return max(len(x) * (1 - rho) / (1 + rho), 1.0)


def block_length(x: Floats) -> int:
    """Return the block length for resampling a series: Carlstein's (2ρ / (1 − ρ²))^⅔ n^⅓, 1 for an independent one."""
    rho = autocorrelation(x)
    length = math.ceil((2 * rho / (1 - rho**2)) ** (2 / 3) * len(x) ** (1 / 3)) if rho else 1
    return max(1, min(length, len(x) // 3))


def ratio(x: Floats, y: Floats, replicates: int = 999) -> Shift:
    """Return how many times larger y is than x, with a block-bootstrap interval.

    The estimate is exp of the Hodges-Lehmann shift of the logarithms: the median of all ratios y / x.

    Args:
        x: positive values in time order.
        y: the same for the other side.
        replicates: bootstrap samples; the generator is seeded, so the same input gives the same interval.
    """
    log_x, log_y = np.log(x), np.log(y)
    rng = np.random.default_rng(_SEED)
    pick_x, pick_y = _block_picks(rng, log_x, replicates), _block_picks(rng, log_y, replicates)
    shifts = np.array([hodges_lehmann(log_x[i], log_y[j]) for i, j in zip(pick_x, pick_y, strict=True)])
    low, high = _percentiles(shifts, min(effective_n(log_x), effective_n(log_y)))
    estimate = hodges_lehmann(log_x, log_y)
    return Shift(math.exp(estimate), math.exp(min(low, estimate)), math.exp(max(high, estimate)))


def column_shifts(x: Floats, y: Floats, replicates: int = 199) -> tuple[Floats, Floats, Floats]:
    """Return Hodges-Lehmann shift and block-bootstrap interval of every column, resampling whole rows.

    Args:
        x: (cycles, columns) of one side, in time order.
        y: (cycles, columns) of the other side.
        replicates: bootstrap samples; every column shares them.

    Returns:
        shift, low, high: one value per column.
    """
    points = 32  # quantiles per side within the bootstrap: 1024 differences a column
    rng = np.random.default_rng(_SEED)
    estimate = _column_medians(_thin_columns(x, _MAX_POINTS), _thin_columns(y, _MAX_POINTS))
    typical_x, typical_y = x.sum(axis=1), y.sum(axis=1)
    replicas = np.array(
        [
            _column_medians(_thin_columns(x[i], points), _thin_columns(y[j], points))
            for i, j in zip(_block_picks(rng, typical_x, replicates), _block_picks(rng, typical_y, replicates), strict=True)
        ]
    )
    low, high = _percentiles(replicas, min(effective_n(typical_x), effective_n(typical_y)))
    return estimate, np.minimum(low, estimate), np.maximum(high, estimate)


def rank_test(x: Floats, y: Floats, n_x: float | None = None, n_y: float | None = None) -> RankTest:
    """Test whether y tends to be larger or smaller than x, column by column, with serial dependence counted.

    Where the samples are worth fewer values than they have (``n_x``, ``n_y``: effective numbers, by default from the
    autocorrelation of the rows' sums), the normal score is shrunk by √(effective / actual). Independent samples of up to
    8 values without ties are tested exactly.

    Args:
        x: (values,) or (values, columns).
        y: the same for the other side.
        n_x: effective number of values of x.
        n_y: effective number of values of y.
    """
    x, y = (v.reshape(len(v), -1) for v in (x, y))
    n_x = n_x if n_x is not None else effective_n(x.sum(axis=1))
    n_y = n_y if n_y is not None else effective_n(y.sum(axis=1))
    ranks = scipy_stats.rankdata(np.concatenate([x, y]), axis=0)
    n1, n2 = len(x), len(y)
    n = n1 + n2
    u = ranks[:n1].sum(axis=0) - n1 * (n1 + 1) / 2
    delta = 1 - 2 * u / (n1 * n2)
    if min(n1, n2) < 2:
        return RankTest(np.ones(x.shape[1]), delta)
    variance = n1 * n2 / (n - 1) * ((ranks**2).sum(axis=0) / n - ((n + 1) / 2) ** 2)
    worth = (1 / n1 + 1 / n2) / (1 / n_x + 1 / n_y)
    distance = np.maximum(np.abs(u - n1 * n2 / 2) - 0.5, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(variance > 0, distance / np.sqrt(variance) * math.sqrt(min(worth, 1.0)), 0.0)
    p = 2 * scipy_stats.norm.sf(z)
    if worth >= 1 and min(n1, n2) <= 8:
        untied = np.array([len(np.unique(column)) == n for column in ranks.T])
        if untied.any():
            p[untied] = scipy_stats.mannwhitneyu(x[:, untied], y[:, untied], method="exact").pvalue
    return RankTest(np.minimum(p, 1.0), delta)


def smallest_p(n_x: int, n_y: int) -> float:
    """Return the smallest two-sided p-value that the exact rank test can reach with so many values."""
    return min(1.0, 2 / math.comb(n_x + n_y, n_x))


def values_needed(alpha: float) -> int:
    """Return the smallest number of values per side with which the rank test can reach ``alpha``."""
    return next(n for n in range(2, 100) if smallest_p(n, n) < alpha)


def benjamini_hochberg(p: Floats) -> Floats:
    """Return q-values: the share of false discoveries if everything up to this p-value is called a discovery."""
    return np.asarray(scipy_stats.false_discovery_control(p)) if len(p) else p


def any_difference_p(x: Floats, y: Floats, replicates: int = 999) -> float:
    """Return the p-value of "nothing differs": the largest |rank-sum score| over columns against permuted sides.

    Args:
        x: (cycles, columns) in time order.
        y: the same for the other side.
        replicates: permutations. Whole blocks of cycles change sides, as long as the longer of the sides' block lengths.
    """
    ranks = scipy_stats.rankdata(np.concatenate([x, y]), axis=0)
    spread = ranks.std(axis=0)
    scores = (ranks - ranks.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    if scores.shape[1] == 0 or min(len(x), len(y)) < 2:
        return 1.0
    length = max(block_length(x.sum(axis=1)), block_length(y.sum(axis=1)))
    blocks = np.concatenate([np.arange(len(x)) // length, len(x) // length + 1 + np.arange(len(y)) // length])
    _, blocks = np.unique(blocks, return_inverse=True)
    n_blocks = int(blocks.max()) + 1
    in_normal = len(np.unique(blocks[: len(x)]))
    rng = np.random.default_rng(_SEED)
    chosen = np.zeros((replicates, n_blocks))
    np.put_along_axis(chosen, rng.random((replicates, n_blocks)).argsort(axis=1)[:, :in_normal], 1.0, axis=1)
    sides = np.vstack([(np.arange(len(scores)) < len(x)).astype(float), chosen[:, blocks]])
    size = sides.sum(axis=1, keepdims=True)
    mean_scores = (sides @ scores) / np.sqrt(size * (len(scores) - size) / len(scores))
    largest = np.abs(mean_scores).max(axis=1)
    return float((1 + (largest[1:] >= largest[0] - 1e-9).sum()) / (1 + replicates))


def outliers(x: Floats) -> NDArray[np.bool_]:
    """Mark values more than 5 scaled median absolute deviations from the median (Leys et al., J. Exp. Soc. Psychol. 49)."""
    centre = np.median(x)
    spread = 1.4826 * np.median(np.abs(x - centre))
    return np.asarray(np.abs(x - centre) > 5 * spread) if spread > 0 else np.zeros(len(x), dtype=bool)


def _thin(values: Floats) -> Floats:
    return values if len(values) <= _MAX_POINTS else _thin_columns(values[:, None], _MAX_POINTS)[:, 0]


def _thin_columns(values: Floats, points: int) -> Floats:
    if len(values) <= points:
        return values
    at = ((np.arange(points) + 0.5) * len(values) / points).astype(int)
    quantiles: Floats = np.sort(values, axis=0)[at]
    return quantiles


def _column_medians(x: Floats, y: Floats) -> Floats:
    """Return the median of all differences y − x of each column, a few columns at a time to bound memory."""
    step = max(1, 4_000_000 // (len(x) * len(y)))
    return (
        np.concatenate(
            [
                np.median((y[:, None, c : c + step] - x[None, :, c : c + step]).reshape(len(x) * len(y), -1), axis=0)
                for c in range(0, x.shape[1], step)
            ]
        )
        if x.shape[1]
        else np.zeros(0)
    )


def _block_picks(rng: np.random.Generator, series: Floats, replicates: int) -> NDArray[np.int64]:
    """Return (replicates, n) row numbers: moving blocks of the series' own block length, wrapped at its end."""
    n = len(series)
    length = block_length(series)
    blocks = -(-n // length)
    starts = rng.integers(0, n, size=(replicates, blocks, 1))
    return np.asarray((starts + np.arange(length)).reshape(replicates, -1)[:, :n] % n)


def _percentiles(replicas: Floats, n: float) -> tuple[Any, Any]:
    """Return the interval of bootstrap replicas, widened for small n: percentiles of the t instead of the normal."""
    tail = (1 - CONFIDENCE) / 2
    if n > 2:
        tail = float(scipy_stats.norm.cdf(math.sqrt(n / (n - 1)) * scipy_stats.t.ppf(tail, n - 1)))
    return np.quantile(replicas, tail, axis=0), np.quantile(replicas, 1 - tail, axis=0)
