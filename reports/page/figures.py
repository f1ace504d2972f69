"""Geometry of the page's drawings: numbers into percent of the width and paths in a box of `BOX`. Computes no statistic.

A drawing has to fit any width without a script. So what must keep its shape (texts, bars, dots) is placed in percent of the
width, and curves are drawn in a box that is stretched, with strokes that are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from rca.comparison import RankComparison
from rca.pictures import SIDES, Distribution, SideCurve, SideName
from rca.pictures.density import MIN_FOR_CURVE
from rca.pictures.metrics import TwoSides, curve
from rca.verdict import Ledger, duration

BOX = (1000, 100)
"""Width and height of the boxes that curves are drawn in."""

MAX_POINTS = 200
"""Of a strip on one side: of more values, so many quantiles are drawn."""

MAX_DOTS = 800
"""Of cycles over time on one side: of more, every second, third, ... is drawn."""


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: where in percent, its text, and how that is anchored."""

    x: str
    text: str
    anchor: str


@dataclass(frozen=True)
class Scale:
    """A linear axis: values to percent of the width; what lies beyond is drawn at the end."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where a value lies, 0 to 1."""
        span = self.high - self.low
        return min(max((value - self.low) / span, 0.0), 1.0) if span > 0 else 0.5

    def at(self, value: float) -> str:
        """Return the same in percent, for an attribute."""
        return percent(self.share(value))

    def box(self, value: float) -> str:
        """Return the same in units of a box."""
        return _short(BOX[0] * self.share(value))


@dataclass(frozen=True)
class Strip:
    """Values of one side: dots where they are few, else short lines, with the curve of their density where there is one.

    Attributes:
        side: whose.
        dots: in percent, where the values are few enough to be seen one by one.
        ticks: a path of short lines in a box, where they are not.
        line, area: paths of the curve, open and closed; empty where there is none.
        median: in percent; ``low`` and ``width`` of its 95 % interval, None where there is none.
        label, label_anchor: the median as text.
        text: n, median and interval, as a sentence.
    """

    side: SideName
    dots: tuple[str, ...]
    ticks: str
    line: str
    area: str
    median: str
    low: str | None
    width: str | None
    label: str
    label_anchor: str
    text: str


@dataclass(frozen=True)
class DistributionFigure:
    """Cycle times of both sides on one axis. ``beyond`` says what the axis leaves out."""

    title: str
    normal: Strip
    abnormal: Strip
    ticks: tuple[Tick, ...]
    beyond: str
    curves: bool

    @property
    def sides(self) -> tuple[Strip, Strip]:
        """Both sides, normal first."""
        return self.normal, self.abnormal


def distribution(found: Distribution) -> DistributionFigure:
    """Draw how the cycle times of one phase are distributed."""
    points = (found.normal.points, found.abnormal.points)
    scale, beyond = _trimmed(points, duration)
    title = "Cycle time" if found.phase == "unknown" else f"Cycle time of {found.phase} cycles"
    normal, abnormal = (_strip(side, getattr(found, side), scale) for side in SIDES)
    return DistributionFigure(title, normal, abnormal, time_ticks(scale), beyond, bool(normal.line or abnormal.line))


def _strip(side: SideName, curve: SideCurve, scale: Scale) -> Strip:
    few = len(curve.points) < MIN_FOR_CURVE
    share = scale.share(curve.median)
    known = curve.low is not None and curve.high is not None
    interval = f" ({duration(curve.low)} to {duration(curve.high)})" if curve.low and curve.high else ""
    line, area = curve_paths(curve.x, curve.density, scale)
    return Strip(
        side=side,
        dots=tuple(scale.at(value) for value in curve.points) if few else (),
        ticks="" if few else tick_path(curve.points, scale),
        line=line,
        area=area,
        median=scale.at(curve.median),
        low=scale.at(curve.low) if curve.low is not None else None,
        width=percent(scale.share(curve.high or 0) - scale.share(curve.low or 0)) if known else None,
        label=duration(curve.median),
        label_anchor="start" if share < 0.66 else "end",
        text=f"n = {len(curve.points):,}, median {duration(curve.median)}{interval}",
    )


