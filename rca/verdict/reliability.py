"""How often such evidence was right, counted on labelled captures; no number where too few are known.

``reliability.json`` holds, for each cause and grade of evidence, in how many labelled captures it was named first and how
often rightly; undisturbed pairs count as wrong. It is made by ``python -m benchmarks.verdict --calibrate``.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from rca.verdict.judge import Judgement

FILE = "reliability.json"
MIN_CASES = 8
"""Of fewer labelled captures a share says little: then all grades of a cause are taken together, or no number is given."""

STRONG = 4.0
"""Times the smallest change that matters, from which on evidence is graded as strong."""


def grade(one: Judgement) -> str:
    """Return the grade of a judgement's evidence: ``strong`` or ``weak``."""
    return "strong" if one.strength >= STRONG else "weak"


def confidence(one: Judgement) -> float | None:
    """Return the share of labelled captures in which a cause named first on such evidence was the true one.

    The share is shrunk towards one half by one case each way (Laplace's rule of succession); 1.0 is never given. A cause
    that follows from another one was not named first: of those nothing was counted.
    """
    by_grade: dict[str, list[int]] = table()["causes"].get(one.id, {})
    if one.follows or not by_grade:
        return None
    right, named = by_grade.get(grade(one), (0, 0))
    if named < MIN_CASES:
        right, named = (sum(column) for column in zip(*by_grade.values(), strict=True))
    return round((right + 1) / (named + 2), 2) if named >= MIN_CASES else None


def source() -> str:
    """Say in words what confidence was counted on."""
    return str(table()["source"])


@cache
def table() -> dict[str, Any]:
    """Return the counts."""
    found: dict[str, Any] = json.loads(resources.files("rca.verdict").joinpath(FILE).read_text("utf-8"))
    return found
