"""The counters and signals of a comparison as rows of the page: two distributions, an effect, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rca.api import Comparison
from rca.comparison import RankComparison
from rca.pictures.metrics import Key, TwoSides, counters_of, signals_of
from rca.verdict.observe import Observation
from reports.cells import plain
from reports.page.figures import SmallFigure, small

MAX_OPEN = 40
"""Rows that are shown without a click."""

MAX_ROWS = 120
"""Of the leading rank, and of the signals; the others have as many in all, so that the page still opens."""

MAX_Q = 0.05
_NOISE = 1e-12
"""Of the values: a change that small is what sums of floating-point numbers leave of none."""


_DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class MetricRow:
    """One counter or signal on one device; ``about`` has the device, the unit of all its numbers, and what it was read from.

    ``figure`` is None where single values are not known; ``sure`` marks q < 0.05.
    """

    name: str
    about: tuple[str, ...]
    figure: SmallFigure | None
    ends: tuple[str, str]
    normal: str
    abnormal: str
    shift: str
    interval: str
    delta: str
    q: str
    n: str
    sure: bool


@dataclass(frozen=True)
class MetricBlock:
    """A list of rows under a heading; ``folded`` where it starts closed, ``empty`` says why there are no rows."""

    heading: str
    note: str
    rows: tuple[MetricRow, ...]
    rest: tuple[MetricRow, ...]
    folded: bool
    empty: str


def metric_blocks(result: Comparison, ordered: list[RankComparison]) -> tuple[MetricBlock, ...]:
    """Return the counters of every rank, the leading one's open, then the signals that causes were judged by."""
    few = max(MAX_ROWS // max(len(ordered) - 1, 1), 1)
    blocks = [
        _of_rank(rank, MAX_ROWS if number == 0 else few, folded=number > 0, several=len(ordered) > 1)
        for number, rank in enumerate(ordered)
    ]
    signals = _signals(result, ordered)
    if signals.rows:
        blocks.append(signals)
    return tuple(blocks)


def _of_rank(rank: RankComparison, most: int, folded: bool, several: bool) -> MetricBlock:
    values = counters_of(rank)
    shown = rank.metrics.head(most)
    rows = tuple(_counter(row, values[row["metric"], row["device"]]) for row in shown.iter_rows(named=True))
    stated = all(profile.from_events for profile in rank.profiles)
    return MetricBlock(
        heading=f"Counters of {rank.role}" if several else "Counters",
        note=(
            "One value per sample, or per cycle where a counter was sampled more often than cycles ran."
            if stated
            else "One value per cycle, as its profile states it: in %, or ×100 for counters that are no percentages."
        )
        + (
            f" The first {most} of {rank.metrics.height} counters; report.json has all."
            if rank.metrics.height > most
            else ""
        ),
        rows=rows[:MAX_OPEN],
        rest=rows[MAX_OPEN:],
        folded=folded,
        empty="No counter was sampled during the cycles of both sides.",
    )


def _counter(row: Mapping[str, object], values: TwoSides) -> MetricRow:
    def number(key: str) -> float:
        value = row[key]
        return float(value) if isinstance(value, (int, float)) else math.nan

    def change(key: str) -> str:
        value = number(key)
        return unit.signed(0.0 if abs(value) < _NOISE * max(abs(number("normal")), abs(number("abnormal"))) else value)

    figure = small(values)
    unit = unit_for(values.unit, max(abs(figure.low), abs(figure.high)))
    return MetricRow(
        name=str(row["metric"]),
        about=(str(row["device"]), unit.label),
        figure=figure,
        ends=(unit.text(figure.low), unit.text(figure.high)),
        normal=unit.text(number("normal")),
        abnormal=unit.text(number("abnormal")),
        shift=change("shift"),
        interval=f"{change('shift_low')} to {change('shift_high')}",
        delta=_delta(number("cliffs_delta")),
        q=p_value(number("q")),
        n=_counts((number("n_normal"), number("n_abnormal")), (number("effective_normal"), number("effective_abnormal"))),
        sure=number("q") < MAX_Q and number("shift") != 0,
    )


def _signals(result: Comparison, ordered: list[RankComparison]) -> MetricBlock:
    values: dict[Key, TwoSides] = {}
    for rank in (*reversed(ordered),) or (None,):  # the leading one has the last word
        values |= signals_of(result.normal, result.abnormal, rank)
    rows = tuple(_signal(one, values.get((one.signal, one.device))) for one in result.verdict.observations)
    moved = [row for row in rows if row.sure]
    drawn = (*moved, *(row for row in rows if not row.sure))[:MAX_ROWS]
    left_out = len(rows) - len(drawn)
    return MetricBlock(
        heading="Signals that causes are judged by",
        note=(
            f"{len(moved)} of {len(rows)} moved by more than chance and by as much as matters; those come first. A signal "
            "is what one counter or several state, averaged over equal stretches of time."
            + (f" {left_out} of those that did not move are left out; report.json has all." if left_out else "")
        ),
        rows=drawn[:MAX_OPEN],
        rest=drawn[MAX_OPEN:],
        folded=bool(ordered),
        empty="",
    )


def _signal(one: Observation, values: TwoSides | None) -> MetricRow:
    times = one.unit == "times"  # its shift is a logarithm, so that it is mirrored when the sides are swapped
    figure = small(values) if values and not times else None
    ends = (figure.low, figure.high) if figure else (one.normal, one.abnormal)
    unit = unit_for(one.unit, max(map(abs, ends)))

    def shift(value: float) -> str:
        return f"×{plain(math.exp(value))}" if times else unit.signed(value)

    return MetricRow(
        name=one.text,
        about=(one.device, "" if times else unit.label, ", ".join(one.metrics)),
        figure=figure,
        ends=(unit.text(ends[0]), unit.text(ends[1])),
        normal=unit.text(one.normal),
        abnormal=unit.text(one.abnormal),
        shift=shift(one.shift),
        interval=f"{shift(one.low)} to {shift(one.high)}",
        delta=_delta(one.delta),
        q=p_value(one.q),
        n=_counts((float(one.n[0]), float(one.n[1])), one.effective),
        sure=one.moved != 0,
    )


def _counts(n: tuple[float, float], effective: tuple[float, float]) -> str:
    """Write how many values both sides have and, where that is fewer, what they are worth."""
    text = f"{n[0]:,.0f}, {n[1]:,.0f}"
    worth = f"{effective[0]:,.0f}, {effective[1]:,.0f}"
    return text if worth == text else f"{text} (worth {worth})"


def _delta(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.2f}".replace("-", "−")


def p_value(value: float) -> str:
    """Write a p or q with two digits."""
    if math.isnan(value):
        return "-"
    return (f"{value:.2g}" if value >= 1e-4 or value == 0 else f"{value:.0e}").replace("e-0", "e-")


@dataclass(frozen=True)
class Unit:
    """What all numbers of a row are written in: values are divided by ``size``."""

    size: float
    label: str

    def text(self, value: float) -> str:
        """Write a value without its unit."""
        return "-" if not math.isfinite(value) else plain(value / self.size).replace("-", "−")

    def signed(self, value: float) -> str:
        """Write a difference with its sign."""
        return f"+{self.text(value)}" if 0 < value < math.inf else self.text(value)


def unit_for(unit: str, largest: float) -> Unit:
    """Return the unit that suits a row: seconds and bytes in a size that the largest number is at least 1 of."""
    if unit == "s":
        return next((Unit(size, name) for size, name in ((1.0, "s"), (1e-3, "ms")) if largest >= size), Unit(1e-6, "µs"))
    if unit in ("bytes", "bytes/s"):
        size, prefix = next(((size, prefix) for size, prefix in _DECIMAL if largest >= size), (1.0, ""))
        return Unit(size, f"{prefix}B{unit.removeprefix('bytes')}")
    return Unit(1.0, unit)
