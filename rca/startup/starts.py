"""Where one start of a server ends and the next begins within a log."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rca.startup.grammar import BEGINS, BEGINS_OFFLINE, ENDS, EXCEPTION, FAILURE, READY, STATED
from rca.startup.lines import Line

_MOST_LINES = 200_000
"""A start-up has thousands of lines; what goes on like this is a server that never says that it is ready."""

_ENGINE_BEGINS = "LLM engine"
_TAKES_A_WHILE_S = 2.0
"""Processes that announce themselves together do so within this time."""

MATTERS_WHILE_SERVING = re.compile(
    rb"server_args=|API server version|ersion \d+\.\d+|LLM engine|platform|initialize_engine took"
)
"""Of a server that is ready only a new start is of interest; this finds its lines among millions without decoding them."""


@dataclass
class _Start:
    lines: list[Line] = field(default_factory=list)
    settled: bool = False
    announced: Line | None = None
    engines: set[str] = field(default_factory=set)
    progressed: int = 0
    """How many lines there were when something last began, ended or failed that only a start that is under way does."""


class Starts:
    """Takes the lines of a log one by one and keeps those of each start, as far as its readiness.

    A new start is told by a line that a server's first process writes once, or by an engine that begins once more: a server
    that was killed leaves no word of it.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._done: list[list[Line]] = []
        self._now = _Start()

    @property
    def serving(self) -> bool:
        """Whether the server is ready, so that only `MATTERS_WHILE_SERVING` does."""
        return self._now.settled

    def add(self, line: Line) -> None:
        """Take the next line."""
        if self._begins_anew(line):
            kept = self._lines_before_the_next()
            self._done.append(self._now.lines[:kept])
            before = self._now.lines[kept:]
            self._now = _Start()
            for own in before:
                self._note(own)
        self._note(line)

    def all(self) -> list[list[Line]]:
        """Return the lines of each start so far."""
        return [lines for lines in (*self._done, self._now.lines) if lines]

    def _begins_anew(self, line: Line) -> bool:
        now = self._now
        if now.settled:
            return bool(BEGINS.search(line.text) or BEGINS_OFFLINE.search(line.text))
        if now.announced and BEGINS.search(line.text) and line.role == now.announced.role:
            later = (line.at or 0.0) - (now.announced.at or 0.0) > _TAKES_A_WHILE_S
            return later or now.progressed > 0
        return _is_engine(line) and line.role in now.engines

    def _lines_before_the_next(self) -> int:
        """Return where the lines of the next start begin: with its first look for a platform since the last one got on."""
        now = self._now
        if now.settled:
            return len(now.lines)
        opening = (i for i in range(now.progressed, len(now.lines)) if BEGINS_OFFLINE.search(now.lines[i].text))
        return next(opening, len(now.lines))

    def _note(self, line: Line) -> None:
        now = self._now
        if now.settled or len(now.lines) >= _MOST_LINES:
            if "initialize_engine took" in line.text:
                now.lines.append(line)
            return
        now.lines.append(line)
        if now.announced is None and BEGINS.search(line.text):
            now.announced = line
        if _is_engine(line):
            now.engines.add(line.role)
        if _gets_on(line):
            now.progressed = len(now.lines)
        now.settled = bool(READY[self._engine].search(line.text) or ENDS.search(line.text))


def _is_engine(line: Line) -> bool:
    return _ENGINE_BEGINS in line.text and BEGINS_OFFLINE.search(line.text) is not None


def _gets_on(line: Line) -> bool:
    """Tell the lines of a start that is under way, or has failed, from those that a start opens with."""
    if _is_engine(line) or EXCEPTION.match(line.text) or FAILURE.search(line.text) or "Starting to load model" in line.text:
        return True
    return any(stated.pattern.search(line.text) for stated in STATED)
