"""Model runs as a page: latencies, operators and where the change went. One file, no script, nothing is fetched."""

from __future__ import annotations

from rca.bench import BenchComparison, BenchRun
from reports import bench, document_html
from reports.charts.bench import comparison_charts, latency_charts, operator_charts


def report_page(runs: tuple[BenchRun, ...]) -> str:
    """Return the page of the model runs of a folder or a text."""
    several = len(runs) > 1
    operators = [chart for run in runs for chart in operator_charts(run, run.label if several else "")]
    return document_html.page(bench.bench_documents(runs), [*latency_charts(runs), *operators])


def comparison_page(found: BenchComparison) -> str:
    """Return the page of two model runs."""
    first, rest = comparison_charts(found)
    return document_html.page(bench.comparison_document(found), rest, first)
