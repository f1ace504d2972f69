"""Start-ups as a page: a waterfall of each start above the tables. One file, no script, nothing is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from rca.startup import Startup
from rca.startup.model import CONTAINERS, KIND, PHASES, TOTALS
from reports.document import Document
from reports.view import STATUS_WORDS

_MOST_WATERFALLS = 24
_MOST_SILENCES = 3
_WIDTH = 960
_NAMES = 210
_FIGURES = 80
_ROW = 18
_TICKS = 6
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)


@dataclass(frozen=True)
class Row:
    """One phase: what is said of it, and its bars as (x, width). ``kind`` is ``part``, ``whole`` or ``silence``."""

    title: str
    seconds: str
    kind: str
    bars: tuple[tuple[float, float], ...]
    y: float
    hint: str


@dataclass(frozen=True)
class Waterfall:
    """A drawing of one start; ``ticks`` are (x, text)."""

    name: str
    caption: str
    rows: tuple[Row, ...]
    ticks: tuple[tuple[float, str], ...]
    height: float


def page(document: Document, starts: list[tuple[str, Startup]]) -> str:
    """Return the page of a report with the waterfalls of some starts, each with its caption, all on one scale."""
    drawn = [(name, start) for name, start in starts if start.phases and any(phase.spans for phase in start.phases.values())]
    end = max((_end(start) - start.start for _, start in drawn), default=0.0)
    return (
        _environment()
        .get_template("document.html.j2")
        .render(
            v=document,
            status_words=STATUS_WORDS,
            waterfalls=[_waterfall(name, start, end) for name, start in drawn[:_MOST_WATERFALLS]],
            left_out=max(len(drawn) - _MOST_WATERFALLS, 0),
            width=_WIDTH,
            names=_NAMES,
            row=_ROW,
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _end(start: Startup) -> float:
    return max([phase.end for phase in start.phases.values() if phase.end is not None], default=start.start)


def _waterfall(name: str, start: Startup, end: float) -> Waterfall:
    scale = (_WIDTH - _NAMES - _FIGURES) / max(end, 1e-9)
    rows = []
    for number, (title, seconds, kind, spans, hint) in enumerate(_phases(start)):
        bars = [(_NAMES + max(at - start.start, 0.0) * scale, max((until - at) * scale, 1.0)) for at, until in spans]
        drawn = tuple((round(x, 1), round(width, 1)) for x, width in sorted(bars))
        rows.append(Row(title, f"{seconds:.2f} s", kind, drawn, _ROW * number, hint))
    total = start.seconds("actual_total_time")
    said = [f"{start.engine} {start.version}".strip(), start.outcome, f"{total:.1f} s in all" if total is not None else ""]
    caption = ", ".join(text for text in said if text)
    return Waterfall(name, caption, tuple(rows), _ticks(end, scale), _ROW * (len(rows) + 1))


_Drawn = tuple[str, float, str, tuple[tuple[float, float], ...], str]
"""Title, seconds, kind of bar, when it was, hint."""


def _phases(start: Startup) -> list[_Drawn]:
    """Return what is drawn of a start: its phases in their order, then the longest silences."""
    order = {kind.id: number for number, kind in enumerate(PHASES)}
    found: list[_Drawn] = []
    for phase in sorted(start.phases.values(), key=lambda phase: (order.get(phase.id, len(order)), phase.id)):
        stated = phase.id.startswith("other: ")
        if not phase.spans or phase.id in TOTALS or not (stated or phase.id in KIND):
            continue
        title = phase.id.removeprefix("other: ") if stated else KIND[phase.id].title
        about = "a line states it" if stated else KIND[phase.id].about
        source = "stated by a line" if phase.source == "logged" else "between two stamps"
        kind = "whole" if phase.id in CONTAINERS else "part"
        found.append((title, phase.seconds, kind, phase.spans, f"{title}: {about}; {source}"))
    for gap in start.gaps[:_MOST_SILENCES]:
        hint = f"between “{gap.before}” (line {gap.lines[0]}) and “{gap.after}”"
        span = (gap.start, gap.start + gap.seconds)
        found.append((f"silence in {KIND[gap.phase].title}", gap.seconds, "silence", (span,), hint))
    return found


def _ticks(end: float, scale: float) -> tuple[tuple[float, str], ...]:
    step = next((step for step in _STEPS if end / step <= _TICKS), _STEPS[-1])
    return tuple((round(_NAMES + i * step * scale, 1), f"{i * step:g} s") for i in range(int(end / step) + 1))
