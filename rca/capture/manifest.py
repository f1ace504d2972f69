"""``capture.json``: what the collector wrote down about a capture, as far as reading needs it."""

from __future__ import annotations

import statistics
from pathlib import Path

import msgspec

NAME = "capture.json"


class Clocks(msgspec.Struct):
    """The clocks of one machine, read together (ns)."""

    realtime_ns: int
    boottime_ns: int


class Manifest(msgspec.Struct):
    """The part of the manifest that readers need. ``clocks``: one reading at each end of the capture, or more."""

    clocks: list[Clocks] = []


def boot_to_unix_ns(capture: Path) -> int | None:
    """Return what turns times since the machine's start into wall-clock time; None where the capture does not say.

    A manifest that cannot be read says nothing: the traces can be read without it.
    """
    file = (capture if capture.is_dir() else capture.parent) / NAME
    try:
        clocks = msgspec.json.decode(file.read_bytes(), type=Manifest).clocks
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return statistics.median_low(clock.realtime_ns - clock.boottime_ns for clock in clocks) if clocks else None
