"""The verdict in words: the sentence for a ticket's title, and how far it can be trusted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rca.comparison import RankComparison
from rca.comparison.model import ALPHA
from rca.stats.robust import values_needed
from rca.verdict.catalogue import UNEXPLAINED
from rca.verdict.model import Cause, Status
from rca.verdict.observe import Observation

MIN_EFFECTIVE = 3
"""Cycles that depend on each other so much that they are worth fewer independent ones do not acquit."""

WORK_TELLS = 0.02
"""Other work that explains less than this share of the cycle is not worth a sentence."""

MEAN_TELLS = 1.1
"""Where the ratio of means is this far from the median ratio, a few cycles carry the change, and the headline says so."""


@dataclass(frozen=True)
class Said:
    """What a headline has to say.

    Attributes:
        status: of the comparison.
        by: what it was found by: ``cycles``, ``steps`` (the engine's own count); or why cycles that differ are not called
            so: ``drift`` (by no more than that), ``unconfirmed`` (by the engine's own count).
        same_capture: both sides hold the same files.
        tests: how many ranks and phases were tested.
        statuses: of every rank.
        drift: what undisturbed captures may differ by.
    """

    status: Status
    by: str
    same_capture: bool
    tests: int
    statuses: Mapping[str, Status]
    drift: float


def headline(rank: RankComparison, said: Said, steps: Observation | None) -> str:
    """Say what became of the cycle time of the rank that tells most; ``steps`` is the engine's own time per step."""
    if said.by == "steps" and steps is not None:
        of_cycles = _of_rank(rank, replace(said, status="no_difference"))
        if said.status == "no_difference":
            return f"{_of_steps(steps)}; the profiled cycles drift too much to tell ({of_cycles})"
        return f"{_of_steps(steps)}; the profiled cycles alone do not show it ({of_cycles})"
    text = _of_rank(rank, said)
    if said.by == "drift":
        text += f"; within what captures differ by with nothing the matter (±{said.drift:.0%} here), and no cause was seen"
    if said.by == "unconfirmed" and steps is not None:
        text += f"; in the profiles only, and no cause was seen ({_of_steps(steps)})"
    return text + _other_ranks(said.statuses)


def _of_steps(steps: Observation) -> str:
    change = steps.abnormal / steps.normal - 1
    times = f"{duration(1e6 * steps.normal)} → {duration(1e6 * steps.abnormal)}"
    n = f"n = {steps.n[0]} and {steps.n[1]}"
    return f"Time per step {change:+.1%} over the whole capture, by the engine's own count: {times}, {n}"


def work_explains(rank: RankComparison) -> str:
    """Say how much of the change over all cycles is other work, and how much remains at equal work."""
    work = rank.workload
    if work is None or abs(work.explained_us) < WORK_TELLS * rank.cycle_time.normal_us:
        return ""
    terms = ", ".join(work.terms)
    rest = f"{_signed(work.remains_us)} (95 % CI {_signed(work.remains_low_us)} to {_signed(work.remains_high_us)}) remains"
    change, explained = _signed(work.change_us), _signed(work.explained_us)
    return f"over all cycles the mean changed by {change}: {explained} by other work ({terms}), {rest}"


def _signed(us: float) -> str:
    return ("+" if us >= 0 else "−") + duration(abs(us))


def in_title(causes: Sequence[Cause]) -> str:
    """Name the first cause at the end of a headline."""
    if not causes:
        return ""
    first = causes[0]
    if first.id == UNEXPLAINED:
        return "; unexplained"
    return f"; {'latent' if first.latent else 'first suspect'}: {first.id} on {first.device}"


def host_headline(same_capture: bool) -> str:
    """Say that only machines were compared."""
    if same_capture:
        return "Both sides are the same capture, of counters alone"
    return "No cycles on both sides to compare; the counters tell of the machines"


def _of_rank(rank: RankComparison, said: Said) -> str:
    time, status, tests, same_capture = rank.cycle_time, said.status, said.tests, said.same_capture
    if status == "not_comparable":
        return "The sides cannot be compared: " + rank.gate.reasons[0]
    phase, _, size = rank.gate.stratum.partition(", ")
    unit = ("cycle" if phase == "unknown" else f"{phase} cycle") + (f" of {size}" if size else "")
    of_rank = f" on {rank.role}" if tests > rank.tests else ""
    times = f"median {duration(time.normal_us)} → {duration(time.abnormal_us)} per {unit}{of_rank}"
    n = f"n = {time.n_normal} and {time.n_abnormal}"
    if status == "insufficient_data":
        need = values_needed(ALPHA / tests)
        same = "; both sides are the same capture" if same_capture else ""
        if min(time.n_normal, time.n_abnormal) < need:
            return f"{times}, {n}; the test can decide from {need} cycles a side on{same}"
        worth = f"{time.effective_normal:.0f} and {time.effective_abnormal:.0f}"
        fewest = max(min(time.effective_normal, time.effective_abnormal), 1.0)
        more = math.ceil(min(time.n_normal, time.n_abnormal) * (MIN_EFFECTIVE / fewest - 1)) + 1
        return (
            f"{times}, {n}; but they drift together and are worth {worth} independent ones: some {more} more would do{same}"
        )
    if same_capture:
        return f"Both sides are the same capture: {times}, {n}"
    assert time.ratio is not None  # noqa: S101  (status_of has seen it)
    effect = f"{time.ratio.estimate - 1:+.1%} (95 % CI {time.ratio.low - 1:+.1%} to {time.ratio.high - 1:+.1%})"
    return f"Cycle time {effect}: {times}{_mean(rank, time.ratio.estimate)}, {n}"


def _mean(rank: RankComparison, ratio: float) -> str:
    normal, abnormal = rank.distribution.row(-1)[1:]
    disagree = max(abnormal / normal / ratio, ratio * normal / abnormal) > MEAN_TELLS
    return f" (but mean {duration(normal)} → {duration(abnormal)}: some cycles stall)" if disagree else ""


def _other_ranks(statuses: Mapping[str, Status]) -> str:
    """Count the ranks by status where they do not agree."""
    counts = Counter(statuses.values())
    if len(counts) == 1:
        return ""
    parts = [f"{n} {status.replace('_', ' ')}" for status, n in sorted(counts.items())]
    return f" (of {len(statuses)} ranks: {', '.join(parts)})"


def trust(rank: RankComparison, drift: float) -> str:
    """Say in one line how far the numbers can be trusted; ``drift`` is what undisturbed captures may differ by."""
    time, calibration = rank.cycle_time, rank.calibration
    worth = f"{time.effective_normal:.0f} and {time.effective_abnormal:.0f}"
    parts = [
        "like is compared with like" if rank.gate.ok else "the cycles are not alike",
        f"{time.n_normal} and {time.n_abnormal} cycles, worth {worth} independent ones",
    ]
    if time.p_value is not None:
        p = f"p = {time.p_value:.2g}" if time.p_value else "p < 1e-300"  # smaller than a number can be
        parts.append(f"{p} at level {ALPHA:g}")
    if calibration.false_alarm is None:
        parts.append("the normal side is too short to measure false alarms on")
    else:
        parts.append(
            f"normal against itself: {calibration.false_alarm:.0%} of {calibration.splits} splits pass the test, "
            f"noise floor ±{calibration.noise_floor:.1%}"
        )
    parts.append(f"undisturbed captures of such a machine differ by up to {drift:.0%}")
    return "; ".join(parts)


def duration(us: float) -> str:
    """Write a time in µs, ms or s with four digits."""
    if math.isnan(us):
        return "no cycle"
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size:
            return f"{us / size:.4g} {unit}"
    return f"{us:.4g} µs"
