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

from rca.stats.reference import mann_whitney_p, welch_p

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
MAX_DEPENDENCE = 0.98
_LARGEST_EXACT = 64
"""A side longer than this takes the normal approximation: the exact distribution would take seconds a column."""
_MAX_POINTS = 256
"""Quantiles to which a longer side is thinned before all pairs of values are formed."""
_SEED = 20_260_901


@dataclass(frozen=True)
class Shift:
    """An effect with its interval: abnormal − normal, or abnormal / normal for `ratio`."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class TwoSampleTest:
    """p-values and Cliff's δ = P(y > x) − P(y < x), from −1 (all of y below x) to 1; one per column."""

    p: Floats
    delta: Floats


def hodges_lehmann(x: Floats, y: Floats) -> float:
    """Return the median of all differences y − x; beyond `_MAX_POINTS` values a side is thinned to its quantiles."""
    return float(column_shift(x[:, None], y[:, None])[0])


def column_shift(x: Floats, y: Floats, points: int = _MAX_POINTS) -> Floats:
    """Return the Hodges-Lehmann shift of every column of (values, columns) arrays."""
    x, y = _thin(x, points), _thin(y, points)
    step = max(1, 4_000_000 // (len(x) * len(y)))  # columns at a time, to bound memory
    pieces = [
        np.median((y[:, None, c : c + step] - x[None, :, c : c + step]).reshape(len(x) * len(y), -1), axis=0)
        for c in range(0, x.shape[1], step)
    ]
    return np.concatenate(pieces) if pieces else np.zeros(0)


def dependence(*series: Floats) -> float:
    """Return the lag-1 autocorrelation ρ that several series of one quantity share, 0 where it cannot be told from none.

    Ranks are correlated, so that one outlier does not pose as independence; the estimate is pooled over the series, each
    around its own mean, and corrected for the bias −(1 + 3ρ)/n of short ones (Marriott & Pope, Biometrika 41, 1954). What
    is then within one standard error, 1/√(all values), of none counts as none.

    Args:
        series: values in time order, one array per recording; those of fewer than 4 values say nothing.
    """
    usable = [scipy_stats.rankdata(x) for x in series if len(x) >= 4]
    centred = [ranks - ranks.mean() for ranks in usable]
    power = sum(float(c @ c) / len(c) for c in centred)
    if power == 0:
        return 0.0
    rho = sum(float(c[1:] @ c[:-1]) / len(c) for c in centred) / power
    rho += (1 + 3 * rho) * len(usable) / sum(map(len, usable))
    return min(rho, MAX_DEPENDENCE) if rho > 1 / math.sqrt(sum(map(len, usable))) else 0.0


def effective_n(n: int, rho: float) -> float:
    """Return the number of independent values that n serially dependent ones are worth: n (1 − ρ) / (1 + ρ), at least 1."""
    return max(n * (1 - rho) / (1 + rho), 1.0)


def block_length(n: int, rho: float) -> int:
    """Return the block length for resampling: Carlstein's (2ρ / (1 − ρ²))^⅔ n^⅓, 1 for independent values."""
    length = math.ceil((2 * rho / (1 - rho**2)) ** (2 / 3) * n ** (1 / 3)) if rho else 1
    return max(1, min(length, n // 3))


def ratio(x: Floats, y: Floats, rho: float, replicates: int = 999) -> Shift:
    """Return how many times larger y is than x, with a block-bootstrap interval.

    The estimate is exp of the Hodges-Lehmann shift of the logarithms: the median of all ratios y / x.

    Args:
        x: positive values in time order.
        y: the same for the other side.
        rho: their `dependence`.
        replicates: bootstrap samples; the generator is seeded, so the same input gives the same interval.
    """
    shift, low, high = column_shifts(np.log(x)[:, None], np.log(y)[:, None], rho, replicates, points=64)
    return Shift(math.exp(shift[0]), math.exp(low[0]), math.exp(high[0]))


def column_shifts(
    x: Floats, y: Floats, rho: float, replicates: int = 199, points: int = 32
) -> tuple[Floats, Floats, Floats]:
    """Return Hodges-Lehmann shift and block-bootstrap interval of every column, resampling whole rows.

    Args:
        x: (cycles, columns) of one side, in time order.
        y: (cycles, columns) of the other side.
        rho: `dependence` of the rows.
        replicates: bootstrap samples; every column shares them.
        points: quantiles to which a longer side is thinned within each replicate; the estimate itself uses more.

    Returns:
        shift, low, high: one value per column.
    """
    rng = np.random.default_rng(_SEED)
    shift = column_shift(x, y)
    picks = zip(block_picks(rng, len(x), rho, replicates), block_picks(rng, len(y), rho, replicates), strict=True)
    replicas = np.array([column_shift(x[i], y[j], points) for i, j in picks])
    low, high = _percentiles(replicas, effective_n(min(len(x), len(y)), rho))
    return shift, np.minimum(low, shift), np.maximum(high, shift)


def two_sample_test(x: Floats, y: Floats, n_x: float, n_y: float) -> TwoSampleTest:
    """Test whether y tends to be larger or smaller than x, column by column.

    p is Mann-Whitney's: exact for up to 8 values without ties, else normal with ties and continuity correction. Where the
    values are worth fewer independent ones, a test of the means that counts them so has to agree, and the larger p is
    given: Welch's t with the effective numbers and with the standard deviation that serial dependence hides (Zwiers & von
    Storch, J. Climate 8, 1995). So neither an outlier nor a slow drift makes a difference.

    Args:
        x: (values,) or (values, columns).
        y: the same for the other side.
        n_x: what the values of x are worth (`effective_n`).
        n_y: what the values of y are worth.
    """
    x, y = (v.reshape(len(v), -1) for v in (x, y))
    n1, n2 = len(x), len(y)
    ranks = scipy_stats.rankdata(np.concatenate([x, y]), axis=0)
    u = ranks[:n1].sum(axis=0) - n1 * (n1 + 1) / 2
    delta = 1 - 2 * u / (n1 * n2)
    if min(n1, n2) < 2:
        return TwoSampleTest(np.ones(x.shape[1]), delta)
    p = mann_whitney_p(list(x.T), list(y.T), largest_exact=_LARGEST_EXACT)
    if n_x < n1 or n_y < n2:
        p = np.maximum(p, _dependent_welch_p(x, y, n_x, n_y))
    return TwoSampleTest(p, delta)


def _dependent_welch_p(x: Floats, y: Floats, n_x: float, n_y: float) -> Floats:
    """Return Welch's p for means of dependent values; 0 where neither side varies and they differ."""
    sides = []
    for values, worth in ((x, n_x), (y, n_y)):
        if worth < 2:  # one value has no spread
            return np.ones(values.shape[1])
        n, n_eff = len(values), np.full(values.shape[1], worth)
        hidden = np.sqrt((n - 1) / np.maximum(n - n / n_eff, 1.0))
        sides += [values.mean(axis=0), values.std(axis=0, ddof=1) * hidden, n_eff]
    p = welch_p(*sides)
    return np.where(np.isnan(p), np.where(sides[0] == sides[3], 1.0, 0.0), p)


def few_means(x: Floats, y: Floats, resolution: float = 0.0) -> tuple[Shift, float] | None:
    """Return how much larger the mean of y is than that of x, with its t interval, and the two-sided p-value.

    For few independent values, of which the rank test cannot say anything. Welch's unequal variances; where one side has
    one value only, that one is held against the spread of the other. None where neither side has a spread to go by.

    Args:
        x: values of one side.
        y: values of the other.
        resolution: of the figures: what is rounded varies by at least its standard deviation, resolution / √12.
    """
    repeated = [v for v in (x, y) if len(v) > 1]
    if not repeated or len(x) + len(y) < 4:
        return None
    variances = [float(v.var(ddof=1)) + resolution**2 / 12 if len(v) > 1 else math.nan for v in (x, y)]
    lone = float(np.nanmean(variances))
    terms = [(lone if math.isnan(variance) else variance) / len(v) for variance, v in zip(variances, (x, y), strict=True)]
    error = math.sqrt(sum(terms))
    shift = float(y.mean() - x.mean())
    if error == 0:
        return Shift(shift, shift, shift), 0.0 if shift else 1.0
    if len(repeated) == 2:
        freedom = sum(terms) ** 2 / sum(term**2 / (len(v) - 1) for term, v in zip(terms, (x, y), strict=True))
    else:
        freedom = len(repeated[0]) - 1.0
    reach = float(scipy_stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) * error
    return Shift(shift, shift - reach, shift + reach), float(2 * scipy_stats.t.sf(abs(shift) / error, freedom))


def smallest_p(n_x: int, n_y: int) -> float:
    """Return the smallest two-sided p-value that the exact rank test can reach with so many values."""
    return min(1.0, 2 / math.comb(n_x + n_y, n_x))


def values_needed(alpha: float) -> int:
    """Return the smallest number of values per side with which the rank test can reach ``alpha``."""
    return next(n for n in range(2, 100) if smallest_p(n, n) < alpha)


def benjamini_hochberg(p: Floats) -> Floats:
    """Return q-values: the share of false discoveries if everything up to this p-value is called a discovery."""
    return np.asarray(scipy_stats.false_discovery_control(p)) if len(p) else p


def any_difference_p(x: Floats, y: Floats, rho: float, replicates: int = 999) -> float:
    """Return the p-value of "nothing differs": the largest |rank-sum score| over columns against permuted sides.

    Args:
        x: (cycles, columns) in time order.
        y: the same for the other side.
        rho: `dependence` of the rows; whole blocks of them change sides.
        replicates: permutations.
    """
    ranks = scipy_stats.rankdata(np.concatenate([x, y]), axis=0)
    spread = ranks.std(axis=0)
    scores = (ranks - ranks.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    if scores.shape[1] == 0 or min(len(x), len(y)) < 2:
        return 1.0
    length = block_length(min(len(x), len(y)), rho)
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


def _thin(values: Floats, points: int) -> Floats:
    """Replace more than ``points`` rows by that many quantiles of each column."""
    if len(values) <= points:
        return values
    at = ((np.arange(points) + 0.5) * len(values) / points).astype(int)
    quantiles: Floats = np.sort(values, axis=0)[at]
    return quantiles


def block_picks(rng: np.random.Generator, n: int, rho: float, replicates: int) -> NDArray[np.int64]:
    """Return (replicates, n) row numbers: moving blocks, wrapped at the series' end."""
    length = block_length(n, rho)
    blocks = -(-n // length)
    starts = rng.integers(0, n, size=(replicates, blocks, 1))
    return np.asarray((starts + np.arange(length)).reshape(replicates, -1)[:, :n] % n)


def _percentiles(replicas: Floats, n: float) -> tuple[Any, Any]:
    """Return the interval of bootstrap replicas, widened for small n: percentiles of the t instead of the normal."""
    n = max(n, 2.0)  # of less nobody knows the spread
    tail = (1 - CONFIDENCE) / 2
    tail = float(scipy_stats.norm.cdf(math.sqrt(n / (n - 1)) * scipy_stats.t.ppf(tail, n - 1)))
    return np.quantile(replicas, tail, axis=0), np.quantile(replicas, 1 - tail, axis=0)