def curve_paths(
    x: Sequence[float], density: Sequence[float], scale: Scale, base: float = BOX[1], top: float = 3
) -> tuple[str, str]:
    """Return a curve, scaled to its own peak, as an open and a closed path between two heights of a box; blank if none."""
    inside = [(at, value) for at, value in zip(x, density, strict=True) if scale.low <= at <= scale.high]
    peak = max((value for _, value in inside), default=0.0)
    if peak <= 0:
        return "", ""
    points = [(scale.box(at), _short(base + (top - base) * value / peak)) for at, value in inside]
    line = "M" + "L".join(f"{at} {height}" for at, height in points)
    return line, f"{line}L{points[-1][0]} {_short(base)}L{points[0][0]} {_short(base)}Z"


def tick_path(values: Sequence[float], scale: Scale, top: float = 0, bottom: float = BOX[1]) -> str:
    """Return short vertical lines at some values, as a path in a box."""
    return "".join(f"M{scale.box(value)} {_short(top)}V{_short(bottom)}" for value in _thinned(values))


def dot_path(points: Iterable[tuple[str, str]]) -> str:
    """Return dots as a path of lines without length: drawn with round ends they keep their shape in a stretched box."""
    return "".join(f"M{x} {y}h0" for x, y in points)


def _thinned(values: Sequence[float]) -> Sequence[float]:
    if len(values) <= MAX_POINTS:
        return sorted(values)
    ordered = sorted(values)
    return [ordered[round(i * (len(ordered) - 1) / (MAX_POINTS - 1))] for i in range(MAX_POINTS)]


def _trimmed(sides: Sequence[Sequence[float]], text: Callable[[float], str]) -> tuple[Scale, str]:
    """Return an axis that a few stragglers do not stretch, and a sentence that says what it leaves out."""
    values = [np.asarray(own) for own in sides if len(own)]
    low, high = (float(f([f(own) for own in values])) for f in (np.min, np.max))
    fifth, ninety_fifth = ([float(np.quantile(own, q)) for own in values] for q in (0.05, 0.95))
    spread = [upper - lower for lower, upper in zip(fifth, ninety_fifth, strict=True)]
    top = max(upper + 1.5 * wide for upper, wide in zip(ninety_fifth, spread, strict=True))
    bottom = min(lower - 1.5 * wide for lower, wide in zip(fifth, spread, strict=True))
    if min(map(len, values)) < 8 or high - low <= 1.5 * (top - bottom):
        top, bottom = high, low
    top, bottom = min(top, high), max(bottom, low)
    beyond = sum(int(((own > top) | (own < bottom)).sum()) for own in values)
    margin = 0.04 * (top - bottom) or 0.05 * abs(top) or 1.0
    said = f"{beyond} beyond the axis, drawn at its end: from {text(low)} up to {text(high)} in all" if beyond else ""
    return Scale(bottom - margin, top + margin), said


def ticks(scale: Scale, most: int = 6) -> list[float]:
    """Return round values of an axis, at most so many."""
    span = scale.high - scale.low
    if not (math.isfinite(span) and span > 0):
        return []
    power = 10 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20, 25, 50) if span / (power * factor) <= most)
    return [i * step for i in range(math.ceil(scale.low / step), math.floor(scale.high / step) + 1)]


def time_ticks(scale: Scale, most: int = 6) -> tuple[Tick, ...]:
    """Return the marks of an axis of µs, all in one unit."""
    largest = max(abs(scale.low), abs(scale.high))
    unit, size = next(((unit, size) for unit, size in (("s", 1e6), ("ms", 1e3)) if largest >= size), ("µs", 1.0))
    texts = [(value, f"{value / size:,.10g} {unit}".replace("-", "−") if value else "0") for value in ticks(scale, most)]
    return _placed(scale, texts)


def _placed(scale: Scale, marks: Iterable[tuple[float, str]]) -> tuple[Tick, ...]:
    def anchor(share: float) -> str:
        return "start" if share < 0.04 else "end" if share > 0.96 else "middle"

    return tuple(Tick(scale.at(value), text, anchor(scale.share(value))) for value, text in marks)


@dataclass(frozen=True)
class EffectFigure:
    """The shift of the cycle time with its interval beside what is noise; all in percent of the width.

    ``bands`` are (class, x, width): what undisturbed machines differ by, then what the normal side shows against itself.
    """

    zero: str
    estimate: str
    low: str
    width: str
    bands: tuple[tuple[str, str, str], ...]
    ticks: tuple[Tick, ...]


