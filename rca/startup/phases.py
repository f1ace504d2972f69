"""From the lines of one start to its phases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from rca.startup.grammar import LANDMARKS, OTHER_STATED, READY, STATED, UNIT_SECONDS
from rca.startup.lines import Line
from rca.startup.model import KIND, LEAVES, Phase, Source


@dataclass(frozen=True)
class Moment:
    """One time that a phase took: ``end`` is the stamp of the line that states it, or of the last one before."""

    phase: str
    seconds: float
    end: float
    process: str


@dataclass(frozen=True)
class Mark:
    """A landmark that was passed."""

    id: str
    at: float
    process: str
    index: int


@dataclass(frozen=True)
class Read:
    """What the lines of a start say: durations, landmarks, its ends on the log's clock, and how fine that is, in seconds."""

    moments: list[Moment]
    marks: list[Mark]
    first: float
    last: float
    ready: float | None
    resolution: float

    def marked(self, *ids: str) -> list[Mark]:
        """Return the landmarks of these ids, in the order in which they were passed."""
        return [mark for mark in self.marks if mark.id in ids]


def read_lines(lines: list[Line], engine: str) -> Read | None:
    """Collect durations and landmarks; None where no line has a stamp."""
    stamps = [line.at for line in lines if line.at is not None]
    if not stamps:
        return None
    now = stamps[0]
    moments: list[Moment] = []
    marks: list[Mark] = []
    ready = None
    for index, line in enumerate(lines):
        now = line.at if line.at is not None else now
        moments += _stated(line, now)
        marks += [Mark(mark.id, now, line.process, index) for mark in LANDMARKS if mark.pattern.search(line.text)]
        if ready is None and READY[engine].search(line.text):
            ready = now
    whole = sum(stamp == int(stamp) for stamp in stamps)
    resolution = 1.0 if whole > len(stamps) / 2 else 1e-3  # libraries stamp finer than the engines that load them
    return Read(moments, marks, stamps[0], max(stamps), ready, resolution)


def _stated(line: Line, now: float) -> list[Moment]:
    for stated in STATED:
        if found := stated.pattern.search(line.text):
            return [Moment(stated.phase, float(found[1]), now, line.process)]
    if found := OTHER_STATED.search(line.text):
        seconds = float(found[2]) * UNIT_SECONDS.get(found["unit"], 1.0)
        return [Moment(f"other: {found['what']}", seconds, now, line.process)]
    return []


def phases_of(read: Read, engine: str) -> dict[str, Phase]:
    """Return the phases of a start by id."""
    moments = [*read.moments, *_between_landmarks(read, engine)]
    by_phase: dict[str, list[Moment]] = defaultdict(list)
    for moment in moments:
        by_phase[moment.phase].append(moment)
    stated = {moment.phase for moment in read.moments}
    phases = {id_: _phase(id_, own, "logged" if id_ in stated else "stamps") for id_, own in by_phase.items()}
    if "model_loading" not in phases and "load_weights" in phases:  # SGLang times no other part of it
        own = phases["load_weights"]
        phases["model_loading"] = replace(own, id="model_loading")
    return phases | _bootstrap(read, phases) | _sums(read, phases | _bootstrap(read, phases))


def _phase(id_: str, moments: list[Moment], source: Source) -> Phase:
    """Add up what one process says, and take the slowest process: the others wait for it."""
    by_process: dict[str, list[Moment]] = defaultdict(list)
    for moment in moments:
        by_process[moment.process].append(moment)
    sums = {process: sum(moment.seconds for moment in own) for process, own in by_process.items()}
    slowest = by_process[max(sums, key=lambda process: sums[process])]
    spans = tuple((moment.end - moment.seconds, moment.end) for moment in slowest)
    return Phase(id_, max(sums.values()), source, spans, tuple(sorted(sums.items())))


def _between_landmarks(read: Read, engine: str) -> list[Moment]:
    """Return the phases that no line of this log states, from the stamps of the lines around them."""
    stated = {moment.phase for moment in read.moments}
    found: list[Moment] = []
    pairs = [("load_weights", "load_begins", "load_ends"), ("graph_capturing", "capture_begins", "capture_ends")]
    for phase, begin, end in [*pairs, ("kernel_autotune", "autotune_begins", "autotune_ends")]:
        if phase not in stated:
            found += _paired(phase, read.marked(begin, end), begin)
    if engine == "sglang":
        found += _sglang_engine(read)
    elif "kv_cache_profiling" not in stated:
        found += _vllm_profiling(read)
    if read.ready is not None and (engines := read.marked("engine_ready")):
        found.append(Moment("server_start", read.ready - engines[-1].at, read.ready, ""))
    return found


def _paired(phase: str, marks: Iterable[Mark], begin: str) -> list[Moment]:
    open_at: dict[str, float] = {}
    found = []
    for mark in marks:
        if mark.id == begin:
            open_at[mark.process] = mark.at
        elif mark.id.endswith("_ends") and not mark.id.startswith("pool") and mark.process in open_at:
            found.append(Moment(phase, mark.at - open_at.pop(mark.process), mark.at, mark.process))
    return found


