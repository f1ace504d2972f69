"""A suite from beginning to end: servers are started, faults injected, both sides recorded, truths written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from collectors.machine import host_facts
from lab import actions
from lab.case import TRUTH, Effect, Truth, write_truth
from lab.faults import FAULTS, Fault, FaultError, Situation
from lab.groups import Groups, own_groups
from lab.priority import clients_first, clients_first_here
from lab.serving import Serving, WorkloadError, found, started
from lab.suite import Case, Suite, Workload, plan
from lab.undo import Undo, signals_unwind
from rca.errors import OutputError, RcaError, UsageError

RECORD = "lab.json"
RECORD_SCHEMA = "rca.lab.run/1"
SIDES = ("normal", "abnormal")

_EXPORT_SECONDS = 240.0
"""A server may take long to write its trace when it is short of CPU."""

_FAULT_SECONDS = 420.0
_LOOK_SECONDS = 3.0
_TRIES = 2


class Record(msgspec.Struct):
    """What was run, beside its cases. ``unavailable``: by workload, what it could not have and why; ``failed``: by case."""

    schema: str = RECORD_SCHEMA
    suite: str = ""
    digest: str = ""
    host: str = ""
    workloads: dict[str, str] = {}
    unavailable: dict[str, dict[str, str]] = {}
    failed: dict[str, str] = {}
    not_undone: list[str] = []


@dataclass(frozen=True)
class Progress:
    """How far a run is: cases that are finished, of how many, and what is done now, in words."""

    done: int
    of: int
    doing: str


@dataclass(frozen=True)
class Done:
    """What came of a run. ``left``: cases that were not begun for lack of time."""

    folder: Path
    cases: int
    left: int
    record: Record


@dataclass
class Run:
    """One run of a suite.

    Attributes:
        suite: what to run.
        out: folder of the cases; those that are finished there are not run again.
        allowed: flags of what may be touched: ``clocks``, ``foreign``.
        only: faults to run, by name; empty for all (``aa`` is one).
        on_progress: called when something begins.
        on_note: called with what a person should know, one line each.
    """

    suite: Suite
    out: Path
    allowed: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()
    on_progress: Callable[[Progress], None] = lambda _: None
    on_note: Callable[[str], None] = lambda _: None
    record: Record = field(default_factory=Record)
    _finished: int = 0
    _of: int = 0
    _ends: float = 0.0

    def run(self) -> Done:
        """Run what is not finished yet. Ctrl-C, SIGTERM and SIGHUP end it cleanly; the same call goes on later.

        Raises:
            UsageError: the folder holds cases of another suite.
            OutputError: it cannot be written.
        """
        cases = [case for case in plan(self.suite) if self._wanted(case)]
        if unknown := self.only - {"aa", *FAULTS}:
            raise UsageError(f"--only {min(unknown)}: no such fault; `rca lab list` shows those that there are")
        self._open_folder()
        self._of = len(cases)
        self._finished = sum((self.out / case.name / TRUTH).exists() for case in cases)
        self._ends = time.monotonic() + 60 * self.suite.limit_minutes
        left = 0
        with clients_first_here(), signals_unwind(), Undo() as undo:
            try:
                for name, workload in self.suite.workloads.items():
                    todo = [c for c in cases if c.workload == name and not (self.out / c.name / TRUTH).exists()]
                    if todo:
                        left += self._workload(name, workload, todo, undo)
            finally:
                self.record.not_undone = undo.problems
                self._save()
        return Done(self.out, self._finished, left, self.record)

    def _wanted(self, case: Case) -> bool:
        return not self.only or (case.fault.name if case.fault else "aa") in self.only

    # ---- a workload

    def _workload(self, name: str, workload: Workload, cases: list[Case], undo: Undo) -> int:
        """Run the cases of one workload; return how many were left for lack of time."""
        self.record.unavailable.pop(name, None)
        place = Path(tempfile.mkdtemp(prefix="rca-lab-"))
        with ExitStack() as stack:
            stack.enter_context(undo.holding(actions.delete(place)))
            groups = stack.enter_context(own_groups(undo, f"rca-lab-{os.getpid()}"))
            server = _Server(workload, groups, undo, place, self._ends + _FAULT_SECONDS)
            stack.callback(server.end)
            try:
                self._tell(f"{name}: starting its server")
                serving = server.with_arguments(())
                self.record.workloads[name] = " ".join(workload.command) or workload.url
                used_cores = server.used_cores(self.suite.seed)
                situation = self._situation(serving, groups, undo, place, used_cores)
            except RcaError as error:
                self.record.unavailable.setdefault(name, {})["*"] = str(error)
                self.on_note(f"workload {name} is not available: {error}")
                self._of -= len(cases)
                return 0
            possible = self._possible(name, workload, cases, situation)
            for i, case in enumerate(possible):
                if time.monotonic() > self._ends:
                    self.on_note(f"the time is up ({self.suite.limit_minutes:g} min): the same command goes on")
                    return len(possible) - i
                self._attempts(case, server, situation)
        return 0

    def _situation(self, serving: Serving, groups: Groups, undo: Undo, place: Path, used_cores: float) -> Situation:
        python = os.path.expandvars(serving.workload.python) or sys.executable
        return Situation(
            undo=undo,
            root=serving.root,
            may_touch=serving.ours or serving.workload.pid is not None,
            groups=groups if serving.ours else None,
            cores=serving.cores(),
            used_cores=used_cores,
            port=serving.server.port,
            scratch=place,
            folder=self.out,
            seconds=_FAULT_SECONDS,
            allowed=self.allowed,
            python=python,
        )

    def _possible(self, name: str, workload: Workload, cases: list[Case], situation: Situation) -> list[Case]:
        """Leave out what this machine or server cannot have, and write down why."""
        reasons = {
            fault.name: reason
            for fault in {case.fault.name: case.fault for case in cases if case.fault}.values()
            if (reason := why_not(fault, workload, situation))
        }
        for fault, reason in sorted(reasons.items()):
            self.record.unavailable.setdefault(name, {})[fault] = reason
            self.on_note(f"{name}: {fault} is not available: {reason}")
        self._save()
        possible = [case for case in cases if case.fault is None or case.fault.name not in reasons]
        self._of -= len(cases) - len(possible)
        return possible

    # ---- a case

    def _attempts(self, case: Case, server: _Server, situation: Situation) -> None:
        """Run a case, once more if its server failed; then go on without it."""
        for attempt in range(1, _TRIES + 1):
            self._tell(case.name)
            try:
                self._case(case, server, situation)
            except (WorkloadError, FaultError) as error:
                self.on_note(f"{case.name}: {error}" + (" (tried again)" if attempt < _TRIES else ""))
                self.record.failed[case.name] = str(error)
                server.end()
            else:
                self._finished += 1
                self.record.failed.pop(case.name, None)
                break
        self._save()

    def _case(self, case: Case, server: _Server, situation: Situation) -> None:
        folder = self.out / case.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        order = SIDES[::-1] if case.abnormal_first else SIDES
        parameters: dict[str, object] = {"change": list(case.arguments)} if case.arguments else {}
        measured = {}
        for side in order:
            changed = case.arguments if side == "abnormal" else ()
            serving = server.with_arguments(changed)
            situation.root, situation.port = serving.root, serving.server.port
            with self._conditions(case, side, situation, parameters):
                measured[side] = self._capture(case, side, serving, folder / side)
        (normal, n_normal), (abnormal, n_abnormal) = measured["normal"], measured["abnormal"]
        unit = "step" if serving.workload.engine == "loop" else "output token"
        write_truth(
            folder,
            Truth(
                case=case.name,
                suite=self.suite.name,
                workload=case.workload,
                engine=serving.workload.engine,
                fault=_label(case),
                cause=case.fault.cause if case.fault else None,
                severity=case.severity,
                severity_unit=case.fault.unit if case.fault else "",
                device=case.fault.device if case.fault else "",
                parameters=parameters,
                effect=Effect(f"µs per {unit}", normal, abnormal, n_normal, n_abnormal),
                first=order[0],
                repeat=case.repeat,
                host=self.record.host,
            ),
        )

    @contextmanager
    def _conditions(self, case: Case, side: str, situation: Situation, parameters: dict[str, object]) -> Iterator[None]:
        """Bring about what a side is recorded under."""
        fault, severity = case.fault, case.severity
        with ExitStack() as stack:
            if fault and severity is not None:
                parameters |= stack.enter_context(fault.background(situation, severity))
                if side == "abnormal":
                    parameters |= stack.enter_context(fault.inject(situation, severity))
            yield

    def _capture(self, case: Case, side: str, serving: Serving, out: Path) -> tuple[float | None, int]:
        """Record one side; return the time per token that the clients saw meanwhile, and of how many requests."""
        suite, fault, severity = self.suite, case.fault, case.severity
        load = serving.workload.load(suite.seed)
        recording = 0
        if fault and severity is not None and side == "abnormal":
            load = fault.load(load, severity) if fault.load else load
            recording = int(severity) if fault.recording else 0
        profiled = bool(fault and fault.recording)
        with serving.load(load) as clients:
            time.sleep(suite.settle_seconds)
            began = time.monotonic()
            self._collect(serving, out, recording)
            ended = time.monotonic()
            if clients and clients.failed:
                raise WorkloadError(f"{len(clients.failed)} request(s) failed, first: {clients.failed[0]}")
            return serving.us_per_token(clients, began, ended, profiled)

    def _collect(self, serving: Serving, out: Path, recording: int) -> None:
        seconds = self.suite.capture_seconds
        more = serving.collect_arguments(seconds, self.suite.steps, recording)
        command = [
            sys.executable,
            "-P",
            "-m",
            "rca.cli",
            "collect",
            "-q",
            "-f",
            "-o",
            str(out),
            "--duration",
            f"{seconds:g}",
        ]
        with subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as collector:  # noqa: S603
            clients_first(collector.pid)
            try:
                _, said = collector.communicate(timeout=_EXPORT_SECONDS)
            except BaseException as error:
                collector.terminate()  # it ends cleanly, and stops the server's profiler
                collector.communicate()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise WorkloadError(f"its capture did not end within {_EXPORT_SECONDS:g} s") from None
                raise
        if collector.returncode != 0:
            raise WorkloadError(f"rca collect: {' '.join(said.split()) or f'exit code {collector.returncode}'}")
        if not any((out / "traces").glob("*.json*")):
            raise WorkloadError("its capture holds no trace: see its logs/collect.log")

    # ---- the record

    def _open_folder(self) -> None:
        file = self.out / RECORD
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            known = msgspec.json.decode(file.read_bytes(), type=Record) if file.exists() else None
        except (OSError, msgspec.DecodeError) as error:
            raise OutputError(file, f"cannot be used: {error}") from None
        if known and known.digest != self.suite.digest:
            raise UsageError(f"{self.out} holds cases of another suite ({known.suite}), or of another state of it")
        if known is None and any(self.out.iterdir()):
            raise UsageError(f"{self.out} is not empty, and holds no cases of a suite")
        facts = host_facts()
        memory = (facts.memory_bytes or 0) / 2**30
        host = f"{facts.cores} cores ({facts.cpu}), {memory:.0f} GiB"
        self.record = known or Record(suite=self.suite.name, digest=self.suite.digest)
        self.record.host = host
        self._save()

    def _save(self) -> None:
        temporary = self.out / f".{RECORD}"
        try:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(self.record), indent=2) + b"\n")
            temporary.replace(self.out / RECORD)
        except OSError as error:
            raise OutputError(self.out / RECORD, f"cannot be written: {error.strerror or error}") from None

    def _tell(self, doing: str) -> None:
        self.on_progress(Progress(self._finished, self._of, doing))


class _Server:
    """The server of a workload: started anew only for other arguments, or when it does not answer any more."""

    def __init__(self, workload: Workload, groups: Groups, undo: Undo, folder: Path, ends: float) -> None:
        self._workload = workload
        self._groups = groups
        self._undo = undo
        self._folder = folder
        self._ends = ends
        self._stack = ExitStack()
        self._serving: Serving | None = None
        self._arguments: tuple[str, ...] = ()

    def with_arguments(self, arguments: tuple[str, ...]) -> Serving:
        """Return the server, running with these arguments besides its own. Raises `WorkloadError`."""
        if self._serving and self._arguments == arguments and self._serving.alive():
            return self._serving
        self.end()
        if self._workload.url:
            if arguments:
                raise WorkloadError("the lab did not start this server, and cannot start it with other arguments")
            self._serving = self._stack.enter_context(found(self._workload))
        else:
            seconds = self._ends - time.monotonic()
            server = started(self._workload, arguments, self._groups, self._undo, self._folder, seconds)
            self._serving = self._stack.enter_context(server)
        self._arguments = arguments
        return self._serving

    def used_cores(self, seed: int) -> float:
        """Return how many cores' worth of CPU time the server uses under its load."""
        serving = self.with_arguments(())
        with serving.load(serving.workload.load(seed)):
            time.sleep(_LOOK_SECONDS)
            before, began = serving.cpu_seconds(), time.monotonic()
            time.sleep(_LOOK_SECONDS)
            return (serving.cpu_seconds() - before) / (time.monotonic() - began)

    def end(self) -> None:
        """End it, if it runs and is ours."""
        self._serving = None
        self._stack.close()


def why_not(fault: Fault, workload: Workload, situation: Situation) -> str | None:
    """Return why a workload cannot have a fault here; None where it can."""
    if workload.engine == "loop" and fault.load:
        return "the built-in loop has no clients; start it with other arguments (software_change) instead"
    if workload.engine != "loop" and fault.recording:
        return "only the recording of the built-in loop can be changed"
    if fault.change and workload.url:
        return "the lab did not start this server, and cannot start it with other arguments"
    return fault.unavailable(situation)


def _label(case: Case) -> str | None:
    if case.fault is None:
        return None
    return f"{case.fault.name}.{case.change}" if case.change else case.fault.name
