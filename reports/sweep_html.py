"""A benchmark grid as a page: lines over each parameter above the tables. One file, no script, nothing is fetched."""

from __future__ import annotations

from rca.sweep import Result
from reports import document_html, sweep
from reports.charts.model import Chart
from reports.charts.sweep import effect_charts, line_charts


def page(result: Result) -> str:
    """Return the page of a grid."""
    charts: list[Chart] = [*line_charts(result).values(), *effect_charts(result)]
    return document_html.page(sweep.document(result), charts)
