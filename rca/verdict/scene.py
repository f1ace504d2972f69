"""What the catalogue's rules may ask: signals as seen from the side that is worse, facts, the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from rca.capture.tables import HOST
from rca.comparison import RankComparison
from rca.verdict.ledger import Ledger
from rca.verdict.model import Status
from rca.verdict.observe import Observation, Observations
from rca.verdict.signals import BY_ID as SIGNAL

_INSTEAD = {"all_cpu": "others_cpu", "others_cpu": "all_cpu", "context_length": "prompt_length"}
"""Signals that another one stands for where that was measured."""

LOAD = ("batch", "tokens", "prefills", "running", "prompt_length", "answer_length", "context_length")
"""Signals of what the server was asked to do."""
_WORK = ("changed_calls", *LOAD)
"""Signals of what the server did."""


@dataclass(frozen=True)
class Fact:
    """Something that is known for sure: a version, a device, a setting, a finding. ``kind`` is a word of the catalogue."""

    kind: str
    text: str


@dataclass(frozen=True)
class Scene:
    """Everything about one rank (or about hosts alone) that a cause is judged by.

    Attributes:
        observations: signals that both sides recorded.
        facts: what the captures state.
        ledger: of the rank, None where cycles are not alike.
        rank: None where nothing was cut into cycles.
        status: of the comparison.
        worse: +1 where the abnormal side is taken to be the worse one, −1 where the normal side is.
        device: the GPU that is judged; the host's signals are known on every one.
        cores: of the host; 0 where that is not known.
    """

    observations: Observations
    facts: tuple[Fact, ...] = ()
    ledger: Ledger | None = None
    rank: RankComparison | None = None
    status: Status = "insufficient_data"
    worse: int = 1
    device: str = HOST
    cores: int = 0

    def seen(self, signal: str) -> Observation | None:
        """Return a signal of this device or of the host."""
        return self.observations.get((signal, self.device)) or self.observations.get((signal, HOST))

    def moved(self, signal: str) -> int:
        """Return +1 where a signal is higher on the worse side, −1 where it is lower, 0 where it is not known to differ."""
        found = self.seen(signal)
        return found.moved * self.worse if found else 0

    def up(self, *signals: str) -> bool:
        """Whether any of some signals is higher on the worse side."""
        return any(self.moved(signal) > 0 for signal in signals)

    def down(self, *signals: str) -> bool:
        """Whether any of some signals is lower on the worse side."""
        return any(self.moved(signal) < 0 for signal in signals)

    def stayed(self, signal: str) -> bool:
        """Whether a change of a signal that would matter can be excluded."""
        found = self.seen(signal)
        return found is not None and not found.moved and found.stayed

    def on_worse(self, signal: str, unknown: float) -> float:
        """Return the median of a signal on the worse side."""
        found = self.seen(signal)
        if found is None:
            return unknown
        return found.abnormal if self.worse > 0 else found.normal

    def on_better(self, signal: str, unknown: float) -> float:
        """Return the median of a signal on the other side."""
        found = self.seen(signal)
        if found is None:
            return unknown
        return found.normal if self.worse > 0 else found.abnormal

    def grew(self, signal: str) -> float:
        """Return by how much a signal is higher on the worse side; 0 where it is not known."""
        found = self.seen(signal)
        return found.shift * self.worse if found else 0.0

    def states(self, *kinds: str) -> bool:
        """Whether there is a fact of some kind."""
        return any(fact.kind in kinds for fact in self.facts)

    def lacks(self, signal: str) -> bool:
        """Whether a signal should have been measured and was not: not one that another stands for, nor of another engine."""
        if self.seen(signal) or self.seen(_INSTEAD.get(signal, "")):
            return False
        engines = {metric.split(":")[0] for one in self.observations.values() for metric in one.metrics if ":" in metric}
        own = {metric.split(":")[0] for metric in SIGNAL[signal].metrics if ":" in metric} if signal in SIGNAL else set()
        return not own or not engines or bool(own & engines)

    @property
    def work_known(self) -> bool:
        """Whether anything tells what the server did."""
        return any(self.seen(signal) for signal in _WORK)

    @property
    def other_work(self) -> bool:
        """Whether the server did other work, or more of it."""
        return any(self.moved(signal) for signal in _WORK)

    @property
    def same_work(self) -> bool:
        """Whether it is known that the server did the same work: what nobody measured is not known to be the same."""
        return self.work_known and not self.other_work

    @property
    def unlike(self) -> bool:
        """Whether the cycles could not be set against each other."""
        return self.status == "not_comparable"

    @property
    def shows(self) -> bool:
        """Whether the cycle differs in the direction that is judged."""
        return self.status == ("slower" if self.worse > 0 else "faster")
