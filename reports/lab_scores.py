"""Scores of the lab: markdown for people, JSON (schema ``rca.lab.scores/1``) for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec

from lab.measures import Accuracy, Share
from lab.score import (
    BASELINES,
    ERROR,
    METHODS,
    MIN_PAIRS,
    NO_FAULT,
    NONE_NAMED,
    RANDOM,
    RCA,
    Cell,
    Group,
    Scores,
    severity_text,
)
from rca.version import __version__

SCHEMA = "rca.lab.scores/1"

DIGITS = 6
"""Significant digits of the numbers in the JSON: what differs beyond them is the machine's arithmetic."""

NOTHING = "–"


def scores_json(scores: Scores) -> str:
    """Return the scores as indented JSON with a newline at its end; numbers that do not exist are null.

    Effects and noise are logarithms of ratios of times, as in `lab.score`; a share has its hits, its value and its interval.
    """
    scored = set(scores.scored)
    document = {"schema": SCHEMA, "versions": {"rca": __version__}} | _plain(scores)
    for case, own in zip(document["cases"], scores.cases, strict=True):
        case |= {"scored": own.name in scored, "log_ratio": _plain(own.log_ratio)}
    del document["scored"]
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return dataclasses and structs as dicts, numbers rounded, and null for those that JSON has no word for."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, msgspec.Struct):
        return _plain(msgspec.to_builtins(value))
    if is_dataclass(value) and not isinstance(value, type):
        own = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return own | {"share": _plain(value.value)} if isinstance(value, Share) else own
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def scores_markdown(scores: Scores) -> str:
    """Return the scores as markdown for GitHub, the most important first."""
    sections = (
        _headline(scores),
        _methods(scores),
        _groups("By cause", "cause", scores.by_cause),
        _groups("By fault and severity", "fault, severity", scores.by_severity),
        _groups("By workload", "workload", scores.by_workload),
        _detection(scores),
        _unmeasured(scores),
        _alarms(scores),
        _confusion(scores),
        _calibration(scores),
        _errors(scores),
        _notes(scores),
    )
    return "\n\n".join("\n".join(lines).strip() for lines in map(list, sections) if lines) + "\n"


def _headline(scores: Scores) -> Iterator[str]:
    pairs = sum(case.truth.fault is None for case in scores.cases)
    yield f"# Scores of {len(scores.cases)} cases"
    yield ""
    yield (
        f"{len(scores.cases) - pairs} with a fault, {len(scores.scored)} of them with a measurable effect and so scored; "
        f"{pairs} A/A pairs, in which nothing differs."
    )
    yield ""
    if scores.scored:
        own, best = scores.overall.methods[RCA], max(BASELINES, key=lambda name: scores.overall.methods[name].top1)
        yield (
            f"**`{RCA}` names the true cause first in {_share(scores.top1[RCA])} of the scored cases, among the first three "
            f"in {_percent(own.top3)}** (mean reciprocal rank {own.mrr:.2f}). The best baseline ({best}): "
            f"{_share(scores.top1[best])} first; a random order of {scores.candidates} causes: "
            f"{_percent(scores.overall.methods[RANDOM].top1)}."
        )
    else:
        yield "**No case has a fault with a measurable effect: there is nothing to score.**"
    alarms = scores.alarms
    if alarms.status.n:
        yield (
            f"On A/A pairs it says slower or faster in {_share(alarms.status)}, and names a cause that is not latent in "
            f"{_share(alarms.cause)}."
        )


def _methods(scores: Scores) -> Iterator[str]:
    yield "## Methods, over the scored cases"
    rows = []
    for method in METHODS:
        own = scores.overall.methods[method]
        interval = _interval(scores.top1[method]) if method in scores.top1 else "expected"
        rows.append((method, own.n, _percent(own.top1), interval, _percent(own.top3), _number(own.mrr)))
    yield from _table(("method", "n", "top-1", "95 % CI", "top-3", "MRR"), rows)


