"""The causes that start-ups have: what a log says of them, for and against.

Each rule follows from what a phase does: reading weights waits for the page cache or a disk, tracing bytecode for a core and
nothing else. A rule names a cause only for a phase that rose beyond what everything did, and by more than chance.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from rca.startup.compare import Compared
from rca.startup.model import KIND, Startup
from rca.startup.scene import COMPUTE, FILES, RISES, Scene
from rca.verdict import Cause

MOST = 0.5
"""Causes that account for less than this share of the change leave it unexplained."""

_TOGETHER = 0.7
_LEAST_TOGETHER = 3
_CACHE_GIB_PER_S = 1.0
"""Weights that come faster than this mostly come from memory: few disks of servers, and no network, do better, while copies
from the page cache to a device do."""

_GROWS_S = 5.0
_KERNELS_ARE_BUILT = ("init_engine", "kv_cache_profiling", "torch.compile", "server_start")
_BUILDING = re.compile(r"jit|ninja|nvcc|hipcc|compil|triton|autotun|flashinfer|deep_?gemm|kernel|warm", re.IGNORECASE)
_NOT_IN_A_LOG = "counters of host and disks: a log has none"


@dataclass(frozen=True)
class _Found:
    """A cause before it is ranked; ``seconds`` is what it accounts for, ``decisive`` that its sign has no other reason."""

    id: str
    device: str
    seconds: float
    decisive: bool
    phases: tuple[str, ...]
    evidence_for: tuple[str, ...]
    evidence_against: tuple[str, ...]
    missing: tuple[str, ...]
    looks_like: str
    next_check: str


def causes_of(compared: Compared) -> tuple[Cause, ...]:
    """Return the causes of a change, those that account for most first; ``unexplained`` where they leave most of it.

    Where the total did not change, only causes with a decisive sign are named, as latent.
    """
    if compared.status == "not_comparable":
        return ()
    scene = Scene(compared)
    found = [one for rule in _RULES if (one := rule(scene))]
    changed = compared.status in ("slower", "faster")
    if not changed:
        found = [one for one in found if one.decisive]
    found.sort(key=lambda one: (one.id == "software_change", not one.decisive and one.seconds <= 0, -one.seconds))
    total = abs(compared.change_s)
    if changed and sum(one.seconds for one in found if one.id != "software_change") < MOST * total:
        left = _unexplained(scene, total)
        found = [*found, left] if found else [left]
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


def _cpu_contention(scene: Scene) -> _Found | None:
    """Everything that takes a core takes longer, what reads files as well as what does not."""
    compute, files = scene.measured(COMPUTE), scene.measured(FILES)
    measured = [*compute, *files]
    risen = scene.risen(measured)
    computing = [phase for phase in risen if phase in compute]
    if len(measured) < _LEAST_TOGETHER or len(risen) < _TOGETHER * len(measured) or 2 * len(computing) <= len(compute):
        return None
    if scene.general < RISES:
        return None
    changes = scene.compared.changes
    ratios = sorted(scene.ratio(phase) for phase in risen)
    quiet = [KIND[phase].title for phase in measured if phase not in risen]
    together = (
        f"{len(risen)} of {len(measured)} phases that take a core rose together, to {ratios[0]:.2f} to {ratios[-1]:.2f} x"
    )
    by_size = sorted(risen, key=lambda phase: -scene.delta(phase))
    return _Found(
        "cpu_contention",
        "Host",
        abs(scene.compared.change_s) if ratios[-1] < 3 * ratios[0] else sum(scene.delta(phase) for phase in risen),
        False,
        tuple(by_size),
        (together, *(scene.says(changes[phase]) for phase in by_size[:3])),
        (f"did not rise: {', '.join(quiet)}",) if quiet else (),
        (_NOT_IN_A_LOG,),
        "a lower CPU clock (cpu_frequency), a CPU limit (cpu_quota) or fewer cores: a log does not tell them apart",
        "while a server starts: rca collect --no-profile -o start --duration 60; who else runs: pidstat -u 1",
    )


def _weights_from_disk(scene: Scene) -> _Found | None:
    """Only reading the weights takes longer: they come from somewhere slower."""
    load = scene.rose("load_weights")
    if load is None or _other_size(scene):
        return None
    computing = scene.measured(COMPUTE)
    quiet = [phase for phase in computing if phase not in scene.risen(computing)]
    rates = _rates(scene)
    evidence = [scene.says(load)]
    if rates:
        evidence.append(f"weights came at {rates[1]:.2f} GiB/s on the better side, at {rates[0]:.2f} GiB/s on the worse one")
    if quiet:
        evidence.append(f"did not rise with it: {', '.join(KIND[phase].title for phase in quiet)}: the cores are not slower")
    slow_disk = rates is not None and rates[1] < _CACHE_GIB_PER_S
    against = []
    if slow_disk:
        against.append(
            f"the better side read at {rates[1] if rates else 0:.2f} GiB/s: a disk can do that, no cache need have helped"
        )
    filesystem = scene.usual("filesystem")[0]
    other = "page cache" if slow_disk else "busy or slower disk (disk_io)"
    if filesystem and re.match(r"NFS|LUSTRE|FUSE|CEPH|CIFS|SMB|9P|GPFS|BEEGFS", filesystem, re.IGNORECASE):
        other += f"; the checkpoint is on {filesystem}: the network or its server (network)"
    return _Found(
        "disk_io" if slow_disk else "cold_cache",
        "Disk" if slow_disk else "page cache",
        scene.delta("load_weights"),
        not slow_disk and scene.ratio("load_weights") >= 2,
        ("load_weights", "model_loading"),
        tuple(evidence),
        tuple(against),
        ("what was in the page cache before the start, and the disk's own counters: a log has neither",),
        f"{'an emptied ' if slow_disk else 'a '}{other}",
        "fincore MODEL/*.safetensors (or vmtouch MODEL) before a start; start twice: the second is fast if it was cold",
    )


def _compile_cache(scene: Scene) -> _Found | None:
    """One side compiles what the other reads from its cache."""
    misses = scene.share_with("compile_cache", "miss", "partly")
    hits = scene.share_with("compile_cache", "hit", "partly")
    if misses[0] - misses[1] < MOST or hits[1] < MOST:
        return None
    compiling = ("graph_compile_general_shape", "graph_compile_cached", "torch.compile", "dynamo_transform_time")
    rows = {row.phase: scene.sign * row.change.estimate for row in scene.compared.ledger}
    seconds = sum(rows.get(phase, 0.0) for phase in compiling)
    silent = max(rows.get("unlogged", 0.0), 0.0) if scene.compared.change("graph_compile_general_shape") is None else 0.0
    if seconds + silent <= 0:
        return None
    changes = scene.compared.changes
    shown = [scene.says(changes[phase]) for phase in compiling if phase in changes and changes[phase].sure]
    versions = _versions(scene)
    return _Found(
        "cold_cache",
        "compile cache",
        seconds + silent,
        True,
        tuple(phase for phase in compiling if phase in changes) or ("unlogged",),
        (
            f"graphs were compiled in {misses[0]:.0%} of the worse side's starts, in {misses[1]:.0%} of the better side's",
            *shown,
        ),
        (),
        ("why the cache missed: its key holds the version, the model's code and the settings",),
        f"a cache key that changed with the version ({versions})" if versions else "a cache key that changed with a setting",
        "ls -la ~/.cache/vllm/torch_compile_cache; keep that folder over restarts; a second start should be fast",
    )


def _download(scene: Scene) -> _Found | None:
    """Weights come over the network."""
    here, there = scene.share_with("download", "yes")
    rose = scene.rose("download_weights")
    if rose is None and here - there < MOST:
        return None
    around = [phase for phase in ("download_weights", "model_loading", "model_info", "worker_init") if scene.rose(phase)]
    if not around:
        return None
    changes = scene.compared.changes
    seconds = scene.delta(around[0])
    if around[0] != "download_weights":
        seconds -= max(scene.delta("load_weights"), 0.0) if around[0] == "model_loading" else 0.0
    return _Found(
        "network",
        "Host",
        seconds,
        True,
        tuple(around),
        (
            f"{here:.0%} of the starts of the worse side download, {there:.0%} of the better side",
            *(scene.says(changes[phase]) for phase in around[:2]),
        ),
        (),
        ("the network's own counters: a log has none",),
        "a model that was new or renamed: it has to be downloaded once (software_change)",
        "download ahead: hf download MODEL; then start with HF_HUB_OFFLINE=1",
    )


def _built_kernels(scene: Scene) -> _Found | None:
    """A silence, or a first run, where kernels are built when they are not in a cache."""
    stated = [phase for phase in ("warmup_run", "kernel_autotune") if scene.rose(phase) and scene.delta(phase) >= _GROWS_S]
    silent = _grown_silences(scene)
    built = [phase for phase in silent if phase in _KERNELS_ARE_BUILT or _hints(scene, phase)]
    if (
        scene.share_with("compile_cache", "miss", "partly")[0] - scene.share_with("compile_cache", "miss", "partly")[1]
        >= MOST
    ):
        built = []  # compiling graphs is silent, too
    if not stated and not built:
        return None
    changes = scene.compared.changes
    evidence = [scene.says(changes[phase]) for phase in stated]
    for phase in built:
        evidence += [scene.says(changes[f"silence: {phase}"]), _between(scene, phase)]
    quiet = [phase for phase in scene.measured(COMPUTE) if phase not in scene.risen(scene.measured(COMPUTE))]
    if quiet:
        evidence.append(f"did not rise with it: {', '.join(KIND[phase].title for phase in quiet)}: the cores are not slower")
    named = any(_hints(scene, phase) for phase in built) or bool(stated)
    ends = [gap for phase in built if (gap := scene.longest_gap(phase))]
    graphs = any(re.search(r"compil", f"{gap.within} {gap.after}", re.IGNORECASE) for gap in ends)
    return _Found(
        "cold_cache",
        "compile cache" if graphs else "kernel cache",
        sum(scene.delta(phase) for phase in stated) + sum(scene.delta(f"silence: {phase}") for phase in built),
        False,
        (*stated, *(f"silence: {phase}" for phase in built)),
        tuple(evidence),
        () if named else ("no line says that kernels were built then: it is what happens at that place",),
        ("what ran during the silence: a log does not say",),
        "a process that waits for another one, or for a lock that a killed server left in a cache",
        "while it is silent: py-spy dump --pid PID; ps aux | grep -E 'nvcc|ninja|hipcc|ptxas'; keep ~/.cache over restarts "
        "(flashinfer, triton, torch_extensions)",
    )


def _software(scene: Scene) -> _Found | None:
    """The sides were started with other versions or settings."""
    said = _versions(scene)
    differing = _settings(scene)
    if not said and not differing:
        return None
    risen = [c for c in scene.compared.ledger if c.sure and scene.sign * c.change.estimate > 0]
    evidence = [said] if said else []
    evidence += [f"{name}: {normal} → {abnormal}" for name, normal, abnormal in differing[:6]]
    return _Found(
        "software_change",
        "Host",
        0.0,
        False,
        tuple(change.phase for change in risen),
        tuple(evidence),
        (),
        ("a start of each version or setting on the same machine, one after the other",),
        "a coincidence: what differs need not be what made it slow",
        "start the worse side with the better side's version and settings",
    )


def _hardware(scene: Scene) -> _Found | None:
    worse, better = scene.usual("platform")
    if not worse or not better or worse == better:
        return None
    text = f"platform {better} on the better side, {worse} on the worse one"
    return _Found(
        "hardware_change", "Host", abs(scene.compared.change_s), True, (), (text,), (), (), "", "compare on the same device"
    )


def _straggler(scene: Scene) -> _Found | None:
    """One process takes much longer than its peers, and did not on the better side."""
    for change in scene.compared.ledger:
        if scene.rose(change.phase) is None:
            continue
        worse, better = (_lag(own, change.phase) for own in (scene.worse, scene.better))
        if worse and worse[1] >= max(1.5 * (better[1] if better else 1.0), 1.5):
            text = f"{change.title}: {worse[0]} takes {worse[1]:.1f} x the median of its peers"
            return _Found(
                "straggler_rank",
                worse[0],
                scene.delta(change.phase),
                False,
                (change.phase,),
                (text, scene.says(change)),
                (),
                (_NOT_IN_A_LOG,),
                "a rank whose node or disk is slower",
                f"look at the machine and the device of {worse[0]}",
            )
    return None


def _unexplained(scene: Scene, total: float) -> _Found:
    """Say where the time went, where no rule says why."""
    rows = sorted(scene.compared.ledger, key=lambda row: -scene.sign * row.change.estimate)
    largest = [row for row in rows if scene.sign * row.change.estimate > 0.05 * total][:3]
    silent = [_between(scene, phase) for phase in _grown_silences(scene)]
    return _Found(
        "unexplained",
        "Host",
        0.0,
        False,
        tuple(row.phase for row in largest),
        (*(scene.says(row) for row in largest), *silent),
        (),
        (_NOT_IN_A_LOG,),
        "",
        "while a server starts: py-spy dump --pid PID, and rca collect --no-profile -o start --duration 60",
    )


_RULES: tuple[Callable[[Scene], _Found | None], ...] = (
    _hardware,
    _compile_cache,
    _weights_from_disk,
    _download,
    _built_kernels,
    _cpu_contention,
    _straggler,
    _software,
)


def _grown_silences(scene: Scene) -> list[str]:
    """Return the phases in which a silence grew by seconds that matter, longest first."""
    least = max(_GROWS_S, 0.1 * abs(scene.compared.change_s))
    grown = [phase.removeprefix("silence: ") for phase in scene.compared.changes if phase.startswith("silence: ")]
    grown = [phase for phase in grown if scene.rose(f"silence: {phase}") and scene.delta(f"silence: {phase}") >= least]
    return sorted(grown, key=lambda phase: -scene.delta(f"silence: {phase}"))


def _hints(scene: Scene, phase: str) -> bool:
    gap = scene.longest_gap(phase)
    return gap is not None and bool(_BUILDING.search(f"{gap.before} {gap.within} {gap.after}"))


def _between(scene: Scene, phase: str) -> str:
    gap = scene.longest_gap(phase)
    if gap is None:
        return ""
    within = f"; printed in between without a stamp: “{gap.within}”" if gap.within else ""
    return f"{gap.seconds:.0f} s without a line between “{gap.before}” (line {gap.lines[0]}) and “{gap.after}”{within}"


def _rates(scene: Scene) -> tuple[float, float] | None:
    """Return GiB/s of the weights on the worse and the better side, where both logs state their size."""
    rates = []
    for side in (scene.worse, scene.better):
        own = [
            float(s.facts["weights_gib"]) / (s.seconds("load_weights") or math.nan) for s in side if "weights_gib" in s.facts
        ]
        if not own:
            return None
        rates.append(sum(own) / len(own))
    return (rates[0], rates[1]) if all(map(math.isfinite, rates)) else None


def _other_size(scene: Scene) -> bool:
    sizes = [float(size) for size in scene.usual("weights_gib") if size]
    return len(sizes) == 2 and abs(sizes[0] / sizes[1] - 1) > 0.02 if all(sizes) else False


def _versions(scene: Scene) -> str:
    sides = [sorted({s.version for s in own if s.version}) for own in (scene.compared.normal, scene.compared.abnormal)]
    if not all(sides) or sides[0] == sides[1]:
        return ""
    return f"version {' or '.join(sides[0])} → {' or '.join(sides[1])}"


def _settings(scene: Scene) -> list[tuple[str, str, str]]:
    """Return settings that have one value in all starts of a side and another one in all of the other."""
    sides = scene.compared.normal, scene.compared.abnormal
    found = []
    for name in sorted({name for own in sides for start in own for name in start.parameters}):
        values = [{start.parameters.get(name, "not given") for start in own} for own in sides]
        stated = all(name in start.parameters for own in sides for start in own)
        if all(len(own) == 1 for own in values) and values[0] != values[1] and (stated or not _whole_configuration(scene)):
            found.append((name, values[0].pop(), values[1].pop()))
    return found


def _whole_configuration(scene: Scene) -> bool:
    """Tell whether versions differ: then a setting that only one side lists may be as old as the other version's default."""
    return bool(_versions(scene))


def _lag(starts: tuple[Startup, ...], phase: str) -> tuple[str, float] | None:
    """Return the process that takes longest compared with the median of its peers, the same one in every start."""
    found = []
    for start in starts:
        own = sorted(start.phases[phase].by_process, key=lambda pair: pair[1]) if phase in start.phases else []
        if len(own) < 3 or own[len(own) // 2][1] <= 0:
            return None
        found.append((re.sub(r"\s*\bpid=\d+", "", own[-1][0]), own[-1][1] / own[len(own) // 2][1]))
    same = len({name for name, _ in found}) == 1
    return (found[0][0], min(lag for _, lag in found)) if found and same else None
