"""Logs into start-ups: every start in every file, with what was skipped."""

from __future__ import annotations

import codecs
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rca.capture import bytes_in
from rca.capture.load import Progress, no_progress
from rca.errors import InputError
from rca.startup.gaps import gaps_in
from rca.startup.grammar import BEGINS, ENGINES, EXCEPTION, FAILURE, LANDMARKS, STATED, VERSION
from rca.startup.lines import Clock, Line, split_lines, stamped_by_others
from rca.startup.model import Outcome, Phase, Startup
from rca.startup.parameters import from_lines, from_name, model_name
from rca.startup.phases import Read, phases_of, read_lines
from rca.startup.starts import MATTERS_WHILE_SERVING, Starts
from rca.startup.table import is_table, read_table

_HEAD_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_LONGEST_LINE = 1 << 20
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\)", re.MULTILINE)
"""All that some starts come to."""


@dataclass(frozen=True)
class Startups:
    """All start-ups of some logs, in the order of the files' names, and what is to be said about what was not read."""

    starts: tuple[Startup, ...]
    warnings: tuple[str, ...]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Everything that is to be said of what was read and what was not."""
        said = [f"{start.name}: {text}" for start in self.starts for text in start.warnings]
        failed = [f"{start.name}: {start.outcome}: {start.problem}; left out" for start in self.starts if not start.usable]
        return (*self.warnings, *failed, *said)

    @property
    def usable(self) -> tuple[Startup, ...]:
        """Those that came so far that they can be compared."""
        return tuple(start for start in self.starts if start.usable)


def is_startup_log(path: Path) -> bool:
    """Tell by the first megabyte whether a file is the log of an engine's start, or a table of such."""
    try:
        text = _text(bytes_in.head(path, _HEAD_BYTES))
    except InputError:
        return False
    return _engine_of(text) is not None or is_table(text)


def _text(head: bytes) -> str:
    """Decode a file's beginning; empty where it is binary."""
    if _encoding(head) == "utf-16":
        return head.decode("utf-16", errors="replace")
    few = head.count(0) <= len(head) // 2 and not re.search(rb"[\x01-\x08\x0e-\x1a]", head)
    return head.replace(b"\0", b"").decode("utf-8", errors="replace") if few else ""


def _engine_of(text: str) -> str | None:
    known = (BEGINS, _TRACEBACK, *(stated.pattern for stated in STATED), *(landmark.pattern for landmark in LANDMARKS))
    if not any(pattern.search(text) for pattern in known):
        return None
    seen = {engine: len(pattern.findall(text)) for engine, pattern in ENGINES.items()}
    best = max(seen, key=lambda engine: seen[engine])
    return best if seen[best] else None


def read(paths: list[Path], progress: Progress = no_progress) -> Startups:
    """Read every start-up log among files and folders.

    Raises:
        InputError: a path does not exist or cannot be read, or no file is the log of a start-up.
    """
    starts: list[Startup] = []
    warnings: list[str] = []
    files = [(file, name) for path in paths for file, name in _files(path)]
    for file, name in files:
        found, remarks = _read_file(file, name, progress)
        starts += found
        warnings += remarks
    names = Counter(start.name for start in starts)
    starts = [replace(start, name=_apart(start)) if names[start.name] > 1 else start for start in starts]
    if not starts:
        shown = paths[0] if len(paths) == 1 else files[0][0]
        text = "holds no start-up log" if len(files) > 1 or paths[0].is_dir() else "is not the log of a start-up"
        raise InputError(shown, text, "expected what a vLLM or SGLang server writes while it starts")
    return Startups(tuple(starts), tuple(warnings))


def _apart(start: Startup) -> str:
    """Name a start by its path, where its file's name is that of another."""
    return start.file + start.name[len(start.name.partition("#")[0]) :]


