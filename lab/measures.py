"""The numbers that verdicts are scored by: pure functions of ranks, counts and confidences. Knows no traces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

CONFIDENCE_LEVEL = 0.95
"""Of every interval."""

BINS = 10
"""Bins of the reliability diagram (Guo et al., ICML 2017, use 15 for thousands of predictions; these are fewer)."""


@dataclass(frozen=True)
class Accuracy:
    """How a method ranks the true cause over ``n`` cases.

    ``top1`` and ``top3`` are the shares of cases in which it is first, or among the first three; ``mrr`` is the mean of
    1/position, 0 where it is not named. All three are NaN where there is no case.
    """

    n: int
    top1: float
    top3: float
    mrr: float


def accuracy(positions: Sequence[int | None]) -> Accuracy:
    """Return the accuracy from the position of the true cause in each case: 1 is the first, None is not named."""
    n = len(positions)
    if n == 0:
        return Accuracy(0, math.nan, math.nan, math.nan)
    named = [position for position in positions if position is not None]
    return Accuracy(
        n=n,
        top1=sum(position <= 1 for position in named) / n,
        top3=sum(position <= 3 for position in named) / n,
        mrr=sum(1 / position for position in named) / n,
    )


def random_accuracy(n: int, candidates: int) -> Accuracy:
    """Return what a random order of so many candidates, the true one among them, is expected to score: 1/N, 3/N, H_N/N."""
    if n == 0 or candidates == 0:
        return accuracy([])
    harmonic = sum(1 / position for position in range(1, candidates + 1))
    return Accuracy(n, 1 / candidates, min(3, candidates) / candidates, harmonic / candidates)


@dataclass(frozen=True)
class Share:
    """``hits`` of ``n``, and Wilson's 95 % interval of the share; from 0 to 1 where ``n`` is 0."""

    hits: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share, NaN where ``n`` is 0."""
        return self.hits / self.n if self.n else math.nan


def share(hits: int, n: int) -> Share:
    """Return a share with its interval (Wilson, 1927): it holds for few cases, and for shares of 0 and 1."""
    if n == 0:
        return Share(0, 0, 0.0, 1.0)
    interval = binomtest(hits, n).proportion_ci(CONFIDENCE_LEVEL, method="wilson")
    return Share(hits, n, float(interval.low), float(interval.high))


def share_of(values: Sequence[bool]) -> Share:
    """Return the share of values that are true."""
    return share(sum(values), len(values))


@dataclass(frozen=True)
class Reliability:
    """One bin of a reliability diagram: confidences from ``low`` to ``high``, their mean, and the share that was right."""

    low: float
    high: float
    confidence: float
    right: Share


@dataclass(frozen=True)
class Calibration:
    """How confidences compare with what was right.

    Attributes:
        n: number of confidences.
        error: the expected calibration error: the mean over all confidences of |mean confidence − share right| of their bin.
        bins: those that hold any confidence.
    """

    n: int
    error: float
    bins: tuple[Reliability, ...]


def calibration(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> Calibration | None:
    """Compare confidences (0 to 1) with whether each was right; None where there is no confidence.

    Bins are of equal width, closed on the right, the first on both sides (Naeini et al., AAAI 2015; Guo et al., ICML 2017).
    """
    n = len(confidences)
    if n == 0:
        return None
    values, hits = np.asarray(confidences, dtype=float), np.asarray(right, dtype=bool)
    places = np.clip(np.searchsorted(np.arange(bins + 1) / bins, values, side="left") - 1, 0, bins - 1)
    found = []
    for place in np.unique(places).tolist():
        own = places == place
        mean = float(values[own].mean())
        found.append(Reliability(place / bins, (place + 1) / bins, mean, share_of(hits[own].tolist())))
    error = sum(one.right.n * abs(one.confidence - one.right.value) for one in found) / n
    return Calibration(n, error, tuple(found))


def noise(ratios: Sequence[float]) -> float | None:
    """Return how far pairs in which nothing differs lie apart: the 95th percentile of |log ratio|, not interpolated.

    Of fewer than 20 pairs that is the largest one. None where there is no pair.
    """
    if not ratios:
        return None
    return float(np.quantile(np.abs(np.log(ratios)), 0.95, method="higher"))
