"""What a sampler is: the contract between the recorder and everything that reads a counter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from rca.capture.metrics import HOST, METRICS

FIELDS = ("timestamp", "metric", "device", "value", "unit", "pid")
"""Columns of the samples on disk; what `rca.capture.readers.counters` reads."""

Note = Callable[[str, str], None]
"""Called with (kind, what happened): writes an event into the manifest. Kinds are those of `rca.capture.manifest.KINDS`."""

Pids = Callable[[], list[int]]
"""Returns the pids that are watched at this moment."""


class Sample(NamedTuple):
    """One value of one counter; ``ts_ns`` is ns since the Unix epoch, ``pid`` None for the whole host."""

    ts_ns: int
    metric: str
    device: str
    value: float
    unit: str
    pid: int | None = None


def sample(ts_ns: int, metric: str, value: float, device: str = HOST, pid: int | None = None) -> Sample:
    """Return a sample of a metric of `METRICS`, in its unit."""
    return Sample(ts_ns, metric, device, value, METRICS[metric].unit, pid)


class Sampler(Protocol):
    """Reads some counters. One thread calls it; what takes long delays nobody else.

    Attributes:
        name: of the file its samples go to.
        hz: how often it wants to be called.
    """

    name: str
    hz: float

    @property
    def unavailable(self) -> Mapping[str, str]:
        """Metrics that this machine lacks, with the reason. May grow while it runs."""
        ...

    def sample(self, now_ns: int) -> list[Sample]:
        """Return what there is to say at ``now_ns``. Rates need two calls: the first one may return less."""
        ...

    def close(self) -> None:
        """Give back files and handles. Called once, by another thread than `sample`, after the last call of it."""
        ...


class Rate:
    """Growth per second of cumulative counts. A count that falls was reset, or has wrapped: that step says nothing."""

    def __init__(self) -> None:
        self._last: dict[object, tuple[int, float]] = {}

    def __call__(self, key: object, now_ns: int, total: float, scale: float = 1.0) -> float | None:
        """Return ``scale`` times the growth per second since the last call with ``key``; None for the first one."""
        before = self._last.get(key)
        self._last[key] = (now_ns, total)
        if before is None or total < before[1] or now_ns <= before[0]:
            return None
        return (total - before[1]) * scale * 1e9 / (now_ns - before[0])


def rated(rate: Rate, now_ns: int, counts: Mapping[str, tuple[float, float]], device: str = HOST) -> list[Sample]:
    """Return the rates of several metrics of a device; ``counts`` has for each its total and a scale."""
    values = {metric: rate((metric, device), now_ns, total, scale) for metric, (total, scale) in counts.items()}
    return [sample(now_ns, metric, value, device) for metric, value in values.items() if value is not None]
