"""What `rca.inspection.describe` returns: plain facts, of which JSON and tables are two renderings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rca.capture import Finding


@dataclass(frozen=True)
class File:
    """A file that was read. ``events`` and ``facts`` of a recording of several files stand with its first one."""

    path: str
    format: str
    size_bytes: int
    sha256: str
    events: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class Events:
    """How many spans there are, in all and of each kind that occurs, in the order of `rca.capture.tables.KINDS`."""

    total: int
    by_kind: dict[str, int]


@dataclass(frozen=True)
class Time:
    """When the capture was made.

    Attributes:
        of: what the times are of: events, else counters, else cycles; None without any of them.
        start: of the first one, UTC, as ISO 8601; None where the recorder states no wall-clock time.
        end: of the last one.
        span_s: from the first to the last.
        recorded_s: the part of it in which at least one file was being recorded.
    """

    of: str | None
    start: str | None
    end: str | None
    span_s: float | None
    recorded_s: float | None


@dataclass(frozen=True)
class Process:
    """A process of the job: one that runs cycles, states a rank or starts GPU work; without any such, every process.

    Attributes:
        role: pairs it with its counterpart on the other side of a comparison.
        rank: None where its trace states none.
        files: paths of the traces that hold it.
        world_size: ranks of the job, where a trace states it.
        cycles: how many were cut.
        complete: how many of them take part in statistics.
        coverage: share of the process's recording that lies in complete cycles.
        phases: number of cycles by phase.
        median_us: of all complete cycles.
        phase_median_us: of the complete cycles of each phase.
    """

    role: str
    rank: int | None
    pid: int
    files: tuple[str, ...]
    world_size: int | None
    cycles: int
    complete: int
    coverage: float | None
    phases: dict[str, int]
    median_us: float | None
    phase_median_us: dict[str, float | None]


@dataclass(frozen=True)
class Device:
    """A device that events, counters or cycles are of.

    Attributes:
        busy_share: time in which at least one kernel, copy or memset ran, by the time in which the device was recorded.
            None for the host, whose spans contain waiting.
        streams: streams of all processes with GPU work; None for the host.
        counters: number of series.
    """

    name: str
    events: int
    busy_share: float | None
    streams: int | None
    counters: int


@dataclass(frozen=True)
class Counter:
    """A series of samples. ``pid`` is None for what is not of one process.

    ``period_ms`` is the median time between samples, None where they come in bursts; ``holes`` counts the times in which
    more than five periods passed without a sample, None where sampling follows no period (on change, in bursts, or too few
    samples to tell).
    """

    metric: str
    device: str
    pid: int | None
    unit: str
    samples: int
    period_ms: float | None
    min: float | None
    mean: float | None
    max: float | None
    holes: int | None


@dataclass(frozen=True)
class Cycles:
    """The cycles of the process that has most of them; fields as in `Process`, and ``reason`` says why there are none."""

    count: int
    complete: int
    rank: str | None
    anchor: str | None
    kind: str | None
    coverage: float | None
    phases: dict[str, int]
    median_us: float | None
    phase_median_us: dict[str, float | None]
    reason: str | None


@dataclass(frozen=True)
class AnchorFound:
    """Something that could mark cycles: how many it gives, the share of the recording from its first to its last span."""

    name: str
    kind: str
    cycles: int
    coverage: float | None
    median_us: float | None


@dataclass(frozen=True)
class Inspection:
    """What a capture holds. ``anchors`` come best first; ``findings`` most severe first."""

    schema: str
    path: str
    files: tuple[File, ...]
    events: Events
    time: Time
    ranks: tuple[Process, ...]
    devices: tuple[Device, ...]
    counters: tuple[Counter, ...]
    cycles: Cycles
    anchors: tuple[AnchorFound, ...]
    findings: tuple[Finding, ...]
