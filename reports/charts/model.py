"""What a chart shows, in numbers and words: pages draw it as SVG, pictures by matplotlib. Computes no statistic.

Two kinds: `RowChart`, one line per thing with marks on a common axis (waterfalls of ledgers and of starts, effects with
their intervals, bars), and `LineChart`, panels of lines over a parameter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Shape = Literal["bar", "whisker", "dot", "ring"]

Kind = Literal["normal", "abnormal", "more", "less", "rest", "part", "whole", "silence", "a", "b", "c", "d", "e", "f"]
"""What a mark stands for, which decides how it looks: sides; what adds time or takes some away; phases of a start; and
letters for what only has to be told apart."""

STYLES = 8
"""Looks of lines that can be told apart: each has its colour, its dashes and its marker."""


@dataclass(frozen=True)
class Axis:
    """A scale from ``low`` to ``high`` with ``ticks``: (value, label). ``title`` names quantity and unit."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    title: str = ""
    log: bool = False

    def at(self, value: float) -> float:
        """Return where a value lies, from 0 to 1; what is beyond an end lies at it."""
        low, high, value = (math.log(x) if self.log else x for x in (self.low, self.high, self._within(value)))
        return (value - low) / (high - low)

    def _within(self, value: float) -> float:
        return min(max(value, self.low), self.high)

    def beyond(self, value: float) -> bool:
        """Tell whether a value lies off the scale."""
        return not self.low <= value <= self.high