def effect(rank: RankComparison, drift: float) -> EffectFigure | None:
    """Draw the shift of the cycle time; None where there is none."""
    ratio = rank.cycle_time.ratio
    if ratio is None:
        return None
    estimate, low, high = (value - 1 for value in (ratio.estimate, ratio.low, ratio.high))
    noise = [("drift", drift), ("floor", rank.calibration.noise_floor or 0.0)]
    widest = max(width for _, width in noise)
    ends = min(low, -widest), max(high, widest)
    margin = 0.06 * (ends[1] - ends[0])
    scale = Scale(ends[0] - margin, ends[1] + margin)
    bands = tuple(
        (name, scale.at(-width), percent(scale.share(width) - scale.share(-width))) for name, width in noise if width > 0
    )
    marks = [(value, f"{100 * value:+.4g} %".replace("-", "−") if abs(value) > 1e-12 else "0") for value in ticks(scale, 5)]
    return EffectFigure(
        zero=scale.at(0),
        estimate=scale.at(estimate),
        low=scale.at(low),
        width=percent(scale.share(high) - scale.share(low)),
        bands=bands,
        ticks=_placed(scale, marks),
    )


@dataclass(frozen=True)
class Bar:
    """One row of the waterfall.

    Attributes:
        kind: ``normal``, ``abnormal`` (the two totals), ``more``, ``less`` or ``same``.
        x, width: of the bar.
        enters, leaves: where the line from the row above ends and the one to the row below begins; None where there is none.
        low, high: ends of the whisker; None without one.
        torn: whether the bar begins left of the axis.
    """

    kind: str
    x: str
    width: str
    enters: str | None
    leaves: str | None
    low: str | None
    high: str | None
    torn: bool


@dataclass(frozen=True)
class Waterfall:
    """From the mean cycle of the normal side to that of the other: a bar per entry of the ledger between two totals.

    ``bars`` stand for: the normal mean, the ledger's entries in their order, the residual where it is 1 µs or more, the
    abnormal mean. ``begins`` says where the axis begins if not at 0.
    """

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    begins: str
    normal_us: float
    abnormal_us: float


def waterfall(ledger: Ledger) -> Waterfall:
    """Draw a ledger."""
    normal = sum(entry.normal_us for entry in ledger.entries)
    steps = [(entry.change_us, entry.low_us, entry.high_us) for entry in ledger.entries]
    if has_residual(ledger):
        steps.append((ledger.residual_us, None, None))
    starts = [normal + sum(step[0] for step in steps[:i]) for i in range(len(steps) + 1)]
    abnormal = starts[-1]
    whiskers = [start + end for start, (_, *ends) in zip(starts, steps, strict=False) for end in ends if end is not None]
    scale = _from_zero(min(*starts, *whiskers), max(*starts, *whiskers))
    torn = scale.low > 0
    first = scale.share(0)  # where bars of the totals begin: 0, or the axis' end where that begins later

    def total(kind: str, us: float, enters: str | None, leaves: str | None) -> Bar:
        return Bar(kind, percent(first), percent(scale.share(us) - first), enters, leaves, None, None, torn)

    bars = [total("normal", normal, None, scale.at(normal))]
    for start, (change, low, high) in zip(starts, steps, strict=False):
        ends = sorted((scale.share(start), scale.share(start + change)))
        bars.append(
            Bar(
                kind="more" if change > 0 else "less" if change < 0 else "same",
                x=percent(ends[0]),
                width=percent(ends[1] - ends[0]),
                enters=scale.at(start),
                leaves=scale.at(start + change),
                low=None if low is None else scale.at(start + low),
                high=None if high is None else scale.at(start + high),
                torn=False,
            )
        )
    bars.append(total("abnormal", abnormal, scale.at(abnormal), None))
    begins = f"the axis begins at {duration(scale.low)}" if torn else ""
    return Waterfall(tuple(bars), time_ticks(scale, 5), begins, normal, abnormal)


def has_residual(ledger: Ledger) -> bool:
    """Whether the ledger leaves something unexplained that is worth a row."""
    return abs(ledger.residual_us) >= 1


def _from_zero(low: float, high: float) -> Scale:
    """Return an axis from 0 or, where bars would then hardly be seen, from a round value below all that is shown."""
    span = high - low
    if low <= 0 or span >= 0.2 * high:
        return Scale(min(low, 0.0), high + 0.02 * (high - min(low, 0.0)))
    step = 10 ** math.floor(math.log10(span)) if span > 0 else high
    begin = max(math.floor((low - 0.35 * span) / step) * step, 0.0)
    return Scale(begin, high + 0.04 * (high - begin))