def _groups(title: str, what: str, groups: Sequence[Group]) -> Iterator[str]:
    if not groups:
        return
    yield f"## {title}"
    others = (*BASELINES, RANDOM)
    heading = (what, "n", "top-1", "top-3", "MRR", *(f"{method}: top-1 / MRR" for method in others))
    rows = []
    for group in groups:
        own = group.methods[RCA]
        numbers = (own.n, _percent(own.top1), _percent(own.top3), _number(own.mrr))
        rows.append((_code(group.name), *numbers, *(_both(group.methods[method]) for method in others)))
    yield from _table(heading, rows)


def _detection(scores: Scores) -> Iterator[str]:
    if not scores.detection:
        return
    yield "## Detection"
    yield ""
    yield "Share of cases with the status that the measured effect calls for: slower, or faster where clients saw that."
    rows = [
        (
            _code(one.fault),
            severity_text(one.severity, one.unit),
            one.changed.n,
            effect_text(one.log_ratio),
            *_shared(one.changed),
        )
        for one in scores.detection
    ]
    yield from _table(("fault", "severity", "n", "measured effect", "detected", "95 % CI"), rows, left=2)
    curve = [(bin_text(point.low, point.high), point.changed.n, *_shared(point.changed)) for point in scores.curve]
    yield from _table(("measured effect, either way", "n", "detected", "95 % CI"), curve)


def _unmeasured(scores: Scores) -> Iterator[str]:
    cells = [cell for cell in scores.cells if not cell.measurable]
    if not cells:
        return
    yield "## Faults without a measurable effect"
    yield ""
    yield "Neither hits nor misses: what their clients measured lies within what A/A pairs of the workload differ by."
    heading = ("workload", "fault", "severity", "n", "measured effect", "noise", "status", "named first", "true cause named")
    rows = [
        (
            _code(cell.workload),
            _code(cell.fault),
            severity_text(cell.severity, cell.unit),
            cell.n,
            effect_text(cell.log_ratio),
            noise_text(cell.noise),
            _counts(cell.statuses),
            _counts(cell.named),
            _right(cell),
        )
        for cell in cells
    ]
    yield from _table(heading, rows, left=3)


def _right(cell: Cell) -> str:
    parts = (("latent, right", cell.latent_right), ("right", cell.right - cell.latent_right))
    return ", ".join(f"{word} × {count}" for word, count in parts if count) or NOTHING


def _alarms(scores: Scores) -> Iterator[str]:
    yield "## A/A pairs"
    if scores.alarms.status.n == 0:
        yield ""
        yield "There is none that could be compared, so false alarms are not known."
    else:
        alarms = scores.alarms
        said = (
            ("says slower or faster", alarms.status),
            ("names a cause that is not latent", alarms.cause),
            ("names any cause", alarms.any_cause),
        )
        rows = [(f"`{RCA}` {words}", str(own.n), *_shared(own)) for words, own in said]
        rows += [(f"{method}: has no threshold, always names something", NOTHING, NOTHING, NOTHING) for method in BASELINES]
        yield from _table(("false alarm", "n", "share", "95 % CI"), rows)
    noise = [
        (_code(one.workload), noise_text(one.limit), one.pairs, "all workloads" if one.borrowed else "its own")
        for one in scores.noise
    ]
    yield from _table(("workload", "noise", "A/A pairs", "of"), noise)


def _confusion(scores: Scores) -> Iterator[str]:
    table = scores.confusion
    if not table.rows:
        return
    yield "## Confusion"
    yield ""
    yield "Rows: the true cause. Columns: the cause named first, latent or not."
    columns = [column if column in (NONE_NAMED, ERROR) else _code(column) for column in table.columns]
    rows = [
        (row if row == NO_FAULT else _code(row), *(str(count) if count else "" for count in counts))
        for row, counts in zip(table.rows, table.counts, strict=True)
    ]
    yield from _table(("", *columns), rows)


