"""Start-ups as a page: waterfalls above the tables. One file, no script, nothing is fetched."""

from __future__ import annotations

from collections.abc import Sequence

from rca.startup import Startup, StartupComparison, StartupReport
from reports import document_html, startup
from reports.charts.model import Chart
from reports.charts.startup import drawable, ledger_chart, length, overview_chart, response_charts, start_chart

MAX_WATERFALLS = 24
_FEW = 3
"""So many starts or fewer need no overview."""


def report_page(report: StartupReport) -> str:
    """Return the page of some start-ups: all of them at a glance, what responds to what, and each phase by phase."""
    starts = [start for start in report.startups.starts if drawable(start)]
    overview: list[Chart] = [overview_chart(starts)] if len(starts) > _FEW else []
    waterfalls = _waterfalls([(start.name, start) for start in starts])
    more = len(starts) - len(waterfalls)
    left_out = f"{more} more starts are in the tables only." if more else ""
    charts = [*overview, *response_charts(report), *waterfalls]
    return document_html.page(startup.startup_document(report), charts, left_out=left_out)


def comparison_page(result: StartupComparison) -> str:
    """Return the page of two sides' start-ups: where the change went, and the typical start of each side."""
    compared = result.compared
    sides = zip(("normal", "abnormal"), compared.typical, strict=True)
    typical = [(f"{side}, the start with the middle total: {start.name}", start) for side, start in sides if drawable(start)]
    first = [ledger_chart(compared)] if compared.ledger else []
    return document_html.page(startup.comparison_document(result), _waterfalls(typical), first)


def _waterfalls(starts: Sequence[tuple[str, Startup]]) -> list[Chart]:
    """Return the waterfall of each start, all on one scale."""
    shown = starts[:MAX_WATERFALLS]
    end = length(start for _, start in shown)
    return [start_chart(name, start, end) for name, start in shown]
