"""A start-up: phases with their seconds, the stretches that no line explains, and what was asked of the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ready", "ended", "failed", "cut"]
"""``ready`` serves; ``ended`` has its engine but says nothing of serving (offline runs); ``failed`` says why not; ``cut`` is
a log that ends before anything is settled."""

Source = Literal["logged", "stamps"]


@dataclass(frozen=True)
class PhaseKind:
    """What a phase is: its id, its name for people, what it is part of (empty: of the start-up itself), what it does."""

    id: str
    title: str
    parent: str
    about: str


PHASES = (
    PhaseKind("bootstrap", "framework bootstrap", "", "from the first line until a worker begins to load the model"),
    PhaseKind("detect_platform", "detect platform", "bootstrap", "which kind of device there is"),
    PhaseKind("imports", "imports", "bootstrap", "Python modules, until the arguments are looked at"),
    PhaseKind("model_info", "model info", "bootstrap", "the model's configuration is read and checked"),
    PhaseKind("worker_init", "worker init", "bootstrap", "engine and worker processes start and find each other"),
    PhaseKind("tokenizer_init", "tokenizer", "", "the tokenizer is loaded"),
    PhaseKind("model_loading", "model loading", "", "the model is built and its weights are read"),
    PhaseKind("download_weights", "download weights", "model_loading", "weights come from a hub over the network"),
    PhaseKind("model_init", "model init", "model_loading", "modules are made"),
    PhaseKind("load_weights", "load weights", "model_loading", "weights are read and copied to the device"),
    PhaseKind("init_engine", "init engine", "", "profiling run, KV cache, graphs; all before it can serve"),
    PhaseKind("kv_cache_profiling", "KV-cache profiling", "init_engine", "a forward pass finds out how much memory is left"),
    PhaseKind("torch.compile", "torch.compile", "kv_cache_profiling", "as the engine adds it up"),
    PhaseKind("dynamo_transform_time", "Dynamo", "torch.compile", "Python bytecode is traced into graphs"),
    PhaseKind("graph_compile_general_shape", "graph compile, not cached", "torch.compile", "Inductor compiles graphs"),
    PhaseKind("graph_compile_cached", "graph compile, cached", "torch.compile", "compiled graphs are read from the cache"),
    PhaseKind("warmup_run", "first run", "kv_cache_profiling", "the first forward pass: kernels are loaded or built"),
    PhaseKind("kv_cache_init", "KV-cache init", "init_engine", "memory of the KV cache is taken"),
    PhaseKind("kernel_autotune", "kernel autotuning", "init_engine", "kernels are tried for the fastest"),
    PhaseKind("graph_capturing", "graph capturing", "init_engine", "CUDA graphs are recorded, one per size"),
    PhaseKind("server_start", "server start", "", "from the engine's readiness to the server's: routes, templates, warm-up"),
    PhaseKind("unlogged", "unlogged", "", "no line explains it"),
    PhaseKind("total_time", "total (sum)", "", "model loading + init engine + tokenizer"),
    PhaseKind("actual_total_time", "actual total", "", "as logged, else from the first stamp to readiness"),
)
"""In the order of a start-up; sums follow."""

KIND = {kind.id: kind for kind in PHASES}

TOTALS = ("total_time", "actual_total_time")

GRID_PHASES = (
    "load_weights",
    "model_init",
    "model_loading",
    "dynamo_transform_time",
    "graph_compile_general_shape",
    "graph_compile_cached",
    "torch.compile",
    "kv_cache_profiling",
    "graph_capturing",
    "kv_cache_init",
    "init_engine",
    "tokenizer_init",
    *TOTALS,
)
"""The rows of the table that people make by hand, in its order."""

CONTAINERS = {kind.parent for kind in PHASES if kind.parent}
"""Phases that have parts: that one took long does not say what it did."""

LEAVES = tuple(kind.id for kind in PHASES if kind.id not in CONTAINERS and kind.id not in (*TOTALS, "unlogged"))


@dataclass(frozen=True)
class Phase:
    """How long a phase took: of several processes the slowest, of several times in one process the sum.

    Attributes:
        id: of `PHASES`, or ``other: …`` for a duration that a line states and the grammar does not know.
        seconds: as logged, or between two stamps.
        source: ``stamps`` are as precise as the log's clock, often a second.
        spans: when it was, on the log's clock: (start, end) of each time; empty where no stamp says.
        by_process: seconds of each process that states it.
    """

    id: str
    seconds: float
    source: Source
    spans: tuple[tuple[float, float], ...]
    by_process: tuple[tuple[str, float], ...]

    @property
    def start(self) -> float | None:
        """When it first began."""
        return min((start for start, _ in self.spans), default=None)

    @property
    def end(self) -> float | None:
        """When it last ended."""
        return max((end for _, end in self.spans), default=None)


@dataclass(frozen=True)
class Gap:
    """A stretch without a stamped line, and not inside of a duration that a line states.

    ``phase`` is where it lies, ``before`` and ``after`` are the lines around it, with their numbers in ``lines``.
    ``within`` is the last text without a stamp that was printed in it, as a progress bar; empty where there was none.
    """

    seconds: float
    start: float
    phase: str
    before: str
    after: str
    within: str
    lines: tuple[int, int]


@dataclass(frozen=True)
class Startup:
    """One start of a server.

    Attributes:
        name: the file's name, with ``#2`` for the second start in it.
        file: the file's path as it was given.
        engine: ``vllm`` or ``sglang``.
        version: as logged, or empty.
        outcome: how it ended.
        problem: why it failed; empty otherwise.
        start: stamp of its first line, on the log's clock.
        resolution: of the stamps, in seconds.
        phases: by id; those that no line tells of are missing.
        gaps: longest first.
        parameters: what was asked of the server, by normalised name, as text.
        facts: what the log says of machine and caches, as ``platform`` or ``compile_cache``.
        warnings: what is odd about it.
    """

    name: str
    file: str
    engine: str
    version: str
    outcome: Outcome
    problem: str
    start: float
    resolution: float
    phases: dict[str, Phase]
    gaps: tuple[Gap, ...]
    parameters: dict[str, str]
    facts: dict[str, str]
    warnings: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether it came so far that its phases can be compared with those of others."""
        return self.outcome in ("ready", "ended")

    def seconds(self, phase: str) -> float | None:
        """Return how long a phase took, None where no line tells."""
        found = self.phases.get(phase)
        return found.seconds if found else None
