"""Pictures of counters and functions: how far each moved, with its interval. Computes no statistic."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from rca.api import Comparison
from rca.comparison import RankComparison
from rca.pictures.metrics import TwoSides, counters_of
from reports.charts.captures import (
    MAX_METRICS,
    Effect,
    delta_chart,
    functions_chart,
    leading,
    metric_effects,
    relative_chart,
    trimmed,
)
from reports.charts.model import scale
from reports.plots.charts import COLOURS, MOST_POINTS, add_rows, draw_rows, heading, room, set_axis
from reports.plots.sheet import DIM, INK, MARGIN, SMALL, WIDTH, Sheet, fitted, width

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def metrics_sheet(result: Comparison) -> Sheet | None:
    """Return the counters that moved first, with the values of the first two; None where none is on both sides."""
    effects = metric_effects(result)
    if not effects:
        return None
    sheet = Sheet("Counters: effect of each with its interval")
    sure = sum(one.sure for one in effects)
    caption = (
        f"{sure} of {len(effects)} moved surely (filled; hollow: q is 0.05 or more). δ is 1 where every abnormal value is "
        "above every normal one, -1 where below. Arrows: beyond the axis. Figures: normal → abnormal."
    )
    heading(sheet, "Counters on both sides", caption)
    add_effects(sheet, effects[:MAX_METRICS])
    if len(effects) > MAX_METRICS:
        sheet.text(f"{len(effects) - MAX_METRICS} more are in the report.", size=SMALL, colour=DIM)
    rank = leading(result)
    if rank is not None:
        _add_values(sheet, rank)
    return sheet


def add_effects(sheet: Sheet, effects: list[Effect]) -> None:
    """Draw effects: Cliff's δ, and beside it the shift with its interval."""
    said = min(room((row.said, False) for row in relative_chart(effects).rows), 2.4)
    titles = min(room((one.title, False) for one in effects), 2.6, 4.4 - said)
    gap = 0.28
    middle = (WIDTH - 2 * MARGIN - titles - said - gap) * 0.42
    delta, shift = delta_chart(effects), relative_chart(effects)
    sheet.areas(
        0.2 * len(effects),
        (MARGIN + titles, WIDTH - MARGIN - titles - middle, partial(draw_rows, chart=delta, titles=titles, said=0)),
        (MARGIN + titles + middle + gap, MARGIN + said, partial(draw_rows, chart=shift, titles=0, said=said)),
    )
    sheet.gap(0.42)


def _add_values(sheet: Sheet, rank: RankComparison) -> None:
    """Draw the values of the two counters that moved most clearly, each on a scale of its own."""
    values = counters_of(rank)
    rows = [row for row in rank.metrics.head(8).iter_rows(named=True) if (row["metric"], row["device"]) in values]
    shown = [(row, values[row["metric"], row["device"]]) for row in rows]
    shown = [(row, own) for row, own in shown if len({*own.normal, *own.abnormal}) > 1][:2]
    if not shown:
        return
    heading(sheet, "Values of those that moved most clearly", "Every value; the line is the median.")
    half = (WIDTH - 2 * MARGIN) / 2
    areas = [
        (
            MARGIN + 0.62 + number * half,
            WIDTH - MARGIN - (number + 1) * half + 0.12,
            partial(_draw_values, row=row, values=own),
        )
        for number, (row, own) in enumerate(shown)
    ]
    sheet.gap(0.2)
    sheet.areas(0.55, *areas)
    sheet.gap(0.42)


def _draw_values(axes: Axes, row: dict[str, Any], values: TwoSides) -> None:
    low, high = trimmed(values.normal, values.abnormal)
    axis = scale(low, high, "", values.unit, 4)
    set_axis(axes, axis, "x")
    axes.set_ylim(1.6, -0.6)
    axes.set_yticks([0, 1], ["normal", "abnormal"])
    axes.grid(visible=True, axis="x")
    beyond = sum(axis.beyond(value) for value in (*values.normal, *values.abnormal))
    left_out = f"; {beyond} beyond" if beyond else ""
    room = 2.9 - width(left_out, SMALL)
    axes.set_title(fitted(f"{row['metric']} ({row['device']})", room, SMALL) + left_out, size=SMALL, x=-0.2)
    for y, (side, own) in enumerate((("normal", values.normal), ("abnormal", values.abnormal))):
        inside = [value for value in own if not axis.beyond(value)][:MOST_POINTS]
        axes.plot(inside, [y] * len(inside), linestyle="", marker="|", markersize=11, color=COLOURS[side], alpha=0.55)
        if not axis.beyond(row[side]):
            axes.plot([row[side], row[side]], [y - 0.42, y + 0.42], color=INK, linewidth=1.6)


def functions_sheet(result: Comparison) -> Sheet | None:
    """Return the functions that changed most; None where cycles are not alike or nothing changed."""
    rank = leading(result)
    chart = functions_chart(rank) if rank else None
    if chart is None:
        return None
    sheet = Sheet(chart.title)
    heading(sheet, chart.title, chart.caption)
    add_rows(sheet, chart)
    return sheet
