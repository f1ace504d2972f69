"""Scoring: what `rca` and the baselines make of every case, against its label.

A case is scored when its fault had an effect that the load's own clients could measure: the median ratio of its cell
(workload, fault, severity) lies outside what the workload's A/A pairs differ by. Cases of other cells are listed, not
scored: nobody can tell there whether naming no cause is right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from lab.baselines import CAUSE_OF_METRIC, N_SIGMA, ROBUST, SUSPICION, Ranking, rankings
from lab.case import Truth, cases_in, read_truth
from lab.measures import Accuracy, Calibration, Share, accuracy, calibration, noise, random_accuracy, share_of
from rca import api
from rca.capture import Progress
from rca.capture.load import no_progress
from rca.errors import InputError, RcaError

RCA = "rca"
RANDOM = "random"
BASELINES = (N_SIGMA, ROBUST, SUSPICION)
METHODS = (RCA, *BASELINES, RANDOM)

ERROR = "error"
"""Status of a case that could not be compared."""

NO_FAULT = "no fault"
NONE_NAMED = "none named"

MIN_PAIRS = 5
"""A workload with fewer A/A pairs is judged by those of all workloads."""

EFFECT_EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, math.inf)
"""Edges of the detection curve: the change of the time per token, as a share of the shorter one."""


@dataclass(frozen=True)
class Named:
    """A cause that `rca` named."""

    id: str
    latent: bool
    confidence: float | None


@dataclass(frozen=True)
class Case:
    """A case and what was made of it.

    Attributes:
        name: its folder, relative to that of the cases.
        truth: its label.
        status: of the verdict, or `ERROR`.
        error: why it could not be compared, else None.
        causes: what `rca` named, each cause once, best first.
        baselines: ranking of each of `BASELINES`; empty of a case that could not be compared.
    """

    name: str
    truth: Truth
    status: str
    error: str | None
    causes: tuple[Named, ...]
    baselines: Mapping[str, Ranking]

    @property
    def log_ratio(self) -> float | None:
        """What the clients measured: 0 is no change, infinite where the abnormal side completed nothing, None if unknown."""
        return log_ratio(self.truth)

    @property
    def first(self) -> Named | None:
        """The cause that `rca` named first."""
        return self.causes[0] if self.causes else None

    def position(self, method: str) -> int | None:
        """Return the place of the true cause in what a method (not `RANDOM`) named, from 1; None where it is not named."""
        named = (
            [cause.id for cause in self.causes] if method == RCA else [cause for cause, _ in self.baselines.get(method, ())]
        )
        return named.index(self.truth.cause) + 1 if self.truth.cause in named else None


@dataclass(frozen=True)
class Noise:
    """How far the A/A pairs of a workload lie apart: |log ratio| that 95 % of them stay below; ``pairs`` is how many.

    ``borrowed`` says that they are those of all workloads. ``limit`` is None where there is no pair: then every case of the
    workload is scored.
    """

    workload: str
    limit: float | None
    pairs: int
    borrowed: bool


@dataclass(frozen=True)
class Cell:
    """The repeats of one fault at one severity under one workload.

    Attributes:
        log_ratio: the median over repeats, None where no repeat has one.
        measurable: its effect is outside the noise, or one of the two is unknown: its cases are scored.
        changed: cases whose status is the expected one: slower, or faster where the clients measured so.
        statuses: how often each status was given.
        named: how often each cause was named first, `NONE_NAMED` included.
        right: cases in which `rca` named the true cause anywhere.
        latent_right: those of them in which it was named as latent.
    """

    workload: str
    fault: str
    cause: str
    severity: float
    unit: str
    n: int
    log_ratio: float | None
    noise: float | None
    measurable: bool
    changed: Share
    statuses: Mapping[str, int]
    named: Mapping[str, int]
    right: int
    latent_right: int


@dataclass(frozen=True)
class Group:
    """Accuracy of each of `METHODS` over some of the scored cases."""

    name: str
    methods: Mapping[str, Accuracy]


@dataclass(frozen=True)
class Detection:
    """Share of cases with the expected status, over all workloads; ``log_ratio`` is the median of what clients measured."""

    fault: str
    severity: float
    unit: str
    log_ratio: float | None
    changed: Share


@dataclass(frozen=True)
class CurvePoint:
    """Share of cases with the expected status, of those whose measured effect is at least ``low`` and below ``high``."""

    low: float
    high: float
    changed: Share


@dataclass(frozen=True)
class Confusion:
    """True cause against first named cause: counts by row and column, over scored cases and A/A pairs."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Alarms:
    """What was said of A/A pairs, in which nothing differs, that could be compared.

    Attributes:
        status: said slower or faster.
        cause: named a cause that is not latent.
        any_cause: named a cause.
    """

    status: Share
    cause: Share
    any_cause: Share


