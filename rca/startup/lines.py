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
_ISO = re.compile(r"(?P<date>\d{4}-\d\d-\d\d)T(?P<time>\d\d:\d\d:\d\d(?:\.\d+)?)(?:Z|[+-]\d\d:?\d\d)?[\"\s,]*")
"""What other formatters write. Container runtimes add one, too, of another time zone: see `stamped_by_others`."""

_MESSAGE = re.compile(r'"(?:message|msg|log)"\s*:\s*"((?:[^"\\]|\\.)*)"')
_HALF_A_YEAR = timedelta(days=183)
_NO_INTERLEAVING = timedelta(minutes=20)
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
    """Turns stamps into seconds: the year is left out, December is followed by January, and time never runs back for long.

    Attributes:
        iso: whether lines without an engine's own prefix are stamped by the ISO times in them.
        set_back: seconds by which the clock was set back in all; they are left out.
    """

    def __init__(self, iso: bool = False) -> None:
        self.iso = iso
        self.set_back = 0.0
        self._last: datetime | None = None
        self._offset = timedelta()

    def seconds(self, month: int, day: int, time: str) -> float | None:
        """Return seconds since the beginning of the year in which the log begins; None for what is no date."""
        hour, minute, second = time.replace(",", ".").split(":")
        try:
            at = datetime(_LEAP_YEAR, month, day, int(hour), int(minute)) + timedelta(seconds=float(second)) + self._offset
        except ValueError:
            return None
        behind = self._last - at if self._last else timedelta()
        if behind > _HALF_A_YEAR:
            behind = timedelta(days=366)
        elif behind > _NO_INTERLEAVING:  # processes that write side by side are seconds apart
            self.set_back += behind.total_seconds()
        else:
            behind = timedelta()
        self._offset += behind
        self._last = max(at + behind, self._last) if self._last else at
        return (at + behind - datetime(_LEAP_YEAR, 1, 1)).total_seconds()


def stamped_by_others(text: str) -> bool:
    """Tell whether the lines of a log are stamped by another formatter than the engine's own."""
    return len(_ISO.findall(text)) > 10 * len(_PREFIX.findall(text))


def split_lines(text: str, number: int, clock: Clock) -> Iterator[Line]:
    """Yield the messages of one line of a file: none has two prefixes, what stands before the first has no time."""
    for piece in _ANSI.sub("", text).split("\r"):
        found = list(_PREFIX.finditer(piece)) or (list(_ISO.finditer(piece))[:1] if clock.iso else [])
        starts = [match.start() for match in found] + [len(piece)]
        if before := piece[: starts[0]].strip():
            named = _PROCESS.match(before)
            yield Line(number, None, named[1] if named else "", "", before[named.end() if named else 0 :])
        for match, end in zip(found, starts[1:], strict=True):
            said = piece[match.end() : end].strip()
            if match.re is _ISO:
                message = _MESSAGE.search(piece)
                yield Line(number, _on(match["date"], match["time"], clock), "", "", message[1] if message else said)
            else:
                process = match["process"] or (match["ranks"] or "").strip()
                yield Line(number, _at(match, clock), process, match["level"] or match["level3"] or "", said)


_PROCESS = re.compile(r"\(([A-Za-z][^()\n]{0,60}? pid=\d+[^()\n]{0,40})\)\s?")
"""In front of what a vLLM process prints without a stamp."""


def _at(match: re.Match[str], clock: Clock) -> float | None:
    if match["md"]:
        return clock.seconds(int(match["md"][:2]), int(match["md"][3:]), match["t1"])
    if match["md4"]:
        return clock.seconds(int(match["md4"][:2]), int(match["md4"][2:]), match["t4"])
    date, time = (match["d2"], match["t2"]) if match["d2"] else (match["d3"], match["t3"])
    return _on(date, time, clock)


def _on(date: str, time: str, clock: Clock) -> float | None:
    return clock.seconds(int(date[5:7]), int(date[8:10]), time)
