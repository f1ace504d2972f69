"""The collector's manifest, ``capture.json``: what was recorded of what, and what happened meanwhile (docs/capture.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rca.capture import manifest as manifests
from rca.capture.findings import Finding, Severity
from rca.capture.manifest import Event, Manifest
from rca.capture.model import Reading
from rca.capture.source import Probe, Source, alone

NAME = "capture-json"
group = alone

_HEAD = re.compile(rb'^\s*\{\s*"schema"\s*:\s*"rca\.capture/\d+"')
_HARMLESS = ("process_started", "interrupted", "command_ended")
_DAMAGING = ("trace_missing", "profiler")
_CODE_OF = {"clock_step": "clock_jump", "trace_missing": "lost_events"}


def matches(probe: Probe) -> bool:
    """Tell by name and schema: the collector writes the schema first."""
    return probe.path.name == manifests.NAME and _HEAD.match(probe.head) is not None


def read(source: Source) -> Reading:
    """Read the manifest into facts and findings; one that is damaged is said, and left out."""
    source.advance_whole(source.path)
    manifest = manifests.read(source.path)
    if manifest is None:
        text = "is no valid manifest of this version: what it says of engine, clocks and losses is not known"
        return Reading(findings=(Finding("skipped", text, Severity.DAMAGE),))
    return Reading(meta=_facts(manifest), findings=tuple(_findings(manifest)))


def _facts(manifest: Manifest) -> dict[str, Any]:
    """Return what comparisons and reports need: versions, the machine, the engine and its settings, what is missing."""
    facts: dict[str, Any] = {"recorded_by": manifest.tool}
    if host := manifest.host:
        facts |= {"host_name": host.name, "linux_version": host.kernel, "cpu": host.cpu, "cores": host.cores}
        facts |= {"virtual": host.virtual}
    if manifest.gpus:
        facts |= {"gpus": [gpu.name for gpu in manifest.gpus], "driver_version": manifest.gpus[0].driver}
    if engine := manifest.engine:
        facts |= {"engine": engine.name, "engine_settings": engine.settings}
        facts |= {f"{engine.name}_version": engine.version} if engine.version else {}
    facts |= _what_was_watched(manifest)
    if manifest.command:
        facts["command"] = manifest.command
    if manifest.unavailable:
        facts["unavailable"] = manifest.unavailable
    return {key: value for key, value in facts.items() if value not in (None, "")}


def _what_was_watched(manifest: Manifest) -> dict[str, Any]:
    """Return the watched processes, the GPUs of each by the pid in its trace, when it was profiled and when it wrote."""
    facts: dict[str, Any] = {}
    if manifest.processes:
        facts["watched_pids"] = sorted({pid for p in manifest.processes for pid in (p.pid, p.inner_pid) if pid is not None})
    if any(process.gpus for process in manifest.processes):
        facts["gpus_of"] = {str(p.inner_pid or p.pid): p.gpus for p in manifest.processes if p.gpus}
    if (profiler := manifest.profiler) and profiler.stopped_ns:
        if profiler.started_ns:
            facts["profiled_ns"] = [[profiler.started_ns, profiler.stopped_ns]]
        if profiler.written_ns:
            facts["writing_ns"] = [[profiler.stopped_ns, profiler.written_ns]]
    return facts


def _findings(manifest: Manifest) -> Iterator[Finding]:
    if manifest.status == "recording":
        yield Finding("unfinished", "the collector was killed: what happened in the last second before that is missing")
    by_kind: dict[str, list[Event]] = {}
    for event in manifest.events:
        by_kind.setdefault(event.kind, []).append(event)
    for kind, events in by_kind.items():
        more = f" (and {len(events) - 1:,} more)" if len(events) > 1 else ""
        severity = Severity.DAMAGE if kind in _DAMAGING else Severity.INFO if kind in _HARMLESS else Severity.WARNING
        yield Finding(_CODE_OF.get(kind, "while_recording"), f"{kind}: {events[0].text}{more}", severity)
    if lost := sum(sampler.lost for sampler in manifest.samplers):
        yield Finding("lost_events", f"{lost:,} samples could not be written", Severity.DAMAGE)
    if manifest.unavailable:
        names = ", ".join(sorted(manifest.unavailable))
        yield Finding("not_measured", f"not available on that machine: {names}", Severity.INFO)
    if (profiler := manifest.profiler) and profiler.overhead_pct is not None:
        stalled = f"; writing the trace cost {profiler.stall_seconds:.1f} s of its work" if profiler.stall_seconds else ""
        text = f"while it was profiled the server did {profiler.overhead_pct:.1f} % fewer steps per second{stalled}"
        yield Finding("profiler_overhead", text, Severity.INFO)