@dataclass(frozen=True)
class Mark:
    """A shape from ``low`` to ``high`` in the axis' unit; of a ``dot`` and a ``ring`` both are its place."""

    shape: Shape
    kind: Kind
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One line of a chart.

    Attributes:
        title: its name.
        said: its figures in words.
        marks: what is drawn of it.
        hint: more about it.
        is_whole: it is a total.
        end: where the next row begins, which is drawn; None where rows have nothing to do with each other.
    """

    title: str
    said: str
    marks: tuple[Mark, ...]
    hint: str = ""
    is_whole: bool = False
    end: float | None = None


@dataclass(frozen=True)
class RowChart:
    """Rows on one axis.

    Attributes:
        title: heading of the chart.
        caption: a sentence on how to read it.
        rows: from top to bottom.
        axis: of all rows.
        reference: a value that is marked with a line, as no change; None for none.
        key: what kinds of marks mean.
        is_cut: the axis begins above 0, so totals are not drawn in full.
    """

    title: str
    caption: str
    rows: tuple[Row, ...]
    axis: Axis
    reference: float | None = None
    key: tuple[tuple[Kind, str], ...] = ()
    is_cut: bool = False


@dataclass(frozen=True)
class Point:
    """A value over a parameter, with its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """Points in order of x; ``style`` is below `STYLES`; ``repeats`` are the single measurements behind them: (x, y)."""

    style: int
    points: tuple[Point, ...]
    repeats: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Panel:
    """Lines over one parameter."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class LineChart:
    """Panels that share the look of their lines: ``key`` says which style is what."""

    title: str
    caption: str
    panels: tuple[Panel, ...]
    key: tuple[tuple[int, str], ...]


Chart = RowChart | LineChart


@dataclass(frozen=True)
class Step:
    """One part of a change, with its interval where it has one, and what is said of it."""

    title: str
    change: float
    low: float | None
    high: float | None
    said: str
    hint: str = ""


def waterfall(
    title: str, caption: str, ends: tuple[tuple[str, float, str], tuple[str, float, str]], steps: list[Step], unit: str
) -> RowChart:
    """Return the rows that lead from one total to another, each beginning where the one above it ended.

    Whiskers show the interval of a step around its end. Where the totals dwarf their change, the axis does not begin at 0,
    and the caption says so.

    Args:
        title: heading.
        caption: how to read it.
        ends: title, value and text of the first and of the last total.
        steps: what leads from one to the other.
        unit: of all values: ``µs`` or ``s``.
    """
    (first, normal, normal_said), (last, abnormal, abnormal_said) = ends
    at, rows, seen = normal, [], [normal, abnormal]
    for step in steps:
        end = at + step.change
        kind: Kind = "more" if step.change >= 0 else "less"
        marks = [Mark("bar", kind, min(at, end), max(at, end))]
        if step.low is not None and step.high is not None:
            marks.append(Mark("whisker", kind, at + step.low, at + step.high))
            seen += [at + step.low, at + step.high]
        rows.append(Row(step.title, step.said, tuple(marks), step.hint, end=end))
        seen.append(end)
        at = end
    low, high = min(seen), max(seen)
    is_cut = low > 0.75 * high
    margin = 0.04 * (high - min(low, 0.0))
    if is_cut:
        axis = scale(low - 0.25 * (high - low), high + 0.04 * (high - low), unit, "time")
    else:
        axis = scale(low - margin if low < 0 else 0.0, high + margin, unit, "time")
    if is_cut:
        factor, shown = _factor(unit, high)
        caption += f" Mind the axis: it begins at {number(float(f'{axis.low / factor:.3g}'))} {shown}, not at 0."
    start = axis.low if is_cut else 0.0
    totals = (
        Row(first, normal_said, (Mark("bar", "normal", start, normal),), is_whole=True, end=normal),
        Row(last, abnormal_said, (Mark("bar", "abnormal", start, abnormal),), is_whole=True),
    )
    kinds = {mark.kind for row in rows for mark in row.marks}
    key = tuple((kind, text) for kind, text in _STEP_KEY if kind in kinds)
    return RowChart(title, caption, (totals[0], *rows, totals[1]), axis, key=key, is_cut=is_cut)


_STEP_KEY: tuple[tuple[Kind, str], ...] = (("more", "adds time"), ("less", "takes time away"))


def scale(low: float, high: float, unit: str = "", title: str = "", most: int = 6) -> Axis:
    """Return a linear axis that holds a range, with ticks at round values; times get the unit that suits them.

    Args:
        low: the smallest value.
        high: the largest value.
        unit: of the values: ``µs``, ``ms`` or ``s`` are shown in the unit that suits ``high``, others as they are.
        title: what is measured; the unit is added.
        most: ticks.
    """
    if not high > low:
        low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
    factor, shown = _factor(unit, max(abs(low), abs(high)))
    step = _step((high - low) / factor, most)
    first, last = math.ceil(low / factor / step - 1e-9), math.floor(high / factor / step + 1e-9)
    ticks = tuple((n * step * factor, number(n * step)) for n in range(first, last + 1))
    named = ", ".join(text for text in (title, shown) if text)
    return Axis(low, high, ticks, named)


def logarithmic(values: Iterable[float], unit: str = "", title: str = "", most: int = 6) -> Axis:
    """Return a logarithmic axis that holds values above 0, with ticks at 1, 2 and 5 times powers of ten, or fewer."""
    seen = [value for value in values if value > 0] or [1.0]
    low, high = min(seen) / 1.15, max(seen) * 1.15
    factor, shown = _factor(unit, high)
    low_power, high_power = math.floor(math.log10(low / factor)), math.ceil(math.log10(high / factor))
    powers = range(low_power, high_power + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10.0**p for p in powers for d in digits if low <= d * 10.0**p * factor <= high]
        if len(ticks) <= most:
            break
    ticks = ticks[:: math.ceil(len(ticks) / most)] if ticks else [high / factor / 1.15]
    named = ", ".join(text for text in (title, shown) if text)
    return Axis(low, high, tuple((tick * factor, number(tick)) for tick in ticks), named, log=True)


def at_values(values: Iterable[float], title: str, log: bool = False, most: int = 7) -> Axis:
    """Return an axis whose ticks are the values that were measured, as far as there is room for them."""
    seen = sorted(set(values))
    if log:
        margin = (seen[-1] / seen[0]) ** 0.09 if seen[-1] > seen[0] else 1.5
        low, high = seen[0] / margin, seen[-1] * margin
    else:
        margin = 0.09 * (seen[-1] - seen[0]) or abs(seen[0]) * 0.5 or 1.0
        low, high = seen[0] - margin, seen[-1] + margin
    bare = Axis(low, high, (), title, log)
    shown: list[float] = []
    for value in seen:
        if not shown or bare.at(value) - bare.at(shown[-1]) >= 1 / (most + 1):
            shown.append(value)
    return Axis(low, high, tuple((value, number(value)) for value in shown), title, log)


_UNITS = {"µs": 1.0, "ms": 1e3, "s": 1e6}


def _factor(unit: str, largest: float) -> tuple[float, str]:
    """Return what to divide values by, and the unit that they then have."""
    if unit not in _UNITS:
        return 1.0, unit
    us = largest * _UNITS[unit]
    shown = "s" if us >= 1e6 else "ms" if us >= 1e3 else "µs"
    return _UNITS[shown] / _UNITS[unit], shown


def _step(length: float, most: int) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that divides a length into at most so many."""
    power = 10.0 ** math.floor(math.log10(length / most))
    return next((d * power for d in (1, 2, 5, 10) if length / (d * power) <= most), 10 * power)


def number(value: float) -> str:
    """Return a number as ticks have it: thousands apart, no exponent where it can be avoided, -0 as 0."""
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e7:
        text = f"{value:,.{max(0, 4 - math.floor(math.log10(abs(value))))}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.3g}"


def with_interval(us: float, low_us: float | None, high_us: float | None) -> str:
    """Write a change of time with its interval, all in the unit that suits the change: ``+16.56 (+15.2 to +18.13) ms``."""
    factor, unit = _factor("µs", abs(us))
    if low_us is None or high_us is None:
        return f"{us / factor:+.4g} {unit}"
    change, low, high = (f"{value / factor:+.4g}" for value in (us, low_us, high_us))
    return f"{change} ({low} to {high}) {unit}"


def middle(text: str, most: int) -> str:
    """Cut a text that is too long in its middle: both ends of a name tell what it is."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"
