"""The picture of cycles over time, on both sides. Computes no statistic."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from rca.api import Comparison
from rca.comparison import RankComparison
from rca.cycles import warm_up_cycles
from rca.pictures import SideName
from rca.verdict import duration
from reports.charts.captures import leading
from reports.charts.model import Axis, logarithmic, scale
from reports.plots.charts import COLOURS, GREY, MOST_POINTS, WIDE, heading, set_axis
from reports.plots.sheet import DIM, INK, MARGIN, SMALL, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = {
    "o": "circles",
    "s": "squares",
    "D": "diamonds",
    "^": "triangles",
    "v": "triangles down",
    "P": "plus signs",
    "*": "stars",
}
_STATES = {
    "compared": "Filled: compared.",
    "warm-up": "Hollow with a thick edge: outliers at the start, so maybe warm-up.",
    "other": "Hollow: not compared, of another phase or other work.",
    "left out": "Crosses: left out, their end is not known.",
}


@dataclass(frozen=True)
class _Side:
    """What is drawn of a side: ``t`` in seconds, ``duration_us``, ``phase``, ``state`` of each cycle, and the median."""

    name: SideName
    cycles: pl.DataFrame
    recorded: int
    compared: int
    median_us: float


def cycles_sheet(result: Comparison) -> Sheet | None:
    """Return how long cycles took over time; None where nothing was cut into cycles."""
    rank = leading(result)
    if rank is None:
        return None
    sides = [_side(rank, "normal", rank.cycle_time.normal_us), _side(rank, "abnormal", rank.cycle_time.abnormal_us)]
    cycles = pl.concat([side.cycles for side in sides])
    if cycles.height == 0:
        return None
    sheet = Sheet("Durations of cycles over time, both sides")
    states = set(cycles["state"])
    caption = " ".join(text for state, text in _STATES.items() if state in states)
    heading(sheet, f"Cycles over time{f', {rank.role}' if len(result.ranks) > 1 else ''}", caption)
    last = float(cycles["t"].max())  # type: ignore[arg-type]
    margin = 0.015 * last or 1.0
    time = scale(-margin, last + margin, "s", "time since the side's first cycle")
    durations = _durations(cycles["duration_us"].to_list())
    phases = sorted(set(cycles["phase"]))
    for side in sides:
        sheet.gap(0.22)
        sheet.areas(1.75, (MARGIN + 0.55, MARGIN + 0.1, partial(_draw, side=side, x=time, y=durations, phases=phases)))
        sheet.gap(0.2)
    sheet.gap(0.2)
    if len(phases) > 1:
        said = [f"{shape} {phase}" for shape, phase in zip(itertools.cycle(_MARKERS.values()), phases, strict=False)]
        sheet.text(f"Phases: {', '.join(said)}.", size=SMALL, colour=DIM)
    return sheet


def _durations(values: list[float]) -> Axis:
    middle = sorted(values)[len(values) // 2]
    if max(values) > WIDE * middle or min(values) * WIDE * WIDE < middle:
        return logarithmic(values, "µs", "duration", most=5)
    return scale(0.0, 1.05 * max(values), "µs", "duration", most=5)


def _side(rank: RankComparison, side: SideName, median_us: float) -> _Side:
    recorded = rank.profiles[0 if side == "normal" else 1].rank.cycles.sort("start_ns")
    compared = rank.compared.filter(pl.col("side") == side)
    state = (
        pl.when(pl.col("cycle").is_in(warm_up_cycles(recorded)))
        .then(pl.lit("warm-up"))
        .when(pl.col("cycle").is_in(compared["cycle"].to_list()))
        .then(pl.lit("compared"))
        .when("complete")
        .then(pl.lit("other"))
        .otherwise(pl.lit("left out"))
    )
    since = (pl.col("start_ns") - pl.col("start_ns").min()) / 1e9
    cycles = recorded.select(since.alias("t"), "duration_us", "phase", state.alias("state")).filter(
        pl.col("duration_us") > 0
    )
    thinned = cycles.gather_every(max(-(-cycles.height // MOST_POINTS), 1))
    return _Side(side, thinned, recorded.height, compared.height, median_us)


def _draw(axes: Axes, side: _Side, x: Axis, y: Axis, phases: list[str]) -> None:
    set_axis(axes, x, "x")
    set_axis(axes, y, "y")
    axes.grid(visible=True)
    if side.name == "normal":
        axes.set_xlabel("")
        axes.tick_params(labelbottom=False)
    colour = COLOURS[side.name]
    size = 3.2 if side.cycles.height > 60 else 5.0
    hollow = {"color": colour, "markerfacecolor": "white", "markersize": 4.4}
    looks: dict[str, dict[str, Any]] = {
        "compared": {"color": colour, "markersize": size, "alpha": 0.85, "markeredgewidth": 0.0},
        "warm-up": hollow | {"markeredgewidth": 2.0},
        "other": hollow | {"markeredgewidth": 0.9},
        "left out": {"color": GREY, "markersize": 4.4},
    }
    markers = dict(zip(phases, itertools.cycle(_MARKERS), strict=False))
    for (phase, state), own in sorted(side.cycles.group_by("phase", "state")):
        marker = "x" if state == "left out" else markers[str(phase)]
        axes.plot(own["t"].to_list(), own["duration_us"].to_list(), linestyle="", marker=marker, **looks[str(state)])
    title = f"{side.name}: {side.recorded:,} cycle{'' if side.recorded == 1 else 's'}, {side.compared:,} of them compared"
    if side.compared:
        axes.axhline(side.median_us, color=INK, linewidth=1.0, linestyle=(0, (4, 2)))
        title += f"; median {duration(side.median_us)} (dashed)"
    if side.cycles.height < side.recorded:
        title += f"; {side.cycles.height:,} drawn"
    axes.set_title(title, x=0.0, size=SMALL, color=colour if side.name == "normal" else "#a84300")