def _files(path: Path) -> list[tuple[Path, str]]:
    try:
        if not path.exists():
            raise InputError(path, "does not exist")
        if not path.is_dir():
            return [(path, path.name)]
        found = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file, path))
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from None
    if not found:
        raise InputError(path, "is an empty folder", "give logs, or folders of logs")
    return [(file, file.relative_to(path).as_posix()) for file in found]


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _read_file(file: Path, name: str, progress: Progress) -> tuple[list[Startup], list[str]]:
    try:
        head = _text(bytes_in.head(file, _HEAD_BYTES))
    except InputError as problem:
        return [], [f"{name}: {problem.problem}; skipped"]
    remarks: list[str] = []
    if is_table(head):
        found, odd = read_table(b"\n".join(_lines(file, progress, remarks)).decode("utf-8", errors="replace"), file)
        return found, [*remarks, *odd]
    engine = _engine_of(head)
    if engine is None:
        return [], [f"{name}: {'empty file' if not head else 'not the log of a start-up'}; skipped"]
    several = _split(file, name, engine, Clock(stamped_by_others(head)), progress, remarks)
    found = []
    for number, own in enumerate(several, 1):
        if read_ := read_lines(own, engine):
            found.append(_startup(own, read_, engine, name if number == 1 else f"{name}#{number}", file))
        elif len(several) == 1:
            remarks.append(f"{name}: no line has a time stamp; skipped")
    return found, remarks


def _split(file: Path, name: str, engine: str, clock: Clock, progress: Progress, remarks: list[str]) -> list[list[Line]]:
    """Return the lines of each start in a file."""
    starts = Starts(engine)
    for number, text in enumerate(_lines(file, progress, remarks), 1):
        if not starts.serving or MATTERS_WHILE_SERVING.search(text):
            for line in split_lines(text.decode("utf-8", errors="replace"), number, clock):
                starts.add(line)
    if clock.set_back:
        remarks.append(f"{name}: its clock was set back by {clock.set_back:.0f} s in the middle, which was left out")
    return starts.all()


def _lines(file: Path, progress: Progress, remarks: list[str]) -> Iterator[bytes]:
    """Yield the lines of a file; those that never end are cut. Damage ends it early, and is remarked."""
    size = os.path.getsize(file)
    chunks = bytes_in.Chunks(file, _CHUNK_BYTES)
    coded = _encoding(bytes_in.head(file, 4))
    rest = b""
    for chunk in _recoded(chunks, coded):
        progress(file.name, min(chunks.taken, size), size)
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        if len(rest) > _LONGEST_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest
    if chunks.damage:
        remarks.append(f"{file.name}: {chunks.damage}; read as far as it goes")
    progress(file.name, size, size)