def _sglang_engine(read: Read) -> list[Moment]:
    """From the end of loading to readiness of the scheduler is what vLLM calls init engine; the pool is its KV cache.

    A draft model is loaded in between, which is loading all the same.
    """
    found = []
    for ready in read.marked("engine_ready"):
        own = [mark for mark in read.marked("load_begins", "load_ends", "pool_ends") if mark.process == ready.process]
        loaded = [mark.at for mark in own if mark.id == "load_ends" and mark.at <= ready.at]
        if not loaded:
            continue
        again = sum(moment.seconds for moment in _paired("", own, "load_begins") if moment.end > loaded[0])
        found.append(Moment("init_engine", ready.at - loaded[0] - again, ready.at, ready.process))
        pools = [mark.at for mark in own if mark.id == "pool_ends" and mark.at >= loaded[0]]
        if pools and not any(moment.phase == "kv_cache_init" for moment in read.moments):
            before = max(at for at in loaded if at <= pools[0])
            found.append(Moment("kv_cache_init", pools[0] - before, pools[0], ready.process))
    return found


def _vllm_profiling(read: Read) -> list[Moment]:
    loaded = [moment.end for moment in read.moments if moment.phase == "model_loading"]
    known = [mark for mark in read.marked("memory_known") if loaded and mark.at >= loaded[-1]]
    return [Moment("kv_cache_profiling", known[0].at - loaded[-1], known[0].at, "")] if known else []


def _bootstrap(read: Read, phases: dict[str, Phase]) -> dict[str, Phase]:
    """Cut what comes before loading at its landmarks; the tokenizer, which is loaded in between, counts for itself."""
    begins = read.marked("load_begins")
    if not begins:
        return {}
    end = begins[0].at
    before = [mark for mark in read.marks if mark.index < begins[0].index]
    cuts = [("", read.first)]
    if any(mark.id == "platform_probe" for mark in before):
        cuts += [("detect_platform", mark.at) for mark in before if mark.id == "platform_detected"][:1]
    cuts += [("imports", mark.at) for mark in before if mark.id == "imported"][:1]
    cuts += [("model_info", mark.at) for mark in before if mark.id == "model_known"][-1:]
    cuts.append(("worker_init", end))
    tokenizer = phases.get("tokenizer_init")
    parts = {"bootstrap": (read.first, end)}
    parts |= {id_: (cuts[i][1], at) for i, (id_, at) in enumerate(cuts[1:])}
    found = {}
    for id_, (start, stop) in parts.items():
        apart = tokenizer is not None and tokenizer.end is not None and start < tokenizer.end <= stop
        seconds = stop - start - (tokenizer.seconds if apart and tokenizer else 0.0)
        found[id_] = Phase(id_, max(seconds, 0.0), "stamps", ((start, stop),), (("", max(seconds, 0.0)),))
    return found


def _sums(read: Read, phases: dict[str, Phase]) -> dict[str, Phase]:
    """Return total, actual total and what is left without an explanation.

    The total is model loading + init engine + tokenizer; the actual total is what the program that started the engine says,
    else the time from the first stamp to readiness. ``unlogged`` is of the latter stretch in any case: what is left of it by
    the phases without parts. It is negative where phases ran side by side.
    """
    found = {}
    if "model_loading" in phases and "init_engine" in phases:
        parts = [phases[id_] for id_ in ("model_loading", "init_engine", "tokenizer_init") if id_ in phases]
        total = sum(part.seconds for part in parts)
        sources: set[Source] = {part.source for part in parts}
        found["total_time"] = Phase("total_time", total, "stamps" if "stamps" in sources else "logged", (), ())
    end = read.ready if read.ready is not None else phases["init_engine"].end if "init_engine" in phases else None
    if end is None:
        return found
    wall = end - read.first
    if wall + 2 * read.resolution < max(
        (phase.seconds for phase in phases.values() if phase.source == "logged"), default=0.0
    ):
        return found  # a few stray stamps say nothing of the whole
    found["unlogged"] = Phase("unlogged", wall - sum(explained(phases).values()), "stamps", (), ())
    if "actual_total_time" not in phases:
        found["actual_total_time"] = Phase("actual_total_time", wall, "stamps", ((read.first, end),), (("", wall),))
    return found


def explained(phases: dict[str, Phase]) -> dict[str, float]:
    """Return the seconds that lines explain, by phase; no second is in two of them, unless phases ran side by side.

    A phase that has parts counts for itself where no line tells of a part, and torch.compile with what it adds to them.
    """
    own = {id_: phases[id_].seconds for id_ in LEAVES if id_ in phases}
    leaves = [span for id_ in own for span in phases[id_].spans]
    others = [phase for id_, phase in phases.items() if id_.startswith("other: ") and phase.spans]
    own |= {phase.id: phase.seconds for phase in others if not any(_inside(phase.spans[0], leaf) for leaf in leaves)}
    for whole in ("torch.compile", "model_loading", "init_engine"):
        parts = [phases[id_].seconds for id_ in phases if _within(id_, whole)]
        if whole in phases and (not parts or whole == "torch.compile"):
            own[whole] = max(phases[whole].seconds - sum(parts), 0.0)
    return own


def _inside(span: tuple[float, float], leaf: tuple[float, float]) -> bool:
    """Tell whether one stretch lies in another, to a second: stamps are no finer."""
    return leaf[0] - 1 <= span[0] and span[1] <= leaf[1] + 1


def _within(id_: str, whole: str) -> bool:
    """Tell whether a phase is a part of another, or a part of its part."""
    parent = KIND[id_].parent if id_ in KIND else ""
    return bool(parent) and (parent == whole or _within(parent, whole))
