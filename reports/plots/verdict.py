"""The picture for a ticket: what a comparison of captures comes to, on one sheet. Computes no statistic."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from rca.api import Comparison
from rca.pictures import Distribution, SideCurve, distributions
from rca.pictures.density import MIN_FOR_CURVE
from rca.verdict import duration
from reports.charts.captures import leading, ledger_chart, metric_effects, trimmed
from reports.charts.model import Axis, logarithmic, scale
from reports.plots.charts import COLOURS, MOST_POINTS, WIDE, add, heading, set_axis
from reports.plots.effects import add_effects
from reports.plots.sheet import DIM, INK, LARGE, MARGIN, NORMAL, SMALL, WIDTH, Sheet
from reports.verdict_view import VerdictView, verdict_view
from reports.view import STATUS_WORDS, side_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_CAUSES = 3
_MOST_DISTRIBUTIONS = 3


def verdict_sheet(result: Comparison) -> Sheet:
    """Return the picture for a ticket: the answer, how cycle times are distributed, where the time went, what did it."""
    verdict, rank = result.verdict, leading(result)
    sheet = Sheet(f"{STATUS_WORDS[verdict.status]}: {verdict.headline}")
    _head(sheet, result)
    shown = sorted(distributions(rank), key=_size, reverse=True)[:_MOST_DISTRIBUTIONS] if rank else []
    for found in shown:
        _add_distribution(sheet, found, rank is not None and rank.gate.ok)
    if verdict.ledger and verdict.ledger.entries:
        add(sheet, ledger_chart(verdict.ledger))
    elif rank and not rank.gate.ok:
        heading(sheet, "Where the time of a cycle went", f"Not shown: {'; '.join(rank.gate.reasons)}.")
    elif rank is None:
        heading(sheet, "Cycle times", "Not shown: nothing was cut into cycles on both sides, so only counters are compared.")
        if effects := metric_effects(result)[:8]:
            add_effects(sheet, effects)
    verdict_foot(sheet, verdict.trust)
    return sheet


def _size(found: Distribution) -> int:
    return len(found.normal.points) + len(found.abnormal.points)


def _head(sheet: Sheet, result: Comparison) -> None:
    names = side_names(result)
    about = f"normal: {names[0]}; abnormal: {names[1]}"
    verdict_head(sheet, result.verdict.status, result.verdict.headline, about, verdict_view(result))


def verdict_head(sheet: Sheet, status: str, headline: str, about: str, view: VerdictView) -> None:
    """Begin a sheet with what a comparison comes to, and what it is attributed to."""
    colour = {"slower": "#b93a1f", "faster": "#00734f"}.get(status, INK)
    sheet.text(STATUS_WORDS[status], size=LARGE + 2, bold=True, colour=colour)
    sheet.gap(0.03)
    sheet.text(headline, size=NORMAL + 1)
    sheet.gap(0.03)
    sheet.text(about, size=SMALL, colour=DIM, most=2)
    sheet.gap(0.06)
    for number, cause in enumerate(view.causes[:_MOST_CAUSES], start=1):
        sheet.text(f"{number}. {cause.title}: {cause.why}", size=NORMAL, most=3)
    if not view.causes:
        sheet.text(f"Cause: {view.no_causes}.", size=NORMAL, most=3)


def verdict_foot(sheet: Sheet, trust: str) -> None:
    """End a sheet with how far it can be trusted."""
    sheet.gap(0.08)
    sheet.text(f"Can I trust this? {trust}.", size=SMALL, colour=DIM)


def _add_distribution(sheet: Sheet, found: Distribution, comparable: bool) -> None:
    what = "cycles" if found.phase == "unknown" else f"{found.phase} cycles"
    caption = (
        "" if comparable else "Each side's own cycles: they are not the same work, so the two say nothing of each other."
    )
    heading(sheet, f"How long {what} take", caption)
    said = 2.05
    axis, beyond = _duration_axis(found)
    sheet.areas(
        1.15,
        (MARGIN + 0.1, MARGIN + said + 0.1, partial(_draw_distribution, found=found, axis=axis)),
        (WIDTH - MARGIN - said, MARGIN, partial(_draw_medians, found=found, beyond=beyond)),
    )
    sheet.gap(0.42)


def _duration_axis(found: Distribution) -> tuple[Axis, int]:
    """Return the axis and how many cycles lie beyond it."""
    points = found.normal.points, found.abnormal.points
    medians = sorted((found.normal.median, found.abnormal.median))
    if medians[1] > WIDE * medians[0]:
        return logarithmic([*points[0], *points[1]], "µs", "duration of a cycle"), 0
    low, high = trimmed(*points)
    axis = scale(max(low, 0.0), high, "µs", "duration of a cycle")
    return axis, sum(axis.beyond(value) for side in points for value in side)


def _draw_distribution(axes: Axes, found: Distribution, axis: Axis) -> None:
    """Draw the curves, and below them every cycle with the median and its interval."""
    set_axis(axes, axis, "x")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")
    sides = (("normal", found.normal, -0.14), ("abnormal", found.abnormal, -0.38))
    heights = [_heights(curve, axis) for _, curve, _ in sides]
    top = max((max(own, default=0.0) for own in heights), default=0.0)
    for (side, curve, _), own in zip(sides, heights, strict=True):
        if own:
            faint = 0.004 * max(own)  # else the tails of both draw one line
            scaled = [value / top if value > faint else math.nan for value in own]
            hatch = "" if side == "normal" else "////"
            axes.fill_between(
                curve.x, scaled, color=COLOURS[side], alpha=0.22, linewidth=0, hatch=hatch, edgecolor=COLOURS[side]
            )
            axes.plot(
                curve.x, scaled, color=COLOURS[side], linewidth=1.5, linestyle="-" if side == "normal" else (0, (5, 1.5))
            )
    for side, curve, y in sides:
        inside = [value for value in curve.points if not axis.beyond(value)][:MOST_POINTS]
        few = len(inside) < MIN_FOR_CURVE
        look: dict[str, Any] = {"markersize": 10, "alpha": 0.9} if few else {"markersize": 6, "alpha": 0.5}
        axes.plot(inside, [y] * len(inside), linestyle="", marker="|", color=COLOURS[side], **look)
        if curve.low is not None and curve.high is not None:
            axes.plot([curve.low, curve.high], [y - 0.09, y - 0.09], color=INK, linewidth=1.8, solid_capstyle="butt")
        marker = "o" if side == "normal" else "D"
        axes.plot(curve.median, y - 0.09, marker=marker, markersize=5, color=COLOURS[side], markeredgecolor=INK, zorder=5)
    axes.set_ylim(-0.58, 1.06 if top else 0.0)


def _heights(curve: SideCurve, axis: Axis) -> list[float]:
    """Return the curve's density; per logarithm of time on an axis of logarithms, where equal areas have to look equal."""
    if axis.log:
        return [x * density for x, density in zip(curve.x, curve.density, strict=True)]
    return list(curve.density)


def _draw_medians(axes: Axes, found: Distribution, beyond: int) -> None:
    """Say in words what the curves show; this is their key, too."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for side, curve, y in (("normal", found.normal, 0.98), ("abnormal", found.abnormal, 0.56)):
        marker = "o" if side == "normal" else "D"
        axes.plot(0.04, y - 0.06, marker=marker, markersize=5.5, color=COLOURS[side], markeredgecolor=INK)
        interval = (
            f"95 % CI {duration(curve.low)} to {duration(curve.high)}"
            if curve.low and curve.high
            else "too few for an interval"
        )
        axes.text(0.1, y, f"{side}: {duration(curve.median)}", va="top", weight="bold")
        axes.text(0.1, y - 0.14, f"{interval}\nmedian of n = {len(curve.points):,}", va="top", color=DIM, linespacing=1.25)
    if beyond:
        text = f"{beyond:,} {'cycle lies' if beyond == 1 else 'cycles lie'} beyond the axis"
        axes.text(0.1, 0.13, text, va="top", color=DIM)
