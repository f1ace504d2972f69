"""What a verdict on two model runs is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rca.bench.latency import LatencyComparison
from rca.bench.ledger import OperatorLedger
from rca.bench.model import BenchRun


@dataclass(frozen=True)
class Work:
    """Whether both profiled runs did the same, and how that is known."""

    status: Literal["same", "other", "unknown"]
    text: str


@dataclass(frozen=True)
class Difference:
    """Something that the environments of both sides state, and not alike."""

    kind: Literal["hardware", "software", "settings"]
    name: str
    normal: str
    abnormal: str

    @property
    def text(self) -> str:
        """The difference in words."""
        return f"{self.name}: {self.normal} → {self.abnormal}"


@dataclass(frozen=True)
class Matter:
    """Both sides and what was computed of them; ``is_same`` where they are one run."""

    normal: BenchRun
    abnormal: BenchRun
    latency: LatencyComparison
    device: OperatorLedger | None
    host: OperatorLedger | None
    work: Work
    differences: tuple[Difference, ...]
    is_same: bool

    @property
    def rounded(self) -> bool:
        """Whether a side was read from a text."""
        return self.normal.is_text or self.abnormal.is_text

    @property
    def main(self) -> OperatorLedger | None:
        """The ledger that tells more of the change: of the device, unless most of the change is the host's alone."""
        if self.device is None or self.host is None:
            return self.device or self.host
        return self.host if abs(self.host.change_us) > 2 * abs(self.device.change_us) else self.device
