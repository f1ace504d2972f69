"""The statistics against scipy, plain loops and their own symmetries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from rca.stats import reference, robust

values = st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: round(v, 3))
samples = st.integers(2, 30).flatmap(lambda n: arrays(np.float64, n, elements=values))


@given(samples, samples)
@settings(max_examples=80, deadline=None)
def test_mann_whitney_equals_scipy_auto(x: np.ndarray, y: np.ndarray) -> None:
    (p,) = reference.mann_whitney_p([x], [y])
    expected = scipy_stats.mannwhitneyu(x, y, alternative="two-sided").pvalue
    assert p == pytest.approx(1.0 if np.isnan(expected) else expected)


def test_mann_whitney_mixes_shapes() -> None:
    rng = np.random.default_rng(1)
    ones = [rng.random(n) for n in (1, 5, 20, 5, 0)]
    twos = [rng.random(n) for n in (9, 7, 30, 7, 4)]
    p = reference.mann_whitney_p(ones, twos)
    assert p[0] == 1
    assert p[4] == 1
    for i in (1, 2, 3):
        assert p[i] == pytest.approx(scipy_stats.mannwhitneyu(ones[i], twos[i]).pvalue)


def test_z_score_of_constant_baseline_is_zero() -> None:
    z = reference.z_score(np.array([1.0, 1.0]), np.array([5.0, 5.0]), np.array([0.0, 2.0]))
    assert z.tolist() == [0.0, 2.0]


def test_welch_needs_two_cycles() -> None:
    one, two = np.array([1.0]), np.array([2.0])
    assert reference.welch_p(one, one, np.array([1.0]), two, two, np.array([9.0])).tolist() == [1.0]


@given(samples, samples)
@settings(max_examples=60, deadline=None)
def test_shift_delta_and_p_mirror_when_sides_swap(x: np.ndarray, y: np.ndarray) -> None:
    there, back = robust.two_sample_test(x, y, len(x), len(y)), robust.two_sample_test(y, x, len(y), len(x))
    assert there.delta[0] == pytest.approx(-back.delta[0])
    assert there.p[0] == pytest.approx(back.p[0])
    assert robust.hodges_lehmann(x, y) == pytest.approx(-robust.hodges_lehmann(y, x))


@given(samples, samples)
@settings(max_examples=60, deadline=None)
def test_cliffs_delta_by_counting(x: np.ndarray, y: np.ndarray) -> None:
    above = sum(b > a for a in x for b in y) - sum(b < a for a in x for b in y)
    assert robust.two_sample_test(x, y, len(x), len(y)).delta[0] == pytest.approx(above / (len(x) * len(y)))


def test_ratio_finds_a_known_slowdown() -> None:
    rng = np.random.default_rng(3)
    x, y = np.exp(rng.normal(0, 0.05, 60)), 1.3 * np.exp(rng.normal(0, 0.05, 60))
    shift = robust.ratio(x, y, rho=0)
    assert 1.26 < shift.low < shift.estimate < shift.high < 1.34
    assert shift == robust.ratio(x, y, rho=0), "seeded: the same input gives the same interval"
    back = robust.ratio(y, x, rho=0)
    assert back.estimate == pytest.approx(1 / shift.estimate)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(200):
        shift = robust.ratio(np.exp(rng.normal(0, 0.1, 12)), np.exp(rng.normal(0, 0.1, 12)), rho=0, replicates=199)
        covered += shift.low <= 1 <= shift.high
    assert 180 <= covered <= 199


def test_serial_dependence_widens_what_a_series_is_worth() -> None:
    rng = np.random.default_rng(5)
    noise = rng.standard_normal(400)
    smooth = np.zeros(400)
    for i in range(1, 400):
        smooth[i] = 0.8 * smooth[i - 1] + noise[i]
    assert robust.dependence(noise) < 0.1
    rho = robust.dependence(smooth)
    assert 0.7 < rho < 0.9
    assert robust.dependence(smooth[:200], 5 + smooth[200:]) == pytest.approx(rho, abs=0.05), "each around its own mean"
    assert 25 < robust.effective_n(400, rho) < 80
    assert robust.effective_n(400, 0) == 400
    assert robust.block_length(400, 0) == 1
    assert robust.block_length(400, rho) > 5


def test_dependence_is_counted_by_what_it_hides() -> None:
    """A drift of 30 % within each side explains a shift of 10 %, not one of 300 %."""
    drift = np.linspace(1, 1.3, 20)
    rho = robust.dependence(drift, drift)
    worth = robust.effective_n(20, 0.67)
    assert rho > 0.9
    assert robust.two_sample_test(drift, drift + 0.1, worth, worth).p[0] > 0.05
    assert robust.two_sample_test(drift, drift * 4, worth, worth).p[0] < 0.01
    assert robust.two_sample_test(drift, drift * 4, 1, 1).p[0] == 1, "one value has no spread"


def test_dependent_values_raise_no_false_alarms_once_they_are_counted() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((2, 14, 1000))
    for i in range(1, 14):
        x[i], y[i] = (0.6 * side[i - 1] + 0.8 * side[i] for side in (x, y))
    worth = robust.effective_n(14, 0.6)
    assert (robust.two_sample_test(x, y, 14, 14).p < 0.05).mean() > 0.2, "taken as independent they do"
    assert (robust.two_sample_test(x, y, worth, worth).p < 0.05).mean() < 0.02
    assert (robust.two_sample_test(x, y + 4, worth, worth).p < 0.05).mean() > 0.9


def test_constant_and_tiny_series_say_nothing_about_dependence() -> None:
    assert robust.dependence(np.full(50, 3.0)) == 0
    assert robust.dependence(np.array([1.0, 2, 3])) == 0


def test_false_alarms_stay_at_their_level() -> None:
    """On samples that do not differ the rank test at 1 % fires about once in a hundred times."""
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((14, 2000)), rng.standard_normal((14, 2000))
    p = robust.two_sample_test(x, y, 14, 14).p
    assert 0.004 <= (p < 0.01).mean() <= 0.02
    assert (robust.two_sample_test(x, y + 2, 14, 14).p < 0.01).mean() > 0.9
    assert (robust.benjamini_hochberg(p) < 0.05).sum() == 0


def test_any_difference_sees_one_column_in_many_and_nothing_in_noise() -> None:
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((20, 50)), rng.standard_normal((20, 50))
    assert robust.any_difference_p(x, y, rho=0) > 0.05
    y[:, 13] += 3
    assert robust.any_difference_p(x, y, rho=0) < 0.01


def test_smallest_p_says_how_many_cycles_are_needed() -> None:
    n = robust.values_needed(0.01)
    assert n == 5
    assert scipy_stats.mannwhitneyu(np.arange(n), n + np.arange(n)).pvalue < 0.01
    assert scipy_stats.mannwhitneyu(np.arange(n - 1), n + np.arange(n - 1)).pvalue >= 0.01


def test_outliers_are_marked() -> None:
    assert robust.outliers(np.array([10.0, 11, 9, 10, 12, 90])).tolist() == [False] * 5 + [True]
    assert not robust.outliers(np.full(5, 3.0)).any()
