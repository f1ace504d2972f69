"""What model runs come to, as a document; `reports.bench_data` has them as CSV and JSON. Computes no statistic."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from rca.bench import BenchComparison, BenchRun, Measured, OperatorLedger, Summary, operators_by_time, summaries
from rca.bench.ledger import OperatorChange
from rca.bench.words import ROUNDED, change, side_time
from rca.stats.robust import Shift
from rca.verdict import Cause
from rca.version import BENCH_COMPARISON_SCHEMA, BENCH_SCHEMA, __version__
from reports.cells import Table
from reports.document import Box, Document, Section
from reports.verdict_view import MAX_CAUSES, MAX_EVIDENCE, CauseView, VerdictView, cause_title

_MOST_ROWS = 40
_MOST_ENTRIES = 20
_IN_THE_BOX = 8
_WHY = {
    "software_change": "the program does other things: other operators, more or fewer calls, other settings",
    "hardware_change": "another kind of device",
    "unexplained": "the same program took another time; this is where it went",
}
_KINDS = (
    "`operator`: what the CPU called, with the time of the kernels that it launched itself. `kernel`: the same device time "
    "again, by kernel. `annotation`: a named span that holds others. Sums go over operators or kernels, never over both."
)
_ROUNDED_NOTE = f"{ROUNDED}: read from a text, so rounded to the last digit that is shown."
_OF_RATIOS = (
    "The ratio is the median over all pairs of repeats, with a block-bootstrap interval; q is Mann-Whitney's p after "
    "Benjamini-Hochberg over configurations."
)
_DIRECTION = "abnormal - normal"


def bench_document(run: BenchRun) -> Document:
    """Format one model run: the timed runs, their summary, the operators of the profiled run."""
    sections = [_summary_section(run), _runs_section(run), _operators_section(run), _environment_section(run)]
    return Document(
        title=f"Model run: {run.label}",
        lead=_lead(run),
        sections=tuple(section for section in sections if section),
        warnings=run.warnings,
        version=f"rca {__version__} ({BENCH_SCHEMA})",
    )


def bench_documents(runs: tuple[BenchRun, ...]) -> Document:
    """Format all model runs of a text, one after the other."""
    if len(runs) == 1:
        return bench_document(runs[0])
    sections: list[Section] = []
    for number, run in enumerate(runs, start=1):
        own = bench_document(run)
        sections.append(Section(f"#{number} {run.label}", own.lead))
        sections += [replace(section, level=section.level + 1) for section in own.sections]
    return Document(
        title=f"Model runs: {', '.join(run.label for run in runs)}",
        lead=(f"{len(runs)} model runs; FILE#1 is the first, as in `rca compare FILE#1 FILE#2`.",),
        sections=tuple(sections),
        warnings=tuple(warning for run in runs for warning in run.warnings),
        version=f"rca {__version__} ({BENCH_SCHEMA})",
    )


def _lead(run: BenchRun) -> tuple[str, ...]:
    found = summaries(run.records)
    parts = [
        f"{_counted(len(run.records), 'timed run')} in {_counted(len(found), 'configuration')}" if found else "No timed runs"
    ]
    if run.table:
        time, _ = operators_by_time(run.table)
        total = run.table.total_us("device" if time == "device" else "cpu")
        parts.append(f"the profiled run took {side_time(total.us, run)} of {time} time" if total else "one profiled run")
    return ("; ".join(parts) + ".", *((_ROUNDED_NOTE,) if run.is_text else ()))


def _runs_section(run: BenchRun) -> Section | None:
    if not run.records:
        return None
    unit = _unit(run)
    mark = _mark(run)
    rows = tuple(
        (
            record.configuration.title,
            f"{record.run}/{record.of}",
            _figure(record.latency_s, 4),
            _count(record.tokens),
            _figure(record.throughput, 2),
            _figure(record.memory, 2),
        )
        for record in run.records
    )
    headers = (
        *("Configuration", "Run", f"Latency (s{mark})", "Tokens"),
        *(f"Throughput (t/s{mark})", f"Peak memory ({unit}{mark})"),
    )
    return Section("Runs", table=Table(headers, rows))


def _summary_section(run: BenchRun) -> Section | None:
    found = summaries(run.records)
    if not found:
        return None
    unit, mark = _unit(run), _mark(run)
    rows = tuple(
        (
            row.configuration.title,
            str(row.n),
            _digits(row.mean_s),
            f"{_digits(row.ci_s[0])} to {_digits(row.ci_s[1])}" if row.ci_s else "too few runs",
            f"{row.throughput:.2f}" if row.throughput is not None else "-",
            f"{row.memory:.2f}" if row.memory is not None else "-",
        )
        for row in found
    )
    headers = (
        *("Configuration", "n", f"Mean latency (s{mark})", "95 % CI"),
        *(f"Throughput (t/s{mark})", f"Peak memory ({unit}{mark})"),
    )
    notes = ["The interval is Student's t over the repeats of one process; two starts of it may differ by more."]
    notes += [f"Peak memory is of the {run.memory_of}."] if run.memory_of else []
    return Section("Summary", table=Table(headers, rows), notes=tuple(notes))


def _operators_section(run: BenchRun) -> Section | None:
    if run.table is None:
        return None
    time, rows = operators_by_time(run.table)
    shown = rows.head(_MOST_ROWS)
    cells = tuple(
        (
            row["name"],
            row["kind"],
            *(_time(row[f"{column}_us"], run) for column in _columns(time)),
            _percent(row["share"]),
            _count(row["calls"]),
        )
        for row in shown.iter_rows(named=True)
    )
    titles = {"self_device": "Self device", "device_total": "Device total", "self_cpu": "Self CPU", "cpu_total": "CPU total"}
    headers = ("Name", "Kind", *(titles[column] for column in _columns(time)), f"Share of {time} time", "Calls")
    left_out = rows.height - shown.height
    notes = [_KINDS] + ([f"{left_out:,} more rows are in the JSON report."] if left_out else [])
    prose = (f"The profiled run had {run.profiled.title}.",) if run.profiled else ()
    heading = "Operators by self device time" if time == "device" else "Operators by self CPU time"
    return Section(heading, prose=prose, table=Table(headers, cells, frozenset({0})), notes=tuple(notes))


def _columns(time: str) -> tuple[str, ...]:
    return ("self_device", "device_total", "self_cpu") if time == "device" else ("self_cpu", "cpu_total")


def _environment_section(run: BenchRun) -> Section | None:
    if not run.environment:
        return None
    rows = tuple((name.replace("_", " "), _plain(value)) for name, value in run.environment.items() if value != "")
    return Section("Environment", table=Table(("What", "Value"), rows))


def comparison_document(found: BenchComparison) -> Document:
    """Format the comparison of two model runs."""
    sections = [_latency_section(found), *_ledger_sections(found), _differences_section(found)]
    return Document(
        title="Comparison of model runs",
        lead=(f"Normal is {found.normal.label}, abnormal is {found.abnormal.label}.", *_note(found)),
        sections=tuple(section for section in sections if section),
        warnings=found.warnings,
        version=f"rca {__version__} ({BENCH_COMPARISON_SCHEMA})",
        box=Box(found.verdict.status, found.verdict.headline, _verdict(found)),
    )


def _note(found: BenchComparison) -> tuple[str, ...]:
    return (_ROUNDED_NOTE,) if found.normal.is_text or found.abnormal.is_text else ()


def _verdict(found: BenchComparison) -> VerdictView:
    causes = found.verdict.causes
    if found.verdict.status in ("slower", "faster"):
        no_causes = "none is named"
    elif found.verdict.status == "no_difference":
        no_causes = "none is named: there is no change to explain"
    else:
        no_causes = "not judged: no change is established"
    return VerdictView(
        work=found.verdict.work,
        trust=found.verdict.trust,
        ledger=_ledger(found, found.main, _IN_THE_BOX) if found.main else None,
        ledger_note=" ".join(_ledger_notes(found.main)) if found.main else "",
        causes=tuple(_cause(cause) for cause in causes[:MAX_CAUSES]),
        no_causes=no_causes,
        more_causes="",
        not_measured=(),
    )


def _cause(cause: Cause) -> CauseView:
    return CauseView(
        title=cause_title(cause),
        why=_WHY[cause.id],
        evidence_for=cause.evidence_for[:MAX_EVIDENCE],
        evidence_against=cause.evidence_against[:MAX_EVIDENCE],
        missing="; ".join(cause.missing[:MAX_EVIDENCE]),
        looks_like=cause.looks_like,
        next_check=cause.next_check,
    )


def _latency_section(found: BenchComparison) -> Section | None:
    if not found.latency.rows:
        return None
    rows = tuple(
        (
            row.normal.configuration.title,
            f"{row.normal.n}, {row.abnormal.n}",
            side_time(1e6 * row.normal.mean_s, found.normal),
            side_time(1e6 * row.abnormal.mean_s, found.abnormal),
            _ratio(row.ratio),
            f"{row.q:.2g}" if row.q is not None else "-",
            _both(row.normal.throughput, row.abnormal.throughput, ".2f"),
            _memory(row.normal, row.abnormal),
        )
        for row in found.latency.rows
    )
    headers = (
        *("Configuration", "n", "Mean latency, normal", "Mean latency, abnormal", "Ratio, abnormal / normal (95 % CI)", "q"),
        *("Throughput (t/s)", "Peak memory"),
    )
    return Section("Latency", table=Table(headers, rows), notes=(_OF_RATIOS,))


def _ledger_sections(found: BenchComparison) -> list[Section]:
    """Return the ledgers in full; that of the box again only where the box has not all of it."""
    headings = {"device": "Where the device time went", "host": "Where the host time went (self CPU time)"}
    return [
        Section(headings[ledger.time], table=_ledger(found, ledger, _MOST_ENTRIES), notes=_ledger_notes(ledger))
        for ledger in (found.device, found.host)
        if ledger and (ledger is not found.main or len(ledger.entries) > _IN_THE_BOX)
    ]


def _ledger_notes(ledger: OperatorLedger) -> tuple[str, ...]:
    return _of_rows(ledger), "One profiled run a side: these figures have no intervals."


def _ledger(found: BenchComparison, ledger: OperatorLedger, most: int) -> Table:
    rounded = found.normal.is_text or found.abnormal.is_text
    rows = [_entry(found, ledger, entry, rounded) for entry in ledger.entries[:most]]
    left_out = len(ledger.entries) - most
    if left_out > 0:
        rows.append(_sum_row(found, ledger, f"({left_out:,} more)", ledger.rest(most)))
    residual = ledger.residual_normal_us, ledger.residual_abnormal_us
    if max(map(abs, residual)) >= 1:
        rows.append(_sum_row(found, ledger, "(not in the tables: beyond their row limit)", residual))
    rows.append(_sum_row(found, ledger, "(all)", (ledger.normal_us, ledger.abnormal_us)))
    what = {"operator": "Device time by operator", "kernel": "Device time by kernel", "row": "Host time by operator or span"}
    headers = (
        *(what[ledger.rows], "Normal", "Abnormal", f"Δ, {_DIRECTION}", "Share of Δ"),
        *("Calls, normal", "Calls, abnormal", "What changed"),
    )
    return Table(headers, tuple(rows), frozenset({0}))


def _of_rows(ledger: OperatorLedger) -> str:
    if ledger.rows == "kernel":
        return "Over kernels: on a side, they show more of the device time than operators do (graphs belong to no operator)."
    if ledger.rows == "operator":
        return "Over operators, each with the kernels that it launched itself; rows of kernels hold the same time again."
    return "Self time of every row of the table; a span's own is what no operator within it took (Python)."


def _entry(found: BenchComparison, ledger: OperatorLedger, entry: OperatorChange, rounded: bool) -> tuple[str, ...]:
    return (
        entry.name,
        _shown(entry.normal_us, entry.at_most_us, found.normal),
        _shown(entry.abnormal_us, entry.at_most_us, found.abnormal),
        change(entry.change_us, rounded),
        _percent(ledger.share(entry.change_us)),
        _count(entry.normal_calls),
        _count(entry.abnormal_calls),
        {"unknown": "not known", "duration": "time of a call"}.get(entry.why, entry.why),
    )


def _shown(us: float | None, at_most_us: float, run: BenchRun) -> str:
    if us is not None:
        return side_time(us, run)
    if at_most_us == 0:
        return "none"
    return "not shown" if math.isinf(at_most_us) else f"not shown, ≤ {side_time(at_most_us, run)}"


def _sum_row(found: BenchComparison, ledger: OperatorLedger, name: str, sides: tuple[float, float]) -> tuple[str, ...]:
    rounded = found.normal.is_text or found.abnormal.is_text
    return (
        name,
        _time(sides[0], found.normal),
        _time(sides[1], found.abnormal),
        change(sides[1] - sides[0], rounded),
        _percent(ledger.share(sides[1] - sides[0])),
        *("", "", ""),
    )


def _differences_section(found: BenchComparison) -> Section | None:
    if not found.differences:
        return None
    rows = tuple((one.name, one.kind, one.normal, one.abnormal) for one in found.differences)
    return Section("What the environments differ by", table=Table(("What", "Kind", "Normal", "Abnormal"), rows))


def _unit(run: BenchRun) -> str:
    units = {record.memory_unit for record in run.records if record.memory}
    return "/".join(sorted(units)) or "GB"


def _mark(run: BenchRun) -> str:
    return f", {ROUNDED}" if run.is_text else ""


def _figure(figure: Measured | None, decimals: int) -> str:
    """Write a figure with the digits that it was written with, or with as many as say something."""
    if figure is None:
        return "-"
    if figure.error:
        decimals = max(0, round(-math.log10(2 * figure.error)))
    elif figure.value < 1:
        decimals += 2
    return f"{figure.value:.{decimals}f}"


def _digits(seconds: float) -> str:
    return f"{seconds:.4f}" if seconds >= 1 else f"{seconds:.6f}"


def _ratio(ratio: Shift) -> str:
    if math.isnan(ratio.low):
        return f"{ratio.estimate:.3f} (no interval: one run)"
    return f"{ratio.estimate:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def _both(normal: float | None, abnormal: float | None, form: str) -> str:
    return " → ".join("-" if value is None else format(value, form) for value in (normal, abnormal))


def _memory(normal: Summary, abnormal: Summary) -> str:
    if normal.memory is None and abnormal.memory is None:
        return "-"
    if normal.memory_unit == abnormal.memory_unit:
        return f"{_both(normal.memory, abnormal.memory, '.2f')} {normal.memory_unit}"
    return " → ".join("-" if s.memory is None else f"{s.memory:.2f} {s.memory_unit}" for s in (normal, abnormal))


def _time(us: float | None, run: BenchRun) -> str:
    if us is None:
        return "-"
    return side_time(us, run) if us >= 0 else f"-{side_time(-us, run)}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("s" if n != 1 else "")


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