@dataclass(frozen=True)
class Scores:
    """The result of `score`.

    Attributes:
        cases: all of them, in the order of their names.
        scored: names of those that count for accuracy: a fault with a measurable effect; compared or not.
        noise: per workload.
        cells: per workload, fault and severity.
        candidates: number of causes that the random order is of: those that a counter can speak for, and all true ones.
        overall: accuracy over all scored cases.
        top1: share of scored cases in which the true cause is first, per method that is not random.
        by_cause, by_fault, by_severity, by_workload: accuracy over parts of them.
        detection: per fault and severity, measurable or not.
        curve: by measured effect, bins without cases left out.
        confusion: of `rca`.
        alarms: on A/A pairs.
        calibration: of the confidence of the first cause, over scored cases and A/A pairs, where any is wrong; None where no
            confidence is given.
    """

    cases: tuple[Case, ...]
    scored: tuple[str, ...]
    noise: tuple[Noise, ...]
    cells: tuple[Cell, ...]
    candidates: int
    overall: Group
    top1: Mapping[str, Share]
    by_cause: tuple[Group, ...]
    by_fault: tuple[Group, ...]
    by_severity: tuple[Group, ...]
    by_workload: tuple[Group, ...]
    detection: tuple[Detection, ...]
    curve: tuple[CurvePoint, ...]
    confusion: Confusion
    alarms: Alarms
    calibration: Calibration | None


def score(cases: Path, progress: Progress = no_progress, *, cached: bool = True) -> Scores:
    """Compare the two sides of every case at or below a folder, and score what comes out.

    Args:
        cases: what ``rca lab run`` wrote.
        progress: called with (case, cases done, cases in all).
        cached: as of `rca.api.compare`.

    Raises:
        InputError: the folder holds no case, or a label cannot be read. What cannot be compared is a case with an error.
    """
    folders = list(cases_in(cases))
    if not folders:
        raise InputError(cases, "holds no case", "give what `rca lab run -o` wrote")
    truths = [read_truth(folder) for folder in folders]  # before hours of comparing
    done = []
    for number, (folder, truth) in enumerate(zip(folders, truths, strict=True)):
        name = folder.relative_to(cases).as_posix() if folder != cases else truth.case
        progress(name, number, len(folders))
        done.append(_run(name, folder, truth, cached))
    progress(done[-1].name, len(folders), len(folders))
    return summarise(done)


def _run(name: str, folder: Path, truth: Truth, cached: bool) -> Case:
    """Compare one case, and keep the little that is scored."""
    try:
        comparison = api.compare(folder / "normal", folder / "abnormal", cached=cached)
    except RcaError as error:
        text = str(error).replace(f"{folder}/", "").replace(f"{folder.resolve()}/", "")
        return Case(name, truth, ERROR, text, (), {})
    first: dict[str, Named] = {}  # a cause may be named of several devices
    for cause in comparison.verdict.causes:
        first.setdefault(cause.id, Named(cause.id, cause.latent, cause.confidence))
    return Case(name, truth, comparison.verdict.status, None, tuple(first.values()), rankings(comparison))


