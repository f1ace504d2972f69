"""A document as one page with charts: self-contained, no script, nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

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
    style = _style()
    return (
        _environment()
        .get_template("document.html.j2")
        .render(
            v=document,
            status_words=STATUS_WORDS,
            style=Markup(style),  # noqa: S704  (this project's own files)
            policy=Markup(_policy(style)),  # noqa: S704  (its quotes are what the attribute holds)
            first=[drawn(chart) for chart in first],
            charts=[drawn(chart) for chart in charts],
            left_out=left_out,
            box=BOX,
            markers=MARKERS,
        )
    )


@cache
def _style() -> str:
    folder = resources.files("reports") / "assets"
    return "\n".join((folder / name).read_text(encoding="utf-8").strip() for name in _STYLES) + "\n"


def _policy(style: str) -> str:
    """Return a Content-Security-Policy that allows this one style element and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
