"""The server's torch profiler: started and stopped through its own endpoints, its traces fetched, its cost measured."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from collectors.clocks import CaptureClock
from collectors.engines import Engine, from_here, same_files
from collectors.samplers.engine import Progress
from collectors.sampling import Note
from collectors.server import API_KEY_VARIABLE, Server, ServerError
from collectors.watchdog import STOP_PATH, Watchdog
from rca.capture.manifest import ProfilerFacts, Throughput

SETTINGS = {"activities": ["CPU", "GPU"], "with_stack": False, "record_shapes": False}
"""Stacks and shapes slow the host's side much, and make traces huge (FORMATS.md §8, 19)."""

_WRITTEN = re.compile(r"\.trace\.json(?:\.gz)?$|profiler_out[\w.-]*\.txt$")
"""Names of what engines write (FORMATS.md §2.1, §3.1)."""

_SETTLED_SECONDS = 1.0
_POLL_SECONDS = 0.1
_LEAST_SECONDS = 0.2
"""Of a shorter time a rate of steps says nothing."""


@dataclass
class TorchProfiler:
    """One profile of a server.

    Attributes:
        folder: where the server writes its traces, as seen from here; None where that is unknown.
        served_folder: the same as the server sees it; SGLang is told, vLLM knows.
        pids: the server's processes at this moment; a file that one of them has open is not finished.
        expected: number of traces that will be written.
    """

    server: Server
    engine: Engine
    clock: CaptureClock
    note: Note
    folder: Path | None
    served_folder: Path | None
    pids: Callable[[], list[int]]
    expected: int = 1
    facts: ProfilerFacts = field(default_factory=ProfilerFacts)
    _before: set[Path] = field(default_factory=set)
    _watchdog: Watchdog | None = None

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped yet."""
        return self._watchdog is not None

    def start(self, steps: int, timeout: float) -> bool:
        """Start it; return whether it runs. Why it does not is noted."""
        body = None
        if self.engine.name == "sglang":
            body = SETTINGS | {"output_dir": str(self.served_folder), "num_steps": steps}
        self.facts.begins_at_once = self.engine.name == "vllm"
        self.facts.settings = {key: value for key, value in (body or {}).items() if key != "output_dir"}
        self._before = set(_files(self.folder))
        self._watchdog = Watchdog(self.server).__enter__()
        self.facts.asked_ns = self.clock.now_ns()
        try:
            reply = self.server.post("/start_profile", body, timeout)
        except ServerError as error:
            self.note("profiler", f"{error}: it is told to stop, in case it did start")
            self.stop(timeout)
            return False
        if reply.status != 200:
            self._stand_down()
            self.note("profiler", self._refusal(reply.status))
            return False
        self.facts.started_ns = self.clock.now_ns()
        return True

    def stop(self, timeout: float) -> None:
        """Stop it, if it was started; engines answer when the traces are written."""
        if not self.running:
            return
        self.facts.stopped_ns = self.clock.now_ns()
        try:
            reply = self.server.post(STOP_PATH, timeout=timeout)
        except ServerError as error:
            self.note("profiler", f"{error}: whether it stopped is not known")
        else:
            ended_by_itself = self.engine.name == "sglang"  # then it answers with an error, since nothing runs any more
            if reply.status != 200 and not ended_by_itself:
                self.note("profiler", f"{STOP_PATH} answered HTTP {reply.status}")
        self._stand_down()

    def fetch(self, into: Path, deadline: float, stopping: Callable[[], bool]) -> list[Path]:
        """Wait until the traces are written, at most until ``deadline`` (monotonic s); move them, and return them."""
        if self.folder is None:
            return []
        sizes: dict[Path, int] = {}
        settled = time.monotonic()
        while True:
            now = {path: _size(path) for path in self.new_files()}
            if now != sizes:
                sizes, settled = now, time.monotonic()
            quiet = time.monotonic() - settled >= _SETTLED_SECONDS and not self._open_files(now)
            traces = [path for path in now if ".trace.json" in path.name]
            if quiet and len(traces) >= self.expected:
                break
            if time.monotonic() > deadline or (stopping() and quiet and traces):
                missing = f"{len(traces)} of {self.expected} expected traces were written in time"
                self.note("trace_missing", missing + (", and are still being written" if now and not quiet else ""))
                break
            time.sleep(_POLL_SECONDS)
        self.facts.written_ns = self.clock.now_ns()
        fetched = [_moved(path, into) for path in sorted(sizes) if not _is_blank(path)]
        if self.folder.name.startswith("rca-profile-"):
            with contextlib.suppress(OSError):
                self.folder.rmdir()
        return fetched

    def new_files(self) -> list[Path]:
        """Return what is in the server's folder that was not there when the profiler started."""
        return [path for path in _files(self.folder) if path not in self._before]

    def _open_files(self, files: Sequence[Path] | dict[Path, int]) -> bool:
        wanted = {str(path.resolve()) for path in files}
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for link in os.scandir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        if os.readlink(link.path) in wanted:
                            return True
        return False

    def _stand_down(self) -> None:
        if self._watchdog:
            self._watchdog.__exit__(None, None, None)
            self._watchdog = None

    def _refusal(self, status: int) -> str:
        if status == 409:
            return "a profile that somebody else started is running; it was left alone"
        if status == 404 and self.engine.name == "vllm":
            remedy = '--profiler-config \'{"profiler": "torch", "torch_profiler_dir": "DIR", ...}\''
            return f"this vLLM has no profiler: start it with {remedy} (before 0.13: VLLM_TORCH_PROFILER_DIR=DIR)"
        if status in (401, 403):
            return f"the server wants a key for its profiler: put it into the environment variable {API_KEY_VARIABLE}"
        return f"/start_profile answered HTTP {status}"


