"""Rank comparisons and evidence into one verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rca.comparison import RankComparison
from rca.comparison.model import ALPHA
from rca.comparison.robust import is_called
from rca.stats.robust import values_needed
from rca.verdict.catalogue import BY_ID, UNEXPLAINED
from rca.verdict.evidence import Evidence
from rca.verdict.headline import MIN_EFFECTIVE, Said, headline, host_headline, in_title, trust, work_explains
from rca.verdict.judge import Judgement, judge
from rca.verdict.ledger import Entry, Ledger, ledger
from rca.verdict.model import Cause, Status, Verdict
from rca.verdict.observe import Observation
from rca.verdict.reliability import confidence
from rca.verdict.scene import LOAD, Scene
from rca.verdict.signals import BY_ID as SIGNAL

MIN_STEPS = 4
"""Stretches of the engine's own count on each side, from which on it may deny what a profile says."""


LITTLE_DRIFT = 0.05
"""Drift of a machine of one's own lies below."""
BUSY = 0.9
"""Requests in the batch, in the median: with fewer the time per step has pauses without work in it."""

_ORDER: tuple[Status, ...] = ("slower", "faster", "no_difference", "insufficient_data", "not_comparable")


def decide(ranks: Sequence[RankComparison], same_capture: bool, evidence: Evidence) -> Verdict:
    """Decide a comparison of one or more ranks, or of hosts alone.

    With several ranks or phases the headline is that of the one that differs most clearly, and the level of each test is
    divided by their number (Bonferroni), so that more of them do not mean more false alarms.

    Args:
        ranks: what was compared; none where a side was not cut into cycles.
        same_capture: both sides hold the same files.
        evidence: signals and facts of both sides.
    """
    if not ranks:
        return _of_hosts(same_capture, evidence)
    tests = sum(rank.tests for rank in ranks)
    statuses = {rank.role: status_of(rank, tests) for rank in ranks}
    status = next(s for s in _ORDER if s in statuses.values())
    if same_capture and status != "not_comparable":  # the same bytes cannot differ
        enough = all(min(r.cycle_time.n_normal, r.cycle_time.n_abnormal) >= values_needed(ALPHA) for r in ranks)
        status = "no_difference" if enough else "insufficient_data"
    order = sorted(
        range(len(ranks)), key=lambda i: (not (statuses[ranks[i].role] == status or same_capture), _clearness(ranks[i]))
    )
    ledgers = [ledger(rank) for rank in ranks]
    leading, lost = ranks[order[0]], ledgers[order[0]]
    scenes = evidence.scenes(ranks, ledgers, status)
    found = _Found(leading, status, "cycles", [scenes[i] for i in order])
    if not same_capture:
        found = _served_otherwise(_confirmed(found, evidence.drift), evidence.drift)
    judgements = () if same_capture else judge(found.scenes)
    said = Said(found.status, found.by, same_capture, tests, statuses, evidence.drift)
    causes = _causes(judgements, found.status, lost, found.scenes[0])
    return Verdict(
        status=found.status,
        headline=headline(leading, said, found.scenes[0].seen("step_time")) + in_title(causes),
        role=leading.role,
        causes=causes,
        work=work_explains(leading),
        trust=trust(leading, evidence.drift),
        drift=evidence.drift,
        ledger=lost,
        judgements=judgements,
        observations=_all_observations(found.scenes),
        not_measured=_not_measured(judgements, found.scenes[0]),
    )


@dataclass(frozen=True)
class _Found:
    """A status, what it was found by, and the scenes that go with it."""

    leading: RankComparison
    status: Status
    by: str
    scenes: list[Scene]

    def instead(self, status: Status, by: str) -> _Found:
        """Return the same with another status; what the profiled cycles do not show is not in their ledger either."""
        kept = self.by == by
        scenes = [replace(scene, status=status, ledger=scene.ledger if kept else None) for scene in self.scenes]
        return replace(self, status=status, by=by, scenes=scenes)


def _confirmed(found: _Found, drift: float) -> _Found:
    """Let a change without any cause stand only if it is larger than drift, and the engine's own count does not deny it.

    The test on cycle time knows what varies within a recording, and a profile is short: two of them may differ by what
    varies more slowly. A cause that was seen as well is reason enough to believe the change.
    """
    time = found.leading.cycle_time
    if found.status not in ("slower", "faster") or time.ratio is None:
        return found
    if any(one.named and not one.latent for one in judge(found.scenes)):
        return found
    if abs(math.log(time.ratio.estimate)) <= math.log1p(drift):
        return found.instead("no_difference", "drift")
    seen = found.scenes[0].seen("step_time")
    if seen is None or min(seen.n) < MIN_STEPS or min(seen.normal, seen.abnormal) <= 0:
        return found
    by_steps, by_cycles = math.log(seen.abnormal / seen.normal), math.log(time.ratio.estimate)
    denied = abs(by_steps) <= math.log1p(drift) or by_steps * by_cycles < 0
    shared_machine = drift > LITTLE_DRIFT  # there a change that only the profile shows needs to be confirmed
    silent = shared_machine and seen.moved * by_cycles <= 0
    return found.instead("no_difference", "unconfirmed") if denied or silent else found


