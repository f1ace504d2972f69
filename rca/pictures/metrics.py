"""The values behind every counter and signal that is compared, with the curves that show how they are distributed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture import Capture
from rca.capture.tables import HOST
from rca.comparison import RankComparison
from rca.comparison.robust import counter_values
from rca.pictures.density import MIN_FOR_CURVE
from rca.verdict.observe import paired
from rca.verdict.recorded import Recorded, known_cores
from rca.verdict.signals import BY_ID

Floats = NDArray[np.float64]

_STEPS = 64
_MOST = 400
"""Values that a curve is drawn from; of more, so many quantiles."""


@dataclass(frozen=True)
class TwoSides:
    """The values of one quantity on both sides, in time order. ``unit`` is empty where the capture does not state it."""

    normal: tuple[float, ...]
    abnormal: tuple[float, ...]
    unit: str


Key = tuple[str, str]
"""Metric (or signal) and device."""


def counters_of(rank: RankComparison) -> Mapping[Key, TwoSides]:
    """Return the values that each row of ``rank.metrics`` is computed from.

    Of a capture with events these are samples, or means per cycle of what was sampled more often than cycles ran; of one
    that was cut before, the μ that it states per cycle, in % (×100 for counters that are no percentages), without unit.
    """
    sides = [
        counter_values(profile, rank.compared.filter(pl.col("side") == side))
        for side, profile in zip(("normal", "abnormal"), rank.profiles, strict=True)
    ]
    stated = all(profile.from_events for profile in rank.profiles)
    units = _units(rank.profiles[0].counters) if stated else {}
    return {
        key: TwoSides(_values(sides[0][key][0]), _values(sides[1][key][0]), units.get(key[0], ""))
        for key in sorted(sides[0].keys() & sides[1].keys())
    }


def signals_of(normal: Capture, abnormal: Capture, rank: RankComparison | None) -> Mapping[Key, TwoSides]:
    """Return the values that the observations of a verdict are computed from, by (signal, device).

    Only of signals that counters state: what is computed from cycles or functions (``batch``) is left out.

    Args:
        normal: a side; its events are not needed.
        abnormal: the other.
        rank: whose signals; None where nothing was cut into cycles.
    """
    cores = known_cores(normal, abnormal)
    profiles = rank.profiles if rank else (None, None)
    one, two = (Recorded(side, own, cores) for side, own in zip((normal, abnormal), profiles, strict=True))
    one.share_with(two)
    gpus = paired(one.gpus(), two.gpus())
    found = {}
    for signal in BY_ID.values():
        for of_normal, device in gpus if signal.per_gpu else [(HOST, HOST)]:
            before, after = signal.read(one, of_normal), signal.read(two, device)
            if before is not None and after is not None:
                found[signal.id, device] = TwoSides(_values(before.value), _values(after.value), signal.unit)
    return found


def curve(values: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return x and density of one side's values; empty where they are too few (`MIN_FOR_CURVE`) or all the same.

    A Gaussian kernel estimate (Scott's bandwidth), cut off at the smallest and the largest value: most counters have ends
    beyond which there is nothing.
    """
    points = np.asarray(values)
    n = len(points)
    if n < MIN_FOR_CURVE:
        return (), ()
    low, high = float(points.min()), float(points.max())
    width = high - low
    if not 1e-9 * max(abs(low), abs(high), 1e-12) < width < math.inf:
        return (), ()
    few = np.quantile(points, (np.arange(_MOST) + 0.5) / _MOST) if n > _MOST else points
    at = np.linspace(0, 1, _STEPS)
    shares = (few - low) / width  # for squares of 1e200 are no number
    bandwidth = float(shares.std(ddof=1)) * n**-0.2
    density = np.exp(-0.5 * ((at[:, None] - shares) / bandwidth) ** 2).mean(axis=1) / (bandwidth * math.sqrt(2 * math.pi))
    return tuple((low + at * width).tolist()), tuple((density / width).tolist())


def _units(counters: pl.DataFrame) -> dict[str, str]:
    names = counters.select(pl.col("metric", "unit").cast(pl.String)).unique().sort("metric", "unit")
    return dict(names.iter_rows())


def _values(values: Floats) -> tuple[float, ...]:
    return tuple(values.tolist())
