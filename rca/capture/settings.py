"""Settings of recorders: those that differ between the files of a capture, and between the two sides."""

from __future__ import annotations

import re
from typing import Any

from rca.capture.findings import Finding, Severity
from rca.capture.model import Capture

_TORCH = {
    "with_stack": "recording Python stacks slows host code by much: compare GPU times, not host times",
    "with_modules": "recording modules slows host code: compare GPU times, not host times",
    "profile_memory": "recording every allocation slows host code a little",
    "record_shapes": "recording shapes slows operators a little",
    "with_flops": "counting operations slows operators a little",
}
"""torch.profiler's switches, absent from the file when off (FORMATS.md §1.2), and what one of them does (§8, 19)."""

_RECORDER = ("cupti", "roctracer", "rocprof", "nsys", "export", "schema", "profiler", "tool", "product")
"""Words in the names of versions that are the recorder's, not the program's."""


def settings_within(capture: Capture) -> list[Finding]:
    """Name profiler switches that are on in some ranks' files only: those ranks are slowed, the others wait for them."""
    files = _torch_files(capture)
    found = []
    for key, effect in _TORCH.items():
        on = [path for path, facts in files if facts.get(key)]
        if 0 < len(on) < len(files):
            text = f"{key} was on in {len(on):,} of {len(files):,} traces ({_listed(on)}): {effect}"
            found.append(Finding("settings_differ", text))
    return found


def compare_settings(normal: Capture, abnormal: Capture) -> tuple[Finding, ...]:
    """Return the settings, versions and devices that differ between the sides, and what that does to the comparison."""
    sides = (normal, abnormal)
    named = (*_switches(sides), *_formats(sides), *_graphs(sides), *_devices(sides), *_versions(sides))
    return (*named, *_machines(sides), *_engine_settings(sides))


_Sides = tuple[Capture, Capture]


def _switches(sides: _Sides) -> list[Finding]:
    files = [_torch_files(side) for side in sides]
    if not all(files):
        return []
    found = []
    for key, effect in _TORCH.items():
        normal, abnormal = ({bool(facts.get(key)) for _, facts in own} for own in files)
        if normal != abnormal:
            severity = Severity.WARNING if key in ("with_stack", "with_modules") else Severity.INFO
            text = f"{key} was {_on(normal)} in the normal capture and {_on(abnormal)} in the abnormal one: {effect}"
            found.append(Finding("settings_differ", text, severity))
    return found


def _on(values: set[bool]) -> str:
    return "on in some traces" if len(values) > 1 else "on" if True in values else "off"


def _formats(sides: _Sides) -> list[Finding]:
    """Other recorders see other calls, and slow the program in other ways (FORMATS.md §8, 19)."""
    normal, abnormal = (
        {side.files[int(index)].format for index in side.events["file"].unique()} if side.events.height else set()
        for side in sides
    )
    effect = "recorders slow a program in different ways and leave out different calls: compare GPU times, not host times"
    return _differs("the recording format", normal, abnormal, effect, Severity.WARNING)


def _graphs(sides: _Sides) -> list[Finding]:
    """Graph-level traces hide kernels and node-level ones slow the run (FORMATS.md §8, 10)."""
    modes = [{str(facts["cuda_graph_trace"]) for facts in side.meta if facts.get("cuda_graph_trace")} for side in sides]
    effect = "tracing every node of a graph slows it"
    return [*_differs("cuda_graph_trace", modes[0], modes[1], effect, Severity.WARNING), *_graphs_hidden(sides)]


def _graphs_hidden(sides: _Sides) -> list[Finding]:
    normal, abnormal = (any(finding.code == "graph_level" for finding in side.findings) for side in sides)
    if normal == abnormal:
        return []
    which = "normal" if normal else "abnormal"
    text = f"CUDA graphs were traced as a whole in the {which} capture only: kernels cannot be compared one by one"
    return [Finding("settings_differ", text)]


