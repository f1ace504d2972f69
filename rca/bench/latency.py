"""Timed runs: summed up by configuration, and two sides of them compared.

Repeats are the replicates. Those of one side were made by one process, one after the other: their serial dependence is
counted, but how far two starts of the same program lie apart nobody measured, and no interval here holds it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats as scipy_stats

from rca.bench.model import Configuration, Measured, RunRecord
from rca.stats.robust import (
    CONFIDENCE,
    Floats,
    Shift,
    benjamini_hochberg,
    dependence,
    effective_n,
    ratio,
    two_sample_test,
    values_needed,
)

ALPHA = 1 - CONFIDENCE
_FEWEST = 3


@dataclass(frozen=True)
class Summary:
    """One configuration of one side.

    Attributes:
        configuration: what was computed.
        n: timed runs.
        mean_s: of their latencies, seconds.
        ci_s: 95 % interval of that mean (Student's t over repeats); None for fewer than 3 runs, of which it says nothing.
        throughput: tokens/s of all runs together; None where it is not known.
        memory: the highest peak, in ``memory_unit``.
    """

    configuration: Configuration
    n: int
    mean_s: float
    ci_s: tuple[float, float] | None
    throughput: float | None
    memory: float | None
    memory_unit: str


@dataclass(frozen=True)
class LatencyChange:
    """One configuration on both sides.

    Attributes:
        normal, abnormal: each side's summary.
        ratio: abnormal / normal, the median of all ratios of repeats; without an interval (NaN) where a side has one run.
        p, q: Mann-Whitney, and after Benjamini-Hochberg over configurations; None where a side has one run.
        rounding: by how much the ratio may be off because figures have few digits, as a share.
    """

    normal: Summary
    abnormal: Summary
    ratio: Shift
    p: float | None
    q: float | None
    rounding: float


@dataclass(frozen=True)
class LatencyComparison:
    """All configurations that both sides ran.

    Attributes:
        rows: one per configuration.
        overall: ratio over all of them, each repeat relative to its configuration's geometric mean on the normal side; None
            where no configuration was run by both.
        p: of the same repeats, all configurations together; None where they are too few.
        n: runs of each side that went in.
        effective: what they are worth, for they depend on each other.
        has_repeats: whether any configuration was run more than once on both sides; then those alone go in.
        only_normal, only_abnormal: configurations that the other side did not run.
    """

    rows: tuple[LatencyChange, ...]
    overall: Shift | None
    p: float | None
    n: tuple[int, int]
    effective: tuple[float, float]
    has_repeats: bool
    only_normal: tuple[str, ...]
    only_abnormal: tuple[str, ...]

    @property
    def rounding(self) -> float:
        """The largest share by which rounded figures may shift a ratio."""
        return max((row.rounding for row in self.rows), default=0.0)

    @property
    def repeats_needed(self) -> int:
        """Repeats per side from which the test can decide."""
        return values_needed(ALPHA)


Key = tuple[str, int | None, int | None]


def by_configuration(records: Iterable[RunRecord]) -> dict[Key, list[RunRecord]]:
    """Return the runs of each configuration, in their order."""
    found: dict[Key, list[RunRecord]] = {}
    for record in records:
        found.setdefault(record.configuration.key, []).append(record)
    return found


def summaries(records: Iterable[RunRecord]) -> tuple[Summary, ...]:
    """Sum up the timed runs, one summary per configuration."""
    return tuple(_summary(runs) for runs in by_configuration(records).values())


def compare_latencies(normal: Iterable[RunRecord], abnormal: Iterable[RunRecord]) -> LatencyComparison:
    """Compare the configurations that both sides ran."""
    sides = by_configuration(normal), by_configuration(abnormal)
    keys = [key for key in sides[0] if key in sides[1]]
    pairs = [(sides[0][key], sides[1][key]) for key in keys]
    logs = [(np.log(_latencies(one)), np.log(_latencies(other))) for one, other in pairs]
    rho = dependence(*(series for pair in logs for series in pair))
    rows = [_change(one, other, rho) for one, other in pairs]
    tested = [row for row in rows if row.p is not None]
    q = dict(zip(map(id, tested), benjamini_hochberg(np.array([row.p for row in tested])), strict=True))
    rows = [replace(row, q=float(q[id(row)]) if id(row) in q else None) for row in rows]
    only = [tuple(s[0].configuration.title for k, s in side.items() if k not in keys) for side in sides]
    if not pairs:
        return LatencyComparison((), None, None, (0, 0), (0.0, 0.0), False, *only)
    repeated = [pair for pair in logs if min(map(len, pair)) >= 2]
    x, y = (np.exp(np.concatenate([pair[side] - pair[0].mean() for pair in repeated or logs])) for side in (0, 1))
    worth = effective_n(len(x), rho), effective_n(len(y), rho)
    overall = ratio(x, y, rho)
    p = float(two_sample_test(x, y, *worth).p[0]) if repeated else None
    if not repeated:
        overall = Shift(overall.estimate, math.nan, math.nan)
    return LatencyComparison(tuple(rows), overall, p, (len(x), len(y)), worth, bool(repeated), *only)


def _latencies(runs: list[RunRecord]) -> Floats:
    return np.array([run.latency_s.value for run in runs])


def _half_interval(values: Floats) -> float:
    """Return half of the 95 % interval of a mean, by Student's t."""
    quantile = scipy_stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)
    return float(quantile * values.std(ddof=1) / math.sqrt(len(values)))


def _summary(runs: list[RunRecord]) -> Summary:
    latencies = _latencies(runs)
    n, mean = len(latencies), float(latencies.mean())
    half = _half_interval(latencies) if n >= _FEWEST else math.nan
    units = {run.memory_unit for run in runs if run.memory}
    peaks = [run.memory.value for run in runs if run.memory] if len(units) == 1 else []
    return Summary(
        configuration=runs[0].configuration,
        n=n,
        mean_s=mean,
        ci_s=(mean - half, mean + half) if n >= _FEWEST else None,
        throughput=_throughput(runs, mean),
        memory=max(peaks) if peaks else None,
        memory_unit=units.pop() if len(units) == 1 else "",
    )


def _throughput(runs: list[RunRecord], mean_s: float) -> float | None:
    """Return tokens per second of all runs together; the mean of what was written where tokens are not known."""
    if all(run.tokens for run in runs):
        return sum(run.tokens or 0 for run in runs) / len(runs) / mean_s
    written = [run.throughput.value for run in runs if run.throughput]
    return float(np.mean(written)) if written else None


def _change(normal: list[RunRecord], abnormal: list[RunRecord], rho: float) -> LatencyChange:
    x, y = _latencies(normal), _latencies(abnormal)
    effect = ratio(x, y, rho)
    has_repeats = min(len(x), len(y)) >= 2
    p = float(two_sample_test(x, y, effective_n(len(x), rho), effective_n(len(y), rho)).p[0]) if has_repeats else None
    return LatencyChange(
        normal=_summary(normal),
        abnormal=_summary(abnormal),
        ratio=effect if has_repeats else Shift(effect.estimate, math.nan, math.nan),
        p=p,
        q=None,
        rounding=sum(max(_share(run.latency_s) for run in side) for side in (normal, abnormal)),
    )


def _share(figure: Measured) -> float:
    return figure.error / figure.value
