"""Charts of a comparison of captures: ledger, counters and functions. Computes no statistic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from rca.api import Comparison
from rca.capture.tables import HOST
from rca.comparison import RankComparison
from rca.verdict import Ledger, duration
from rca.verdict.observe import MAX_Q
from reports.cells import plain
from reports.charts.model import Axis, Kind, Mark, Row, RowChart, Step, scale, waterfall, with_interval
from reports.names import shorten
from reports.verdict_view import signed

MAX_METRICS = 20
MAX_FUNCTIONS = 15

_BEYOND = 115.0
"""Percent: where the axis of relative shifts ends. What was 1 may become 8, and would leave no room for the others."""

_TINY_US = 1.0
"""A residual below this is rounding; the tables of reports leave it out too."""


@dataclass(frozen=True)
class Effect:
    """One quantity on both sides: how far it moved, and whether surely."""

    title: str
    normal: float
    abnormal: float
    shift: float
    low: float
    high: float
    delta: float
    sure: bool
    unit: str = ""


def ledger_chart(ledger: Ledger) -> RowChart:
    """Return the waterfall from the mean normal cycle to the mean abnormal one."""
    normal, abnormal = (sum(getattr(entry, f"{side}_us") for entry in ledger.entries) for side in ("normal", "abnormal"))
    steps = [
        Step(
            entry.text,
            entry.change_us,
            entry.low_us,
            entry.high_us,
            with_interval(entry.change_us, entry.low_us, entry.high_us),
        )
        for entry in ledger.entries
    ]
    if abs(ledger.residual_us) >= _TINY_US:
        steps.append(Step("residual", ledger.residual_us, None, None, signed(ledger.residual_us)))
        abnormal += ledger.residual_us
    ends = (("normal, mean cycle", normal, duration(normal)), ("abnormal, mean cycle", abnormal, duration(abnormal)))
    caption = "Each part begins where the one above it ended; whiskers are the 95 % interval of its change."
    if not ledger.timeline:
        caption += " From summed durations: what overlaps is cut to what the others left."
    return waterfall("Where the time of a cycle went", caption, ends, steps, "µs")


def metric_effects(result: Comparison) -> list[Effect]:
    """Return the counters that both sides recorded, those that moved most clearly first.

    Where nothing was cut into cycles, those signals of the catalogue that both sides recorded.
    """
    rank = leading(result)
    if rank is None or rank.metrics.height == 0:
        seen = sorted(result.verdict.observations, key=lambda one: (not one.moved, one.q, -abs(one.delta)))
        return [
            Effect(
                title=_named(one.text, one.device),
                normal=one.normal,
                abnormal=one.abnormal,
                shift=one.shift,
                low=one.low,
                high=one.high,
                delta=one.delta,
                sure=bool(one.moved),
                unit=one.unit,
            )
            for one in seen
        ]
    return [
        Effect(
            title=_named(row["metric"], row["device"]),
            normal=row["normal"],
            abnormal=row["abnormal"],
            shift=row["shift"],
            low=row["shift_low"],
            high=row["shift_high"],
            delta=row["cliffs_delta"],
            sure=row["q"] is not None and row["q"] < MAX_Q,
        )
        for row in rank.metrics.iter_rows(named=True)
    ]


def _named(name: str, device: str) -> str:
    return name if device == HOST else f"{name} ({device})"


def delta_chart(effects: Iterable[Effect]) -> RowChart:
    """Return Cliff's δ of each: from -1, all abnormal values are below all normal ones, to 1."""
    rows = tuple(Row(one.title, "", (_dot(one, one.delta),)) for one in effects)
    ticks = ((-1.0, "-1"), (-0.5, ""), (0.0, "0"), (0.5, ""), (1.0, "1"))
    return RowChart("", "", rows, Axis(-1.12, 1.12, ticks, "Cliff's δ"), reference=0.0)


def relative_chart(effects: Iterable[Effect]) -> RowChart:
    """Return the shift of each with its interval, in % of its normal value; without one where that is 0.

    What goes beyond the axis is drawn at its edge, as an arrow.
    """
    rows = tuple(Row(one.title, _values(one), _relative_marks(one)) for one in effects)
    ticks = ((-100.0, "-100"), (-50.0, ""), (0.0, "0"), (50.0, ""), (100.0, "+100"))
    return RowChart("", "", rows, Axis(-_BEYOND, _BEYOND, ticks, "shift, % of normal"), reference=0.0)


