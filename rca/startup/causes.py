"""The causes that start-ups have: what a log says of them, for and against.

Each rule follows from what a phase does: reading weights waits for the page cache or a disk, tracing bytecode for a core and
nothing else. A rule names a cause only for a phase that rose beyond what everything did, and by more than chance.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rca.startup.compare import Change, Compared
from rca.startup.model import KIND
from rca.startup.scene import COMPUTE, FILES, ON_CORES, RISES, Scene
from rca.startup.settings import costly, settings, versions
from rca.verdict import Cause

MOST = 0.5
"""Causes that account for less than this share of the change leave it unexplained."""

_TOGETHER = 0.7
_LEAST_TOGETHER = 3
_MEMORY_GIB_PER_S = 4.0
_DISK_GIB_PER_S = 1.0
"""Weights that come faster than the first come from memory: few disks, and no network, do that. Slower than the second they
came from a disk all along. In between either is possible."""

_UNSTEADY = 0.25
_TIMES = 3.0
_STANDS_OUT = 1.5
_GROWS_S = 5.0
_KERNELS_RUN_FIRST = ("init_engine", "kv_cache_profiling", "torch.compile")
_BUILDING = re.compile(
    r"\bjit\b|nvcc|ninja|hipcc|ptxas|building extension|autotuning process starts|tuning |compiling", re.IGNORECASE
)
_NOT_BUILDING = re.compile(r"not available|disabl|doesn't|skipp|not found|took|takes|finished|done|completed", re.IGNORECASE)
_COMPILED = re.compile(r"saved AOT compiled|Compiling a graph|Cache the graph", re.IGNORECASE)
_NETWORKED = re.compile(r"NFS|LUSTRE|FUSE|CEPH|CIFS|SMB|9P|GPFS|BEEGFS", re.IGNORECASE)
_EMPTIED = "an emptied page cache (cold_cache)"
_NOT_IN_A_LOG = "counters of host and disks: a log has none"


@dataclass(frozen=True)
class _Found:
    """A cause before it is ranked; ``seconds`` is what it accounts for.

    ``stated`` says that a line names it (a download, a compilation), ``decisive`` that its sign rarely has another reason.
    """

    id: str
    device: str
    seconds: float
    phases: tuple[str, ...]
    evidence_for: tuple[str, ...]
    evidence_against: tuple[str, ...] = ()
    missing: tuple[str, ...] = (_NOT_IN_A_LOG,)
    looks_like: str = ""
    next_check: str = ""
    stated: bool = False
    decisive: bool = False


def causes_of(compared: Compared) -> tuple[Cause, ...]:
    """Return the causes of a change, those that account for most first; ``unexplained`` where they leave most of it.

    What differs in version or settings comes before everything that no line states: it may have brought that about. Where
    the total did not change, only causes with a decisive sign are named, as latent.
    """
    if compared.status == "not_comparable":
        return ()
    scene = Scene(compared)
    found = [one for rule in _RULES if (one := rule(scene))]
    changed = compared.status in ("slower", "faster")
    if not changed:
        found = [one for one in found if one.stated or (one.decisive and compared.p is not None)]
    software = costly(scene)
    if software:
        against = f"version or settings differ, too: {software}"
        found = [one if one.stated else replace(one, evidence_against=(*one.evidence_against, against)) for one in found]
    if changed and (change := _software(scene)):
        found.append(change)
    found.sort(
        key=lambda one: (
            not one.stated,
            one.id != "software_change" if software else one.id == "software_change",
            -one.seconds,
        )
    )
    total = abs(compared.change_s)
    if changed and sum(one.seconds for one in found) < MOST * total:
        found.append(_unexplained(scene, total))
    return tuple(
        Cause(
            id=one.id,
            rank=rank,
            confidence=None,
            latent=not changed,
            device=one.device,
            follows="",
            metrics=one.phases,
            evidence_for=one.evidence_for,
            evidence_against=one.evidence_against,
            missing=one.missing,
            looks_like=one.looks_like,
            next_check=one.next_check,
        )
        for rank, one in enumerate(found, 1)
    )


def _hardware(scene: Scene) -> _Found | None:
    """The starts were of different kinds of devices."""
    worse, better = scene.usual("platform")
    if not worse or not better or worse == better:
        return None
    text = f"platform {better} on the better side, {worse} on the worse one"
    seconds = abs(scene.compared.change_s)
    return _Found("hardware_change", "Host", seconds, (), (text,), next_check="compare on the same device", stated=True)


def _compile_cache(scene: Scene) -> _Found | None:
    """One side compiles what the other reads from its cache."""
    misses = scene.share_with("compile_cache", "miss", "partly")
    hits = scene.share_with("compile_cache", "hit", "partly")
    if misses[0] - misses[1] < MOST or hits[1] < MOST:
        return None
    compiling = ("graph_compile_general_shape", "graph_compile_cached", "torch.compile", "dynamo_transform_time")
    rows = {row.phase: scene.sign * row.change.estimate for row in scene.compared.ledger}
    seconds = sum(rows.get(phase, 0.0) for phase in compiling)
    if scene.compared.change("graph_compile_general_shape") is None:  # the line that would state it is missing
        seconds += max(rows.get("unlogged", 0.0), 0.0)
    seconds -= max(scene.general - 1, 0.0) * sum(scene.better_s(phase) for phase in compiling if phase in rows)
    if seconds <= 0:
        return None
    changes = scene.compared.changes
    shown = [scene.says(changes[phase]) for phase in compiling if phase in changes and changes[phase].sure]
    compiled = f"graphs were compiled in {misses[0]:.0%} of the worse side's starts, in {misses[1]:.0%} of the better side's"
    other = versions(scene)
    return _Found(
        "cold_cache",
        "compile cache",
        seconds,
        tuple(phase for phase in compiling if phase in changes) or ("unlogged",),
        (compiled, *shown),
        missing=("why the cache missed: its key holds the version, the model's code and the settings",),
        looks_like=f"a cache key that changed with the {other}" if other else "a cache key that changed with a setting",
        next_check="ls -la ~/.cache/vllm/torch_compile_cache; keep that folder over restarts; a second start should be fast",
        stated=True,
        decisive=True,
    )


def _download(scene: Scene) -> _Found | None:
    """Weights come over the network."""
    here, there = scene.share_with("download", "yes")
    rose = scene.rose("download_weights")
    if rose is None and here - there < MOST:
        return None
    around = (
        ["download_weights"]
        if rose
        else [p for p in ("load_weights", "model_loading", "model_info", "worker_init") if scene.rose(p)]
    )
    if not around:
        return None
    shares = f"{here:.0%} of the worse side's starts download, {there:.0%} of the better side's"
    return _Found(
        "network",
        "Host",
        scene.excess(around[0]),
        tuple(around),
        (shares, *(scene.says(scene.compared.changes[phase]) for phase in around[:2])),
        missing=("the network's own counters: a log has none",),
        looks_like="a model that is new or renamed: it has to be downloaded once (software_change)",
        next_check="download ahead: hf download MODEL; then start with HF_HUB_OFFLINE=1",
        stated=True,
        decisive=True,
    )


def _straggler(scene: Scene) -> _Found | None:
    """One process takes much longer than its peers, and did not on the better side."""
    for change in scene.compared.ledger:
        lags = scene.straggler(change.phase)
        if lags and scene.rose(change.phase):
            text = f"{change.title}: {lags[0]} takes {lags[1]:.1f} x the median of all processes, which wait for it"
            return _Found(
                "straggler_rank",
                lags[0],
                scene.excess(change.phase),
                (change.phase,),
                (text, scene.says(change)),
                looks_like="a node or a disk of its own that is slower: its peers would not share it",
                next_check=f"look at the machine and the device of {lags[0]}",
                decisive=True,
            )
    return None


def _weights(scene: Scene) -> _Found | None:
    """Reading the weights takes longer, and computing does not: they come from somewhere slower."""
    load = scene.rose("load_weights")
    here, there = scene.share_with("download", "yes")
    if load is None or _other_size(scene) or scene.straggler("load_weights") or here - there >= MOST:
        return None
    rates = _rates(scene)
    quiet = scene.quiet(ON_CORES)
    files = [phase for phase in FILES if phase != "load_weights" and scene.rose(phase)]
    evidence = [scene.says(load)]
    if rates:
        evidence.append(f"weights came at {rates[1]:.2f} GiB/s on the better side, at {rates[0]:.2f} GiB/s on the worse one")
    evidence += [f"other files took longer, too: {scene.says(scene.compared.changes[phase])}" for phase in files]
    if quiet:
        evidence.append(f"did not rise with it: {_titles(quiet)}: the cores are not slower")
    source = _source(scene, rates)
    fits = not source.shared or source.id == "disk_io"
    return _Found(
        source.id,
        source.device,
        scene.excess("load_weights") + sum(max(scene.excess(phase), 0.0) for phase in files),
        ("load_weights", "model_loading", *files),
        (*evidence, *source.shared) if fits else tuple(evidence),
        () if fits else source.shared,
        (source.missing,),
        source.looks_like,
        source.next_check,
        decisive=source.id == "cold_cache" and fits and scene.ratio("load_weights") >= _TIMES,
    )


@dataclass(frozen=True)
class _Source:
    """Where weights come from. ``shared`` says why it is something that others use, too, or was no cache before."""

    id: str
    device: str
    missing: str
    looks_like: str
    next_check: str
    shared: tuple[str, ...] = ()


def _source(scene: Scene, rates: tuple[float, float] | None) -> _Source:
    """Tell what keeps the weights by what the log says of it, and by how fast and how steadily they came."""
    fast = rates is not None and rates[1] >= _MEMORY_GIB_PER_S
    filesystem = scene.usual("filesystem")[0] or ""
    if scene.usual("weights_from")[0]:
        counters = "the network's own counters: a log has none"
        return _Source("network", "object store", counters, "", "load the weights from a local disk once")
    if _NETWORKED.search(filesystem) and not fast:
        counters = f"counters of the network and of the {filesystem} server"
        return _Source("network", filesystem, counters, _EMPTIED, "nfsiostat 1, or the file server's own graphs")
    loads = np.array([start.seconds("load_weights") or 0.0 for start in scene.worse])
    shared = []
    if rates and rates[1] < _DISK_GIB_PER_S:
        shared.append(f"the better side read at {rates[1]:.2f} GiB/s, which a disk can: no cache need have helped")
    if len(loads) >= _LEAST_TOGETHER and float(loads.std(ddof=1) / loads.mean()) >= _UNSTEADY:
        shared.append(f"from start to start it takes {loads.min():.1f} to {loads.max():.1f} s: others use the disk, too")
    counters = "what was in the page cache before the start, and the disk's own counters: a log has neither"
    check = "fincore MODEL/*.safetensors (or vmtouch MODEL) before a start; start twice: the second is fast if it was cold"
    if shared and not fast:
        return _Source("disk_io", "Disk", counters, _EMPTIED, f"iostat -x 1; {check}", tuple(shared))
    looks = "a busy or slower disk (disk_io)" + (f"; the checkpoint is on {filesystem}" if filesystem else "")
    return _Source("cold_cache", "page cache", counters, looks, check, tuple(shared))


def _built_kernels(scene: Scene) -> _Found | None:
    """A silence, or a first run, where kernels are built when they are not in a cache."""
    quiet = scene.quiet(ON_CORES)
    steps = [phase for phase in ("warmup_run", "kernel_autotune") if scene.rose(phase) and scene.excess(phase) >= _GROWS_S]
    steps = [phase for phase in steps if _only_this(scene, phase)]
    silent = [phase for phase in _grown_silences(scene) if _only_this(scene, f"silence: {phase}")]
    known = scene.share_with("compile_cache", "miss", "partly")
    built = [phase for phase in silent if _place_or_word(scene, phase)] if known[0] - known[1] < MOST else []
    if not steps and not built:
        return None
    changes = scene.compared.changes
    evidence = [scene.says(changes[phase]) for phase in steps]
    for phase in built:
        evidence += [scene.says(changes[f"silence: {phase}"]), _between(scene, phase)]
    if quiet:
        evidence.append(f"did not rise with it: {_titles(quiet)}: the cores are not slower")
    worded = bool(steps) or any(_says_building(scene, phase) for phase in built)
    phases = (*steps, *(f"silence: {phase}" for phase in built))
    graphs = scene.usual("compile_cache")[0] != "hit" and any(_ends_compiled(scene, phase) for phase in built)
    return _Found(
        "cold_cache",
        "compile cache" if graphs else "kernel cache",
        sum(scene.excess(phase) for phase in phases),
        phases,
        tuple(evidence),
        () if worded or graphs else ("no line says that kernels were built then: it is what is done at that place",),
        ("what ran during the silence: a log does not say",),
        "a process that waits for another one, or for a lock that a killed server left in a cache",
        "while it is silent: py-spy dump --pid PID; ps aux | grep -E 'nvcc|ninja|hipcc|ptxas'; keep ~/.cache over restarts "
        "(flashinfer, triton, torch_extensions)",
    )


def _only_this(scene: Scene, phase: str) -> bool:
    """Tell a phase that grew out of nothing, or by much more than what takes a core, from one that grew as all work did."""
    others = [scene.ratio(other) for other in scene.measured(ON_CORES) if other != phase]
    usual = max(float(np.median(others)), 1.0) if others else math.inf
    return scene.ratio(phase) >= min(_TIMES * max(scene.general, 1.0), _STANDS_OUT * usual)


def _place_or_word(scene: Scene, phase: str) -> bool:
    in_sglang = phase == "server_start" and scene.worse[0].engine == "sglang"  # its warm-up request runs there
    return phase in _KERNELS_RUN_FIRST or in_sglang or _says_building(scene, phase)


def _cpu_contention(scene: Scene) -> _Found | None:
    """Everything that takes a core takes longer, what reads files as well as what does not."""
    on_cores, files = scene.measured(ON_CORES), scene.measured(FILES)
    measured = [*on_cores, *files]
    moved = [phase for phase in measured if scene.ratio(phase) >= RISES]
    computing = [phase for phase in moved if phase in on_cores]
    sure = scene.risen(measured)
    if len(sure) < _LEAST_TOGETHER or len(moved) < _TOGETHER * len(measured) or 2 * len(computing) <= len(on_cores):
        return None
    ratios = np.array(sorted(scene.ratio(phase) for phase in moved))
    factor = scene.general if scene.measured(COMPUTE) else float(np.median(ratios))
    if factor < RISES:
        return None
    changes = scene.compared.changes
    quiet = [phase for phase in measured if phase not in moved]
    together = (
        f"{len(moved)} of {len(measured)} phases that take a core rose together, to {ratios[0]:.2f} to {ratios[-1]:.2f} x"
    )
    by_size = sorted(sure, key=lambda phase: -scene.delta(phase))
    grown = [min((factor - 1) * _row_better(scene, row), scene.sign * row.change.estimate) for row in scene.compared.ledger]
    return _Found(
        "cpu_contention",
        "Host",
        sum(max(seconds, 0.0) for seconds in grown),
        tuple(by_size),
        (together, *(scene.says(changes[phase]) for phase in by_size[:3])),
        (f"did not rise: {_titles(quiet)}",) if quiet else (),
        looks_like="a lower CPU clock (cpu_frequency), a CPU limit (cpu_quota), fewer cores: a log does not tell them apart",
        next_check="while a server starts: rca collect --no-profile -o start --duration 60; who else runs: pidstat -u 1",
    )


def _row_better(scene: Scene, row: Change) -> float:
    return (row.normal_s if scene.sign > 0 else row.abnormal_s) or 0.0


def _software(scene: Scene) -> _Found | None:
    """The sides were started with other versions or settings."""
    evidence = [text for text in (versions(scene), *settings(scene)) if text][:7]
    if not evidence:
        return None
    rows = sorted(scene.compared.ledger, key=lambda row: -scene.sign * row.change.estimate)
    return _Found(
        "software_change",
        "Host",
        0.0,
        tuple(row.phase for row in rows if row.sure and scene.sign * row.change.estimate > 0),
        tuple(evidence),
        () if costly(scene) else ("none of these settings is known to cost time at the start",),
        ("a start of each version or setting on the same machine, one after the other",),
        "a coincidence: what differs need not be what made it slow",
        "start the worse side with the better side's version and settings",
    )


def _unexplained(scene: Scene, total: float) -> _Found:
    """Say where the time went, where no rule says why."""
    rows = sorted(scene.compared.ledger, key=lambda row: -scene.sign * row.change.estimate)
    largest = [row for row in rows if scene.sign * row.change.estimate > 0.05 * total][:3]
    silent = [_between(scene, phase) for phase in _grown_silences(scene)]
    return _Found(
        "unexplained",
        "Host",
        0.0,
        tuple(row.phase for row in largest),
        (*(scene.says(row) for row in largest), *silent),
        next_check="while a server starts: py-spy dump --pid PID, and rca collect --no-profile -o start --duration 60",
    )


_RULES: tuple[Callable[[Scene], _Found | None], ...] = (
    _hardware,
    _compile_cache,
    _download,
    _straggler,
    _weights,
    _built_kernels,
    _cpu_contention,
)


def _grown_silences(scene: Scene) -> list[str]:
    """Return the phases in which a silence grew by seconds that matter, longest first."""
    least = max(_GROWS_S, 0.1 * abs(scene.compared.change_s))
    grown = [phase.removeprefix("silence: ") for phase in scene.compared.changes if phase.startswith("silence: ")]
    grown = [phase for phase in grown if scene.rose(f"silence: {phase}") and scene.excess(f"silence: {phase}") >= least]
    return sorted(grown, key=lambda phase: -scene.excess(f"silence: {phase}"))


def _says_building(scene: Scene, phase: str) -> bool:
    """Tell whether a line at the silence's beginning, or in it, says that something is being built."""
    gap = scene.longest_gap(phase)
    return gap is not None and any(
        _BUILDING.search(text) and not _NOT_BUILDING.search(text) for text in (gap.before, gap.within)
    )


