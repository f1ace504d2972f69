"""``capture.json``: what the collector wrote down about a capture (schema ``rca.capture/1``, docs/capture.md).

Reading is lenient: every field may be missing, and fields of later versions are ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

NAME = "capture.json"
SCHEMA = "rca.capture/1"

_MAX_BYTES = 16 << 20

Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=4 * 10**18)]
"""Up to the year 2096: sums with the times of events stay within int64."""

KINDS = {
    "process_started": "a watched process started another one",
    "process_ended": "a watched process ended",
    "server_silent": "the server did not answer",
    "profiler": "the server's profiler could not be started or stopped, or left no trace",
    "trace_missing": "a trace that was expected did not arrive",
    "disk_full": "samples could not be written for a time",
    "clock_step": "the wall clock was set",
    "gpu_lost": "a GPU does not answer any more",
    "gpu_error": "the driver reported an error of a GPU",
    "sampler_failed": "a sampler ended early",
    "interrupted": "the collector was told to end early",
    "command_ended": "the recorded program ended",
}
"""Kinds of events in a manifest."""


class Clocks(msgspec.Struct):
    """The clocks of one machine, read together."""

    realtime_ns: Nanoseconds
    boottime_ns: Nanoseconds
    monotonic_ns: Nanoseconds | None = None


class Event(msgspec.Struct):
    """Something that happened while the collector recorded; ``kind`` is one of `KINDS`."""

    at_ns: Nanoseconds
    kind: str
    text: str


class Gap(msgspec.Struct):
    """A time in which a sampler did not come to its turn, from ``at_ns`` on."""

    at_ns: Nanoseconds
    seconds: float


class SamplerFacts(msgspec.Struct):
    """How well one sampler did. ``lost``: samples that could not be written; ``cpu_seconds``: what it took."""

    name: str
    hz_wanted: float
    hz_achieved: float = 0.0
    ticks: int = 0
    samples: int = 0
    lost: int = 0
    cpu_seconds: float = 0.0
    gaps: list[Gap] = []


class Host(msgspec.Struct):
    """The machine. ``cpu_max_mhz`` is None where the kernel does not state it."""

    name: str = ""
    kernel: str = ""
    cpu: str = ""
    cores: int | None = None
    cpu_max_mhz: float | None = None
    memory_bytes: int | None = None
    virtual: bool | None = None


class Gpu(msgspec.Struct):
    """One GPU; ``index`` is that of the vendor's library, as in the device names ``GPU <index>``."""

    index: int
    name: str = ""
    uuid: str = ""
    pci: str = ""
    memory_bytes: int | None = None
    max_sm_mhz: float | None = None
    max_mem_mhz: float | None = None
    power_limit_w: float | None = None
    driver: str = ""


class Engine(msgspec.Struct):
    """The serving engine. ``settings``: those that it states or was started with, secrets redacted."""

    name: str
    version: str = ""
    url: str = ""
    settings: dict[str, Any] = {}


class ProcessFacts(msgspec.Struct):
    """A watched process. ``inner_pid``: its pid in its own namespace, as its trace states it; ``gpus``: indices in use."""

    pid: int
    parent: int | None = None
    inner_pid: int | None = None
    name: str = ""
    command: list[str] = []
    started_ns: Nanoseconds | None = None
    ended_ns: Nanoseconds | None = None
    allowed_cores: int | None = None
    gpus: list[int] = []


class TraceFacts(msgspec.Struct):
    """A trace that was recorded.

    ``window``: when its own clock says it begins and ends, ns since 1970; ``offset``: least and most by which that clock can
    be ahead of the capture's, from when the profiler was asked to start and to stop.
    """

    path: str
    size_bytes: int = 0
    window: tuple[int, int] | None = None
    offset: tuple[int, int] | None = None


class Throughput(msgspec.Struct):
    """What the server did in a part of the capture: steps and tokens per second."""

    seconds: float
    steps_per_s: float | None = None
    tokens_per_s: float | None = None


class ProfilerFacts(msgspec.Struct):
    """How the server was profiled, and what that cost it.

    ``begins_at_once``: the profiler ran when the server answered, at ``started_ns``. ``throughput``: before, while it was
    profiled, while it wrote the trace, and after. ``overhead_pct``: how many fewer steps per second it did while it was
    profiled; ``stall_seconds``: worth of steps that it did not do while it wrote.
    """

    settings: dict[str, Any] = {}
    asked_ns: Nanoseconds | None = None
    started_ns: Nanoseconds | None = None
    begins_at_once: bool = False
    stopped_ns: Nanoseconds | None = None
    written_ns: Nanoseconds | None = None
    throughput: dict[str, Throughput] = {}
    overhead_pct: float | None = None
    stall_seconds: float | None = None


class Manifest(msgspec.Struct):
    """All of it. ``clocks``: one reading at each end; ``status``: recording, complete or interrupted."""

    schema: str = ""
    tool: str = ""
    status: str = ""
    clocks: list[Clocks] = []
    host: Host | None = None
    gpus: list[Gpu] = []
    engine: Engine | None = None
    processes: list[ProcessFacts] = []
    command: list[str] = []
    samplers: list[SamplerFacts] = []
    unavailable: dict[str, str] = {}
    profiler: ProfilerFacts | None = None
    traces: list[TraceFacts] = []
    events: list[Event] = []
    collector: dict[str, Any] = {}


class _OnlyClocks(msgspec.Struct):
    clocks: list[Clocks] = []


Kind = TypeVar("Kind")


def read(file: Path) -> Manifest | None:
    """Return a manifest; None where it cannot be read, or is of another schema."""
    manifest = _decoded(file, Manifest)
    return manifest if manifest and manifest.schema == SCHEMA else None


def boot_to_unix_ns(file: Path) -> int | None:
    """Return what turns times since the machine's start into wall-clock time; None where the manifest does not say.

    The clocks at the start count: a wall clock that was set later does not move the samples (see `collectors.clocks`). A
    manifest that cannot be read says nothing: the traces can be read without it.
    """
    found = _decoded(file, _OnlyClocks)
    return found.clocks[0].realtime_ns - found.clocks[0].boottime_ns if found and found.clocks else None


def _decoded(file: Path, kind: type[Kind]) -> Kind | None:
    try:
        with file.open("rb") as stream:
            return msgspec.json.decode(stream.read(_MAX_BYTES), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