def _relative_marks(one: Effect) -> tuple[Mark, ...]:
    if not one.normal or not all(map(math.isfinite, (one.shift, one.low, one.high))):
        return ()
    shift, low, high = (100 * value / abs(one.normal) for value in (one.shift, one.low, one.high))
    return Mark("whisker", "rest", low, high), _dot(one, shift)


def _dot(one: Effect, at: float) -> Mark:
    return Mark("dot" if one.sure else "ring", "abnormal" if one.sure else "rest", at, at)


def _values(one: Effect) -> str:
    return f"{plain(one.normal)} → {plain(one.abnormal)}" + (f" {one.unit}" if one.unit else "")


def functions_chart(rank: RankComparison) -> RowChart | None:
    """Return the functions whose time per cycle shifted most, the sure ones first; None where nothing is compared."""
    if not rank.gate.ok:
        return None
    sure = (pl.col("q") < MAX_Q).fill_null(value=False)
    moved = rank.functions.filter((pl.col("shift_us") != 0) & pl.col("shift_us").is_finite())
    shown = moved.sort(sure, pl.col("shift_us").abs(), "function", descending=[True, True, False]).head(MAX_FUNCTIONS)
    shown = shown.sort(pl.col("shift_us").abs(), "function", descending=[True, False])
    if shown.height == 0:
        return None
    rows = []
    for row in shown.iter_rows(named=True):
        shift, low, high = (row[name] for name in ("shift_us", "shift_low_us", "shift_high_us"))
        is_sure = row["q"] is not None and row["q"] < MAX_Q
        kind: Kind = "rest" if not is_sure else "more" if shift > 0 else "less"
        marks = [Mark("bar", kind, min(shift, 0.0), max(shift, 0.0))]
        known = all(bound is not None and math.isfinite(bound) for bound in (low, high))
        marks += [Mark("whisker", "rest", low, high)] if known else []
        name = _named(shorten(row["function"]), row["device"])
        said = with_interval(shift, low, high) if known else signed(shift)
        rows.append(Row(name, said, tuple(marks), hint=row["function"]))
    seen = [1.04 * value for row in rows for mark in row.marks for value in (mark.low, mark.high)]
    n = int(moved.filter(sure).height)
    caption = (
        f"{n:,} of {rank.functions.height:,} functions take a different time per cycle (q < {MAX_Q:g}); "
        f"{'the largest shifts' if n else 'none is sure, so these are only the largest shifts'}, with 95 % intervals."
    )
    key: list[tuple[Kind, str]] = [("more", "takes longer"), ("less", "takes less time"), ("rest", "not sure")]
    kinds = {mark.kind for row in rows for mark in row.marks if mark.shape == "bar"}
    return RowChart(
        "Functions whose time per cycle changed",
        caption,
        tuple(rows),
        scale(min(0.0, *seen), max(0.0, *seen), "µs", "shift of time per cycle"),
        reference=0.0,
        key=tuple((kind, text) for kind, text in key if kind in kinds),
    )


def leading(result: Comparison) -> RankComparison | None:
    """Return the rank that the verdict speaks of; None where nothing was cut into cycles."""
    return next((rank for rank in result.ranks if rank.role == result.verdict.role), None)


def trimmed(normal: Sequence[float], abnormal: Sequence[float]) -> tuple[float, float]:
    """Return a range for the values of both sides, without the few that are so far off that they squeeze all others."""
    sides = [sorted(side) for side in (normal, abnormal) if side]
    values = sorted(value for side in sides for value in side)
    low = min(side[int(0.01 * len(side))] for side in sides)
    high = max(side[min(int(0.98 * len(side)), len(side) - 1)] for side in sides)
    margin = 0.08 * (high - low) or 0.02 * abs(high) or 1.0
    if values[-1] <= high + 4 * margin:
        high = values[-1]
    if values[0] >= low - 4 * margin:
        low = values[0]
    return low - margin, high + margin