def _devices(sides: _Sides) -> list[Finding]:
    for key in ("gpu_names", "gpus"):  # of the trace, of the collector's manifest
        normal, abnormal = (
            {str(name) for facts in side.meta if isinstance(facts.get(key), list) for name in facts[key]} for side in sides
        )
        effect = "kernel times are of different hardware"
        if found := _differs("the GPU", normal, abnormal, effect, Severity.WARNING, "hardware_differs"):
            return found
    return []


def _versions(sides: _Sides) -> list[Finding]:
    keys = sorted({key for side in sides for facts in side.meta for key in facts if key.endswith("_version")})
    found = []
    for key in keys:
        if "job" in key:  # of the batch system, not of what ran
            continue
        normal, abnormal = (
            {str(facts[key]) for facts in side.meta if isinstance(facts.get(key), (str, int, float))} for side in sides
        )
        recorder = any(word in key for word in _RECORDER)
        effect = (
            "the recorder's own cost may differ"
            if recorder
            else "other software may bring other kernels, launches and waits"
        )
        if recorder:
            found += _differs(key, normal, abnormal, effect, Severity.INFO)
        else:
            found += _differs(key, normal, abnormal, effect, Severity.WARNING, "software_differs")
    return found


def _machines(sides: _Sides) -> list[Finding]:
    """Compare the hosts that the collector's manifests name."""
    found = []
    for key, what in (("cpu", "the host's CPU"), ("cores", "the host's number of cores")):
        normal, abnormal = ({str(facts[key]) for facts in side.meta if key in facts} for side in sides)
        effect = "host times are of different hardware"
        found += _differs(what, normal, abnormal, effect, Severity.WARNING, "hardware_differs")
    return found


_OF_NO_MATTER = re.compile(r"(^|_)(port|host|url|seed|dir|path|name|addr|pid|instance_id)s?$|^profiler_config$|^log_")
"""Settings that differ from start to start, or say where things are: they make nothing faster or slower."""

_MAX_SETTINGS = 6


def _engine_settings(sides: _Sides) -> list[Finding]:
    """Compare the engines' settings that the collector's manifests hold: another batch limit is another experiment."""
    normal, abnormal = (
        {key: value for facts in side.meta for key, value in (facts.get("engine_settings") or {}).items()} for side in sides
    )
    if not normal or not abnormal:
        return []
    keys = sorted(key for key in normal.keys() | abnormal.keys() if not _OF_NO_MATTER.search(key))
    differing = [key for key in keys if normal.get(key) != abnormal.get(key)]
    shown = [f"{key} {normal.get(key, 'not set')} → {abnormal.get(key, 'not set')}" for key in differing[:_MAX_SETTINGS]]
    if not shown:
        return []
    more = f", … ({len(differing):,} in all)" if len(differing) > _MAX_SETTINGS else ""
    text = f"the engine was started with other settings: {', '.join(shown)}{more}"
    return [Finding("engine_settings_differ", text, Severity.INFO)]


def _differs(
    what: str, normal: set[str], abnormal: set[str], effect: str, severity: Severity, code: str = "settings_differ"
) -> list[Finding]:
    """Report two sets that differ; a side that does not state the fact says nothing."""
    if not normal or not abnormal or normal == abnormal:
        return []
    left, right = _listed(sorted(normal)), _listed(sorted(abnormal))
    text = f"{what} is {left} in the normal capture and {right} in the abnormal one: {effect}"
    return [Finding(code, text, severity)]


def _torch_files(capture: Capture) -> list[tuple[str, dict[str, Any]]]:
    """Return path and facts of torch.profiler's traces: of those with a rank, where there are any.

    Serving front ends record a trace of their own, with switches of its own and without a rank (FORMATS.md §3.1).
    """
    pairs = list(zip((file.path for file in capture.files), capture.meta, strict=True))
    ranked = [(path, facts) for path, facts in pairs if "rank" in facts]
    return ranked or [(path, facts) for path, facts in pairs if "gpu_names" in facts or facts.keys() & _TORCH.keys()]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f", … ({len(names):,})" if len(names) > 3 else "")
