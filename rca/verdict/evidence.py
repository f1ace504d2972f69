"""What a verdict rests on beside the comparisons, and the scenes that causes are judged in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rca.capture import Capture, Finding
from rca.comparison import RankComparison
from rca.verdict.facts import facts_of
from rca.verdict.ledger import Ledger
from rca.verdict.model import Status
from rca.verdict.observe import Observations, observe
from rca.verdict.recorded import Recorded
from rca.verdict.scene import Fact, Scene
from rca.verdict.skew import lags

DRIFT = {False: 0.03, True: 0.15}
"""How far undisturbed captures of one machine lie apart, whether it is a virtual one or not: its clock, caches and cores are
shared with machines that nobody sees. Pairs of captures of a virtual machine with nothing changed differed by up to 14 % as
their clients saw it (benchmarks/lab); for machines of one's own 3 % is an assumption."""


@dataclass(frozen=True)
class Evidence:
    """Signals and facts of a comparison.

    Attributes:
        observations: one table of signals per rank; a single one where nothing was cut into cycles.
        facts: what the captures state.
        cores: of the host; 0 where that is not known.
        drift: what two captures differ by though nothing is the matter, as a share of the cycle time (`DRIFT`).
    """

    observations: tuple[Observations, ...]
    facts: tuple[Fact, ...]
    cores: int
    drift: float

    def scenes(self, ranks: Sequence[RankComparison], ledgers: Sequence[Ledger | None], status: Status) -> list[Scene]:
        """Return one scene per rank, or one for the hosts alone."""
        if not ranks:
            return [Scene(self.observations[0], self.facts, status=status, cores=self.cores)]
        return [
            Scene(own, self.facts, ledger, rank, status, cores=self.cores)
            for own, ledger, rank in zip(self.observations, ledgers, ranks, strict=True)
        ]


def gather(
    normal: Capture,
    abnormal: Capture,
    ranks: Sequence[RankComparison],
    settings: Sequence[Finding],
    cores: int,
) -> Evidence:
    """Read the signals of both sides as every rank sees them.

    Args:
        normal: a side, its events not needed.
        abnormal: the other.
        ranks: what was compared; may be empty.
        settings: what differs between the sides (`rca.capture.health.compare_settings`).
        cores: of the host; 0 where that is not known.
    """
    facts = facts_of(normal.findings, abnormal.findings, settings)
    drift = DRIFT[any(meta.get("virtual") for side in (normal, abnormal) for meta in side.meta)]
    if not ranks:
        hosts = observe(Recorded(normal, None, cores), Recorded(abnormal, None, cores), None)
        return Evidence((hosts,), facts, cores, drift)
    tables = [
        observe(Recorded(normal, rank.profiles[0], cores), Recorded(abnormal, rank.profiles[1], cores), rank)
        for rank in ranks
    ]
    return Evidence(tuple({**table, **lag} for table, lag in zip(tables, lags(ranks), strict=True)), facts, cores, drift)
