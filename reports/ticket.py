"""Markdown and Jira reports, made to fit where they are pasted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from rca.api import Comparison
from reports.cells import Table, pipes
from reports.view import View, view


@dataclass(frozen=True)
class Target:
    """A place to paste a report: its markup, the characters it may have, how long full names in the index may be."""

    template: str
    budget: int | None
    name_length: int


TARGETS = {
    # GitHub refuses bodies above 65,536 characters, Jira above 32,767, GitLab above about 1 MB (FIELD.md §5.2)
    "github": Target("comparison.md.j2", 60_000, 240),
    "gitlab": Target("comparison.md.j2", 900_000, 1_000),
    "jira": Target("comparison.jira.j2", 30_000, 160),
    "full": Target("comparison.md.j2", None, 100_000),
}


_MIN_ROWS = 5
"""Fewer rows of the detailed table tell nothing; rather leave out the least notable ranks."""


def render(result: Comparison, target: str = "github") -> str:
    """Return the report for one of `TARGETS`, with as many ranks and rows of the detailed table as fit its budget."""
    place = TARGETS[target]
    shown = view(result)
    if place.budget is None or not shown.ranks:
        return fitted(_render(shown, place, len(shown.ranks), None), place.budget)
    for ranks in range(len(shown.ranks), 0, -1):
        least = min(_MIN_ROWS, max(len(rank.detail.rows) for rank in shown.ranks[:ranks]))
        if len(_render(shown, place, ranks, least)) <= place.budget:
            return _render(shown, place, ranks, _most_rows(shown, place, ranks, least))
    return fitted(_render(shown, place, 1, _most_rows(shown, place, 1, 0)), place.budget)


def _most_rows(shown: View, place: Target, ranks: int, least: int) -> int:
    """Return the largest number of rows per rank that fits, at least ``least``."""
    low, high = least, max(len(rank.detail.rows) for rank in shown.ranks[:ranks])
    while low < high:
        middle = (low + high + 1) // 2
        if len(_render(shown, place, ranks, middle)) <= (place.budget or 0):
            low = middle
        else:
            high = middle - 1
    return low


def _render(shown: View, place: Target, ranks: int, rows: int | None) -> str:
    """Render the first ``ranks`` ranks with at most ``rows`` rows each (None: all)."""
    rows_of = [len(rank.detail.rows) if rows is None else min(rows, len(rank.detail.rows)) for rank in shown.ranks[:ranks]]
    used = dict.fromkeys(
        name for rank, n in zip(shown.ranks, rows_of, strict=False) for name in rank.functions[: rank.mentioned + n]
    )
    index = [
        (shown.index.number[name], name if len(name) <= place.name_length else name[: place.name_length] + " …")
        for name in used
        if name in shown.index.number
    ]
    template = environment(place.template).get_template(place.template)
    text = template.render(v=shown, shown=ranks, rows_of=rows_of, index=sorted(index))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def fitted(text: str, budget: int | None) -> str:
    """Cut a report that is too long even without its detailed table at a line, and say so."""
    if budget is None or len(text) <= budget:
        return text
    note = "\n\n… cut here to fit; the whole report is in the JSON.\n"
    return text[: budget - len(note)].rsplit("\n", 1)[0] + note


@cache
def environment(template: str) -> Environment:
    """Return what renders templates of one markup, with the filters that escape for it."""
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=False,  # noqa: S701  (no HTML comes out; every value goes through a filter below)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text, code = (_jira_text, _jira_code) if "jira" in template else (_markdown_text, _markdown_code)
    environment.filters |= {
        "text": text,
        "cell": text,
        "code": code,
        "cellcode": _jira_code if "jira" in template else _markdown_cell_code,
        "prose": lambda value: _prose(value, text, code),
        "pipes": lambda table: pipes(_escaped(table)),
    }
    return environment


def _escaped(table: Table) -> Table:
    """Escape the cells of a table for markdown; names of its ``code`` columns become code."""
    rows = tuple(
        tuple(_markdown_cell_code(cell) if i in table.code else _markdown_text(cell) for i, cell in enumerate(row))
        for row in table.rows
    )
    return Table(tuple(map(_markdown_text, table.headers)), rows, table.code)


def _one_line(value: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\u2028\u2029]+", " ", str(value))


def _markdown_text(value: str) -> str:
    """Escape what GitHub would take for markup, a mention or HTML."""
    escaped = re.sub(r"([\\`*{}\[\]<>|#~$&]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", _one_line(value))
    return escaped.replace("@", "@\u200b").replace("://", ":\u200b//")


def _markdown_code(value: str) -> str:
    inner = _one_line(value).replace("`", "'")
    return f"`{inner}`" if inner.strip() else "-"


def _markdown_cell_code(value: str) -> str:
    """Write a name as code in a table, where a pipe would end the cell even there."""
    return _markdown_code(value).replace("|", "\\|")


def _jira_text(value: str) -> str:
    """Escape what Jira would take for markup; underscores only where they could open or close emphasis."""
    line = _one_line(value)
    return re.sub(r"([\\{}\[\]|*^~?!#]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line) if line.strip() else "-"


def _jira_code(value: str) -> str:
    return "{{" + _jira_text(value) + "}}"


def _prose(value: str, text: Callable[[str], str], code: Callable[[str], str]) -> str:
    """Escape a sentence in which names stand between backticks."""
    parts = value.split("`")
    return "".join(code(part) if i % 2 else text(part) for i, part in enumerate(parts))