def _ends_compiled(scene: Scene, phase: str) -> bool:
    gap = scene.longest_gap(phase)
    return gap is not None and bool(_COMPILED.search(gap.after))


def _between(scene: Scene, phase: str) -> str:
    gap = scene.longest_gap(phase)
    if gap is None:
        return ""
    within = f"; printed in between without a stamp: “{gap.within}”" if gap.within else ""
    return f"{gap.seconds:.0f} s without a line between “{gap.before}” (line {gap.lines[0]}) and “{gap.after}”{within}"


def _titles(phases: list[str]) -> str:
    return ", ".join(KIND[phase].title for phase in phases)


def _rates(scene: Scene) -> tuple[float, float] | None:
    """Return GiB/s of the weights on the worse and the better side, where both logs state their size."""
    rates = []
    for side in (scene.worse, scene.better):
        sized = [start for start in side if "weights_gib" in start.facts]
        own = [float(start.facts["weights_gib"]) / (start.seconds("load_weights") or math.nan) for start in sized]
        if not own:
            return None
        rates.append(sum(own) / len(own))
    return (rates[0], rates[1]) if all(map(math.isfinite, rates)) else None


def _other_size(scene: Scene) -> bool:
    worse, better = scene.usual("weights_gib")
    return bool(worse and better and abs(float(worse) / max(float(better), 1e-9) - 1) > 0.02)
