"""The answer: a status, a sentence, causes with their evidence, and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["slower", "faster", "no_difference", "not_comparable", "insufficient_data"]

EXIT_CODE: dict[Status, int] = {
    "slower": 0,
    "faster": 0,
    "no_difference": 0,
    "not_comparable": 3,
    "insufficient_data": 4,
}
"""Exit code of each status; with ``--gate``, ``slower`` is 1."""


@dataclass(frozen=True)
class Cause:
    """One entry of the closed catalogue (DESIGN.md) and what speaks for it.

    ``confidence`` is None until it is calibrated on labelled captures. ``latent`` says that the fault is measured but the
    cycle does not (yet) show it.
    """

    id: str
    rank: int
    confidence: float | None
    latent: bool
    device: str
    metrics: tuple[str, ...]
    evidence_for: tuple[str, ...]
    evidence_against: tuple[str, ...]
    missing: tuple[str, ...]
    next_check: str


@dataclass(frozen=True)
class Verdict:
    """What the comparison comes to. ``role`` names the rank whose cycle time the headline quotes."""

    status: Status
    headline: str
    role: str
    causes: tuple[Cause, ...]
    trust: str
