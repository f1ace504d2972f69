"""The answer: a status, a sentence, causes with their evidence, the ledger, and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rca.verdict.judge import Judgement
    from rca.verdict.ledger import Ledger
    from rca.verdict.observe import Observation

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

    ``confidence`` is the share of labelled captures in which such evidence was right, None where too few are known.
    ``latent`` says that the fault is measured but the cycle does not (yet) show it. ``follows`` names the cause that may
    have brought it about.
    """

    id: str
    rank: int
    confidence: float | None
    latent: bool
    device: str
    follows: str
    metrics: tuple[str, ...]
    evidence_for: tuple[str, ...]
    evidence_against: tuple[str, ...]
    missing: tuple[str, ...]
    looks_like: str
    next_check: str


@dataclass(frozen=True)
class Verdict:
    """What the comparison comes to.

    Attributes:
        status: of the cycle.
        headline: the sentence for a ticket's title.
        role: the rank whose cycle time the headline quotes; empty where nothing was cut into cycles.
        causes: of the machine, best first.
        work: how much of the change the work of the cycles explains, and how much remains; empty where that cannot be told.
        trust: how far the numbers can be trusted, in one line.
        drift: what undisturbed captures of such a machine may differ by, as a share of the cycle time.
        ledger: where the time went, of that rank; None where cycles are not alike.
        judgements: what the catalogue made of every cause.
        observations: every signal that both sides recorded.
        not_measured: decisive signs of the catalogue that one side or both lack.
    """

    status: Status
    headline: str
    role: str
    causes: tuple[Cause, ...]
    work: str
    trust: str
    drift: float
    ledger: Ledger | None
    judgements: tuple[Judgement, ...]
    observations: tuple[Observation, ...]
    not_measured: tuple[str, ...]
