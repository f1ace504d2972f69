"""Which phase responds to which parameter, and which start sticks out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from rca.startup.model import KIND, PHASES, Startup
from rca.stats.robust import Floats, Shift, benjamini_hochberg
from rca.stats.trend import trend

MAX_FALSE = 0.05
"""Share of false discoveries among the responses that are called so (Benjamini-Hochberg)."""

_PHASE_IDS = tuple(kind.id for kind in PHASES)
_LEAST_PEERS = 4
_LEAST_OUTLIER_SECONDS = 0.1
"""What a log of two decimals and a scheduler's whim make up is no outlier."""

_OUTLIER_SHARE = 0.05


@dataclass(frozen=True)
class Response:
    """How a phase depends on a numeric parameter.

    Attributes:
        parameter: its normalised name.
        phase: id.
        n: starts that were used.
        slope: seconds per unit of the parameter, with its 95 % interval; all groups share it.
        slopes: of each group of starts that differ in nothing else, named by what they have in common.
        rho: Spearman's rank correlation, within groups.
        p: of no dependence; permutations within groups.
        q: p with false-discovery control over all parameters and phases.
    """

    parameter: str
    phase: str
    n: int
    slope: Shift
    slopes: tuple[tuple[str, float], ...]
    rho: float
    p: float
    q: float

    @property
    def responds(self) -> bool:
        """Whether the dependence is more than chance."""
        return self.q <= MAX_FALSE and (self.slope.low > 0 or self.slope.high < 0)


@dataclass(frozen=True)
class Outlier:
    """A start whose phase is far from that of its peers: those of the same model."""

    start: str
    phase: str
    seconds: float
    median: float
    n: int
    group: str


def varied(starts: tuple[Startup, ...]) -> tuple[str, ...]:
    """Return the parameters that differ between starts that have them."""
    values: dict[str, set[str]] = defaultdict(set)
    for start in starts:
        for key, value in start.parameters.items():
            values[key].add(value)
    common = [key for key in values if all(key in start.parameters for start in starts)]
    return tuple(sorted(key for key in common if len(values[key]) > 1))


def responses(starts: tuple[Startup, ...]) -> tuple[Response, ...]:
    """Relate every phase to every numeric parameter that was varied, the others held fixed; surest first."""
    names = varied(starts)
    found = []
    for parameter in names:
        if not all(_number(start.parameters[parameter]) is not None for start in starts):
            continue
        others: list[str] = []
        for name in names:
            if not any(_moves_with(name, kept, starts) for kept in (parameter, *others)):
                others.append(name)
        found += [one for phase in _PHASE_IDS if (one := _response(parameter, phase, starts, others))]
    q = benjamini_hochberg(np.array([one[-1] for one in found]))
    made = [Response(*one, q=float(own)) for one, own in zip(found, q, strict=True)]
    return tuple(sorted(made, key=lambda one: (one.q, -abs(one.rho), _PHASE_IDS.index(one.phase), one.parameter)))


_Found = tuple[str, str, int, Shift, tuple[tuple[str, float], ...], float, float]


def _response(parameter: str, phase: str, starts: tuple[Startup, ...], others: list[str]) -> _Found | None:
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for start in starts:
        seconds, x = start.seconds(phase), _number(start.parameters[parameter])
        if seconds is not None and x is not None:
            groups[", ".join(start.parameters[name] for name in others)].append((x, seconds))
    arrays = {name: _columns(points) for name, points in sorted(groups.items())}
    whole = trend(list(arrays.values()))
    if whole is None:
        return None
    slopes = [(name, own.slope.estimate) for name, xy in arrays.items() if (own := trend([xy])) is not None]
    return parameter, phase, whole.n, whole.slope, tuple(slopes), whole.rho, whole.p


def _columns(points: list[tuple[float, float]]) -> tuple[Floats, Floats]:
    table = np.array(points, dtype=np.float64)
    return table[:, 0], table[:, 1]


def _moves_with(name: str, other: str, starts: tuple[Startup, ...]) -> bool:
    """Tell whether a setting has one value for each value of the other one, and another for each: it is the same setting."""
    pairs = {(start.parameters[name], start.parameters[other]) for start in starts}
    return len(pairs) == len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs})


def outliers(starts: tuple[Startup, ...], found: tuple[Response, ...]) -> tuple[Outlier, ...]:
    """Name phases that are far from those of the other starts of one model, but for phases that respond to a parameter.

    A phase that is far only because its part is, is not named.
    """
    moved = {response.phase for response in found if response.responds}
    groups: dict[str, list[Startup]] = defaultdict(list)
    for start in starts:
        groups[start.parameters.get("model", "")].append(start)
    named: list[Outlier] = []
    for group, peers in sorted(groups.items()):
        for phase in (id_ for id_ in _PHASE_IDS if id_ not in moved):
            own = [start for start in peers if phase in start.phases]
            if len(own) >= _LEAST_PEERS:
                named += [Outlier(start.name, phase, s, median, len(own), group) for start, s, median in _far(own, phase)]
    parts = {(one.start, KIND[one.phase].parent) for one in named}
    return tuple(one for one in named if (one.start, one.phase) not in parts)


def _far(own: list[Startup], phase: str) -> list[tuple[Startup, float, float]]:
    """Return those more than 5 scaled deviations from the median of the others, and by as much as anyone would notice.

    Phases that a log states with two decimals often do not differ at all: their deviation is taken for at least 1 % of the
    median. What two stamps say is off by up to two of their ticks.
    """
    values = np.array([start.phases[phase].seconds for start in own])
    centre = float(np.median(values))
    spread = max(1.4826 * float(np.median(np.abs(values - centre))), 0.01 * abs(centre))
    least = max(5 * spread, _OUTLIER_SHARE * abs(centre), _LEAST_OUTLIER_SECONDS)
    found = []
    for start, seconds in zip(own, map(float, values), strict=True):
        ticks = 2 * start.resolution if start.phases[phase].source == "stamps" else 0.0
        if abs(seconds - centre) > max(least, ticks):
            found.append((start, seconds, centre))
    return found


def _number(value: str) -> float | None:
    try:
        found = float(value)
    except ValueError:
        return None
    return found if np.isfinite(found) else None
