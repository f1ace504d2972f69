"""Numbers as findings print them."""

from __future__ import annotations

_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"), (1, "ns"))
_LONG = ((86_400, "days"), (3_600, "h"), (60, "min"))


def time_text(ns: int) -> str:
    """Return a time span with its unit, to three digits: ``12 ms``, ``3.4 s``, ``2.5 h``."""
    seconds = abs(ns) / 1e9
    for size, unit in _LONG:
        if seconds >= 2 * size:
            return f"{_three_digits(ns / 1e9 / size)} {unit}"
    size, unit = next(((size, unit) for size, unit in _UNITS if abs(ns) >= size), _UNITS[-1])
    return f"{_three_digits(ns / size)} {unit}"


def share_of(part: int, whole: int) -> str:
    """Return ``3 of 1,200 (0.25 %)``."""
    return f"{part:,} of {whole:,} ({_three_digits(100 * part / whole)} %)"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
