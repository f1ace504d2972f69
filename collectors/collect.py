"""One capture from beginning to end: samplers run all the time; within it the server's profiler, or Nsight Systems."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from collectors import nsys
from collectors.clocks import CaptureClock, read_clocks
from collectors.command import RecordedCommand
from collectors.folder import CaptureFolder
from collectors.machine import Gpus, host_facts, host_samplers, open_gpus
from collectors.pack import pack
from collectors.process_tree import ProcessTree
from collectors.profiling import TorchProfiler, measure_cost, throughput
from collectors.recorder import Recorder
from collectors.redact import redacted
from collectors.samplers.engine import EngineMetrics
from collectors.samplers.procfs import raise_file_limit
from collectors.targets import Target, find_target, profiler_of
from rca.capture.manifest import KINDS, SCHEMA, Event, Manifest
from rca.capture.manifest import Engine as EngineFacts
from rca.errors import OutputError
from rca.version import __version__

DURATION_SECONDS = 30.0
HZ = 20.0
STEPS = 64
"""Enough cycles for a test; writing the trace of more of them holds a server up for long."""

EXPORT_SECONDS = 180.0

_TICK_SECONDS = 0.5
_BUSY_TICK_SECONDS = 0.05
_MAX_SETTLE_SECONDS = 10.0
_SAMPLES_PER_STEP = 4
_MAX_BOOST_HZ = 400.0
_UNKNOWN_BOOST_HZ = 200.0
"""While the profiler runs, on-CPU and run-queue time are sampled several times a step, so that they can be told step by
step (`rca.profile.scheduling` wants three samples in each)."""

_ENGINE_BOOST_HZ = 4.0
_START_SECONDS = 30.0

_STEP_NS = 1_000_000
"""A wall clock is set by more than this; reading two clocks is never so far apart."""

_PROFILE_NEEDS_SECONDS = 3.0


@dataclass(frozen=True)
class Options:
    """What to record.

    Attributes:
        output: the folder that becomes the capture.
        duration: seconds; None records a command until it ends, and anything else for `DURATION_SECONDS`.
        url: of the server; None records no engine.
        engine: ``auto``, ``sglang`` or ``vllm``.
        pids: processes to watch; by default the server's, found by its port.
        command: a program to run and watch.
        hz: samples per second of the fast counters; slower ones have rates of their own.
        steps: of the engine to profile; 0 leaves the profiler off.
        profile_dir: where a vLLM server writes its traces, where its command line does not say.
        nsys: record with Nsight Systems and export as this kind.
        export_timeout: seconds that the profiler may take to write.
        force: replace a capture at ``output``.
    """

    output: Path
    duration: float | None = None
    url: str | None = None
    engine: str = "auto"
    pids: tuple[int, ...] = ()
    command: tuple[str, ...] = ()
    hz: float = HZ
    steps: int = STEPS
    profile_dir: Path | None = None
    nsys: str | None = None
    export_timeout: float = EXPORT_SECONDS
    force: bool = False


@dataclass(frozen=True)
class Status:
    """How far a capture is. ``steps``: of the engine since it began; None where its metrics do not tell."""

    doing: str
    seconds_left: float | None
    samples_per_s: float
    steps: int | None


OnStatus = Callable[[Status], None]
OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Collected:
    """What came of it."""

    folder: Path
    manifest: Manifest


def collect(options: Options, on_status: OnStatus = lambda _: None, on_event: OnEvent = lambda _: None) -> Collected:
    """Record a capture. SIGINT and SIGTERM end it early and cleanly.

    Args:
        options: what to record, and where to.
        on_status: called about twice a second.
        on_event: called, from any thread, when something happens that a person should know.

    Raises:
        OutputError: the folder cannot be made or written.
        RcaError: there is no server, process or program of that name, or no nsys.
    """
    return _Collection(options, on_status, on_event).run()


@dataclass
class _Collection:
    options: Options
    on_status: OnStatus
    on_event: OnEvent
    clock: CaptureClock = field(default_factory=CaptureClock)
    manifest: Manifest = field(default_factory=lambda: Manifest(SCHEMA, f"rca {__version__}", "recording"))
    stop: threading.Event = field(default_factory=threading.Event)
    _no_patience: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Event = field(default_factory=threading.Event)
    _step_ns: int = 0
    _told: tuple[float, int] = (0.0, 0)

    def run(self) -> Collected:
        options = self.options
        nsys_program = nsys.find() if options.nsys else None
        target = find_target(options.url, options.engine, options.pids)
        command = RecordedCommand(options.command, nsys_program) if options.command else None
        self.folder = CaptureFolder(options.output, options.force)
        with ExitStack() as stack:
            stack.enter_context(_signals(self._interrupted))
            raise_file_limit()
            gpus = open_gpus(self.note)
            stack.callback(gpus.close)
            self._describe(target, gpus)
            self._save(must=True)
            if command:
                target.roots.append(command.start(self.folder.traces))
                stack.callback(command.end)
            self.tree = ProcessTree(target.roots, self.clock, self.note)
            self.metrics = EngineMetrics(options.hz, target.server, self.clock.now_ns, self.note) if target.server else None
            together, samplers = host_samplers(options.hz, self.tree)
            samplers += gpus.samplers(options.hz, self.note)
            samplers += [self.metrics] if self.metrics else []
            self._began = time.monotonic()
            self.recorder = stack.enter_context(Recorder(samplers, self.folder.counters, self.clock, self.note, together))
            self._save()
            self.folder.log(f"{self.clock.now_ns()} {self.manifest.tool}: recording")
            self._record(target, command, nsys_program)
            self._final_facts(gpus)
        if nsys_program and options.nsys:
            self._export(nsys_program, options.nsys)
        return self._finish()

    # ---- what happens

    def note(self, kind: str, text: str) -> None:
        """Write an event into the manifest and the log, and tell who waits for such."""
        assert kind in KINDS, kind  # noqa: S101
        event = Event(self.clock.now_ns(), kind, text)
        self.manifest.events.append(event)
        self.folder.log(f"{event.at_ns} {kind}: {text}")
        self._changed.set()
        self.on_event(event)

    def _interrupted(self, number: int, _frame: FrameType | None) -> None:
        """End early; at the second signal wait no longer for a trace either."""
        if self.stop.is_set():
            self._no_patience.set()
        else:
            self.stop.set()
            self.note("interrupted", f"{signal.Signals(number).name}: ended early")

    # ---- recording

    def _record(self, target: Target, command: RecordedCommand | None, nsys_program: str | None) -> None:
        options = self.options
        duration = options.duration or (None if command else DURATION_SECONDS)
        self._ends = self._began + duration if duration else None
        if nsys_program and not command:
            self._nsys_session(nsys_program)
        profiler = None
        if target.server and target.engine and options.steps and not options.nsys:
            profiler = profiler_of(target, self.tree, self.folder.traces, options.profile_dir, self.clock, self.note)
        if profiler:
            self.manifest.profiler = profiler.facts
            settle = min((duration or DURATION_SECONDS) / 3, _MAX_SETTLE_SECONDS)
            self._wait("sampling", settle)
            self._profile(profiler)
        self._wait("sampling", None, lambda: command is not None and command.has_ended())
        if command:
            self.note("command_ended", command.end())
        if profiler and self.metrics:
            began_ns = self.clock.now_ns() - int((time.monotonic() - self._began) * 1e9)
            measure_cost(profiler.facts, self.metrics.history, began_ns, self.clock.now_ns())

    def _profile(self, profiler: TorchProfiler) -> None:
        if self.stop.is_set() or self._nothing_left():
            return
        self._look()
        self.recorder.boost("threads", self._boost_hz())
        self.recorder.boost("engine", _ENGINE_BOOST_HZ)
        try:
            if profiler.start(self.options.steps, min(_START_SECONDS, self.options.export_timeout)):
                self._look()
                first = self._steps()  # a server goes on while it is asked to start
                left = (self._ends or time.monotonic() + DURATION_SECONDS) - time.monotonic()
                self._wait("profiling", max(left, _PROFILE_NEEDS_SECONDS), lambda: self._done(profiler, first))
                if first is not None and (done := self._steps()) is not None and done - first < self.options.steps:
                    self.note("profiler", f"{done - first} of {self.options.steps} steps were seen while it ran")
        finally:
            self._look()
            self.recorder.boost("threads", None)
            self.recorder.boost("engine", None)
            self._stop_and_fetch(profiler)

    def _done(self, profiler: TorchProfiler, first: int | None) -> bool:
        if first is None:
            return bool(profiler.new_files())
        elapsed = (self.clock.now_ns() - (profiler.facts.started_ns or 0)) / 1e9
        if elapsed * self._steps_per_s() >= self.options.steps:
            self._look()
        now = self._steps()
        return now is not None and now - first >= self.options.steps

    def _stop_and_fetch(self, profiler: TorchProfiler) -> None:
        """Stop the profiler and wait for its traces, in a thread: a server that hangs must not make us deaf."""
        if not profiler.facts.asked_ns:
            return
        deadline = time.monotonic() + self.options.export_timeout

        def work() -> None:
            profiler.stop(timeout=self.options.export_timeout)
            if profiler.facts.started_ns:
                profiler.fetch(self.folder.traces, deadline, self.stop.is_set)

        worker = threading.Thread(target=work, name="rca-stop-profiler", daemon=True)
        worker.start()
        while worker.is_alive() and not self._no_patience.is_set():
            self._tick("waiting for the trace", max(0.0, deadline - time.monotonic()))
            worker.join(_TICK_SECONDS)
        if worker.is_alive():
            self.note("trace_missing", "not waited for; what the server still writes stays where it writes")

    def _nsys_session(self, program: str) -> None:
        try:
            session = nsys.the_session(program)
            nsys.run(nsys.start_command(program, session, self.folder.traces.absolute() / "nsys"))
            try:
                self._wait("recording with nsys", None)
            finally:
                nsys.run(nsys.stop_command(program, session))
        except nsys.NsysError as error:
            self.note("trace_missing", str(error))

    def _export(self, program: str, kind: str) -> None:
        self.on_status(Status("exporting the nsys report", None, 0.0, None))
        try:
            if not nsys.export_all(program, self.folder.traces, kind):
                self.note("trace_missing", "nsys wrote no report")
        except nsys.NsysError as error:
            self.note("trace_missing", str(error))

    # ---- waiting

    def _wait(self, doing: str, seconds: float | None, until: Callable[[], bool] = lambda: False) -> None:
        """Wait for a time (None: for the end of the capture), a condition, a signal, or the end of all that is watched."""
        ends = time.monotonic() + seconds if seconds is not None else self._ends
        while not self.stop.is_set() and not until() and not self._nothing_left():
            if ends is not None and time.monotonic() >= ends:
                return
            left = self._ends - time.monotonic() if self._ends else None
            self._tick(doing, left)
            self.stop.wait(_TICK_SECONDS if doing == "sampling" else _BUSY_TICK_SECONDS)

    def _nothing_left(self) -> bool:
        return bool(self.tree.known) and not self.tree.pids()

    def _tick(self, doing: str, left: float | None) -> None:
        """Look after what changes: the wall clock, the manifest, the status line."""
        step = self.clock.step_ns()
        if abs(step - self._step_ns) > _STEP_NS:
            self.note("clock_step", f"the wall clock was set by {(step - self._step_ns) / 1e9:+.3f} s")
            self._step_ns = step
        now, samples = time.monotonic(), self.recorder.samples
        if now - self._told[0] >= 0.5:
            rate = (samples - self._told[1]) / (now - self._told[0]) if self._told[0] else 0.0
            self._told = now, samples
            self.on_status(Status(doing, left, rate, self._steps_since_begin()))
            if self._changed.is_set():
                self._save()

    def _look(self) -> None:
        """Ask the engine now, for what is measured begins or ends here."""
        if self.metrics:
            self.metrics.look()

    def _steps(self) -> int | None:
        progress = self.metrics.progress() if self.metrics else None
        return int(progress.steps) if progress and progress.steps is not None else None

    def _steps_since_begin(self) -> int | None:
        history = self.metrics.history if self.metrics else []
        steps = [point.steps for point in (history[0], history[-1]) if point.steps is not None] if history else []
        return int(steps[-1] - steps[0]) if steps else None

    def _boost_hz(self) -> float:
        per_second = self._steps_per_s()
        wanted = _SAMPLES_PER_STEP * per_second if per_second else _UNKNOWN_BOOST_HZ
        return min(max(wanted, self.options.hz), _MAX_BOOST_HZ)

    def _steps_per_s(self) -> float:
        """Return what the engine did since the capture began; 0 where it did nothing or does not tell."""
        history = self.metrics.history if self.metrics else []
        rates = throughput(history, history[0].ts_ns, history[-1].ts_ns) if history else None
        return (rates.steps_per_s or 0.0) if rates else 0.0

    # ---- the manifest

    def _describe(self, target: Target, gpus: Gpus) -> None:
        manifest, options = self.manifest, self.options
        manifest.clocks = [self.clock.started]
        manifest.host = host_facts()
        manifest.gpus = gpus.facts
        manifest.unavailable = gpus.unavailable | target.unavailable
        manifest.command = redacted(options.command)
        if target.engine and target.server:
            manifest.engine = EngineFacts(
                target.engine.name, target.engine.version, target.server.url, dict(target.engine.settings)
            )
        manifest.collector = {"hz": options.hz, "steps": options.steps, "nsys": options.nsys}

    def _final_facts(self, gpus: Gpus) -> None:
        """Take down what the samplers know while they run."""
        manifest = self.manifest
        in_use = gpus.in_use_by()
        for pid, facts in self.tree.known.items():
            facts.gpus = in_use.get(pid, [])
        manifest.clocks = [self.clock.started, read_clocks()]

    def _save(self, must: bool = False, last: bool = False) -> None:
        """Write the manifest. In the middle a full disk may refuse it: it is written again later."""
        self._changed.clear()
        if hasattr(self, "tree"):
            self.manifest.processes = [self.tree.known[pid] for pid in sorted(self.tree.known)]
        if hasattr(self, "recorder"):
            self.manifest.unavailable |= self.recorder.unavailable
        try:
            self.folder.write_manifest(self.manifest, last)
        except OSError as error:
            if must:
                raise OutputError(self.folder.path, f"cannot be written: {error.strerror or error}") from None
            self._changed.set()

    def _finish(self) -> Collected:
        manifest = self.manifest
        manifest.samplers = [task.facts() for task in self.recorder.tasks.values()]
        self.on_status(Status("packing", None, 0.0, None))
        work = pack(self.folder.path, manifest.profiler)
        manifest.traces = work.traces
        for problem in work.problems:
            self.note("disk_full", problem)
        manifest.status = "interrupted" if self.stop.is_set() else "complete"
        self.folder.log(f"{self.clock.now_ns()} {manifest.tool}: {manifest.status}")
        self._save(must=True, last=True)
        self.folder.finish()
        return Collected(self.folder.path, manifest)


@contextmanager
def _signals(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the capture; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
