"""From a file to what it means, in one call."""

from __future__ import annotations

from pathlib import Path

from rca.sweep.meaning import explain
from rca.sweep.model import Result
from rca.sweep.read import read
from rca.sweep.tables import derive


def sweep(path: Path) -> Result:
    """Read a grid, derive its tables and explain them.

    Args:
        path: a CSV, JSON lines, parquet or markdown file, or a folder that `rca sweep run` wrote.

    Raises:
        InputError: it cannot be used; `TooLittleDataError` where it holds no cell.
    """
    grid = read(path)
    return Result(grid, derive(grid.cells), explain(grid.cells))
