"""Charts of model runs: latency over lengths, operators, and where the change between two runs went.

Computes no statistic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rca.bench import BenchComparison, BenchRun, OperatorLedger, Summary, operators_by_time, summaries
from rca.bench.latency import LatencyChange
from rca.bench.words import ROUNDED, change, side_time
from reports.charts.model import (
    STYLES,
    Axis,
    Chart,
    Kind,
    Line,
    LineChart,
    Mark,
    Panel,
    Point,
    Row,
    RowChart,
    Step,
    at_values,
    scale,
    waterfall,
)

_MOST_STEPS = 12
_MOST_OPERATORS = 12
_MOST_RATIOS = 20
_PANELS = (("latency", "s", "Latency"), ("throughput", "tokens/s", "Throughput"))


def latency_charts(runs: Sequence[BenchRun]) -> list[LineChart]:
    """Return latency and throughput of model runs; none where no configuration can be set against another."""
    several = len(runs) > 1
    return _latencies([(run.label if several else "", run) for run in runs])


def comparison_charts(found: BenchComparison) -> tuple[list[Chart], list[Chart]]:
    """Return what is drawn of two model runs: what leads (ratios of latencies, the main ledger), and the rest."""
    ledgers = [ledger_chart(found, ledger) for ledger in _ledgers(found)]
    leading: list[Chart] = [_ratios(found.latency.rows)] if found.latency.rows else []
    rest: list[Chart] = [*_latencies([("normal", found.normal), ("abnormal", found.abnormal)])]
    return [*leading, *ledgers[:1]], [*rest, *ledgers[1:]]


def _ledgers(found: BenchComparison) -> list[OperatorLedger]:
    """Return the ledgers, the one that tells more of the change first."""
    ledgers = [ledger for ledger in (found.device, found.host) if ledger]
    return sorted(ledgers, key=lambda ledger: ledger is not found.main)


def ledger_chart(found: BenchComparison, ledger: OperatorLedger) -> RowChart:
    """Return the waterfall from the normal total of device or host time to the abnormal one."""
    rounded = found.normal.is_text or found.abnormal.is_text
    steps = [
        Step(entry.name, entry.change_us, None, None, change(entry.change_us, rounded), hint=entry.name)
        for entry in ledger.entries[:_MOST_STEPS]
    ]
    rest = ledger.rest(_MOST_STEPS)
    if len(ledger.entries) > _MOST_STEPS:
        moved = rest[1] - rest[0]
        steps.append(Step(f"({len(ledger.entries) - _MOST_STEPS:,} more)", moved, None, None, change(moved, rounded)))
    if abs(ledger.residual_us) >= 1:
        steps.append(Step("(not in the tables)", ledger.residual_us, None, None, change(ledger.residual_us, rounded)))
    ends = (
        ("normal, all", ledger.normal_us, side_time(ledger.normal_us, found.normal)),
        ("abnormal, all", ledger.abnormal_us, side_time(ledger.abnormal_us, found.abnormal)),
    )
    what = {"operator": "by operator", "kernel": "by kernel", "row": "by operator or span"}[ledger.rows]
    title = f"Where the {ledger.time} time went, {what}"
    caption = "Each begins where the one above it ended. One profiled run a side: these figures have no intervals."
    return waterfall(title, caption, ends, steps, "µs")


def _ratios(rows: Sequence[LatencyChange]) -> RowChart:
    shown = []
    for row in rows[:_MOST_RATIOS]:
        ratio = row.ratio
        kind: Kind = "more" if ratio.estimate > 1 else "less"
        marks = [Mark("dot", kind, ratio.estimate, ratio.estimate)]
        said = f"{ratio.estimate:.3f}"
        if not math.isnan(ratio.low):
            marks.insert(0, Mark("whisker", kind, ratio.low, ratio.high))
            said += f" ({ratio.low:.3f} to {ratio.high:.3f})"
        shown.append(Row(row.normal.configuration.title, said, tuple(marks)))
    caption = "Latency, abnormal / normal; bars are 95 % intervals over repeats, where there are any. 1 is no change."
    if len(rows) > len(shown):
        caption += f" The first {len(shown)} of {len(rows)} configurations."
    seen = [value for row in shown for mark in row.marks for value in (mark.low, mark.high)] + [1.0]
    margin = 0.06 * (max(seen) - min(seen)) or 0.05
    axis = scale(min(seen) - margin, max(seen) + margin, "", "ratio of latencies")
    return RowChart("How much longer each configuration takes", caption, tuple(shown), axis, reference=1.0)


def _latencies(runs: Sequence[tuple[str, BenchRun]]) -> list[LineChart]:
    """Return latency and throughput over the number of new tokens: a line per run and prompt length."""
    found = [
        (_name(name, row), row, run)
        for name, run in runs
        for row in summaries(run.records)
        if row.configuration.new_tokens is not None
    ]
    names = list(dict.fromkeys(name for name, _, _ in found))
    if not found or all(sum(own == name for own, _, _ in found) < 2 for name in names):
        return []
    panels = []
    for quantity, unit, title in _PANELS:
        lines = []
        for style, name in enumerate(names[:STYLES]):
            own = [(row, run) for own_name, row, run in found if own_name == name]
            points = [point for row, _ in own if (point := _point(row, quantity)) is not None]
            repeats = [pair for row, run in own for pair in _repeats(row, run)] if quantity == "latency" else []
            if points:
                lines.append(Line(style, tuple(sorted(points, key=lambda point: point.x)), tuple(sorted(repeats))))
        if lines:
            panels.append(Panel(title, _tokens(lines), _above_zero(lines, unit), tuple(lines)))
    caption = "Means over repeats, with 95 % intervals where there are three or more; dashes are single runs."
    if len(names) > STYLES:
        caption += f" The first {STYLES} of {len(names)} lines."
    return [LineChart("Latency and throughput", caption, tuple(panels), tuple(enumerate(names[:STYLES])))]


def _name(run: str, row: Summary) -> str:
    prompt = row.configuration.prompt_tokens
    parts = [run, f"prompt {prompt:,}" if prompt is not None else ""]
    return ", ".join(part for part in parts if part) or "all runs"


def _point(row: Summary, quantity: str) -> Point | None:
    x = float(row.configuration.new_tokens or 0)
    if quantity == "throughput":
        return Point(x, row.throughput) if row.throughput is not None else None
    low, high = row.ci_s or (None, None)
    return Point(x, row.mean_s, low, high)


def _repeats(row: Summary, run: BenchRun) -> list[tuple[float, float]]:
    own = [record for record in run.records if record.configuration.key == row.configuration.key]
    return [(float(row.configuration.new_tokens or 0), record.latency_s.value) for record in own] if len(own) > 1 else []


def _tokens(lines: Sequence[Line]) -> Axis:
    return at_values([point.x for line in lines for point in line.points], "new tokens")


def _above_zero(lines: Sequence[Line], unit: str) -> Axis:
    tops = [point.high if point.high is not None else point.y for line in lines for point in line.points]
    tops += [y for line in lines for _, y in line.repeats]
    return scale(0.0, 1.06 * max(tops), unit, "time" if unit == "s" else "", 5)


def operator_charts(run: BenchRun, label: str = "") -> list[RowChart]:
    """Return the rows with most self time: of the device operators and kernels apart, as they are the same time twice.

    ``label`` names the run where there are several.
    """
    if run.table is None:
        return []
    time, rows = operators_by_time(run.table)
    column = "self_device_us" if time == "device" else "self_cpu_us"
    kinds = {"operator": "operators", "kernel": "kernels"} if time == "device" else {"": "operators and spans"}
    charts = []
    for kind, plural in kinds.items():
        own = [row for row in rows.iter_rows(named=True) if (not kind or row["kind"] == kind) and (row[column] or 0) > 0]
        if not own:
            continue
        shown = tuple(
            Row(
                row["name"],
                side_time(row[column], run) + (f", {row['share']:.0%}" if row["share"] is not None else ""),
                (Mark("bar", "part", 0.0, row[column]),),
                hint=row["name"],
            )
            for row in own[:_MOST_OPERATORS]
        )
        of = f" of {label}" if label else ""
        caption = f"The {len(shown)} of {len(own)} with most self time, and their share of all {time} time."
        caption += f" {ROUNDED}: read from a text, so rounded." if run.is_text else ""
        axis = scale(0.0, 1.02 * own[0][column], "µs", f"self {time} time")
        charts.append(RowChart(f"{time.capitalize()} time by {plural}{of}", caption, shown, axis))
    return charts
