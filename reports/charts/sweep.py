"""Charts of benchmark grids: time over each parameter that was varied, and the ratios and exponents of the report.

Computes no statistic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from rca.sweep.model import (
    BATCH,
    CONTEXT,
    DEPTH,
    FORWARD,
    KEYS,
    MEAN,
    MODEL,
    STD,
    WARMUPS,
    WIDTH,
    Effect,
    Result,
)
from reports.charts.model import (
    STYLES,
    Axis,
    Line,
    LineChart,
    Mark,
    Panel,
    Point,
    Row,
    RowChart,
    at_values,
    logarithmic,
    scale,
)

_MOST_PANELS = 9
_MOST_ROWS = 16
_PASSES = {True: "forward", False: "forward + backward"}
_OF_MODEL = (WIDTH, DEPTH, "num_heads")
"""Parameters that a model's size sets, so that they vary from one model to another and not within one."""

_FEW = 20.0
"""Times further apart than this many times are drawn on a logarithmic axis."""


def line_charts(result: Result) -> dict[str, LineChart]:
    """Return time over each parameter that was varied, by the parameter's name, in the order of the report."""
    cells = result.sweep.cells
    drawn = {name: _over(cells, name) for name in (CONTEXT, BATCH, "vocab_size") if _varies(cells, name)}
    drawn |= {name: _across_models(cells, name) for name in (WIDTH, DEPTH) if _varies(cells, name)}
    drawn |= {WARMUPS: _over(cells, WARMUPS)} if _varies(cells, WARMUPS) else {}
    return {name: chart for name, chart in drawn.items() if chart is not None}


def _varies(cells: pl.DataFrame, name: str) -> bool:
    return name in cells.columns and cells[name].n_unique() > 1 and cells[name].null_count() == 0


@dataclass(frozen=True)
class _Series:
    """Cells that differ in the parameter of the axis alone: in which panel they are drawn, what their line is called."""

    panel: str
    name: str
    cells: pl.DataFrame


def _over(cells: pl.DataFrame, parameter: str) -> LineChart | None:
    """Return time over a parameter that varies within models: a panel per model, a line per pass and warm-ups.

    Over warm-ups themselves, cells without any are drawn too, and lines are told apart by their context.
    """
    about = CONTEXT if parameter == WARMUPS else WARMUPS
    used = cells if parameter == WARMUPS else _warmed(cells)
    found = []
    for _, own in used.group_by([key for key in KEYS if key in used.columns and key != parameter], maintain_order=True):
        if own.height < 2:
            continue
        first = own.row(0, named=True)
        others = _told_apart(used, parameter, about)
        panel = ", ".join([str(first[MODEL]), *(f"{_short(key)} {first[key]}" for key in others)])
        found.append(_Series(panel, _line_name(first, about, used), own.sort(parameter)))
    caption = "Means of the trials; whiskers are ± one standard deviation of them."
    if parameter != WARMUPS and used.height < cells.height:
        caption += " Cells without warm-up are not drawn here: their first call costs more."
    return _chart(f"Time over {_title(parameter)}", caption, found, parameter)


def _across_models(cells: pl.DataFrame, parameter: str) -> LineChart | None:
    """Return time over a parameter that is the model's: a panel per pass, a line per context and warm-ups.

    Where several models have the same value, a panel has those that are alike in the other parameter.
    """
    used = _warmed(cells)
    keys = [key for key in KEYS if key in used.columns and key not in (MODEL, *_OF_MODEL)]
    other = DEPTH if parameter == WIDTH else WIDTH
    ties = any(own[parameter].n_unique() < own.height for _, own in used.group_by(keys, maintain_order=True))
    split = [other] if ties and other in used.columns else []
    if parameter == DEPTH and not split and not _rises_with(used, WIDTH, DEPTH):
        return None  # each model is on the chart of widths already, and here the line would go to and fro
    found = []
    for _, own in used.group_by([*keys, *split], maintain_order=True):
        if own[parameter].n_unique() < own.height or own.height < 2:
            continue
        first = own.row(0, named=True)
        others = [key for key in _told_apart(used, parameter, CONTEXT) if key != WARMUPS]
        panel = ", ".join([_PASSES[first[FORWARD]], *(f"{_short(key)} {first[key]}" for key in (*split, *others))])
        name = ", ".join(f"{_short(key)} {first[key]}" for key in (CONTEXT, WARMUPS) if used[key].n_unique() > 1)
        found.append(_Series(panel, name or "all", own.sort(parameter)))
    caption = "Each point is a model. Whiskers are ± one standard deviation of the trials."
    caption += "" if split else " What else belongs to a model's size changes with it."
    return _chart(f"Time over {_title(parameter)}", caption, found, parameter)


def _rises_with(cells: pl.DataFrame, one: str, other: str) -> bool:
    """Tell whether models that are larger in one way are no smaller in the other."""
    return one in cells.columns and bool(cells.sort(other, one)[one].is_sorted())


def _warmed(cells: pl.DataFrame) -> pl.DataFrame:
    warmed = cells.filter(pl.col(WARMUPS) > 0)
    return warmed if warmed.height else cells


def _told_apart(cells: pl.DataFrame, parameter: str, about: str) -> list[str]:
    """Return the keys that tell panels apart, besides model and pass."""
    known = (MODEL, FORWARD, *_OF_MODEL, parameter, about)
    return [key for key in KEYS if key not in known and key in cells.columns and cells[key].n_unique() > 1]


