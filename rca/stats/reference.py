"""The reference statistics (FORMATS.md §7.7), vectorised over rows: Z-score, Welch t, Mann-Whitney U.

They are kept as readers of the seed report know them. Their weak points are documented there; `rca.stats.robust` has the
statistics that verdicts rest on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

Floats = NDArray[np.float64]

SMALLEST_SD = 1e-9
"""A baseline whose standard deviation is not above this yields Z = 0."""

EXACT_UP_TO = 8
"""scipy's ``method="auto"`` is exact when a sample has at most this many values and nothing ties."""


def z_score(mean_normal: Floats, mean_abnormal: Floats, sd_normal: Floats) -> Floats:
    """Return (mean_abnormal − mean_normal) / sd_normal, 0 where ``sd_normal`` is not above `SMALLEST_SD`."""
    usable = sd_normal > SMALLEST_SD
    return np.where(usable, (mean_abnormal - mean_normal) / np.where(usable, sd_normal, 1.0), 0.0)


def welch_p(mean_1: Floats, sd_1: Floats, n_1: NDArray[Any], mean_2: Floats, sd_2: Floats, n_2: NDArray[Any]) -> Floats:
    """Return two-sided p-values of Welch's t-test from summary statistics; 1 where either n is below 2.

    NaN where both standard deviations are 0 and the means agree, as in the reference.
    """
    testable = (n_1 > 1) & (n_2 > 1)
    p = np.ones(len(mean_1))
    if testable.any():
        with np.errstate(divide="ignore", invalid="ignore"):
            p[testable] = scipy_stats.ttest_ind_from_stats(
                mean_1[testable],
                sd_1[testable],
                n_1[testable],
                mean_2[testable],
                sd_2[testable],
                n_2[testable],
                equal_var=False,
            ).pvalue
    return p


def mann_whitney_p(samples_1: Sequence[Floats], samples_2: Sequence[Floats], largest_exact: int | None = None) -> Floats:
    """Return two-sided p-values of the Mann-Whitney U test for each pair of samples; 1 where either has one value or none.

    The method is scipy's ``auto``: exact for small samples without ties, else normal with tie and continuity correction.
    Pairs of one shape and method are tested in one call.

    Args:
        samples_1: values of the first side, one array per pair.
        samples_2: values of the second side.
        largest_exact: longest sample that is tested exactly; by default any that scipy would.
    """
    p = np.ones(len(samples_1))
    groups: dict[tuple[int, int, str], list[int]] = {}
    for i, (x, y) in enumerate(zip(samples_1, samples_2, strict=True)):
        if len(x) > 1 and len(y) > 1:
            too_long = largest_exact is not None and max(len(x), len(y)) > largest_exact
            method = "asymptotic" if too_long else _method(x, y)
            groups.setdefault((len(x), len(y), method), []).append(i)
    for (_, _, method), members in groups.items():
        p[members] = scipy_stats.mannwhitneyu(
            np.stack([samples_1[i] for i in members]),
            np.stack([samples_2[i] for i in members]),
            axis=1,
            alternative="two-sided",
            method=method,
        ).pvalue
    return np.where(np.isnan(p), 1.0, p)  # scipy since 1.18, where all values of both samples tie


def _method(x: Floats, y: Floats) -> str:
    if len(x) > EXACT_UP_TO and len(y) > EXACT_UP_TO:
        return "asymptotic"
    pooled = np.concatenate([x, y])
    return "exact" if len(np.unique(pooled)) == len(pooled) else "asymptotic"
