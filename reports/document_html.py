"""A document as one page with charts: self-contained, no script, nothing is fetched."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from reports import html
from reports.charts.html import BOX, MARKERS, drawn
from reports.charts.model import Chart
from reports.document import Document
from reports.view import STATUS_WORDS

_STYLES = ("page.css", "document.css")


def page(document: Document, charts: Sequence[Chart], first: Sequence[Chart] = (), left_out: str = "") -> str:
    """Return the page of a document.

    Args:
        document: its words and tables.
        charts: of the section of pictures.
        first: what stands beside the verdict of a comparison.
        left_out: says what is in the tables only.
    """
    style = html.joined(*_STYLES)
    return (
        html.templates()
        .get_template("document.html.j2")
        .render(
            v=document,
            status_words=STATUS_WORDS,
            style=Markup(style),  # noqa: S704  (this project's own files)
            policy=Markup(html.policy(style)),  # noqa: S704  (its quotes are what the attribute holds)
            first=[drawn(chart) for chart in first],
            charts=[drawn(chart) for chart in charts],
            left_out=left_out,
            box=BOX,
            markers=MARKERS,
        )
    )
