"""The counters and signals of a comparison as rows of the page: two distributions, an effect, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rca.api import Comparison
from rca.comparison import RankComparison
from rca.pictures.metrics import Key, TwoSides, counters_of, signals_of
from rca.verdict import duration
from rca.verdict.observe import Observation
from reports.cells import plain
from reports.page_figures import SmallFigure, small

MAX_OPEN = 40
"""Rows that are shown without a click."""

MAX_Q = 0.05

_DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class MetricRow:
    """One counter or signal on one device. ``figure`` is None where single values are not known; ``sure`` marks q < 0.05."""

    name: str
    about: str
    device: str
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
    blocks = [_of_rank(rank, folded=number > 0, several=len(ordered) > 1) for number, rank in enumerate(ordered)]
    signals = _signals(result, ordered)
    if signals.rows:
        blocks.append(signals)
    return tuple(blocks)


def _of_rank(rank: RankComparison, folded: bool, several: bool) -> MetricBlock:
    values = counters_of(rank)
    rows = tuple(_counter(row, values[row["metric"], row["device"]]) for row in rank.metrics.iter_rows(named=True))
    stated = all(profile.from_events for profile in rank.profiles)
    return MetricBlock(
        heading=f"Counters of {rank.role}" if several else "Counters",
        note=(
            "One value per sample, or per cycle where a counter was sampled more often than cycles ran."
            if stated
            else "One value per cycle, as its profile states it: in %, or ×100 for counters that are no percentages."
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

    unit, figure = values.unit, small(values)
    return MetricRow(
        name=str(row["metric"]),
        about="",
        device=str(row["device"]),
        figure=figure,
        ends=(quantity(figure.low, unit), quantity(figure.high, unit)),
        normal=quantity(number("normal"), unit),
        abnormal=quantity(number("abnormal"), unit),
        shift=signed_quantity(number("shift"), unit),
        interval=f"{signed_quantity(number('shift_low'), unit)} to {signed_quantity(number('shift_high'), unit)}",
        delta=f"{number('cliffs_delta'):+.2f}",
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
    rows = (*moved, *(row for row in rows if not row.sure))
    return MetricBlock(
        heading="Signals that causes are judged by",
        note=(
            f"{len(moved)} of {len(rows)} moved by more than chance and by as much as matters; those come first. A signal "
            "is what one counter or several state, averaged over equal stretches of time."
        ),
        rows=rows[:MAX_OPEN],
        rest=rows[MAX_OPEN:],
        folded=bool(ordered),
        empty="",
    )


def _signal(one: Observation, values: TwoSides | None) -> MetricRow:
    times = one.unit == "times"  # its shift is a logarithm, so that it is mirrored when the sides are swapped
    figure = small(values) if values and not times else None

    def shift(value: float) -> str:
        return f"×{plain(math.exp(value))}" if times else signed_quantity(value, one.unit)

    return MetricRow(
        name=one.text,
        about=", ".join(one.metrics),
        device=one.device,
        figure=figure,
        ends=(quantity(figure.low, one.unit), quantity(figure.high, one.unit)) if figure else ("", ""),
        normal=quantity(one.normal, one.unit),
        abnormal=quantity(one.abnormal, one.unit),
        shift=shift(one.shift),
        interval=f"{shift(one.low)} to {shift(one.high)}",
        delta=f"{one.delta:+.2f}",
        q=p_value(one.q),
        n=_counts((float(one.n[0]), float(one.n[1])), one.effective),
        sure=one.moved != 0,
    )


def _counts(n: tuple[float, float], effective: tuple[float, float]) -> str:
    """Write how many values both sides have and, where that is fewer, what they are worth."""
    text = f"{n[0]:,.0f}, {n[1]:,.0f}"
    worth = f"{effective[0]:,.0f}, {effective[1]:,.0f}"
    return text if worth == text else f"{text} (worth {worth})"


def p_value(value: float) -> str:
    """Write a p or q with two digits."""
    if math.isnan(value):
        return "-"
    return f"{value:.2g}" if value >= 1e-4 else f"{value:.0e}"


def quantity(value: float, unit: str) -> str:
    """Write a value with its unit: times and bytes in the size that suits them."""
    if math.isnan(value):
        return "-"
    if unit == "s" and value > 0:
        return duration(value * 1e6)
    if unit in ("bytes", "bytes/s"):
        size, prefix = next(((size, prefix) for size, prefix in _DECIMAL if abs(value) >= size), (1.0, ""))
        return f"{plain(value / size)} {prefix}B{unit.removeprefix('bytes')}"
    short = {"% of one core": "% of a core", "fraction": ""}.get(unit, unit)
    return f"{plain(value)} {short}".rstrip()


def signed_quantity(value: float, unit: str) -> str:
    """Write a difference with its sign."""
    text = quantity(abs(value), unit)
    return text if math.isnan(value) or value == 0 else ("+" if value > 0 else "−") + text