def _calibration(scores: Scores) -> Iterator[str]:
    yield "## Calibration"
    yield ""
    own = scores.calibration
    if own is None:
        yield "No confidence is given yet."
        return
    yield (
        f"Expected calibration error {own.error:.3f} over {own.n} confidences of first causes; what is named of an A/A pair "
        "counts as wrong."
    )
    rows = [
        (f"{one.low:.1f} to {one.high:.1f}", one.right.n, f"{one.confidence:.2f}", *_shared(one.right)) for one in own.bins
    ]
    yield from _table(("confidence", "n", "mean confidence", "right", "95 % CI"), rows)


def _errors(scores: Scores) -> Iterator[str]:
    failed = [(_code(case.name), _code(case.error or "")) for case in scores.cases if case.status == ERROR]
    if failed:
        yield "## Cases that could not be compared"
        yield ""
        yield "Misses of every method, where their fault has a measurable effect."
        yield from _table(("case", "error"), failed, left=2)


def _notes(scores: Scores) -> Iterator[str]:
    yield "## How it is counted"
    yield ""
    yield (
        "- Measured effect: the change of the time per output token as the load's clients saw it, median over repeats; not "
        f"what `{RCA}` makes of the captures."
    )
    yield (
        "- Noise: the 95th percentile of that change, either way, over the A/A pairs of the workload, or of all workloads "
        f"where it has fewer than {MIN_PAIRS}. A fault whose effect lies within it is not scored."
    )
    if any(one.limit is None for one in scores.noise):
        yield "- No A/A pair has a measured effect: the noise is not known, and every fault counts as measurable."
    yield (
        "- Baselines rank the same causes by the same counters and differ in the score alone; random is the expected score "
        f"of a random order of {scores.candidates} causes. MRR: mean of 1/position of the true cause, 0 where not named."
    )
    yield "- Intervals are Wilson's and take cases as independent; repeats of one fault are less than that."


def effect_text(log_ratio: float | None) -> str:
    """Write the change of a time, from the log of its ratio."""
    if log_ratio is None:
        return "not measured"
    return f"{math.expm1(log_ratio):+.1%}" if math.isfinite(log_ratio) else "nothing completed"


def noise_text(limit: float | None) -> str:
    """Write a noise, from the log of its ratio."""
    return "not known" if limit is None else f"±{math.expm1(limit):.1%}"


def bin_text(low: float, high: float) -> str:
    """Write a bin of the detection curve."""
    if low == 0:
        return f"< {high:.0%}"
    return f"{low:.0%} to {high:.0%}" if math.isfinite(high) else f"≥ {low:.0%}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{word.replace('_', ' ') if word in _WORDS else _code(word)} × {n}" for word, n in counts.items())


_WORDS = {"slower", "faster", "no_difference", "not_comparable", "insufficient_data", ERROR, NONE_NAMED}
"""Statuses and the like, in contrast to names."""


def _percent(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.0%}"


def _number(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.2f}"


def _both(own: Accuracy) -> str:
    return f"{_percent(own.top1)} / {_number(own.mrr)}"


def _interval(own: Share) -> str:
    return f"{own.low:.0%} to {own.high:.0%}" if own.n else NOTHING


def _shared(own: Share) -> tuple[str, str]:
    return _percent(own.value), _interval(own)


def _share(own: Share) -> str:
    return f"{_percent(own.value)} (95 % CI {_interval(own)}, n = {own.n})"


def _code(name: str) -> str:
    """Write a name as code in a table, where a pipe would end the cell."""
    inner = " ".join(name.split()).replace("`", "'").replace("|", "\\|")
    return f"`{inner}`" if inner else NOTHING


def _table(heading: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> Iterator[str]:
    """Yield a table with an empty line before it; the first ``left`` columns hold text, the rest numbers."""
    yield ""
    yield f"| {' | '.join(heading)} |"
    yield f"|{':--|' * left}{'--:|' * (len(heading) - left)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"
