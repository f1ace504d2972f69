"""Geometry of charts on a page. Computes no statistic.

Rows are drawn in percent of the width that is left beside their names, so that they fit any width without a script and
letters keep their size; panels of lines are drawn in a box that scales as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reports.charts.model import Axis, Chart, Kind, Line, LineChart, Mark, Panel, Point, RowChart

BOX = (360, 232)
"""Width and height of a panel."""

_PLOT = (48.0, 16.0, 350.0, 190.0)
"""Left, top, right and bottom of the area within a panel where lines are drawn."""

_BESIDE = 3.0
_LEAST = 0.004

MARKERS = (
    "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z",
    "M-3.6-3.6H3.6V3.6H-3.6Z",
    "M0-4.6L4.4 3.4H-4.4Z",
    "M0-5L5 0L0 5L-5 0Z",
    "M0 4.6L4.4-3.4H-4.4Z",
    "M-1.5-4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",
    "M-4.2-2L-2-4.2L0-2.2L2-4.2L4.2-2L2.2 0L4.2 2L2 4.2L0 2.2L-2 4.2L-4.2 2L-2.2 0Z",
    "M0-5L1.3-1.6L5-1.5L2.1.8L3.1 4.3L0 2.2L-3.1 4.3L-2.1.8L-5-1.5L-1.3-1.6Z",
)
"""Paths of the markers of lines, by style."""


@dataclass(frozen=True)
class Shape:
    """A mark: ``x`` and ``width`` in percent; ``cut`` says at which ends it goes on beyond the axis."""

    shape: Literal["bar", "whisker", "dot", "ring"]
    kind: Kind
    x: str
    width: str
    end: str
    cut: frozenset[Literal["low", "high"]]


@dataclass(frozen=True)
class RowView:
    """A row: ``before`` and ``end`` are where the row above it ended and where the next one begins; empty for none."""

    title: str
    said: str
    hint: str
    is_whole: bool
    shapes: tuple[Shape, ...]
    before: str
    end: str


@dataclass(frozen=True)
class Tick:
    """A mark of an axis, in percent or in the units of a panel."""

    at: str
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class RowsView:
    """A chart of rows."""

    title: str
    caption: str
    key: tuple[tuple[Kind, str], ...]
    rows: tuple[RowView, ...]
    ticks: tuple[Tick, ...]
    axis: str
    reference: str
    is_cut: bool
    is_wide: bool
    kind: str = "rows"


@dataclass(frozen=True)
class LineView:
    """A line: its path, its whiskers and its markers' places."""

    style: int
    path: str
    whiskers: str
    points: tuple[tuple[str, str], ...]
    repeats: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PanelView:
    """A panel; ``about`` says in words what is seen."""

    title: str
    about: str
    lines: tuple[LineView, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_title: str
    y_title: str


@dataclass(frozen=True)
class LinesView:
    """A chart of lines."""

    title: str
    caption: str
    key: tuple[tuple[int, str], ...]
    panels: tuple[PanelView, ...]
    kind: str = "lines"


def drawn(chart: Chart) -> RowsView | LinesView:
    """Return a chart as its template needs it."""
    return _rows(chart) if isinstance(chart, RowChart) else _lines(chart)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"


def _rows(chart: RowChart) -> RowsView:
    rows = []
    before = ""
    for row in chart.rows:
        end = _percent(chart.axis.at(row.end)) if row.end is not None else ""
        shapes = tuple(_shape(mark, chart.axis) for mark in row.marks)
        rows.append(RowView(row.title, row.said, row.hint, row.is_whole, shapes, before, end))
        before = end
    rows[-1:] = [RowView(**{**vars(row), "end": ""}) for row in rows[-1:]]
    return RowsView(
        title=chart.title,
        caption=chart.caption,
        key=chart.key,
        rows=tuple(rows),
        ticks=tuple(_tick(chart.axis, value, label) for value, label in chart.axis.ticks),
        axis=chart.axis.title,
        reference=_percent(chart.axis.at(chart.reference)) if chart.reference is not None else "",
        is_cut=chart.is_cut,
        is_wide=max((len(row.said) for row in chart.rows), default=0) > 12,
    )


def _tick(axis: Axis, value: float, label: str) -> Tick:
    share = axis.at(value)
    return Tick(_percent(share), label, "start" if share < 0.02 else "end" if share > 0.98 else "middle")


def _shape(mark: Mark, axis: Axis) -> Shape:
    low, high = axis.at(mark.low), axis.at(mark.high)
    if mark.shape == "bar" and high - low < _LEAST:  # what is there must be seen
        low, high = min(low, 1 - _LEAST), min(low, 1 - _LEAST) + _LEAST
    ends: tuple[tuple[Literal["low", "high"], bool], ...] = (
        ("low", min(mark.low, mark.high) < axis.low),
        ("high", max(mark.low, mark.high) > axis.high),
    )
    cut = frozenset(end for end, is_beyond in ends if is_beyond)
    return Shape(mark.shape, mark.kind, _percent(low), _percent(high - low), _percent(high), cut)


def _lines(chart: LineChart) -> LinesView:
    names = dict(chart.key)
    return LinesView(chart.title, chart.caption, chart.key, tuple(_panel(panel, names) for panel in chart.panels))


def _panel(panel: Panel, names: dict[int, str]) -> PanelView:
    left, top, right, bottom = _PLOT

    def x(value: float) -> float:
        return left + panel.x.at(value) * (right - left)

    def y(value: float) -> float:
        return bottom - panel.y.at(value) * (bottom - top)

    lines = []
    for number, line in enumerate(panel.lines):
        beside = (number - (len(panel.lines) - 1) / 2) * _BESIDE
        at = [(_short(x(point.x) + beside), _short(y(point.y))) for point in line.points]
        whiskers = "".join(
            f"M{_short(x(point.x) + beside)} {_short(y(point.low))}V{_short(y(point.high))}"
            for point in line.points
            if point.low is not None and point.high is not None
        )
        path = "M" + "L".join(" ".join(pair) for pair in at) if len(at) > 1 else ""
        repeats = tuple((_short(x(one) + beside), _short(y(other))) for one, other in line.repeats)
        lines.append(LineView(line.style, path, whiskers, tuple(at), repeats))
    return PanelView(
        title=panel.title,
        about=_about(panel, names),
        lines=tuple(lines),
        x_ticks=tuple(Tick(_short(x(value)), label) for value, label in panel.x.ticks),
        y_ticks=tuple(Tick(_short(y(value)), label) for value, label in panel.y.ticks),
        x_title=panel.x.title,
        y_title=panel.y.title,
    )


def _about(panel: Panel, names: dict[int, str]) -> str:
    """Say what a panel shows: of each line its ends."""
    said = [f"{names.get(line.style, '')}: {_ends(line)}" for line in panel.lines if line.points or line.repeats]
    return f"{panel.y.title} over {panel.x.title}, axis values. " + "; ".join(said) + ". All figures are in the tables."


def _ends(line: Line) -> str:
    points = line.points or tuple(Point(x, y) for x, y in line.repeats)
    first, last = points[0], points[-1]
    if len(points) == 1:
        return f"{first.y:.4g} at {first.x:g}"
    return f"from {first.y:.4g} at {first.x:g} to {last.y:.4g} at {last.x:g}"


def _short(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
