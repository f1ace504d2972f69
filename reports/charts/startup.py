"""Charts of start-ups: the waterfall of a start, where the change went, all starts at a glance, what responds to what.

Computes no statistic.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from rca.startup import Startup, StartupReport
from rca.startup.compare import Change, Compared
from rca.startup.model import CONTAINERS, KIND, PHASES, TOTALS
from reports.charts.model import (
    STYLES,
    Axis,
    Kind,
    Line,
    LineChart,
    Mark,
    Panel,
    Point,
    Row,
    RowChart,
    Step,
    at_values,
    scale,
    waterfall,
)

MAX_STARTS = 40
"""In the overview; more are in the tables."""

_MOST_SILENCES = 3
_MOST_PANELS = 6
_KEY: tuple[tuple[Kind, str], ...] = (
    ("part", "phase"),
    ("whole", "phase with parts"),
    ("silence", "silence: no line explains it"),
)
_TOP: tuple[tuple[str, Kind], ...] = (
    ("bootstrap", "a"),
    ("tokenizer_init", "e"),
    ("model_loading", "b"),
    ("init_engine", "c"),
    ("server_start", "d"),
)
"""What a start consists of at first sight; what is none of these is left blank."""


def drawable(start: Startup) -> bool:
    """Tell whether the stamps of a start say when its phases were."""
    return any(phase.spans for phase in start.phases.values())


def length(starts: Iterable[Startup]) -> float:
    """Return how long the longest of some starts is, in seconds: the end of their common axis."""
    return max((_end(start) - start.start for start in starts), default=0.0)


def _end(start: Startup) -> float:
    return max([phase.end for phase in start.phases.values() if phase.end is not None], default=start.start)


def start_chart(name: str, start: Startup, end: float) -> RowChart:
    """Return the phases of one start over time, then its longest silences; ``end`` is that of the axis."""
    rows = tuple(_phase_rows(start))
    total = start.seconds("actual_total_time")
    said = [f"{start.engine} {start.version}".strip(), start.outcome, f"{total:.1f} s in all" if total is not None else ""]
    kinds = {mark.kind for row in rows for mark in row.marks}
    key = tuple((kind, text) for kind, text in _KEY if kind in kinds)
    return RowChart(name, ", ".join(text for text in said if text), rows, _seconds(end), key=key)


def _seconds(end: float) -> Axis:
    """Return an axis of seconds from the first line of a start on."""
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)
    end = max(end, 1e-3)
    step = next((step for step in steps if end / step <= 6), 3600 * math.ceil(end / 6 / 3600))
    ticks = tuple((float(n * step), f"{n * step:g}") for n in range(int(end / step) + 1))
    return Axis(0.0, end, ticks, "seconds since the first line")


def _phase_rows(start: Startup) -> Iterable[Row]:
    order = {kind.id: number for number, kind in enumerate(PHASES)}
    for phase in sorted(start.phases.values(), key=lambda phase: (order.get(phase.id, len(order)), phase.id)):
        stated = phase.id.startswith("other: ")
        if not phase.spans or phase.id in TOTALS or not (stated or phase.id in KIND):
            continue
        title = phase.id.removeprefix("other: ") if stated else KIND[phase.id].title
        about = "a line states it" if stated else KIND[phase.id].about
        source = "stated by a line" if phase.source == "logged" else "between two stamps"
        kind: Kind = "whole" if phase.id in CONTAINERS else "part"
        yield Row(title, f"{phase.seconds:.2f} s", _bars(start, phase.spans, kind), f"{title}: {about}; {source}")
    for gap in start.gaps[:_MOST_SILENCES]:
        hint = f"between “{gap.before}” (line {gap.lines[0]}) and “{gap.after}”"
        marks = _bars(start, ((gap.start, gap.start + gap.seconds),), "silence")
        yield Row(f"silence in {KIND[gap.phase].title}", f"{gap.seconds:.2f} s", marks, hint)


def _bars(start: Startup, spans: Sequence[tuple[float, float]], kind: Kind) -> tuple[Mark, ...]:
    since = start.start
    return tuple(Mark("bar", kind, max(at - since, 0.0), max(until - since, 0.0)) for at, until in sorted(spans))


def overview_chart(starts: Sequence[Startup]) -> RowChart:
    """Return a line per start with what it consists of at first sight, all from their first line on."""
    rows = []
    for start in starts[:MAX_STARTS]:
        marks = [
            mark
            for id_, kind in _TOP
            if (phase := start.phases.get(id_)) is not None and phase.spans
            for mark in _bars(start, phase.spans, kind)
        ]
        total = start.seconds("actual_total_time")
        said = f"{total:.2f} s" if total is not None else start.outcome
        rows.append(Row(start.name, said, tuple(marks)))
    kinds = {mark.kind for row in rows for mark in row.marks}
    key = tuple((kind, KIND[id_].title) for id_, kind in _TOP if kind in kinds)
    more = len(starts) - len(rows)
    caption = "From the first line of each log on; what is blank belongs to no phase. Figures: the total."
    caption += f" {more} more starts are in the tables only." if more > 0 else ""
    return RowChart("All starts", caption, tuple(rows), _seconds(length(starts[:MAX_STARTS])), key=key)


def ledger_chart(compared: Compared) -> RowChart:
    """Return the waterfall from the normal start-up to the abnormal one: their means, phase by phase."""
    normal, abnormal = (sum(getattr(row, f"{side}_s") or 0.0 for row in compared.ledger) for side in ("normal", "abnormal"))
    steps = [
        Step(row.title, row.change.estimate, *_bounds(row), said(row), hint=_hint(row.phase)) for row in compared.ledger
    ]
    ends = (("normal, first line to readiness", normal, f"{normal:.2f} s"), ("abnormal", abnormal, f"{abnormal:.2f} s"))
    caption = (
        "Means over starts. Each phase begins where the one above it ended; whiskers are the 95 % intervals of its change, "
        "where there are starts enough."
    )
    return waterfall("Where the time of a start-up went", caption, ends, steps, "s")


def _bounds(change: Change) -> tuple[float | None, float | None]:
    shift = change.change
    return (shift.low, shift.high) if math.isfinite(shift.low) and math.isfinite(shift.high) else (None, None)


def said(change: Change) -> str:
    """Return the change of a phase in seconds, with its interval where there is one."""
    low, high = _bounds(change)
    if low is None or high is None:
        return f"{change.change.estimate:+.2f} s"
    return f"{change.change.estimate:+.2f} ({low:+.2f} to {high:+.2f}) s"


def _hint(phase: str) -> str:
    return KIND[phase].about if phase in KIND else ""


def response_charts(report: StartupReport) -> list[LineChart]:
    """Return, for each parameter that phases respond to, the seconds of these phases over it: a panel each."""
    charts = []
    for parameter in dict.fromkeys(one.parameter for one in report.responses if one.responds):
        phases = [one.phase for one in report.responses if one.parameter == parameter and one.responds]
        order = [kind.id for kind in PHASES]
        shown = sorted(phases, key=order.index)[:_MOST_PANELS]
        charts.append(_response_chart(report, parameter, shown, len(phases)))
    return charts


def _response_chart(report: StartupReport, parameter: str, phases: list[str], responding: int) -> LineChart:
    starts = [start for start in report.startups.usable if parameter in start.parameters]
    others = _distinct([name for name in report.varied if name != parameter], starts)
    groups: dict[str, list[Startup]] = defaultdict(list)
    for start in starts:
        groups[", ".join(start.parameters.get(name, "-") for name in others) or "all starts"].append(start)
    names = sorted(groups)[:STYLES]
    panels = []
    for phase in phases:
        lines = [_line(style, groups[name], parameter, phase) for style, name in enumerate(names)]
        values = [(point.x, point.y) for line in lines for point in line.points] + [
            pair for line in lines for pair in line.repeats
        ]
        x = at_values([x for x, _ in values], parameter)
        y = scale(0.0, 1.08 * max(y for _, y in values), "s", "time")
        panels.append(Panel(KIND[phase].title, x, y, tuple(lines)))
    caption = "Every start is a point."
    if responding > len(phases):
        caption += f" {responding - len(phases)} more phases respond: see the table."
    if len(groups) > len(names):
        caption += f" {len(names)} of {len(groups)} groups are drawn."
    return LineChart(f"What responds to {parameter}", caption, tuple(panels), tuple(enumerate(names)))


def _distinct(names: list[str], starts: list[Startup]) -> list[str]:
    """Leave out parameters that tell starts apart no further than those before them."""
    kept: list[str] = []
    for name in names:
        before, after = (
            len({tuple(start.parameters.get(one) for one in own) for start in starts}) for own in (kept, [*kept, name])
        )
        if after > before:
            kept.append(name)
    return kept


def _line(style: int, starts: list[Startup], parameter: str, phase: str) -> Line:
    """Return seconds over a parameter; starts of the same value are points that no line joins."""
    pairs = [(float(start.parameters[parameter]), start.phases[phase].seconds) for start in starts if phase in start.phases]
    if len({x for x, _ in pairs}) < len(pairs):
        return Line(style, (), tuple(sorted(pairs)))
    return Line(style, tuple(Point(x, y) for x, y in sorted(pairs)))
