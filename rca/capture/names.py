"""Names of functions, apart from what changes when the same function is compiled, tuned or generated anew."""

from __future__ import annotations

import re
from functools import lru_cache

_ARGUMENTS = re.compile(r"<[^<>]*>|\([^()]*\)")
_CHANGING = re.compile(r"0x[0-9a-f]+|(?<![a-z0-9])(?=[a-z]*\d)[0-9a-z]{12,}(?![a-z0-9])|\d+", re.IGNORECASE)
"""Addresses, hashes, and numbers: tile sizes, architectures, counters of generated code."""
_MAX_NESTING = 50


@lru_cache(maxsize=1 << 16)
def family(name: str) -> str:
    """Return what stays of a function's name: no template and parameter lists, no numbers, no hashes."""
    text = name.removeprefix("void ")
    for _ in range(_MAX_NESTING):
        shorter = _ARGUMENTS.sub("", text)
        if shorter == text:
            break
        text = shorter
    return _CHANGING.sub("#", text).strip()
