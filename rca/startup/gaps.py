"""Stretches that no line explains: where they lie, and which two lines they lie between."""

from __future__ import annotations

import numpy as np

from rca.startup.grammar import HEARTBEAT
from rca.startup.lines import Line
from rca.startup.model import CONTAINERS, PHASES, TOTALS, Gap, Phase
from rca.startup.phases import Read
from rca.stats.intervals import Intervals, length_within, union

_LEAST_SECONDS = 2.0
"""Stamps of whole seconds make shorter ones up."""

_LEAST_SHARE = 0.02
_NO_REASON = CONTAINERS - {"torch.compile"} | {"distributed_init", *TOTALS}
_BETWEEN_LINES = {"kernel_autotune", "graph_capturing", "load_weights"}
"""Phases that have a first and a last line of their own, if they are not stated."""

_INSIDES = {kind.id for kind in PHASES if kind.id in CONTAINERS or kind.parent in ("bootstrap", "")} - {"unlogged", *TOTALS}
_MOST_TEXT = 160


def gaps_in(lines: list[Line], read: Read, phases: dict[str, Phase]) -> tuple[Gap, ...]:
    """Return the stretches of silence that no stated duration covers, longest first.

    A phase that contains others explains nothing: that initialising took long does not say what it did.
    """
    unstamped = [line for line in lines if line.at is None and not HEARTBEAT.search(line.text)]
    heard = [line for line in lines if line.at is not None and not HEARTBEAT.search(line.text)]
    end = read.ready if read.ready is not None else read.last
    least = max(_LEAST_SECONDS, _LEAST_SHARE * (end - read.first))
    covered = _explained(read, phases)
    found = []
    latest = heard[0] if heard else None
    for line in heard[1:]:
        assert latest is not None and latest.at is not None and line.at is not None  # noqa: S101, PT018  (stamped, see above)
        if line.at > end:
            break
        silence = line.at - latest.at
        if silence >= least:
            window = np.array([_ticks(latest.at)]), np.array([_ticks(line.at)])
            unexplained = silence - float(length_within(covered, *window)[0]) / _TICKS
            if unexplained >= least:
                between = (latest.number, line.number)
                phase = _phase_at(latest.at, line.at, phases)
                within = next((_short(own) for own in reversed(unstamped) if between[0] < own.number < between[1]), "")
                found.append(Gap(unexplained, latest.at, phase, _short(latest), _short(line), within, between))
        if line.at >= latest.at:
            latest = line
    return tuple(sorted(found, key=lambda gap: -gap.seconds))


_TICKS = 1_000_000


def _ticks(seconds: float) -> int:
    return round(seconds * _TICKS)


def _explained(read: Read, phases: dict[str, Phase]) -> Intervals:
    spans = [(moment.end - moment.seconds, moment.end) for moment in read.moments if moment.phase not in _NO_REASON]
    spans += [span for id_, phase in phases.items() if id_ in _BETWEEN_LINES for span in phase.spans]
    start, end = (np.array([_ticks(span[i]) for span in spans], dtype=np.int64) for i in (0, 1))
    return union((start, end))


def _phase_at(start: float, end: float, phases: dict[str, Phase]) -> str:
    """Return the shortest phase that holds most of the stretch; ``unlogged`` where none does."""
    holding = [
        phase
        for phase in phases.values()
        if phase.id in _INSIDES and phase.start is not None and phase.end is not None
        if min(end, phase.end) - max(start, phase.start) > (end - start) / 2
    ]
    shortest = min(holding, key=lambda phase: ((phase.end or 0) - (phase.start or 0), phase.id in CONTAINERS), default=None)
    return shortest.id if shortest else "unlogged"


def _short(line: Line) -> str:
    return line.text if len(line.text) <= _MOST_TEXT else line.text[: _MOST_TEXT - 1] + "…"
