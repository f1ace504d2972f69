"""Two sides' start-ups as a worse and a better one: the same rules judge those that got slower and those that got faster."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rca.startup.compare import LEAST_SECONDS, Change, Compared
from rca.startup.model import Gap, Startup

COMPUTE = ("tokenizer_init", "model_init", "dynamo_transform_time", "graph_compile_general_shape", "graph_capturing")
"""What a core does there it does in memory: no disk, cache of files or network makes these slower."""

ON_CORES = (*COMPUTE, "worker_init", "kv_cache_init", "warmup_run", "server_start")
"""These take a core, too, and read no weights: processes start and find each other, kernels run for the first time."""

FILES = ("imports", "model_info", "load_weights", "graph_compile_cached")
"""These read files, and take a core as well."""

RISES = 1.1
"""A phase that takes less than this many times as long did not rise."""

_VISIBLE = 0.25


@dataclass(frozen=True)
class Scene:
    """What the rules look at. ``worse`` is the side whose starts take longer, ``side`` its name."""

    compared: Compared

    @property
    def sign(self) -> int:
        """1 where the abnormal side is the worse one."""
        return 1 if self.compared.change_s >= 0 else -1

    @property
    def worse(self) -> tuple[Startup, ...]:
        """Starts of the worse side."""
        return self.compared.abnormal if self.sign > 0 else self.compared.normal

    @property
    def better(self) -> tuple[Startup, ...]:
        """Starts of the better side."""
        return self.compared.normal if self.sign > 0 else self.compared.abnormal

    def delta(self, phase: str) -> float:
        """Return by how many seconds a phase is longer on the worse side."""
        change = self.compared.change(phase)
        return self.sign * change.change.estimate if change else 0.0

    def better_s(self, phase: str) -> float:
        """Return the mean seconds of a phase on the better side; 0 where it has none."""
        change = self.compared.change(phase)
        return ((change.normal_s if self.sign > 0 else change.abnormal_s) or 0.0) if change else 0.0

    def ratio(self, phase: str) -> float:
        """Return worse over better; infinite where the better side spent nothing on it, NaN where neither did."""
        better = self.better_s(phase)
        worse = better + self.delta(phase)
        return worse / better if better > 0 else math.inf if worse > 0 else math.nan

    def excess(self, phase: str) -> float:
        """Return the seconds by which a phase is longer than slower cores alone would make it."""
        return self.delta(phase) - max(self.general - 1, 0.0) * self.better_s(phase)

    def rose(self, phase: str) -> Change | None:
        """Return the change of a phase that surely takes longer on the worse side, beyond what all computing does."""
        change = self.compared.change(phase)
        if change is None or not change.sure or self.delta(phase) <= 0:
            return None
        return change if not self.ratio(phase) < RISES * max(self.general, 1.0) else None

    def measured(self, phases: tuple[str, ...]) -> list[str]:
        """Return the phases in which a rise by a quarter would be seen, or was."""
        found = []
        for phase in phases:
            change = self.compared.change(phase)
            if change is None or min(change.n) == 0:
                continue
            ticks = 0.0 if self._is_logged(phase) else 2 * max(start.resolution for start in self.worse)
            if change.sure or _VISIBLE * self.better_s(phase) >= LEAST_SECONDS + ticks:
                found.append(phase)
        return found

    def _is_logged(self, phase: str) -> bool:
        return all(s.phases[phase].source == "logged" for s in (*self.worse, *self.better) if phase in s.phases)

    def risen(self, phases: list[str]) -> list[str]:
        """Return those that surely take at least `RISES` times as long."""
        changes = self.compared.changes
        return [phase for phase in phases if changes[phase].sure and self.delta(phase) > 0 and self.ratio(phase) >= RISES]

    def quiet(self, phases: tuple[str, ...]) -> list[str]:
        """Return the phases that are measured and did not rise."""
        measured = self.measured(phases)
        risen = self.risen(measured)
        return [phase for phase in measured if phase not in risen and self.ratio(phase) < RISES]

    @cached_property
    def general(self) -> float:
        """By how much all computing takes longer: the median over phases that only compute; 1 where none is measured."""
        ratios = [self.ratio(phase) for phase in self.measured(COMPUTE) if math.isfinite(self.ratio(phase))]
        return float(np.median(ratios)) if ratios else 1.0

    def share_with(self, fact: str, *values: str) -> tuple[float, float]:
        """Return the share of starts whose log says one of these values, on the worse and on the better side."""
        worse, better = (np.mean([start.facts.get(fact) in values for start in own]) for own in (self.worse, self.better))
        return float(worse), float(better)

    def usual(self, fact: str) -> tuple[str | None, str | None]:
        """Return what most starts of the worse and of the better side say."""
        return _most(self.worse, fact), _most(self.better, fact)

    def longest_gap(self, phase: str) -> Gap | None:
        """Return the longest silence of the worse side in a phase."""
        found = [gap for start in self.worse for gap in start.gaps if gap.phase == phase]
        return max(found, key=lambda gap: gap.seconds, default=None)

    def straggler(self, phase: str) -> tuple[str, float] | None:
        """Return the process that lags behind its peers on the worse side only, the same in every start, and how far."""
        worse, better = (_lag(own, phase) for own in (self.worse, self.better))
        return worse if worse and worse[1] >= _LAGS * max(better[1] if better else 1.0, 1.0) else None

    def says(self, change: Change) -> str:
        """Write a change with its interval."""
        sides = (change.normal_s, change.abnormal_s)
        normal, abnormal = (f"{value:.2f} s" if value is not None else "absent" for value in sides)
        interval = ""
        if math.isfinite(change.change.low):
            interval = f", 95 % CI {change.change.low:+.2f} to {change.change.high:+.2f}"
        n = f"n = {change.n[0]} and {change.n[1]}"
        return f"{change.title} {normal} → {abnormal} ({change.change.estimate:+.2f} s{interval}; {n})"


_LAGS = 1.5


def _lag(starts: tuple[Startup, ...], phase: str) -> tuple[str, float] | None:
    """Return the process that takes longest compared with the median of its peers, if it is the same one in every start."""
    found = []
    for start in starts:
        own = sorted(start.phases[phase].by_process, key=lambda pair: pair[1]) if phase in start.phases else []
        if len(own) < 2 or own[(len(own) - 1) // 2][1] <= 0:
            return None
        found.append((re.sub(r"\s*\bpid=\d+", "", own[-1][0]), own[-1][1] / own[(len(own) - 1) // 2][1]))
    same = len({name for name, _ in found}) == 1
    return (found[0][0], min(lag for _, lag in found)) if found and same else None


def _most(starts: tuple[Startup, ...], fact: str) -> str | None:
    found = Counter(start.facts[fact] for start in starts if fact in start.facts)
    return max(sorted(found), key=lambda value: found[value]) if found else None