def _served_otherwise(found: _Found, drift: float) -> _Found:
    """Believe the engine's own count of steps where the few cycles that were profiled do not show what it shows.

    Pauses that are few and long, as a quota makes them, seldom fall into a profile of half a second.
    """
    scene = found.scenes[0]
    seen = scene.seen("step_time")
    busy = scene.seen("running")
    always_busy = busy is not None and min(busy.normal, busy.abnormal) >= BUSY
    if found.status not in ("no_difference", "insufficient_data") or seen is None or not always_busy:
        return found
    if not seen.moved:
        drifting = found.status == "insufficient_data" and min(seen.n) >= MIN_STEPS and _many_cycles(found.leading)
        return found.instead("no_difference", "steps") if drifting else found
    other_load = any(scene.moved(signal) for signal in LOAD)
    if other_load or min(seen.normal, seen.abnormal) <= 0 or found.leading.cycle_time.ratio is None:
        return found
    if abs(math.log(seen.abnormal / seen.normal)) <= math.log1p(drift):
        return found
    return found.instead("slower" if seen.moved > 0 else "faster", "steps")


def _many_cycles(rank: RankComparison) -> bool:
    """Tell whether there would be cycles enough, if they did not drift."""
    return rank.gate.ok and min(rank.cycle_time.n_normal, rank.cycle_time.n_abnormal) >= values_needed(ALPHA)


def _all_observations(scenes: Sequence[Scene]) -> tuple[Observation, ...]:
    """Return what was seen by any rank; of what several saw, as the headline's rank sees it."""
    merged = {key: one for scene in reversed(scenes) for key, one in scene.observations.items()}
    return tuple(merged[key] for key in sorted(merged))


def _of_hosts(same_capture: bool, evidence: Evidence) -> Verdict:
    scene = evidence.scenes([], [], "insufficient_data")[0]
    judgements = () if same_capture else judge([scene])
    causes = _causes(judgements, "insufficient_data", None, scene)
    return Verdict(
        status="insufficient_data",
        headline=host_headline(same_capture) + in_title(causes),
        role="",
        causes=causes,
        work="",
        trust="no cycle time was compared: what is said is of the machines, not of the server",
        drift=evidence.drift,
        ledger=None,
        judgements=judgements,
        observations=tuple(scene.observations.values()),
        not_measured=_not_measured(judgements, scene),
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


def _clearness(rank: RankComparison) -> tuple[float, float, str]:
    time = rank.cycle_time
    effect = abs(math.log(time.ratio.estimate)) if time.ratio else 0.0
    return (1.0 if time.p_value is None else time.p_value, -effect, rank.role)


def _causes(judgements: Sequence[Judgement], status: Status, lost: Ledger | None, scene: Scene) -> tuple[Cause, ...]:
    named = [one for one in judgements if one.named]
    causes = [
        Cause(
            id=one.id,
            rank=place,
            confidence=confidence(one) if place == 1 else None,
            latent=one.latent,
            device=one.device,
            follows=one.follows,
            metrics=one.metrics,
            evidence_for=one.evidence_for,
            evidence_against=one.evidence_against,
            missing=one.missing,
            looks_like=BY_ID[one.id].looks_like,
            next_check=BY_ID[one.id].next_check,
        )
        for place, one in enumerate(named, start=1)
    ]
    if status in ("slower", "faster") and judgements and all(cause.latent for cause in causes):
        unknown = _unexplained(judgements, lost, scene)
        # confidence was counted on causes that come first
        causes = [unknown, *(replace(cause, rank=cause.rank + 1, confidence=None) for cause in causes)]
    return tuple(causes)


_CHECK_OF_PART = {
    "gpu_compute": "nsys profile, then compare kernels; nvidia-smi -q -d CLOCK,PERFORMANCE",
    "gpu_comm": "NCCL_DEBUG=INFO; nccl-tests on the same nodes; compare the ranks' cycle times",
    "gpu_copy": "nvidia-smi dmon -s t; compare the bytes of copies on both sides",
    "host_calls": "py-spy record -p <pid>; perf stat -p <pid>",
    "host_python": "py-spy record -p <pid>; perf sched timehist",
    "between": "py-spy dump -p <pid>; the engine's log of the same minutes",
    "runq": "pidstat -u -w 1; perf sched timehist",
}


def _interval(entry: Entry) -> str:
    if entry.low_us is None or entry.high_us is None:
        return ""
    return f" (95 % CI {entry.low_us:+,.0f} to {entry.high_us:+,.0f})"


def _unexplained(judgements: Sequence[Judgement], lost: Ledger | None, scene: Scene) -> Cause:
    """Say that nothing in the catalogue accounts for the change, and where the time went all the same."""
    moved = sorted(lost.entries, key=lambda e: -abs(e.change_us))[:3] if lost else []
    where = tuple(f"{e.text}: {e.change_us:+,.0f} µs per cycle{_interval(e)}" for e in moved)
    check = _CHECK_OF_PART.get(moved[0].part if moved else "", "py-spy record -p <pid>; nsys profile")
    return Cause(
        id=UNEXPLAINED,
        rank=1,
        confidence=None,
        latent=False,
        device=scene.device,
        follows="",
        metrics=(),
        evidence_for=where or ("the cycle time differs; nothing that was recorded says why",),
        evidence_against=(),
        missing=_not_measured(judgements, scene),
        looks_like="",
        next_check=check,
    )


def _not_measured(judgements: Sequence[Judgement], scene: Scene) -> tuple[str, ...]:
    """Return decisive signs that were not recorded on both sides, each with the causes that cannot be judged for it."""
    lacking: dict[str, list[str]] = {}
    for one in judgements:
        for sign in BY_ID[one.id].signs:
            if sign.decisive and sign.signal in SIGNAL and scene.lacks(sign.signal):
                signal = SIGNAL[sign.signal]
                if not (signal.per_gpu and not _on_gpu(scene)):
                    lacking.setdefault(f"{signal.text} ({signal.metrics[0]})", []).append(one.id)
    return tuple(f"{what}: {', '.join(causes)}" for what, causes in sorted(lacking.items()))


def _on_gpu(scene: Scene) -> bool:
    return scene.rank is None or bool(scene.rank.functions["device"].str.starts_with("GPU").any())
