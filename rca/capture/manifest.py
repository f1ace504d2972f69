"""``capture.json``: what the collector wrote down about a capture, as far as reading needs it."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated

import msgspec

NAME = "capture.json"

_MAX_BYTES = 16 << 20

Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=4 * 10**18)]
"""Up to the year 2096: sums with the times of events stay within int64."""


class Clocks(msgspec.Struct):
    """The clocks of one machine, read together."""

    realtime_ns: Nanoseconds
    boottime_ns: Nanoseconds


class Manifest(msgspec.Struct):
    """The part of the manifest that readers need. ``clocks``: one reading at each end of the capture, or more."""

    clocks: list[Clocks] = []


def boot_to_unix_ns(file: Path) -> int | None:
    """Return what turns times since the machine's start into wall-clock time; None where the manifest does not say.

    A manifest that cannot be read says nothing: the traces can be read without it.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES)
        clocks = msgspec.json.decode(content, type=Manifest).clocks
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return statistics.median_low(clock.realtime_ns - clock.boottime_ns for clock in clocks) if clocks else None
