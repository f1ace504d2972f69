"""Short reports of sections with prose and tables: what start-ups, model runs and sweeps come to, in every format.

A `Document` holds formatted cells and sentences; the renderers below know nothing of what they mean.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from reports import terminal
from reports.cells import Table, sides
from reports.ticket import TARGETS, environment, fitted
from reports.verdict_view import VerdictView
from reports.view import STATUS_WORDS

_MAX_TERMINAL_ROWS = 40


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it; in prose, names stand between backticks.

    ``level`` is the depth of the heading, 2 below the title. Of ``prose`` each item is a paragraph of the text, of ``notes``
    each is one point of a list.
    """

    heading: str
    prose: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    table: Table | None = None
    level: int = 2


@dataclass(frozen=True)
class Box:
    """What a comparison comes to: leads its report."""

    status: str
    headline: str
    verdict: VerdictView


@dataclass(frozen=True)
class Document:
    """A report. ``lead`` is the answer in a sentence or two; ``warnings`` say what was skipped, guessed or odd."""

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...]
    warnings: tuple[str, ...]
    version: str
    box: Box | None = None


def markdown(document: Document, target: str = "github") -> str:
    """Return the report for one of `reports.ticket.TARGETS`, cut to its budget."""
    place = TARGETS[target]
    template = place.template.replace("comparison", "document")
    text = environment(template).get_template(template).render(v=document, status_words=STATUS_WORDS)
    return fitted(re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", place.budget)


def show(document: Document, written: Sequence[Path] = ()) -> None:
    """Print the report on a terminal, of long tables the first rows; of a comparison only the answer.

    ``written`` are the files that hold all of it.
    """
    out = Console(highlight=False, soft_wrap=True)
    if document.box:
        terminal.headline(out, document.box.status, document.box.headline)
        terminal.suspects(out, document.box.verdict)
        if document.box.verdict.ledger:
            Console(highlight=False).print(_rich(document.box.verdict.ledger))
        out.print(f"[dim]trust:[/] {escape(document.box.verdict.trust)}")
    for text in document.lead:
        out.print(escape(text.replace("`", "")))
    terminal.files(out, written)
    for section in () if document.box else document.sections:
        out.print(f"\n[bold]{escape(section.heading)}[/]")
        for text in section.prose:
            out.print(escape(text.replace("`", "")))
        if section.table and section.table.rows:
            Console(highlight=False).print(_rich(section.table))
            if len(section.table.rows) > _MAX_TERMINAL_ROWS:
                out.print(
                    f"[dim]… and {len(section.table.rows) - _MAX_TERMINAL_ROWS} more rows in the report (--format md)[/]"
                )
        for text in section.notes:
            out.print(f"- {escape(text.replace('`', ''))}")


def _rich(table: Table) -> RichTable:
    drawn = RichTable(box=None, pad_edge=False, header_style="dim")
    for header, side in zip(table.headers, sides(table), strict=True):
        drawn.add_column(escape(header), justify="left" if side == "left" else "right", overflow="fold")
    for row in table.rows[:_MAX_TERMINAL_ROWS]:
        drawn.add_row(*map(escape, row))
    return drawn


def separated(headers: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Return CSV text; None is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows(rows)
    return out.getvalue()


def json(value: dict[str, Any]) -> str:
    """Return indented JSON with a newline at its end; numbers that do not exist are null."""
    return msgspec.json.format(msgspec.json.encode(finite(value)), indent=1).decode() + "\n"


def finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON has no word for, by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
