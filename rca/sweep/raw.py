"""Tables as they were read: every field a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

_NAMED = 5


@dataclass(frozen=True)
class Raw:
    """Fields as text (null: none), the number of each row in the file, what such a number counts, and what was skipped."""

    fields: pl.DataFrame
    numbers: Sequence[int]
    unit: str
    warnings: tuple[str, ...] = ()


def listed(unit: str, numbers: Sequence[int]) -> str:
    """Return ``line 3`` or ``lines 3, 7, 9, 12, 14 and 20 more``."""
    if len(numbers) == 1:
        return f"{unit} {numbers[0]}"
    named = ", ".join(map(str, numbers[:_NAMED]))
    return f"{unit}s {named}" + (f" and {len(numbers) - _NAMED:,} more" if len(numbers) > _NAMED else "")
