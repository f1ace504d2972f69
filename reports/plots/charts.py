"""Charts drawn by matplotlib on a `Sheet`. Never by colour alone: hatches, dashes and markers tell the same apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from reports.charts.model import STYLES, Axis, Chart, Kind, LineChart, Mark, Panel, RowChart
from reports.plots.sheet import DIM, INK, MARGIN, NORMAL, SMALL, WIDTH, Sheet, fitted, plain, width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NORMAL_SIDE, ABNORMAL_SIDE = "#0072B2", "#D55E00"
GREEN, PINK, ORANGE, SKY, GREY = "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c8c8c"
"""After Okabe and Ito, Color Universal Design (2008)."""

FACES: dict[Kind, tuple[str, str]] = {
    "normal": (NORMAL_SIDE, ""),
    "abnormal": (ABNORMAL_SIDE, ""),
    "more": ("#b93a1f", "////"),
    "less": ("#00795c", "\\\\\\\\"),
    "rest": (GREY, ""),
    "part": (NORMAL_SIDE, ""),
    "whole": ("#b5d8ec", ""),
    "silence": (ABNORMAL_SIDE, "xxxx"),
    "a": (NORMAL_SIDE, ""),
    "b": (ORANGE, "////"),
    "c": (GREEN, "||||"),
    "d": (PINK, "\\\\\\\\"),
    "e": (SKY, "xxxx"),
    "f": ("#c4c4c4", ""),
}
"""Colour and hatch of each kind of mark."""

COLOURS = {"normal": NORMAL_SIDE, "abnormal": ABNORMAL_SIDE}

MOST_POINTS = 3_000
"""Of one side: more are thinned, or those after them left out, where nothing could be told apart."""

WIDE = 6.0
"""What lies further apart than this many times is drawn on a logarithmic axis."""

_COLOURS = (NORMAL_SIDE, ABNORMAL_SIDE, GREEN, PINK, "#b07800", "#2a9fd6", INK, GREY)
_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    *(
        "-",
        (0, (5, 2)),
        (0, (1.5, 1.5)),
        (0, (6, 1.5, 1.5, 1.5)),
        (0, (3, 1)),
        (0, (8, 2)),
        (0, (1, 2.5)),
        (0, (4, 1, 1, 1, 1, 1)),
    ),
)
_MARKERS = "os^DvPX*"
assert len(_COLOURS) == len(_DASHES) == len(_MARKERS) == STYLES  # noqa: S101

_ROW = 0.205
_MOST_TITLES, _MOST_SAID, _LEAST_ROOM = 2.75, 3.0, 1.6
_PAD = 7.0
_BESIDE = 2.2
_AXIS_LABELS = 0.42
_PANEL_HEIGHT = 1.9
_PANEL_LEFT, _PANEL_RIGHT, _PANEL_TOP = 0.55, 0.12, 0.24


def add(sheet: Sheet, chart: Chart) -> None:
    """Draw a chart below what is on the sheet."""
    heading(sheet, chart.title, chart.caption)
    if isinstance(chart, RowChart):
        add_rows(sheet, chart)
    else:
        _add_panels(sheet, chart)


def heading(sheet: Sheet, title: str, caption: str = "") -> None:
    """Begin a part of a sheet."""
    sheet.gap(0.1)
    sheet.text(title, size=NORMAL, bold=True, most=2)
    if caption:
        sheet.text(caption, size=SMALL, colour=DIM, most=4)
    sheet.gap(0.05)


def add_rows(sheet: Sheet, chart: RowChart) -> None:
    """Draw rows, with as much room for their names and figures as these take, within limits."""
    if chart.key:
        add_key(sheet, chart.key)
    titles, said = (
        room([(row.title, row.is_whole) for row in chart.rows]),
        room([(row.said, row.is_whole) for row in chart.rows]),
    )
    said = min(said, _MOST_SAID)
    titles = min(titles, _MOST_TITLES, WIDTH - 2 * MARGIN - said - _LEAST_ROOM)
    left, right = MARGIN + titles, MARGIN + said
    sheet.areas(_ROW * max(len(chart.rows), 1), (left, right, partial(draw_rows, chart=chart, titles=titles, said=said)))
    sheet.gap(_AXIS_LABELS if chart.axis.title else _AXIS_LABELS - 0.16)


def room(texts: Iterable[tuple[str, bool]]) -> float:
    """Return how many inches texts take beside axes, the distance from these included; the bold ones are marked."""
    return max((width(plain(text), SMALL, bold) for text, bold in texts), default=0.0) + 0.14


def draw_rows(axes: Axes, chart: RowChart, titles: float, said: float) -> None:
    """Draw rows with their names to the left of the axes and their figures to the right; 0 inches: none."""
    set_axis(axes, chart.axis, "x")
    axes.set_ylim(len(chart.rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")
    if chart.reference is not None:
        axes.axvline(chart.reference, color=DIM, linewidth=0.8, linestyle=(0, (2, 2)))
    for y, row in enumerate(chart.rows):
        weight = "bold" if row.is_whole else "normal"
        if titles:
            name = fitted(row.title, titles - 0.13, SMALL, row.is_whole)
            _write(axes, name, 0.0, y, -_PAD, weight)
        if said:
            text = fitted(row.said, said - 0.13, SMALL, row.is_whole, at_end=True)
            _write(axes, text, 1.0, y, _PAD, weight)
        for mark in row.marks:
            _draw_mark(axes, chart.axis, mark, y)
        if row.is_whole and chart.is_cut:
            _draw_cut(axes, y)
        if row.end is not None and y + 1 < len(chart.rows):
            axes.plot([row.end, row.end], [y + 0.36, y + 0.64], color=DIM, linewidth=0.8)


def _write(axes: Axes, text: str, x: float, y: float, points: float, weight: str) -> None:
    """Write beside the axes, so many points away from its edge."""
    axes.annotate(
        text,
        (x, y),
        xytext=(points, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        ha="left" if points > 0 else "right",
        va="center",
        weight=weight,
    )


def _draw_mark(axes: Axes, axis: Axis, mark: Mark, y: float) -> None:
    colour, hatch = FACES[mark.kind]
    low, high = (min(max(value, axis.low), axis.high) for value in (mark.low, mark.high))
    if mark.shape == "bar":
        least = (axis.high - axis.low) * 0.004
        if not axis.log and high - low < least:  # what is there must be seen
            low, high = (low + high - least) / 2, (low + high + least) / 2
        axes.barh(y, high - low, 0.72, left=low, color=colour, hatch=hatch, edgecolor="white", linewidth=0, clip_on=False)
    elif mark.shape == "whisker":
        axes.plot([low, high], [y, y], color=INK, linewidth=1.1, solid_capstyle="butt", clip_on=False)
        for value, end in ((mark.low, low), (mark.high, high)):
            if axis.beyond(value):
                axes.plot(end, y, marker="<" if value < end else ">", color=INK, markersize=4, clip_on=False)
            else:
                axes.plot(end, y, marker="|", color=INK, markersize=6.5, markeredgewidth=1.1, clip_on=False)
    else:
        filled = colour if mark.shape == "dot" else "white"
        marker = "o"
        if axis.beyond(mark.low):
            marker = "<" if mark.low < axis.low else ">"
        axes.plot(
            low,
            y,
            marker=marker,
            color=colour,
            markerfacecolor=filled,
            markersize=5,
            markeredgewidth=1.3,
            clip_on=False,
            zorder=4,
        )


def _draw_cut(axes: Axes, y: float) -> None:
    """Show that a bar does not begin at 0: two slashes through it."""
    across = axes.get_yaxis_transform()
    for x in (0.02, 0.035):
        axes.plot(
            [x - 0.008, x + 0.008], [y + 0.44, y - 0.44], color="white", linewidth=1.6, transform=across, clip_on=False
        )


def set_axis(axes: Axes, axis: Axis, which: str) -> None:
    """Set the scale, the ticks and the title of the x or the y axis."""
    from matplotlib.ticker import NullLocator  # noqa: PLC0415  (slow to import)

    own = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log" if axis.log else "linear")
    (axes.set_xlim if which == "x" else axes.set_ylim)(axis.low, axis.high)
    own.set_minor_locator(NullLocator())
    own.set_ticks([value for value, _ in axis.ticks], [label for _, label in axis.ticks])
    own.set_label_text(plain(axis.title))
    own.set_tick_params(length=3)


def add_key(sheet: Sheet, key: Sequence[tuple[Kind | int, str]]) -> None:
    """Draw what kinds of marks, or styles of lines, mean: side by side, on as many lines as it takes."""
    lines: list[list[tuple[float, Kind | int, str]]] = [[]]
    at = 0.0
    for kind, text in key:
        name = fitted(text, WIDTH - 2 * MARGIN - 0.5)
        taken = 0.38 + width(name, SMALL) + 0.18
        if at + taken > WIDTH - 2 * MARGIN and lines[-1]:
            lines.append([])
            at = 0.0
        lines[-1].append((at, kind, name))
        at += taken
    for line in lines:
        sheet.areas(0.19, (MARGIN, MARGIN, partial(_draw_key, line=line)))
    sheet.gap(0.06)


def _draw_key(axes: Axes, line: list[tuple[float, Kind | int, str]]) -> None:
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH - 2 * MARGIN)
    axes.set_ylim(-1, 1)
    for at, kind, name in line:
        if isinstance(kind, int):
            axes.plot([at + 0.05, at + 0.17, at + 0.29], [0, 0, 0], **line_look(kind))
        else:
            colour, hatch = FACES[kind]
            axes.barh(0, 0.26, 1.3, left=at + 0.02, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
        axes.text(at + 0.38, 0, name, va="center_baseline")


def line_look(style: int) -> dict[str, Any]:
    """Return colour, dashes and marker of a line."""
    return {
        "color": _COLOURS[style],
        "linestyle": _DASHES[style],
        "marker": _MARKERS[style],
        "markersize": 4.5,
        "linewidth": 1.4,
    }


def _add_panels(sheet: Sheet, chart: LineChart) -> None:
    add_key(sheet, chart.key)
    columns = 1 if len(chart.panels) == 1 else 2 if len(chart.panels) in (2, 4) else 3
    each = (WIDTH - 2 * MARGIN) / columns
    for first in range(0, len(chart.panels), columns):
        areas = []
        for column, panel in enumerate(chart.panels[first : first + columns]):
            left = MARGIN + column * each + _PANEL_LEFT
            right = WIDTH - MARGIN - (column + 1) * each + _PANEL_RIGHT
            areas.append((left, right, partial(draw_panel, panel=panel, title_room=each - 0.2)))
        sheet.gap(_PANEL_TOP)
        sheet.areas(_PANEL_HEIGHT, *areas)
        sheet.gap(_AXIS_LABELS)


def draw_panel(axes: Axes, panel: Panel, title_room: float) -> None:
    """Draw the lines of one panel; ``title_room`` is what its title may take, in inches.

    Lines stand a little beside each other, so that whiskers at the same place can be told apart.
    """
    from matplotlib.transforms import offset_copy  # noqa: PLC0415  (slow to import)

    set_axis(axes, panel.x, "x")
    set_axis(axes, panel.y, "y")
    axes.grid(visible=True)
    axes.set_title(fitted(panel.title, title_room, NORMAL), x=-0.02)
    for number, line in enumerate(panel.lines):
        beside = (number - (len(panel.lines) - 1) / 2) * _BESIDE
        place = offset_copy(axes.transData, axes.get_figure(root=True), beside, 0, units="points")
        look = line_look(line.style) | {"transform": place}
        if line.repeats:
            dots = {"linestyle": "", "alpha": 0.7} | ({"marker": "_", "markersize": 7} if line.points else {})
            axes.plot(*zip(*line.repeats, strict=True), **(look | dots))
        axes.plot([point.x for point in line.points], [point.y for point in line.points], **look)
        for point in line.points:
            if point.low is not None and point.high is not None:
                ends = [max(point.low, panel.y.low), min(point.high, panel.y.high)]
                axes.plot([point.x, point.x], ends, color=look["color"], linewidth=1.1, transform=place)