def summarise(cases: Iterable[Case]) -> Scores:
    """Score cases that were compared."""
    ordered = tuple(sorted(cases, key=lambda case: case.name))
    faults = [case for case in ordered if case.truth.fault is not None]
    pairs = [case for case in ordered if case.truth.fault is None]
    limits = noise_of([case.truth for case in ordered])
    cells = cells_of(faults, {one.workload: one.limit for one in limits})
    cell_of = {(cell.workload, cell.fault, cell.severity): cell for cell in cells}
    scored = [case for case in faults if cell_of[_key(case)].measurable]
    candidates = len({*CAUSE_OF_METRIC.values(), *(case.truth.cause for case in faults)})

    def groups(key: Callable[[Truth], tuple[object, ...]], name: Callable[[Truth], str]) -> tuple[Group, ...]:
        return tuple(_group(name(part[0].truth), part, candidates) for part in _parts(scored, key))

    expected = {case.name: case.status == _expected(cell_of[_key(case)].log_ratio) for case in faults}
    return Scores(
        cases=ordered,
        scored=tuple(case.name for case in scored),
        noise=limits,
        cells=cells,
        candidates=candidates,
        overall=_group("all", scored, candidates),
        top1={method: share_of([case.position(method) == 1 for case in scored]) for method in (RCA, *BASELINES)},
        by_cause=groups(lambda t: (t.cause,), lambda t: str(t.cause)),
        by_fault=groups(lambda t: (t.fault,), lambda t: str(t.fault)),
        by_severity=groups(
            lambda t: (t.fault, t.severity), lambda t: f"{t.fault}, {severity_text(t.severity, t.severity_unit)}"
        ),
        by_workload=groups(lambda t: (t.workload,), lambda t: t.workload),
        detection=tuple(_detection(part, expected) for part in _parts(faults, lambda t: (t.fault, t.severity))),
        curve=_curve(faults, expected),
        confusion=_confusion([*scored, *pairs]),
        alarms=_alarms([case for case in pairs if case.status != ERROR]),
        calibration=_calibration([*scored, *pairs]),
    )


def log_ratio(truth: Truth) -> float | None:
    """Return the log of how many times longer a token took on the abnormal side.

    Infinite where the abnormal side completed nothing and the normal one something; None where that is not known.
    """
    effect = truth.effect
    if effect.ratio is not None:
        return math.log(effect.ratio)
    return math.inf if effect.normal_us and effect.n_normal and not effect.n_abnormal else None


def noise_of(truths: Sequence[Truth]) -> tuple[Noise, ...]:
    """Return the noise of each workload, from the A/A pairs among the labels."""
    ratios: dict[str, list[float]] = {truth.workload: [] for truth in truths}
    for truth in truths:
        if truth.fault is None and truth.effect.ratio is not None:
            ratios[truth.workload].append(truth.effect.ratio)
    everything = [ratio for own in ratios.values() for ratio in own]
    found = []
    for workload in sorted(ratios):
        own = ratios[workload]
        borrowed = len(own) < MIN_PAIRS and len(everything) > len(own)
        used = everything if borrowed else own
        found.append(Noise(workload, noise(used), len(used), borrowed))
    return tuple(found)


def cells_of(faults: Sequence[Case], limits: Mapping[str, float | None]) -> tuple[Cell, ...]:
    """Return the cells of cases with a fault; ``limits`` is the noise of each workload, as |log ratio|."""
    return tuple(
        _cell(part, limits.get(part[0].truth.workload))
        for part in _parts(faults, lambda truth: (truth.workload, truth.fault, truth.severity))
    )


def _cell(cases: Sequence[Case], limit: float | None) -> Cell:
    truth, effect = cases[0].truth, _median_effect(cases)
    right = [cause for case in cases for cause in case.causes if cause.id == case.truth.cause]
    return Cell(
        workload=truth.workload,
        fault=str(truth.fault),
        cause=str(truth.cause),
        severity=truth.severity or 0.0,
        unit=truth.severity_unit,
        n=len(cases),
        log_ratio=effect,
        noise=limit,
        measurable=effect is None or limit is None or abs(effect) > limit,
        changed=share_of([case.status == _expected(effect) for case in cases]),
        statuses=_counted(case.status for case in cases),
        named=_counted(case.first.id if case.first else NONE_NAMED for case in cases),
        right=len(right),
        latent_right=sum(cause.latent for cause in right),
    )