def _encoding(head: bytes) -> str:
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _recoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Turn text of any encoding into UTF-8; zero bytes, which log rotation leaves in a file, are dropped."""
    if encoding == "utf-16":
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        chunks = (decoder.decode(chunk).encode() for chunk in chunks)
    for chunk in chunks:
        yield chunk.replace(b"\0", b"")


def _startup(lines: list[Line], read_: Read, engine: str, name: str, file: Path) -> Startup:
    phases = phases_of(read_, engine)
    outcome, problem = _outcome(lines, read_, phases, engine)
    if outcome not in ("ready", "ended"):
        phases = {id_: phase for id_, phase in phases.items() if id_ not in ("total_time", "actual_total_time", "unlogged")}
    return Startup(
        name=name,
        file=str(file),
        engine=engine,
        version=_version(lines),
        outcome=outcome,
        problem=problem,
        start=read_.first,
        resolution=read_.resolution,
        phases=phases,
        gaps=gaps_in(lines, read_, phases),
        parameters=_parameters(lines, name),
        facts=_facts(lines, phases),
        warnings=tuple(_odd(phases, read_)),
    )


def _outcome(lines: list[Line], read_: Read, phases: dict[str, Phase], engine: str) -> tuple[Outcome, str]:
    if read_.ready is not None:
        return "ready", ""
    failed = [line.text for line in lines if FAILURE.search(line.text)]
    died = any(BEGINS.search(line.text) for line in lines) and any(EXCEPTION.match(line.text) for line in lines)
    if "init_engine" in phases and engine == "vllm" and not failed and not died:
        return "ended", ""
    raised = [line.text for line in lines if EXCEPTION.match(line.text)]
    first_hand = [text for text in raised if not re.search(r"root cause|initialization failed|SystemExit", text)]
    if reasons := first_hand or raised or failed:
        return "failed", reasons[-1]
    return "cut", "the log ends before the server is ready"


def _version(lines: list[Line]) -> str:
    found = (match for line in lines if (match := VERSION.search(line.text)))
    return next((next(group for group in match.groups() if group) for match in found), "")


def _parameters(lines: list[Line], name: str) -> dict[str, str]:
    found = from_lines(lines) | from_name(name)
    return {key: model_name(value) if key == "model" or "/" in value else value for key, value in sorted(found.items())}


_FACTS = {
    "platform": re.compile(r"Automatically detected platform (\w+)"),
    "weights_gib": re.compile(r"Model loading took ([\d.]+) GiB|Load weight end\..*mem usage=([\d.]+) GB"),
    "filesystem": re.compile(r"Filesystem type for checkpoints: (\w+)"),
    "checkpoint_gib": re.compile(r"Checkpoint size: ([\d.]+) GiB"),
    "free_memory": re.compile(r"Initial free memory: ([\d.]+ GiB)|Load weight begin\. avail mem=([\d.]+ GB)"),
    "graphs": re.compile(r"Graph capturing finished in .*?took ([\d.]+ GiB)"),
}
_FROM_CACHE = re.compile(r"Directly load (?:the compiled graph|AOT compilation)")
_BAR = re.compile(r"(?:Fetching \d+ files|Downloading|\.(?:safetensors|bin)\b).*\[(?:(\d+):)?(\d+):(\d+)<")
_REMOTE = re.compile(
    r"\b(?:s3|gs|az|https?)://\S+\.(?:safetensors|bin)|load_format='?(?:runai|tensorizer|s3)|model(?:_path)?='?(?:s3|gs)://"
)
_NOT_CACHED = re.compile(r"Compiling a graph for|saved AOT compiled function|Cache the graph of")


def _facts(lines: list[Line], phases: dict[str, Phase]) -> dict[str, str]:
    """Return what the lines say of machine and caches."""
    facts = {}
    for key, pattern in _FACTS.items():
        if found := next((match for line in lines if (match := pattern.search(line.text))), None):
            facts[key] = next(group for group in found.groups() if group)
    cached, compiled = (any(pattern.search(line.text) for line in lines) for pattern in (_FROM_CACHE, _NOT_CACHED))
    if cached or compiled:
        facts["compile_cache"] = "partly" if cached and compiled else "hit" if cached else "miss"
    if "download_weights" in phases or any(_downloads(line.text) for line in lines):
        facts["download"] = "yes"
    if any(_REMOTE.search(line.text) for line in lines):
        facts["weights_from"] = "an object store"
    if any(line.level == "DEBUG" for line in lines):
        facts["log_level"] = "DEBUG"
    return facts


def _downloads(text: str) -> bool:
    """Tell a bar of a download that took time: for files that are there already it ends at once."""
    bar = _BAR.search(text)
    return bar is not None and any(int(part or 0) for part in bar.groups())


def _odd(phases: dict[str, Phase], read_: Read) -> list[str]:
    """Say what cannot be: parts that take longer than the whole."""
    remarks = []
    for whole, parts in (("model_loading", ("model_init", "load_weights")), ("init_engine", ("graph_capturing",))):
        if whole in phases and all(part in phases for part in parts):
            inside = sum(phases[part].seconds for part in parts)
            if inside > 1.1 * phases[whole].seconds + 1:
                remarks.append(f"{' + '.join(parts)} take {inside:.1f} s, {whole} {phases[whole].seconds:.1f} s")
    if "init_engine" in phases and "actual_total_time" not in phases:
        stated = max(phase.seconds for phase in phases.values())
        remarks.append(f"its stamps span {read_.last - read_.first:.1f} s, a phase takes {stated:.1f} s: no total is given")
    return remarks