def shared_folder(traces: Path, pid: int | None) -> tuple[Path, Path]:
    """Return a folder that both a server and we can use for traces: as we see it, and as the server does.

    It is ``traces`` itself where the server sees our files and may write there; else a new one in its ``/tmp``, for nobody
    else can get at what is in a capture.
    """
    if pid is not None and same_files(pid) and _owner(pid) in (os.geteuid(), 0):
        return traces, traces
    name = Path("/tmp", f"rca-profile-{os.getpid()}-{time.time_ns()}")  # noqa: S108  (the server makes it)
    return (from_here(pid, name) if pid is not None else name), name


def _owner(pid: int) -> int:
    """Return the user of a process; ourselves for one that is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return os.geteuid()


def throughput(history: Sequence[Progress], begin_ns: int, end_ns: int) -> Throughput | None:
    """Return steps and tokens per second between the scrapes that lie within a time; None where they are too few."""
    within = [point for point in history if begin_ns <= point.ts_ns <= end_ns]
    first, last = (within[0], within[-1]) if within else (None, None)
    seconds = (last.ts_ns - first.ts_ns) / 1e9 if first and last else 0.0
    if first is None or last is None or seconds < _LEAST_SECONDS:
        return None

    def per_second(before: float | None, after: float | None) -> float | None:
        grew = before is not None and after is not None and after >= before
        return round((after - before) / seconds, 3) if grew and after is not None and before is not None else None

    return Throughput(round(seconds, 3), per_second(first.steps, last.steps), per_second(first.tokens, last.tokens))


def measure_cost(facts: ProfilerFacts, history: Sequence[Progress], begin_ns: int, end_ns: int) -> None:
    """Write down what profiling cost the server: steps per second before it, while it ran, while it wrote, and after."""
    if not (facts.started_ns and facts.stopped_ns and facts.written_ns and facts.asked_ns):
        return
    parts = {
        "before": (begin_ns, facts.asked_ns),
        "profiling": (facts.started_ns, facts.stopped_ns),
        "writing": (facts.stopped_ns, facts.written_ns),
        "after": (facts.written_ns, end_ns),
    }
    found = {name: throughput(history, *span) for name, span in parts.items()}
    facts.throughput = {name: rates for name, rates in found.items() if rates}
    free = [rates.steps_per_s for name in ("before", "after") if (rates := found[name]) and rates.steps_per_s]
    if not free:
        return
    usual = sum(free) / len(free)
    if (profiled := found["profiling"]) and profiled.steps_per_s is not None:
        facts.overhead_pct = round(100 * (1 - profiled.steps_per_s / usual), 1)
    if (writing := found["writing"]) and writing.steps_per_s is not None:
        lost = max(0.0, 1 - writing.steps_per_s / usual)
        facts.stall_seconds = round(lost * (facts.written_ns - facts.stopped_ns) / 1e9, 1)


def _files(folder: Path | None) -> list[Path]:
    """Return what engines write into a folder when they profile; it may be a folder that others use too."""
    if folder is None:
        return []
    try:
        return sorted(path for path in folder.iterdir() if _WRITTEN.search(path.name) and path.is_file())
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _is_blank(path: Path) -> bool:
    """Tell, and delete, a file that says nothing: the summary of a process that recorded nothing."""
    try:
        if path.stat().st_size > 16 or path.read_bytes().strip():
            return False
        path.unlink()
    except OSError:
        return False
    return True


def _moved(path: Path, into: Path) -> Path:
    """Move a file, or copy it where it may not be moved; return where it is now."""
    target = into / path.name
    if path.parent != into:
        try:
            shutil.move(path, target)
        except OSError:
            shutil.copyfile(path, target)
    with contextlib.suppress(OSError):
        if os.geteuid() == 0:
            os.chown(target, 0, 0)
        os.chmod(target, 0o600)
    return target