@dataclass(frozen=True)
class SmallSide:
    """Half of a `SmallFigure`, as paths in a box; ``points`` are dots where values are few, else lines."""

    side: SideName
    area: str
    points: str
    dots: bool
    median: str


@dataclass(frozen=True)
class SmallFigure:
    """Two distributions on one axis: normal above it, abnormal below. ``low`` and ``high`` are the axis' ends."""

    sides: tuple[SmallSide, SmallSide]
    low: float
    high: float
    beyond: bool


def small(values: TwoSides) -> SmallFigure:
    """Draw the values of a counter on both sides, small enough for a table's cell."""
    both = (values.normal, values.abnormal)
    scale, beyond = _trimmed(both, str)
    low, high = min(map(min, both)), max(map(max, both))
    ends = (max(low, scale.low), min(high, scale.high))
    return SmallFigure((_small_side("normal", both[0], scale), _small_side("abnormal", both[1], scale)), *ends, bool(beyond))


def _small_side(side: SideName, values: tuple[float, ...], scale: Scale) -> SmallSide:
    middle = BOX[1] / 2
    away = -1 if side == "normal" else 1
    _, area = curve_paths(*curve(values), scale, middle, middle + away * 46)
    few = not area and len(values) < MIN_FOR_CURVE
    rows = [middle + away * (14 + 12 * (i % 3)) for i in range(len(values))]
    dots = dot_path((scale.box(value), _short(y)) for value, y in zip(values, rows, strict=True)) if few else ""
    ticks_ = tick_path(values, scale, middle + away * 4, middle + away * 16)
    median = f"M{scale.box(float(np.median(values)))} {_short(middle)}v{away * 48}"
    return SmallSide(side, area, dots if few else ticks_, few, median)


@dataclass(frozen=True)
class Panel:
    """Cycles of one side over time, as dots in a box: those compared, and others."""

    side: SideName
    compared: str
    other: str


@dataclass(frozen=True)
class TimesFigure:
    """Duration of each cycle over time, a panel per side on the same axes. ``levels`` are (y in percent, text)."""

    panels: tuple[Panel, Panel]
    ticks: tuple[Tick, ...]
    levels: tuple[tuple[str, str], ...]
    beyond: str


def times(rank: RankComparison) -> TimesFigure | None:
    """Draw the duration of every complete cycle of both sides over time; None where a side has none."""
    sides = [own.cycles.filter("complete").sort("start_ns") for own in (rank.normal, rank.abnormal)]
    if any(own.height == 0 for own in sides):
        return None
    seconds = [(own["start_ns"].to_numpy() - own["start_ns"][0]) / 1e9 for own in sides]
    timed = any(own[-1] > 0 for own in seconds)
    if not timed:  # profiles may state no time: then by number
        seconds = [np.arange(1.0, own.height + 1) for own in sides]
    durations = [own["duration_us"].to_numpy() for own in sides]
    trimmed, beyond = _trimmed([own.tolist() for own in durations], duration)
    steps = [-(-own.height // MAX_DOTS) for own in sides]
    if max(steps) > 1:
        few = ", ".join(f"1 of {step} {side} cycles" for step, side in zip(steps, SIDES, strict=True) if step > 1)
        beyond = f"{beyond}. Drawn: {few}" if beyond else f"Drawn: {few}"
    across = Scale(0, max(float(own[-1]) for own in seconds) or 1.0)
    up = Scale(0, trimmed.high)
    panels = []
    for side, own, at, took, step in zip(SIDES, sides, seconds, durations, steps, strict=True):
        compared = own["cycle"].is_in(rank.compared.filter(pl.col("side") == side)["cycle"].to_list()).to_numpy()
        dots = [
            [
                (across.box(float(x)), _short(BOX[1] * (1 - up.share(float(y)))))
                for x, y in zip(at[of][::step], took[of][::step], strict=True)
            ]
            for of in (compared, ~compared)
        ]
        panels.append(Panel(side, dot_path(dots[0]), dot_path(dots[1])))
    levels = tuple(
        (percent(1 - up.share(value)), tick.text) for value, tick in zip(ticks(up, 3), time_ticks(up, 3), strict=True)
    )
    marks = [(value, f"{value:,.10g} s" if timed else f"cycle {value:,.10g}") for value in ticks(across)]
    return TimesFigure((panels[0], panels[1]), _placed(across, marks), levels, beyond)


def percent(share: float) -> str:
    """Return a share of the width for an attribute."""
    return f"{_short(100 * share)}%"


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"
