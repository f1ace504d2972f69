"""How a quantity responds to parameters: slopes and exponents with intervals, rank correlation.

Sources: MacKinnon & White, J. Econometrics 29 (1985) for the intervals (HC3: the spread may grow with x). The p of
Spearman's ρ is of permutations, counted out for few points: that of `scipy.stats.spearmanr` is asymptotic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from rca.stats.robust import CONFIDENCE, Floats, Shift

_EXACT_POINTS = 7
"""5,040 orders can be counted out; more points are drawn from."""

_DRAWS = 9_999
_SEED = 20_261_126
_MAX_CONDITION = 1e6


@dataclass(frozen=True)
class Trend:
    """How y changes with x: the slope per unit of x with its 95 % interval, Spearman's ρ, two-sided permutation p."""

    n: int
    slope: Shift
    rho: float
    p: float


def trend(groups: list[tuple[Floats, Floats]]) -> Trend | None:
    """Return how y responds to x within groups in which nothing else differs, pooled over them.

    The slope is of least squares with one intercept per group, ρ the mean over groups weighted by
    their points, and p permutes y within groups. None where no group has 3 values of x, or y never differs.

    Args:
        groups: (x, y) pairs of one-dimensional arrays.
    """
    usable = [(x, y) for x, y in groups if len(np.unique(x)) >= 3]
    if not usable or all(len(np.unique(y)) == 1 for _, y in usable):
        return None
    ranks = [(scipy_stats.rankdata(x), scipy_stats.rankdata(y)) for x, y in usable]
    centred = [(a - a.mean(), b - b.mean()) for a, b in ranks]
    scale = [math.sqrt(float(a @ a) * float(b @ b)) for a, b in centred]
    weights = [len(a) / s if s else 0.0 for (a, _), s in zip(centred, scale, strict=True)]
    n = sum(len(a) for a, _ in centred)
    rho = sum(w * float(a @ b) for w, (a, b) in zip(weights, centred, strict=True)) / n
    chance, exact = _permuted(centred, weights)
    as_far = float((np.abs(chance / n) >= abs(rho) - 1e-9).sum())
    p = as_far / len(chance) if exact else (1 + as_far) / (1 + len(chance))
    return Trend(n, _common_slope(usable), rho, p)


def _permuted(groups: list[tuple[Floats, Floats]], weights: list[float]) -> tuple[Floats, bool]:
    """Return Σ w x·y with y permuted within each group, and whether these are all orders there are or seeded draws."""
    if len(groups) == 1 and len(groups[0][0]) <= _EXACT_POINTS:
        x, y = groups[0]
        return weights[0] * (y[np.array(list(itertools.permutations(range(len(y)))))] @ x), True
    rng = np.random.default_rng(_SEED)
    orders = (rng.random((_DRAWS, len(y))).argsort(axis=1) for _, y in groups)
    drawn = [w * (y[order] @ x) for w, (x, y), order in zip(weights, groups, orders, strict=True)]
    return np.sum(drawn, axis=0), False


def _common_slope(groups: list[tuple[Floats, Floats]]) -> Shift:
    """Return the least-squares slope that all groups share, each with an intercept of its own."""
    x = np.concatenate([x - x.mean() for x, _ in groups])
    y = np.concatenate([y - y.mean() for _, y in groups])
    fitted = sm.OLS(y, x[:, None]).fit(cov_type="HC3")
    spare = len(x) - len(groups) - 1  # every group's mean costs one degree of freedom
    error = float(fitted.bse[0]) * math.sqrt((len(x) - 1) / spare) * scipy_stats.t.ppf(0.5 + CONFIDENCE / 2, spare)
    slope = float(fitted.params[0])
    return Shift(slope, float(slope - error), float(slope + error))


def exponents(factors: Mapping[str, Floats], y: Floats) -> dict[str, Shift] | None:
    """Return the exponents of y ≈ c · Π factorᵉ, by least squares on logarithms (HC3 intervals, t distribution).

    Factors that never vary are left out. None where what is left cannot be told apart (fewer points than unknowns, or
    factors that move together).

    Args:
        factors: positive values, one array per factor, as long as y.
        y: positive values.
    """
    varying = {name: np.log(x) for name, x in factors.items() if len(np.unique(x)) > 1}
    if not varying or len(y) < len(varying) + 3:
        return None
    centred = np.column_stack([x - x.mean() for x in varying.values()])
    scaled: NDArray[np.float64] = centred / centred.std(axis=0)
    if np.linalg.cond(scaled) ** 2 > _MAX_CONDITION or np.linalg.matrix_rank(scaled) < len(varying):
        return None
    fitted = sm.OLS(np.log(y), sm.add_constant(centred)).fit(cov_type="HC3", use_t=True)
    bounds = fitted.conf_int(alpha=1 - CONFIDENCE)
    return {
        name: Shift(float(fitted.params[i]), float(bounds[i][0]), float(bounds[i][1])) for i, name in enumerate(varying, 1)
    }