def _line_name(first: dict[str, Any], about: str, cells: pl.DataFrame) -> str:
    parts = [_PASSES[first[FORWARD]]] if cells[FORWARD].n_unique() > 1 else []
    parts += [f"{_short(about)} {first[about]}"] if cells[about].n_unique() > 1 else []
    return ", ".join(parts) or _PASSES[first[FORWARD]]


def _short(key: str) -> str:
    return {CONTEXT: "context", BATCH: "batch", "vocab_size": "vocabulary", WARMUPS: "warm-ups"}.get(key, key)


def _title(key: str) -> str:
    names = {
        CONTEXT: "context length",
        BATCH: "batch size",
        "vocab_size": "size of the vocabulary",
        WARMUPS: "number of warm-ups",
        WIDTH: "width of the model (d_model)",
        DEPTH: "number of layers",
    }
    return names.get(key, key)


def _chart(title: str, caption: str, found: Sequence[_Series], parameter: str) -> LineChart | None:
    if not found:
        return None
    names = list(dict.fromkeys(series.name for series in found))
    panels = list(dict.fromkeys(series.panel for series in found))
    values = [value for series in found for value in series.cells[parameter].to_list()]
    log = parameter != WARMUPS and min(values) > 0
    x = at_values([float(value) for value in values], _title(parameter), log)
    if len(panels) > _MOST_PANELS:
        caption += f" The first {_MOST_PANELS} of {len(panels)} panels."
    if len(names) > STYLES:
        caption += f" The first {STYLES} of {len(names)} lines."
    lines = {
        panel: tuple(
            Line(names.index(series.name), _points(series.cells, parameter))
            for series in found
            if series.panel == panel and series.name in names[:STYLES]
        )
        for panel in panels[:_MOST_PANELS]
    }
    points = {panel: [point for line in own for point in line.points] for panel, own in lines.items() if own}
    log_y = _is_wide(points.values())
    drawn = tuple(Panel(panel, x, _time_axis(own, log_y), lines[panel]) for panel, own in points.items())
    return LineChart(title, caption, drawn, tuple(enumerate(names[:STYLES])))


def _is_wide(panels: Iterable[Sequence[Point]]) -> bool:
    """Tell whether times within a panel lie so far apart that the small ones would all look the same."""
    times = [[point.y for point in points] for points in panels]
    return any(max(own) > _FEW * min(own) > 0 for own in times)


def _points(cells: pl.DataFrame, parameter: str) -> tuple[Point, ...]:
    columns = zip(cells[parameter].to_list(), cells[MEAN].to_list(), cells[STD].to_list(), strict=True)
    return tuple(Point(float(x), y, None if sd is None else y - sd, None if sd is None else y + sd) for x, y, sd in columns)


def _time_axis(points: Sequence[Point], log: bool) -> Axis:
    tops = [point.high if point.high is not None else point.y for point in points]
    if log:
        return logarithmic([*tops, *(point.y for point in points)], "ms", "time")
    return scale(0.0, 1.06 * max(tops), "ms", "time", 5)


def effect_charts(result: Result) -> list[RowChart]:
    """Return the ratios and exponents that the report states, each with its interval where there is one."""
    found = result.meaning
    charts = []
    if found.backward:
        caption = "Over warmed cells; bars are 95 % intervals."
        charts.append(_forest("(Forward + backward) / forward", caption, found.backward, "ratio of times", None))
    if found.warmups:
        caption = "Time after more warm-ups over time after the fewest; bars are 95 % intervals. 1 is no difference."
        charts.append(_forest("More warm-ups", caption, found.warmups, "ratio of times", 1.0))
    within = [
        Effect(f"{effect.name}, {scaling.name}", *_rest(effect)) for scaling in found.scaling for effect in scaling.within
    ]
    if within:
        caption = (
            "Time within a model goes with the context length to this power: 0 is no influence, 1 is in proportion to it."
        )
        charts.append(_forest("How time grows with the context", caption, within, "exponent", 1.0, 2))
    joint = [
        Effect(f"{effect.name}, {scaling.name}", *_rest(effect)) for scaling in found.scaling for effect in scaling.joint
    ]
    if joint:
        caption = "Over all configurations at once, time goes with each of these to this power; bars are 95 % intervals."
        charts.append(_forest("How time grows with everything", caption, joint, "exponent", 1.0, 2))
    return charts


def _rest(effect: Effect) -> tuple[int, float, float | None, float | None]:
    return effect.n, effect.estimate, effect.low, effect.high


def _forest(
    title: str, caption: str, effects: Sequence[Effect], unit: str, reference: float | None, digits: int = 3
) -> RowChart:
    rows = []
    for effect in effects[:_MOST_ROWS]:
        marks = [Mark("dot", "part", effect.estimate, effect.estimate)]
        said = f"{effect.estimate:.{digits}f}"
        if effect.low is not None and effect.high is not None:
            marks.insert(0, Mark("whisker", "part", effect.low, effect.high))
            said += f" ({effect.low:.{digits}f} to {effect.high:.{digits}f})"
        rows.append(Row(effect.name, said, tuple(marks)))
    if len(effects) > len(rows):
        caption += f" The first {len(rows)} of {len(effects)}."
    seen = [value for row in rows for mark in row.marks for value in (mark.low, mark.high)]
    seen += [reference] if reference is not None else []
    if digits == 3 and min(seen) > 0 and max(seen) > 4 * min(seen):  # ratios: twice is as far from once as half is
        return RowChart(title, caption, tuple(rows), logarithmic(seen, "", unit), reference)
    margin = 0.06 * (max(seen) - min(seen)) or 0.05
    return RowChart(title, caption, tuple(rows), scale(min(seen) - margin, max(seen) + margin, "", unit), reference)
