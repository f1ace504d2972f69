"""Pictures of start-ups, benchmark grids and model runs. Computes no statistic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rca.bench import BenchComparison, BenchRun
from rca.startup import StartupComparison, StartupReport
from rca.sweep import Result
from reports import bench, startup, sweep
from reports.charts.bench import comparison_charts, latency_charts, operator_charts
from reports.charts.model import Chart
from reports.charts.startup import drawable, ledger_chart, length, overview_chart, response_charts, start_chart
from reports.charts.sweep import effect_charts, line_charts
from reports.document import Document
from reports.plots.charts import add, heading
from reports.plots.sheet import LARGE, NORMAL, Sheet
from reports.plots.verdict import verdict_foot, verdict_head

_FULL = 2
"""So many starts or fewer are drawn phase by phase."""


def startup_sheets(report: StartupReport) -> dict[str, Sheet]:
    """Return ``starts``: all of them at a glance, a few phase by phase; and ``responses`` if there are any."""
    document = startup.startup_document(report)
    starts = [start for start in report.startups.starts if drawable(start)]
    end = length(starts)
    full = [start_chart(start.name, start, end) for start in starts] if len(starts) <= _FULL else [overview_chart(starts)]
    reason = "" if starts else "No line of these logs has a stamp, so nothing tells when phases were."
    sheets = {"starts": _sheet(document, full if starts else [], reason)}
    responses = response_charts(report)
    return sheets | ({"responses": _sheet(document, responses)} if responses else {})


def startup_comparison_sheets(result: StartupComparison) -> dict[str, Sheet]:
    """Return ``verdict`` with the ledger, and ``starts``: the typical one of each side, phase by phase."""
    compared = result.compared
    document = startup.comparison_document(result)
    about = f"normal: {result.paths[0].name}; abnormal: {result.paths[1].name}"
    sheets = {"verdict": _verdict(document, about, [ledger_chart(compared)] if compared.ledger else [])}
    pairs = [(side, start) for side, start in zip(("normal", "abnormal"), compared.typical, strict=True) if drawable(start)]
    if pairs:
        end = length(start for _, start in pairs)
        charts = [start_chart(f"{side}, the start with the middle total: {start.name}", start, end) for side, start in pairs]
        sheets["starts"] = _charts("The typical start of each side, phase by phase", charts)
    return sheets


def sweep_sheets(result: Result) -> dict[str, Sheet]:
    """Return a sheet per parameter that was varied, named by it, and ``effects``; ``grid`` says that there is nothing."""
    document = sweep.document(result)
    sheets = {name: _sheet(document, [chart]) for name, chart in line_charts(result).items()}
    effects = effect_charts(result)
    sheets |= {"effects": _sheet(document, effects)} if effects else {}
    return sheets or {"grid": _sheet(document, [], "Nothing to draw: no parameter was varied, and nothing can be compared.")}


def run_sheets(runs: Sequence[BenchRun]) -> dict[str, Sheet]:
    """Return ``runs``: latencies, and of a single run its operators; of several these are ``operators-1`` and so on."""
    document = bench.bench_documents(tuple(runs))
    charts: list[Chart] = [*latency_charts(runs)]
    if len(runs) == 1:
        charts += operator_charts(runs[0])
    reason = (
        "" if charts else "Nothing to draw: no two timed runs differ in their number of tokens alone, and none was profiled."
    )
    sheets = {"runs": _sheet(document, charts, reason)}
    if len(runs) > 1:
        for number, run in enumerate(runs, start=1):
            if operators := operator_charts(run):
                sheets[f"operators-{number}"] = _sheet(bench.bench_document(run), operators)
    return sheets


def run_comparison_sheets(found: BenchComparison) -> dict[str, Sheet]:
    """Return ``verdict``: the answer, ratios of latencies, where the change went; and ``more``: the rest."""
    leading, rest = comparison_charts(found)
    document = bench.comparison_document(found)
    about = f"normal: {found.normal.label}; abnormal: {found.abnormal.label}"
    sheets = {"verdict": _verdict(document, about, leading)}
    return sheets | ({"more": _charts("Latencies of both sides, and the other ledger", rest)} if rest else {})


def _verdict(document: Document, about: str, charts: Iterable[Chart]) -> Sheet:
    box = document.box
    assert box is not None  # noqa: S101  (comparisons have one)
    sheet = Sheet(box.headline)
    verdict_head(sheet, box.status, box.headline, about, box.verdict)
    for chart in charts:
        add(sheet, chart)
    verdict_foot(sheet, box.verdict.trust)
    return sheet


def _sheet(document: Document, charts: Iterable[Chart], reason: str = "") -> Sheet:
    """Return charts below what their report begins with; ``reason`` says why there are none."""
    sheet = Sheet(document.title)
    sheet.text(document.title, size=LARGE, bold=True, most=2)
    sheet.gap(0.03)
    for text in document.lead[:2]:
        sheet.text(text.replace("`", ""), size=NORMAL, most=3)
    if reason:
        heading(sheet, reason)
    for chart in charts:
        add(sheet, chart)
    return sheet


def _charts(title: str, charts: Iterable[Chart]) -> Sheet:
    sheet = Sheet(title)
    for chart in charts:
        add(sheet, chart)
    return sheet
