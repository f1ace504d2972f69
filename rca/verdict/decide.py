"""Rank comparisons into one verdict."""

from __future__ import annotations

import math
from collections import Counter

from rca.comparison import RankComparison
from rca.comparison.model import ALPHA
from rca.comparison.robust import is_called
from rca.stats.robust import values_needed
from rca.verdict.artifact import Recording, artifact
from rca.verdict.model import Status, Verdict
from rca.verdict.suspicion import suspects

MIN_EFFECTIVE = 3
"""Cycles that depend on each other so much that they are worth fewer independent ones do not acquit."""

MEAN_TELLS = 1.1
"""Where the ratio of means is this far from the median ratio, a few cycles carry the change, and the headline says so."""


def decide(ranks: list[RankComparison], same_capture: bool, recording: Recording) -> Verdict:
    """Decide a comparison of one or more ranks.

    With several ranks or phases the headline is that of the one that differs most clearly, and the level of each test is
    divided by their number (Bonferroni), so that more of them do not mean more false alarms.

    Args:
        ranks: at least one.
        same_capture: both sides hold the same files.
        recording: what was found about the recording of the sides.
    """
    tests = sum(rank.tests for rank in ranks)
    statuses = {rank.role: status_of(rank, tests) for rank in ranks}
    order: tuple[Status, ...] = ("slower", "faster", "no_difference", "insufficient_data", "not_comparable")
    status = next(s for s in order if s in statuses.values())
    if same_capture and status != "not_comparable":  # the same bytes cannot differ
        enough = all(min(r.cycle_time.n_normal, r.cycle_time.n_abnormal) >= values_needed(ALPHA) for r in ranks)
        status = "no_difference" if enough else "insufficient_data"
    leading = min((r for r in ranks if statuses[r.role] == status or same_capture), key=_clearness)
    causes = () if same_capture else suspects(leading, status)
    recorded = None if same_capture or status == "insufficient_data" else artifact(recording, len(causes) + 1)
    return Verdict(
        status=status,
        headline=_headline(leading, status, same_capture, tests) + _other_ranks(statuses),
        role=leading.role,
        causes=(*causes, recorded) if recorded else causes,
        trust=_trust(leading),
    )


def status_of(rank: RankComparison, tests: int = 1) -> Status:
    """Return the status of one rank; ``tests`` is how many ranks and phases are tested in all."""
    time = rank.cycle_time
    if min(time.n_normal, time.n_abnormal) == 0:
        return "insufficient_data"
    if not rank.gate.ok:
        return "not_comparable"
    if min(time.n_normal, time.n_abnormal) < values_needed(ALPHA / tests) or time.ratio is None:
        return "insufficient_data"
    if is_called(time, rank.calibration, tests):
        return "slower" if time.ratio.estimate > 1 else "faster"
    enough = min(time.effective_normal, time.effective_abnormal) >= MIN_EFFECTIVE
    return "no_difference" if enough else "insufficient_data"


def _other_ranks(statuses: dict[str, Status]) -> str:
    """Count the ranks by status where they do not agree."""
    counts = Counter(statuses.values())
    if len(counts) == 1:
        return ""
    parts = [f"{n} {status.replace('_', ' ')}" for status, n in sorted(counts.items())]
    return f" (of {len(statuses)} ranks: {', '.join(parts)})"


def _clearness(rank: RankComparison) -> tuple[float, float, str]:
    time = rank.cycle_time
    effect = abs(math.log(time.ratio.estimate)) if time.ratio else 0.0
    return (1.0 if time.p_value is None else time.p_value, -effect, rank.role)


def _headline(rank: RankComparison, status: Status, same_capture: bool, tests: int) -> str:
    time = rank.cycle_time
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
        return f"{times}, {n}; but they drift together and are worth {worth} independent ones: capture for longer{same}"
    if same_capture:
        return f"Both sides are the same capture: {times}, {n}"
    assert time.ratio is not None  # noqa: S101  (status_of has seen it)
    effect = f"{time.ratio.estimate - 1:+.1%} (95 % CI {time.ratio.low - 1:+.1%} to {time.ratio.high - 1:+.1%})"
    return f"Cycle time {effect}: {times}{_mean(rank, time.ratio.estimate)}, {n}"


def _mean(rank: RankComparison, ratio: float) -> str:
    normal, abnormal = rank.distribution.row(-1)[1:]
    disagree = max(abnormal / normal / ratio, ratio * normal / abnormal) > MEAN_TELLS
    return f" (but mean {duration(normal)} → {duration(abnormal)}: some cycles stall)" if disagree else ""


def _trust(rank: RankComparison) -> str:
    """Say in one line how far the numbers can be trusted."""
    time, calibration = rank.cycle_time, rank.calibration
    worth = f"{time.effective_normal:.0f} and {time.effective_abnormal:.0f}"
    parts = [
        "like is compared with like" if rank.gate.ok else "the cycles are not alike",
        f"{time.n_normal} and {time.n_abnormal} cycles, worth {worth} independent ones",
    ]
    if time.p_value is not None:
        parts.append(f"p = {time.p_value:.2g} at level {ALPHA:g}")
    if calibration.false_alarm is None:
        parts.append("the normal side is too short to measure false alarms on")
    else:
        parts.append(
            f"normal against itself: {calibration.false_alarm:.0%} of {calibration.splits} splits pass the test, "
            f"noise floor ±{calibration.noise_floor:.1%}"
        )
    return "; ".join(parts)


def duration(us: float) -> str:
    """Write a time in µs, ms or s with four digits."""
    if math.isnan(us):
        return "no cycle"
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size:
            return f"{us / size:.4g} {unit}"
    return f"{us:.4g} µs"
