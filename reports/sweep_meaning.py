"""What a benchmark grid means, in sentences and tables."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rca.sweep.model import (
    CELL,
    CONTEXT,
    MEAN,
    MODEL,
    STD,
    TRIALS,
    WARMUPS,
    WORK,
    Effect,
    FirstCalls,
    Meaning,
    Result,
    Scaling,
)
from reports.cells import Table
from reports.document import Section

_RULES = {
    "first_call": "its repeats spread more than those of any warmed cell of the same work, on the slow side",
    "no_warm_up": "its first call may have cost more, though its repeats do not show it",
}
_MOST_ROWS = 100
_MOST_NAMED = 8


def lead(result: Result) -> tuple[str, ...]:
    """Return what was measured and the first thing to know of it."""
    cells, found = result.sweep.cells, result.meaning
    parts = [
        counted(cells[MODEL].n_unique(), "model"),
        counted(cells[CONTEXT].n_unique(), "context length"),
        counted(cells[WARMUPS].n_unique(), "number of warm-ups", "numbers of warm-ups"),
    ]
    trials = cells[TRIALS].drop_nulls()
    if trials.len():
        low, high = trials.min(), trials.max()
        parts.append(f"{counted(int(str(low)), 'trial')} each" if low == high else f"{low!s} to {high!s} trials each")
    sentences = [f"{counted(cells.height, 'cell')}: {', '.join(parts)}."]
    if how := [f"{name} {value}" for name, value in result.sweep.environment.items() if name in ("device_name", "torch")]:
        sentences[0] += f" Measured with {', '.join(how).replace('device_name ', '')}."
    left_out = found.first_calls.cells.height
    if left_out and found.warmed:
        sentences[0] += f" {left_out} of them, those without warm-up, stay out of every comparison."
    elif left_out:
        sentences.append("No cell has a warm-up, so there is nothing to compare: run the grid again with `--warmups 0,1,5`.")
    overall = next((effect for effect in found.backward if effect.name == "overall"), None)
    if overall:
        sentences.append(f"Forward and backward together take {_times(overall)} the time of forward alone.")
    return tuple(sentences)


def meaning(found: Meaning, digits: int) -> tuple[Section, ...]:
    """Return the section of what it means: its sentences, then the tables that they stand on."""
    sentences = [
        *_first_calls(found, digits),
        *_backward(found),
        *_warmups(found),
        *(text for scaling in found.scaling for text in _scaling(scaling, digits)),
        *_repeats(found, digits),
    ]
    notes = []
    for why in dict.fromkeys(found.unavailable.values()):
        topics = [_TOPICS[topic] for topic in _TOPICS if found.unavailable.get(topic) == why]
        notes.append(f"Not available: {'; '.join(topics)}: {why}.")
    for note in dict.fromkeys(note for scaling in found.scaling for note in scaling.notes):
        passes = [scaling.name for scaling in found.scaling if note in scaling.notes]
        notes.append(f"How {' and '.join(passes)} scale{'s' * (len(passes) == 1)}: {note}.")
    tables = (_left_out(found, digits), _ratios(found), _exponents(found), *_disagreeing(found, digits))
    return (
        Section("What this means", prose=tuple(sentences), notes=tuple(notes)),
        *(section for section in tables if section.table and section.table.rows),
    )


_TOPICS = {
    "backward": "backward against forward",
    "warmups": "the effect of more warm-ups",
    "scaling": "how time scales",
    "noisy": "cells whose repeats disagree",
    "contradictions": "cells that contradict each other",
}


def _first_calls(found: Meaning, digits: int) -> list[str]:
    calls = found.first_calls
    if calls.cells.is_empty():
        return ["Left out of comparisons: nothing; every cell has a warm-up."]
    sentences = []
    for rule, why in _RULES.items():
        n = calls.cells.filter(pl.col("rule") == rule).height
        if n:
            sentences.append(
                f"Left out of comparisons by the rule {code(rule)}: {n:,} of {counted(calls.cells.height, 'cell')} without "
                f"warm-up ({'named below' if n <= _MOST_ROWS else 'the first are named below'}), each because {why}."
            )
    seen = f"In {calls.above_mean} of them the standard deviation is larger than the mean. " if calls.above_mean else ""
    return [*sentences, *([text] if (text := (seen + _cost(calls, digits)).strip()) else [])]


def _cost(calls: FirstCalls, digits: int) -> str:
    cost, share = calls.cost_ms, calls.explained
    if cost is None:
        return ""
    how = "the first trial less the steady time"
    if not calls.from_trials:
        how = "trials × (mean − mean of warmed cells of the same work)"
    text = (
        f"The first call costs {number(cost.low, digits)} to {number(cost.high, digits)} ms more than a later one "
        f"(median {number(cost.median, digits)} ms, n = {counted(cost.n, 'cell')}; {how})."
    )
    if cost.low <= 0:
        return text + " Where that is below 0, other things than the first call made the trials differ."
    if share:
        text += (
            f" One call of that cost gives {100 * share.low:.0f} to {100 * share.high:.0f} % of the standard deviation "
            f"that was seen (median {100 * share.median:.0f} %): 100 % is consistent with one slow call and no more."
        )
    return text


def _backward(found: Meaning) -> list[str]:
    if not found.backward:
        return []
    *models, overall = found.backward
    text = (
        f"(Forward + backward) / forward is {_interval(overall, 'size and context', 'sizes and contexts')} over warmed cells"
    )
    if len(models) > 1:
        low, high = (pick(models, key=lambda effect: effect.estimate) for pick in (min, max))
        text += f"; by model from {low.estimate:.2f} ({code(low.name)}) to {high.estimate:.2f} ({code(high.name)})"
    return [text + "."]


def _warmups(found: Meaning) -> list[str]:
    sentences = []
    for effect in found.warmups:
        more, fewest = effect.name.split(" / ")
        if effect.low is None or effect.high is None:
            verdict = "with one pair nothing can be told"
        elif effect.low <= 1 <= effect.high:
            verdict = f"no difference can be told; it is between {_percent(effect.low)} and {_percent(effect.high)}"
        else:
            verdict = "more warm-ups make a difference"
        pairs = _interval(effect, "pair of cells", "pairs of cells", digits=3)
        sentences.append(f"Time after {more} warm-ups / time after {fewest} is {pairs}: {verdict}.")
    return sentences


def _scaling(scaling: Scaling, digits: int) -> list[str]:
    sentences = []
    if scaling.joint:
        powers = ", ".join(
            f"{code(e.name)} to the power {e.estimate:.2f} ({e.low:.2f} to {e.high:.2f})" for e in scaling.joint
        )
        text = f"{_capital(scaling.name)}: time goes with {powers} (n = {counted(scaling.n, 'configuration')} of "
        text += f"{counted(scaling.models, 'model')}, 95 % intervals)."
        if scaling.correlation is not None and abs(scaling.correlation) >= 0.9:
            text += f" Width and depth nearly move together (r = {scaling.correlation:.2f} of their logarithms)."
        if scaling.unsettled:
            text += f" Not settled, as the interval holds 0: {_names(scaling.unsettled)}."
        if scaling.worst and scaling.worst.is_large:
            worst = scaling.worst
            text += (
                f" {code(worst.shape)} lies farthest off: {number(worst.measured, digits)} ms against "
                f"{number(worst.fitted, digits)} ms by this fit ({_percent(worst.measured / worst.fitted)}), which "
                "one power law does not describe."
            )
        sentences.append(text)
    if scaling.within:
        low, high = (pick(scaling.within, key=lambda effect: effect.estimate) for pick in (min, max))
        text = (
            f"{_capital(scaling.name)}, within a model: time goes with {code(CONTEXT)} to the power "
            f"{low.estimate:.2f} ({code(low.name)}) to {high.estimate:.2f} ({code(high.name)})."
        )
        if scaling.flat:
            text += (
                f" It hardly grows with the context for {_names(scaling.flat)} (interval below 0.5): consistent with "
                "lengths that do not fill the device, where time goes into launching work rather than doing it."
            )
        if scaling.steep:
            text += (
                f" It grows for {_names(scaling.steep)} (interval above 0.5): consistent with a device that is kept busy."
            )
        sentences.append(text)
    return sentences


def _repeats(found: Meaning, digits: int) -> list[str]:
    sentences = []
    if "noisy" not in found.unavailable:
        text = f"Repeats disagree in {found.noisy.height} of {counted(found.warmed, 'warmed cell')}"
        if found.noisy.height:
            worst = found.noisy.row(0, named=True)
            text += (
                f", most in {code(worst[CELL])}: {number(worst[MEAN], digits)} ± {number(worst[STD], digits)} ms, "
                f"{100 * worst['spread']:.0f} % of the mean against {100 * worst['others']:.1f} % in "
                f"{_AGAINST[worst['rule']]} (n = {worst[TRIALS]} trials)"
            )
        sentences.append(text + ".")
    if "contradictions" not in found.unavailable:
        n = found.contradictions.height
        contradict = "contradicts itself" if n == 1 else "contradict each other"
        text = f"Of {counted(found.pairs, 'pair')} of warmed cells of the same work {n or 'none'} {contradict}"
        if n:
            largest = found.contradictions.sort(pl.col("change").abs(), descending=True).row(0, named=True)
            text += (
                f" (q < 0.05 after Benjamini-Hochberg), the most {code(largest[WORK])} by {100 * largest['change']:+.1f} %: "
                "repeats within one run do not show how much runs differ"
            )
        sentences.append(text + ".")
    return sentences


_AGAINST = {"same_work": "the other warmed cells of the same work", "outlier": "the median warmed cell"}


def _left_out(found: Meaning, digits: int) -> Section:
    headers = ("left out", "rule", "n", "mean (ms)", "std (ms)", "warmed mean (ms)", "warmed std (ms)", "first call (ms)")
    cells = found.first_calls.cells
    rows = tuple(
        (
            row[CELL],
            row["rule"],
            _known(row[TRIALS], 0),
            *(_known(row[name], digits) for name in (MEAN, STD, "warmed_mean_ms", "warmed_std_ms", "cost_ms")),
        )
        for row in cells.head(_MOST_ROWS).iter_rows(named=True)
    )
    return Section("Left out of comparisons", prose=_first_of(cells), table=Table(headers, rows, frozenset({0})), level=3)


def _ratios(found: Meaning) -> Section:
    effects = [("(forward + backward) / forward", effect) for effect in found.backward]
    effects += [("warm-ups", effect) for effect in found.warmups]
    rows = tuple((what, e.name, f"{e.estimate:.3f}", *_bounds(e, 3), str(e.n)) for what, e in effects)
    table = Table(("ratio of times", "of", "estimate", "low 95 %", "high 95 %", "n"), rows[:_MOST_ROWS], frozenset({1}))
    return Section("Passes and warm-ups", table=table, level=3)


def _exponents(found: Meaning) -> Section:
    rows = tuple(
        (scaling.name, over, factor, f"{e.estimate:.2f}", *_bounds(e, 2), str(e.n))
        for scaling in found.scaling
        for over, factor, e in (
            *(("all configurations", e.name, e) for e in scaling.joint),
            *((e.name, CONTEXT, e) for e in scaling.within),
        )
    )
    headers = ("pass", "over", "time goes with", "exponent", "low 95 %", "high 95 %", "n")
    return Section("How time scales", table=Table(headers, rows[:_MOST_ROWS], frozenset({1})), level=3)


def _disagreeing(found: Meaning, digits: int) -> tuple[Section, Section]:
    noisy = tuple(
        (
            row[CELL],
            str(row[TRIALS]),
            number(row[MEAN], digits),
            number(row[STD], digits),
            f"{100 * row['spread']:.1f}",
            f"{100 * row['others']:.1f}",
            _AGAINST[row["rule"]],
            _probability(row["q"]),
        )
        for row in found.noisy.head(_MOST_ROWS).iter_rows(named=True)
    )
    headers = ("repeats disagree in", "n", "mean (ms)", "std (ms)", "std/mean (%)", "against (%)", "which is that of", "q")
    against = tuple(
        (
            row[WORK],
            f"{row['fewer']}: {number(row['mean_fewer_ms'], digits)}",
            f"{row['more']}: {number(row['mean_more_ms'], digits)}",
            *(number(row[name], digits) for name in ("change_ms", "low_ms", "high_ms")),
            f"{100 * row['change']:+.1f}",
            _probability(row["q"]),
        )
        for row in found.contradictions.head(_MOST_ROWS).iter_rows(named=True)
    )
    differing = ("same work", "warm-ups: ms", "warm-ups: ms ", "change (ms)", "low 95 %", "high 95 %", "change (%)", "q")
    return (
        Section("Repeats that disagree", _first_of(found.noisy), table=Table(headers, noisy, frozenset({0})), level=3),
        Section(
            "Cells that contradict each other",
            _first_of(found.contradictions),
            table=Table(differing, against, frozenset({0})),
            level=3,
        ),
    )


def _first_of(frame: pl.DataFrame) -> tuple[str, ...]:
    return (f"The first {_MOST_ROWS} of {frame.height:,}; all are in the JSON.",) if frame.height > _MOST_ROWS else ()


def code(name: str) -> str:
    """Return a name between backticks, those within it replaced."""
    return "`" + name.replace("`", "'") + "`"


def counted(n: int, one: str, many: str | None = None) -> str:
    """Return ``1 cell`` or ``60 cells``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def number(value: float, digits: int) -> str:
    """Return a number with so many decimals."""
    return f"{value:.{digits}f}"


def _known(value: float | None, digits: int) -> str:
    return "-" if value is None else number(value, digits)


def _probability(value: float | None) -> str:
    return "< 0.0001" if value is not None and value < 1e-4 else _known(value, 4)


def _bounds(effect: Effect, digits: int) -> tuple[str, str]:
    return _known(effect.low, digits), _known(effect.high, digits)


def _interval(effect: Effect, one: str, many: str, digits: int = 2) -> str:
    value = number(effect.estimate, digits)
    if effect.low is None or effect.high is None:
        return f"{value} (n = {counted(effect.n, one, many)}, so without an interval)"
    bounds = f"95 % interval {number(effect.low, digits)} to {number(effect.high, digits)}"
    return f"{value} ({bounds}, n = {counted(effect.n, one, many)})"


def _times(effect: Effect) -> str:
    if effect.low is None:
        return f"{effect.estimate:.2f} times"
    return f"{effect.estimate:.2f} times ({effect.low:.2f} to {effect.high:.2f}, 95 % interval)"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(map(code, names[:_MOST_NAMED]))
    return shown + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
