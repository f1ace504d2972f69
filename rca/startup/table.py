"""Tables of start-ups that were made by hand: one row per phase, one column per log."""

from __future__ import annotations

import re
from pathlib import Path

from rca.startup.model import GRID_PHASES, Phase, Startup
from rca.startup.parameters import from_name, model_name

_RULE = re.compile(r"^[|+:\s=-]*$")
_NOT_LOGGED = {"", "--", "-", "n/a", "nan", "none"}


def is_table(text: str) -> bool:
    """Tell whether a text has a table with phases for rows."""
    named = {cells[0] for line in text.splitlines() if (cells := _cells(line))}
    return len(named & set(GRID_PHASES)) >= 3


def read_table(text: str, file: Path) -> tuple[list[Startup], list[str]]:
    """Return one start-up per column, and what could not be read."""
    rows = [cells for line in text.splitlines() if (cells := _cells(line))]
    at = next(i for i, cells in enumerate(rows) if cells[0] in GRID_PHASES)
    if at == 0:
        return [], [f"{file.name}: the table has no row of names above {rows[0][0]}; skipped"]
    names = rows[at - 1][1:]
    remarks = []
    columns: list[dict[str, Phase]] = [{} for _ in names]
    for cells in rows[at:]:
        if cells[0] not in GRID_PHASES or len(cells) != len(names) + 1:
            remarks.append(f"{file.name}: row {cells[0]!r} skipped: no phase, or not as many cells as there are names")
            continue
        for phases, cell in zip(columns, cells[1:], strict=True):
            if (seconds := _seconds(cell)) is not None:
                phases[cells[0]] = Phase(cells[0], seconds, "logged", (), (("", seconds),))
            elif cell.lower() not in _NOT_LOGGED:
                remarks.append(f"{file.name}: {cells[0]}: {cell!r} is no number of seconds; left out")
    return [_startup(name, phases, file) for name, phases in zip(names, columns, strict=True) if phases], remarks


def _cells(line: str) -> list[str]:
    text = line.strip()
    if not text.startswith("|") or _RULE.match(text):
        return []
    return [cell.strip().strip("`") for cell in text.strip("|").split("|")]


def _seconds(cell: str) -> float | None:
    return float(cell) if re.fullmatch(r"\d+(?:\.\d+)?", cell) else None


def _startup(name: str, phases: dict[str, Phase], file: Path) -> Startup:
    parameters = {key: model_name(value) if key == "model" else value for key, value in sorted(from_name(name).items())}
    return Startup(
        name=name,
        file=str(file),
        engine="",
        version="",
        outcome="ended",
        problem="",
        start=0.0,
        resolution=0.01,
        phases=phases,
        gaps=(),
        parameters=parameters,
        facts={},
        warnings=(),
    )
