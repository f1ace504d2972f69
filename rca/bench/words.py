"""How reports write the figures of model runs: a sign before those that were read from a text, and so are rounded."""

from __future__ import annotations

import math

from rca.bench.model import BenchRun
from rca.stats.robust import Shift
from rca.verdict import duration

ROUNDED = "≈"


def time(us: float, rounded: bool) -> str:
    """Write a time in µs, ms or s with four digits."""
    return (ROUNDED if rounded else "") + duration(us)


def change(us: float, rounded: bool) -> str:
    """Write a change with its sign."""
    return (ROUNDED if rounded else "") + ("+" if us >= 0 else "-") + duration(abs(us))


def side_time(us: float, run: BenchRun) -> str:
    """Write a time of one side."""
    return time(us, run.is_text)


def effect(ratio: Shift) -> str:
    """Write a ratio as a change, with its interval if it has one."""
    interval = "" if math.isnan(ratio.low) else f", 95 % CI {ratio.low - 1:+.1%} to {ratio.high - 1:+.1%}"
    return f"{ratio.estimate:.2f} x ({ratio.estimate - 1:+.1%}{interval})"


def plain(text: str) -> str:
    """Take the marks of names off a sentence that stands where none are known."""
    return text.replace("`", "")
