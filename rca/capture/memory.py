"""Memory that was freed but not given back."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return freed memory to the operating system, where the C library can (glibc).

    Columns grow by millions of small arrays; once they are joined, hundreds of MB lie free in the heap and would add to
    whatever comes next.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
