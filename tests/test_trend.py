"""Slopes, rank correlations, exponents and few means, against what they must be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rca.stats.robust import few_means
from rca.stats.trend import exponents, trend

X = np.array([1.0, 8, 16, 32, 64, 128, 256, 512])


def test_a_line_is_found_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(3)
    found = [trend([(X, 2 + 0.04 * X + rng.normal(0, 0.3, len(X)))]) for _ in range(300)]
    held = np.mean([one.slope.low <= 0.04 <= one.slope.high for one in found if one])
    assert 0.92 <= held <= 0.99


def test_groups_share_a_slope_but_no_level() -> None:
    found = trend([(X, 100 + 0.04 * X), (X, 5 + 0.04 * X)])
    assert found is not None
    assert (found.n, found.rho) == (16, pytest.approx(1.0))
    assert found.slope.estimate == pytest.approx(0.04)


def test_few_points_are_counted_out() -> None:
    x, y = np.arange(5.0), np.array([1.0, 2, 4, 3, 5])
    found = trend([(x, y)])
    exact = scipy_stats.permutation_test(
        (y,), lambda y: scipy_stats.spearmanr(x, y).statistic, permutation_type="pairings", n_resamples=np.inf
    )
    assert found is not None
    assert found.rho == pytest.approx(0.9)
    assert found.p == pytest.approx(exact.pvalue)


def test_independent_values_rarely_respond() -> None:
    rng = np.random.default_rng(5)
    p = [one.p for _ in range(400) if (one := trend([(X, rng.normal(size=8)), (X, rng.normal(size=8))]))]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.085


def test_what_says_nothing() -> None:
    assert trend([(X[:2], X[:2])]) is None
    assert trend([(X, np.ones(8))]) is None
    assert trend([]) is None


def test_exponents_of_a_power_law() -> None:
    rng = np.random.default_rng(2)
    width, depth = rng.choice([512.0, 768, 1024, 2048], 40), rng.choice([6.0, 12, 24, 48], 40)
    found = exponents(
        {"width": width, "depth": depth, "heads": np.full(40, 8.0)}, 3 * width**1.5 * depth * rng.lognormal(0, 0.05, 40)
    )
    assert found is not None
    assert set(found) == {"width", "depth"}
    assert found["width"].low < 1.5 < found["width"].high
    assert found["depth"].low < 1.0 < found["depth"].high


def test_factors_that_move_together_are_not_told_apart() -> None:
    width = np.repeat([512.0, 1024, 2048], 4)
    assert exponents({"width": width, "depth": width / 64}, width) is None


def test_few_means_are_welchs() -> None:
    rng = np.random.default_rng(9)
    for _ in range(20):
        x, y = rng.normal(10, 1, rng.integers(2, 8)), rng.normal(11, 2, rng.integers(2, 8))
        expected = scipy_stats.ttest_ind(y, x, equal_var=False)
        interval = expected.confidence_interval()
        tested = few_means(x, y)
        assert tested is not None
        shift, p = tested
        assert p == pytest.approx(expected.pvalue)
        assert (shift.low, shift.high) == pytest.approx((interval.low, interval.high))


def test_one_value_is_held_against_the_spread_of_the_others() -> None:
    x, y = np.array([10.0, 10.2, 9.9, 10.1]), np.array([12.0])
    expected = scipy_stats.ttest_ind(y, x, equal_var=True)
    tested = few_means(x, y)
    assert tested is not None
    assert tested[1] == pytest.approx(expected.pvalue)
    assert few_means(y, y) is None
    assert few_means(x[:2], y) is None


def test_rounding_is_a_spread() -> None:
    x, y = np.full(3, 0.13), np.full(3, 0.14)
    exact, rounded = few_means(x, y), few_means(x, y, resolution=0.01)
    assert exact is not None
    assert rounded is not None
    assert exact[1] < 1e-6
    assert rounded[1] > 0.001
    assert rounded[0].low < 0.01 < rounded[0].high
