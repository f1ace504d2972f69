"""Lines of a server's log: who wrote them, when, and what they say; whatever stands before or between them.

Prefixes (FORMATS.md §2.3, §3.3): vLLM ``(Worker pid=1) INFO 07-17 13:40:56 [file.py:12] …`` without a year, SGLang
``[2026-08-01 23:37:38 DP0 TP1] …``, libraries' ``2026-08-02 10:30:12,584 - INFO - …`` and ``[W1121 01:10:28.4 a.cpp:68] …``.
A prefix is looked for anywhere in a line, as container runtimes put their own in front, and progress bars end without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
_PREFIX = re.compile(
    r"""
    (?:\((?P<process>[A-Za-z][^()\n]{0,60}?)\)\s+)?
    (?:
      (?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\s(?P<md>\d\d-\d\d)\s(?P<t1>\d\d:\d\d:\d\d(?:[.,]\d+)?)\s
        \[?(?P<source>[\w./-]+:\d+)\]\s?
    | \[(?P<d2>\d{4}-\d\d-\d\d)[ T](?P<t2>\d\d:\d\d:\d\d(?:[.,]\d+)?)(?P<ranks>(?:\s[A-Z]{2,6}\d+)*)\]\s?
    | (?P<d3>\d{4}-\d\d-\d\d)\s(?P<t3>\d\d:\d\d:\d\d[.,]\d+)\s-\s(?P<level3>[A-Z]+)\s-\s
    | (?:\[rank\d+\]:)?\[?[IWEF](?P<md4>\d{4})\s(?P<t4>\d\d:\d\d:\d\d\.\d+)\s[^\]\n]{0,200}?\]\s
    )""",
    re.VERBOSE,
)
_HALF_A_YEAR = timedelta(days=183)
_LEAP_YEAR = 2000
"""Stands in for the year that vLLM leaves out; also where a year is given, so that all lines of a log agree."""


@dataclass(frozen=True)
class Line:
    """One message.

    Attributes:
        number: of the line in its file, from 1.
        at: seconds on a clock of the log's own, as precise as its stamps; None for text without a stamp.
        process: what the engine calls the process, as ``EngineCore_0 pid=51157`` or ``TP0``; empty where it says nothing.
        level: of the message; empty where the engine does not write it.
        text: the message, without colours.
    """

    number: int
    at: float | None
    process: str
    level: str
    text: str

    @property
    def role(self) -> str:
        """The process without its pid, which another start does not share."""
        return re.sub(r"\s*\bpid=\d+", "", self.process).strip()


class Clock:
    """Turns stamps into seconds: the year is left out, and December is followed by January."""

    def __init__(self) -> None:
        self._last: datetime | None = None
        self._turns = timedelta()

    def seconds(self, month: int, day: int, time: str) -> float | None:
        """Return seconds since the beginning of the year in which the log begins; None for what is no date."""
        hour, minute, second = time.replace(",", ".").split(":")
        try:
            at = datetime(_LEAP_YEAR, month, day, int(hour), int(minute)) + timedelta(seconds=float(second)) + self._turns
        except ValueError:
            return None
        if self._last and self._last - at > _HALF_A_YEAR:
            self._turns += timedelta(days=366)
            at += timedelta(days=366)
        self._last = at
        return (at - datetime(_LEAP_YEAR, 1, 1)).total_seconds()


def split_lines(text: str, number: int, clock: Clock) -> Iterator[Line]:
    """Yield the messages of one line of a file: none has two prefixes, what stands before the first has no time."""
    for piece in _ANSI.sub("", text).split("\r"):
        found = list(_PREFIX.finditer(piece))
        starts = [match.start() for match in found] + [len(piece)]
        if before := piece[: starts[0]].strip():
            process = _PROCESS.match(before)
            yield Line(number, None, process[1] if process else "", "", before[process.end() if process else 0 :])
        for match, end in zip(found, starts[1:], strict=True):
            process_name = match["process"] or (match["ranks"] or "").strip()
            said = piece[match.end() : end].strip()
            yield Line(number, _at(match, clock), process_name, match["level"] or match["level3"] or "", said)


_PROCESS = re.compile(r"\(([A-Za-z][^()\n]{0,60}? pid=\d+[^()\n]{0,40})\)\s?")
"""In front of what a vLLM process prints without a stamp."""


def _at(match: re.Match[str], clock: Clock) -> float | None:
    if match["md"]:
        return clock.seconds(int(match["md"][:2]), int(match["md"][3:]), match["t1"])
    if match["md4"]:
        return clock.seconds(int(match["md4"][:2]), int(match["md4"][2:]), match["t4"])
    date, time = (match["d2"], match["t2"]) if match["d2"] else (match["d3"], match["t3"])
    return clock.seconds(int(date[5:7]), int(date[8:10]), time)