def _median_effect(cases: Sequence[Case]) -> float | None:
    effects = [case.log_ratio for case in cases if case.log_ratio is not None]
    return median(effects) if effects else None


def _expected(effect: float | None) -> str:
    """Return the status that a measured effect calls for."""
    return "faster" if effect is not None and effect < 0 else "slower"


def _key(case: Case) -> tuple[str, str, float]:
    return case.truth.workload, str(case.truth.fault), case.truth.severity or 0.0


def _parts(cases: Sequence[Case], key: Callable[[Truth], tuple[object, ...]]) -> list[list[Case]]:
    """Split cases of faults by what ``key`` returns: words and numbers, in whose order the parts come."""
    parts: dict[tuple[object, ...], list[Case]] = {}
    for case in cases:
        parts.setdefault(key(case.truth), []).append(case)
    return [parts[own] for own in sorted(parts, key=lambda values: tuple(value or 0.0 for value in values))]


def _counted(words: Iterable[str]) -> dict[str, int]:
    """Count words, the most frequent first."""
    return dict(sorted(Counter(words).items(), key=lambda item: (-item[1], item[0])))


def _group(name: str, cases: Sequence[Case], candidates: int) -> Group:
    measured = {method: accuracy([case.position(method) for case in cases]) for method in (RCA, *BASELINES)}
    return Group(name, measured | {RANDOM: random_accuracy(len(cases), candidates)})


def _detection(cases: Sequence[Case], expected: Mapping[str, bool]) -> Detection:
    truth = cases[0].truth
    changed = share_of([expected[case.name] for case in cases])
    return Detection(str(truth.fault), truth.severity or 0.0, truth.severity_unit, _median_effect(cases), changed)


def _curve(faults: Sequence[Case], expected: Mapping[str, bool]) -> tuple[CurvePoint, ...]:
    effects = {case.name: math.expm1(abs(case.log_ratio)) for case in faults if case.log_ratio is not None}
    points = []
    for low, high in pairwise(EFFECT_EDGES):
        own = [name for name, effect in effects.items() if low <= effect < high or (high == effect == math.inf)]
        if own:
            points.append(CurvePoint(low, high, share_of([expected[name] for name in own])))
    return tuple(points)


def _confusion(cases: Sequence[Case]) -> Confusion:
    """Count true against named; of a case that could not be compared the column is `ERROR`."""
    seen = Counter((case.truth.cause or NO_FAULT, _column(case)) for case in cases)
    true = sorted({row for row, _ in seen} - {NO_FAULT})
    rows = [*true, *([NO_FAULT] if any(row == NO_FAULT for row, _ in seen) else [])]
    last = [NONE_NAMED, *([ERROR] if any(column == ERROR for _, column in seen) else [])]
    columns = [*sorted({*true, *(column for _, column in seen)} - {NONE_NAMED, ERROR}), *last]
    return Confusion(tuple(rows), tuple(columns), tuple(tuple(seen[row, column] for column in columns) for row in rows))


def _column(case: Case) -> str:
    if case.status == ERROR:
        return ERROR
    return case.first.id if case.first else NONE_NAMED


def _alarms(pairs: Sequence[Case]) -> Alarms:
    return Alarms(
        status=share_of([case.status in {"slower", "faster"} for case in pairs]),
        cause=share_of([any(not cause.latent for cause in case.causes) for case in pairs]),
        any_cause=share_of([bool(case.causes) for case in pairs]),
    )


def _calibration(cases: Sequence[Case]) -> Calibration | None:
    given = [
        (first.confidence, first.id == case.truth.cause)
        for case in cases
        if (first := case.first) is not None and first.confidence is not None
    ]
    return calibration([confidence for confidence, _ in given], [right for _, right in given])


def severity_text(severity: float | None, unit: str) -> str:
    """Write a severity with its unit."""
    return f"{severity or 0.0:g} {unit}".strip()
