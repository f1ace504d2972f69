"""Tables of formatted cells, the same for every text report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from tabulate import tabulate


@dataclass(frozen=True)
class Table:
    """Cells as text; ``code`` lists the columns that hold names from a trace."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    code: frozenset[int] = frozenset()


def grid(table: Table) -> str:
    """Return a table drawn with lines, as `tabulate` does it."""
    return _drawn(table, "grid") + "\n"


def pipes(table: Table) -> str:
    """Return a markdown table with columns of even width; cells must be escaped before."""
    return _drawn(table, "pipe")


def _drawn(table: Table, style: str) -> str:
    return tabulate(table.rows, headers=table.headers, tablefmt=style, disable_numparse=True, colalign=sides(table))


def sides(table: Table) -> tuple[Literal["left", "decimal"], ...]:
    """Return how each column is aligned: by its decimal points where it holds nothing but numbers."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.headers)
    return tuple("decimal" if column and all(map(_is_number, column)) else "left" for column in columns)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell)) and "_" not in cell
    except ValueError:
        return False


def plain(value: Any) -> str:
    """Write a number with four significant digits, thousands separated, without exponents where they can be avoided."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e7:
        digits = max(0, 3 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{min(digits, 6)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.3g}"
