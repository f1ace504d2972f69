"""How much of everything a page carries, so that one of a large capture still opens: of what takes most, less."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

MAX_BYTES = 1_500_000
"""Of what the page's scripts draw; with its text, drawings, scripts and styles it is twice that at most."""

_LEAST = {"events": 50, "samples": 20, "cycles": 200, "functions": 100, "name": 160, "paths": 50}
_SAID = {
    "events": "the {:,} longest events of each cycle that is drawn",
    "samples": "{:,} samples of each counter and side, the smallest and the largest of each stretch",
    "counters": "the {:,} counters of each rank that differ most clearly",
    "cycles": "the first {:,} cycles of each side",
    "functions": "the first {:,} functions of each rank, in the report's order",
    "name": "{:,} characters of each name, its ends",
    "paths": "{:,} call paths of each rank, the outer ones",
}


@dataclass(frozen=True)
class Limits:
    """The most of each that a page carries.

    Attributes:
        events: of one timeline.
        samples: of a counter on one side: more are thinned to the smallest and the largest of each stretch.
        counters: of one rank.
        cycles: of one side of a rank, the first ones.
        functions: of one rank, in the report's order.
        name: characters; of a longer name the middle is left out.
        paths: of one rank's call tree, callers first.
    """

    events: int = 4_000
    samples: int = 1_000
    counters: int = 100
    cycles: int = 20_000
    functions: int = 50_000
    name: int = 2_000
    paths: int = 3_000

    def smaller(self, data: Mapping[str, Any]) -> Limits | None:
        """Return limits that bring ``data`` below `MAX_BYTES`, or nearer; None where it is, or where there is no less."""
        sizes, lengths = _sizes(data), _lengths(data)
        found = asdict(self)

        def size(key: str) -> float:
            own = lengths[key]
            return sizes[key] * float(sum(min(length, found[key]) for length in own)) / max(sum(own), 1)

        enough = MAX_BYTES if sum(sizes.values()) <= MAX_BYTES else 0.9 * MAX_BYTES
        while sum(map(size, sizes)) > enough:
            can = [key for key in sizes if found[key] > _LEAST[key] and max(lengths[key], default=0) > _LEAST[key]]
            if not can:
                break
            key = max(can, key=size)
            found[key] = max(int(0.8 * min(found[key], max(lengths[key]))), _LEAST[key])
        return None if found == asdict(self) else replace(self, **found)

    def cut(self, name: str) -> str:
        """Return a name that is not too long: its two ends, for kernels differ at both."""
        tail = self.name * 2 // 5
        return name if len(name) <= self.name else f"{name[: self.name - tail - 1]}…{name[-tail:]}"

    def said(self, had: Mapping[str, int]) -> str:
        """Return what a page holds less than all of, as a sentence; empty where it holds everything.

        Args:
            had: the most of each that there was.
        """
        less = [text.format(getattr(self, key)) for key, text in _SAID.items() if had[key] > getattr(self, key)]
        return (
            f"To stay small enough to open, this page holds: {'; '.join(less)}. The other reports have all." if less else ""
        )


def _size(value: object) -> float:
    return float(len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")))


def _sizes(data: Mapping[str, Any]) -> dict[str, float]:
    """Return the bytes that each limit governs."""
    ranks = data["ranks"]
    return {
        "events": sum(_size(own["events"]) for rank in ranks for own in rank["timelines"]),
        "samples": sum(_size(part["counters"]) for rank in ranks for part in (rank, *rank["timelines"])),
        "cycles": sum(_size(rank["cycles"]) for rank in ranks),
        "functions": sum(_size(rank["functions"]) for rank in ranks),
        "name": _size(data["names"]) + _size(data["short"]),
        "paths": sum(_size(rank["stacks"]) for rank in ranks),
    }


def _lengths(data: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return how long everything is that a limit governs."""
    ranks = data["ranks"]
    timelines = [own for rank in ranks for own in rank["timelines"]]
    series = [own[side]["t"] for rank in ranks for own in rank["counters"] for side in ("normal", "abnormal")]
    series += [counter["t"] for own in timelines for counter in own["counters"]]
    return {
        "events": [len(own["events"]["dur"]) for own in timelines],
        "samples": [len(own) for own in series],
        "cycles": [len(rank["cycles"][side]["t"]) for rank in ranks for side in ("normal", "abnormal")],
        "functions": [len(rank["functions"]["name"]) for rank in ranks],
        "name": [len(name) for name in data["names"]],
        "paths": [len(rank["stacks"]["name"]) for rank in ranks if rank["stacks"]],
    }
