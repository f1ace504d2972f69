"""Where one start of a server ends and the next begins within a log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rca.startup.grammar import BEGINS, BEGINS_OFFLINE, ENDS, READY, STATED
from rca.startup.lines import Line

_MOST_LINES = 200_000
"""A start-up has thousands of lines; what goes on like this is a server that never says that it is ready."""

_ENGINE_BEGINS = "LLM engine"


@dataclass
class _Start:
    lines: list[Line] = field(default_factory=list)
    settled: bool = False
    announced_by: str | None = None
    engines: dict[str, str] = field(default_factory=dict)
    progressed: int = 0
    """How many lines there were when a phase last ended."""


def starts_in(lines: Iterable[Line], engine: str) -> list[list[Line]]:
    """Return the lines of each start, as far as its readiness; what a server says while it serves is left out.

    A new start is told by a line that a server's first process writes once, or by an engine that begins once more: a server
    that was killed leaves no word of it.
    """
    done: list[list[Line]] = []
    now = _Start()
    for line in lines:
        if _begins_anew(now, line):
            kept = _lines_before_the_next(now)
            done.append(now.lines[:kept])
            now = _Start(lines=now.lines[kept:])
        _note(now, line, engine)
    return [start for start in (*done, now.lines) if start]


def _begins_anew(now: _Start, line: Line) -> bool:
    if now.settled:
        return bool(BEGINS.search(line.text) or BEGINS_OFFLINE.search(line.text))
    if BEGINS.search(line.text) and now.announced_by is not None:
        return line.process == now.announced_by if "pid=" not in line.process else line.process != now.announced_by
    return _is_engine(line) and line.role in now.engines


def _is_engine(line: Line) -> bool:
    return _ENGINE_BEGINS in line.text and BEGINS_OFFLINE.search(line.text) is not None


def _lines_before_the_next(now: _Start) -> int:
    """Return where the lines of the next start begin: with its first look for a platform after the last phase that ended."""
    if now.settled:
        return len(now.lines)
    found = (i for i in range(now.progressed, len(now.lines)) if BEGINS_OFFLINE.search(now.lines[i].text))
    return next(found, len(now.lines))


def _note(now: _Start, line: Line, engine: str) -> None:
    if now.settled or len(now.lines) >= _MOST_LINES:
        if "initialize_engine took" in line.text:
            now.lines.append(line)
        return
    now.lines.append(line)
    if BEGINS.search(line.text):
        now.announced_by = now.announced_by if now.announced_by is not None else line.process
    if _is_engine(line):
        now.engines[line.role] = line.process
    if any(stated.pattern.search(line.text) for stated in STATED):
        now.progressed = len(now.lines)
    now.settled = bool(READY[engine].search(line.text) or ENDS.search(line.text))
