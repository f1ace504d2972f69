"""Two sides' start-ups: every phase with its change, and whether the start-up as a whole is slower."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from rca.startup.model import KIND, PHASES, TOTALS, Startup
from rca.startup.phases import explained
from rca.startup.read import Startups
from rca.startup.respond import MAX_FALSE
from rca.stats.reference import mann_whitney_p
from rca.stats.robust import Floats, Shift, benjamini_hochberg, few_means
from rca.verdict import Status

ALPHA = 0.01
"""The status is wrong in so many of 100 comparisons of starts that do not differ."""

DRIFT = 0.03
"""Restarts differ by so much with nothing the matter, from one hour to the next: an assumption."""

SINGLE = 0.25
"""What two single starts have to differ by: nothing tells how much these vary, and a busy neighbour makes less than this."""

LEAST_SECONDS = 0.1
"""Changes below this matter to nobody who waits for a server."""

WIDE = 0.15
"""An interval that holds a change as large as this acquits nobody."""


@dataclass(frozen=True)
class Change:
    """One phase on both sides.

    Attributes:
        phase: id, ``other: …`` or ``silence: …`` for what no line explains in a phase.
        title: for people.
        n: starts that have it, on each side.
        normal_s: mean seconds; None where no start has it.
        abnormal_s: the same.
        change: difference of means, with its interval where it can be had (else it is as wide as it is uncertain: NaN).
        p: Welch's, of logarithms where all values are above 0; None where there are too few starts.
        u_p: two-sided Mann-Whitney U; 1 where either side has one start.
        q: p with false-discovery control over the phases.
        sure: more than chance and rounding, and large enough to matter.
    """

    phase: str
    title: str
    n: tuple[int, int]
    normal_s: float | None
    abnormal_s: float | None
    change: Shift
    p: float | None
    u_p: float
    q: float | None
    sure: bool

    @property
    def ratio(self) -> float:
        """Abnormal over normal; infinite where the normal side spent nothing on it, NaN where neither did."""
        normal, abnormal = self.normal_s or 0.0, self.abnormal_s or 0.0
        return abnormal / normal if normal > 0 else math.inf if abnormal > 0 else math.nan


@dataclass(frozen=True)
class Compared:
    """All phases of both sides, and the whole.

    Attributes:
        normal: the starts that are compared.
        abnormal: the same.
        total: of `PHASES`, what the status speaks of: the actual total where all have it.
        ratio: abnormal over normal, with interval where there is one.
        p: of the total; None where there are too few starts.
        status: what it comes to.
        reasons: why it is that, where it needs saying.
        changes: by phase, in the order of a start-up.
        ledger: the phases without parts, in the order of a start-up: their changes and ``unlogged`` sum to that of the
            stretch from first line to readiness.
    """

    normal: tuple[Startup, ...]
    abnormal: tuple[Startup, ...]
    total: str
    ratio: Shift
    p: float | None
    status: Status
    reasons: tuple[str, ...]
    changes: dict[str, Change]
    ledger: tuple[Change, ...]

    def change(self, phase: str) -> Change | None:
        """Return the change of one phase, None where neither side has it."""
        return self.changes.get(phase)

    @property
    def typical(self) -> tuple[Startup, Startup]:
        """The start of each side with the middle total."""
        normal, abnormal = (
            sorted(side, key=lambda start: start.phases[self.total].seconds)[len(side) // 2]
            for side in (self.normal, self.abnormal)
        )
        return normal, abnormal

    @property
    def change_s(self) -> float:
        """Change of the total, in seconds."""
        return self.changes[self.total].change.estimate


def compare(normal: Startups, abnormal: Startups) -> Compared | str:
    """Compare the start-ups of two sides; a sentence, where there is nothing to compare."""
    sides = normal.usable, abnormal.usable
    for side, own, name in zip((normal, abnormal), sides, ("normal", "abnormal"), strict=True):
        if not own:
            problem = side.starts[0].problem
            return f"none of the {len(side.starts)} {name} start(s) came so far that it can be compared: {problem}"
    total = _total([start for own in sides for start in own])
    if total is None:
        return "the start-ups have no total in common"
    changes = _changes(*sides)
    ratio, p = _ratio(*(np.array([start.phases[total].seconds for start in own]) for own in sides))
    compared = Compared(*sides, total, ratio, p, "no_difference", (), changes, _ledger(changes, *sides))
    status, reasons = _status(compared)
    return replace(compared, status=status, reasons=reasons)


def _total(starts: list[Startup]) -> str | None:
    """Return the total that means the same in all starts: the actual one does not end at the same point in all logs."""
    for id_ in TOTALS[::-1]:
        if all(id_ in start.phases and start.phases[id_].seconds > 0 for start in starts):
            kinds = {(start.phases[id_].source, start.outcome) for start in starts}
            if id_ == "total_time" or len(kinds) == 1:
                return id_
    return None


_Judged = tuple[Status, tuple[str, ...]]


def _status(compared: Compared) -> _Judged:
    if reasons := _not_alike(compared.normal, compared.abnormal):
        return "not_comparable", tuple(reasons)
    if compared.p is None:
        return _untested(compared)
    ratio, significant = compared.ratio, compared.p < ALPHA
    change = ratio.estimate - 1
    large = abs(change) >= SINGLE and (ratio.low > 1 + DRIFT or ratio.high < 1 - DRIFT)
    if (significant and abs(change) >= DRIFT and abs(compared.change_s) >= LEAST_SECONDS) or large:
        return _direction(compared), ()
    if significant:
        return "no_difference", (f"the change is less than the {DRIFT:.0%} that restarts differ by",)
    bounds = f"{ratio.low - 1:+.1%} to {ratio.high - 1:+.1%}; record more starts a side"
    too_wide = max(ratio.high - 1, 1 - ratio.low) > WIDE
    if too_wide or (abs(change) >= DRIFT and (ratio.low > 1 or ratio.high < 1)):
        why = "the interval is too wide to acquit" if too_wide else "it may be more than chance"
        return "insufficient_data", (f"{why}: {bounds}",)
    return "no_difference", ()


def _untested(compared: Compared) -> _Judged:
    """Judge starts that are too few for a test by how much starts differ at most."""
    n = f"{len(compared.normal)} and {len(compared.abnormal)} start(s) are too few for a test"
    change = compared.ratio.estimate - 1
    if abs(change) >= SINGLE:
        return _direction(compared), (f"{n}; called so because starts rarely differ by {SINGLE:.0%} by themselves",)
    return "insufficient_data", (f"{n}, and {change:+.0%} may be chance; record 3 starts a side or more",)


def _direction(compared: Compared) -> Status:
    return "slower" if compared.change_s > 0 else "faster"


def _not_alike(normal: tuple[Startup, ...], abnormal: tuple[Startup, ...]) -> list[str]:
    """Say what makes the sides different things: another engine, another model."""
    reasons = []
    engines = [{start.engine for start in side if start.engine} for side in (normal, abnormal)]
    if all(engines) and not engines[0] & engines[1]:
        reasons.append(f"{_either(engines[0])} against {_either(engines[1])}")
    models = [{start.parameters["model"] for start in side if "model" in start.parameters} for side in (normal, abnormal)]
    if all(models) and not models[0] & models[1]:
        reasons.append(f"other models: {_either(models[0])} against {_either(models[1])}")
    return reasons


def _either(names: Iterable[str]) -> str:
    return " or ".join(sorted(names))


def _ratio(x: Floats, y: Floats) -> tuple[Shift, float | None]:
    """Return the ratio of geometric means with its interval; NaN for the bounds where there are too few values."""
    tested = few_means(np.log(x), np.log(y))
    if tested is None:
        return Shift(float(np.exp(np.log(y).mean() - np.log(x).mean())), math.nan, math.nan), None
    shift, p = tested
    return Shift(*(float(np.exp(value)) for value in (shift.estimate, shift.low, shift.high))), p


def _changes(normal: tuple[Startup, ...], abnormal: tuple[Startup, ...]) -> dict[str, Change]:
    """Return the change of every phase that a start of either side has, in the order of a start-up."""
    present = {id_ for start in (*normal, *abnormal) for id_ in start.phases}
    order = [kind.id for kind in PHASES if kind.id in present]
    order += sorted(id_ for id_ in present if id_.startswith("other: "))
    silent = sorted({gap.phase for start in (*normal, *abnormal) for gap in start.gaps})
    found = []
    for id_ in order:
        x, y = (_seconds(side, id_) for side in (normal, abnormal))
        stamped = any(start.phases[id_].source == "stamps" for start in (*normal, *abnormal) if id_ in start.phases)
        resolution = 2 * max(start.resolution for start in (*normal, *abnormal)) if stamped else 0.01
        title = KIND[id_].title if id_ in KIND else id_
        found.append(_change(id_, title, x, y, resolution))
    for phase in silent:
        x, y = (np.array([_silence(start, phase) for start in side]) for side in (normal, abnormal))
        resolution = 2 * max(start.resolution for start in (*normal, *abnormal))
        title = f"silence in {KIND[phase].title if phase in KIND else phase}"
        found.append(_change(f"silence: {phase}", title, x, y, resolution))
    return _with_false_discovery_control(found)


def _seconds(side: tuple[Startup, ...], phase: str) -> Floats:
    return np.array([start.phases[phase].seconds for start in side if phase in start.phases])


def _silence(start: Startup, phase: str) -> float:
    return sum(gap.seconds for gap in start.gaps if gap.phase == phase)


def _change(phase: str, title: str, x: Floats, y: Floats, resolution: float) -> Change:
    means = [float(values.mean()) if len(values) else None for values in (x, y)]
    estimate = (means[1] or 0.0) - (means[0] or 0.0)
    tested = few_means(x, y, resolution) if len(x) and len(y) else None
    shift, p = tested if tested else (Shift(estimate, math.nan, math.nan), None)
    if p is not None and min(x.min(), y.min()) > 0:  # durations spread in proportion: what is slow varies more
        p = (few_means(np.log(x), np.log(y), resolution / min(x.mean(), y.mean())) or (None, p))[1]
    u_p = float(mann_whitney_p([x], [y])[0]) if len(x) and len(y) else 1.0
    biggest = max(means[0] or 0.0, means[1] or 0.0)
    only_one_side = not (len(x) and len(y))
    least = LEAST_SECONDS + resolution
    if p is None:
        sure = abs(estimate) >= max(least, (0.0 if only_one_side else SINGLE) * biggest)
    else:
        sure = (shift.low > 0 or shift.high < 0) and abs(estimate) >= max(least, DRIFT * biggest)
    return Change(phase, title, (len(x), len(y)), means[0], means[1], shift, p, u_p, None, sure)


def _with_false_discovery_control(found: list[Change]) -> dict[str, Change]:
    tested = [change for change in found if change.p is not None]
    q = benjamini_hochberg(np.array([change.p for change in tested], dtype=np.float64))
    by_phase = {change.phase: float(own) for change, own in zip(tested, q, strict=True)}
    return {
        change.phase: replace(change, q=(own := by_phase.get(change.phase)), sure=change.sure and (own or 0.0) <= MAX_FALSE)
        for change in found
    }


def _ledger(changes: dict[str, Change], normal: tuple[Startup, ...], abnormal: tuple[Startup, ...]) -> tuple[Change, ...]:
    """Return the phases that no other one holds; those that a start lacks took it no time.

    Where not every start states all, the mean counts 0 for those that do not: so the rows sum to the change of the means.
    """
    parts = [[explained(start.phases) for start in side] for side in (normal, abnormal)]
    ids = dict.fromkeys(id_ for side in parts for own in side for id_ in own)
    rows = []
    for id_ in sorted(ids, key=list(changes).index):
        x, y = (np.array([own.get(id_, 0.0) for own in side]) for side in parts)
        title = "torch.compile, the rest of it" if id_ == "torch.compile" else changes[id_].title
        rows.append(_change(id_, title, x, y, 0.0))
    if "unlogged" in changes:
        rows.append(changes["unlogged"])
    return tuple(row for row in rows if row.normal_s or row.abnormal_s)
