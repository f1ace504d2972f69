"""A suite from beginning to end: servers are started, faults injected, both sides recorded, truths written."""

from __future__ import annotations

import fcntl
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
import psutil

from collectors.machine import host_facts
from collectors.redact import redacted
from collectors.server import ServerError
from lab import actions
from lab.case import TRUTH, Effect, Truth, write_truth
from lab.faults import FAULTS, Fault, FaultError, Situation
from lab.groups import Groups, own_groups
from lab.priority import clients_first, clients_first_here
from lab.serving import KeptServer, Serving, WorkloadError, gpu_of
from lab.suite import Case, Suite, Workload, plan
from lab.undo import Undo, signals_unwind
from rca.errors import OutputError, RcaError, UsageError

RECORD = "lab.json"
RECORD_SCHEMA = "rca.lab.run/1"
SIDES = ("normal", "abnormal")

_EXPORT_SECONDS = 240.0
"""Beyond the capture's own: a server may take long to write its trace when it is short of CPU."""

_ANSWER_SECONDS = 60.0
_TRIES = 2

_OF_THE_CASE = (ServerError, psutil.Error, subprocess.SubprocessError, OSError)
"""What a fault does to the server, or to what looks at it: the case failed, not the run."""


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
        with self._folder():
            return self._run(cases)

    def _run(self, cases: list[Case]) -> Done:
        self._of = len(cases)
        self._finished = sum((self.out / case.name / TRUTH).exists() for case in cases)
        self._ends = time.monotonic() + 60 * self.suite.limit_minutes
        left = 0
        undo = Undo()
        try:
            with clients_first_here(), signals_unwind(), undo:
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
            groups = stack.enter_context(own_groups(undo))
            server = KeptServer(workload, groups, undo, place, self._ends + self._case_seconds)
            stack.callback(server.end)
            try:
                self._tell(f"{name}: starting its server")
                serving = server.with_arguments(())
                self.record.workloads[name] = " ".join(redacted(workload.command)) or workload.url
                situation = self._situation(serving, groups, undo, place, server.used_cores())
            except (RcaError, *_OF_THE_CASE) as error:
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
            seconds=self._case_seconds,
            allowed=self.allowed,
            python=python,
            gpu=gpu_of(serving.root),
        )

    @property
    def _case_seconds(self) -> float:
        """How long a side may take at most; a fault ends then, whatever happens."""
        return self.suite.settle_seconds + self.suite.capture_seconds + _EXPORT_SECONDS + 2 * _ANSWER_SECONDS

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

    def _attempts(self, case: Case, server: KeptServer, situation: Situation) -> None:
        """Run a case, once more if its server failed; then go on without it."""
        for attempt in range(1, _TRIES + 1):
            self._tell(case.name)
            try:
                self._case(case, server, situation)
            except (WorkloadError, FaultError, *_OF_THE_CASE) as error:
                self.on_note(f"{case.name}: {error}" + (" (tried again)" if attempt < _TRIES else ""))
                self.record.failed[case.name] = str(error)
                server.end()
            else:
                self._finished += 1
                self.record.failed.pop(case.name, None)
                break
        self._save()

    def _case(self, case: Case, server: KeptServer, situation: Situation) -> None:
        folder = self.out / case.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        order = SIDES[::-1] if case.abnormal_first else SIDES
        parameters: dict[str, object] = {"change": list(case.arguments)} if case.arguments else {}
        measured = {}
        for side in order:
            changed = case.arguments if side == "abnormal" else ()
            serving = server.with_arguments(changed)
            situation.root, situation.port = serving.root, serving.server.port
            with self._conditions(case, side, situation, parameters):
                measured[side] = self._capture(case, side, serving, folder / side, situation.undo)
            if case.fault and side == "abnormal":
                time.sleep(case.fault.rest_seconds)
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
                device=_device(case, situation),
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
        began = time.monotonic()
        with ExitStack() as stack:
            if fault and severity is not None:
                parameters |= stack.enter_context(fault.background(situation, severity))
                if side == "abnormal":
                    parameters |= stack.enter_context(fault.inject(situation, severity))
            yield
        if time.monotonic() - began > situation.seconds:
            raise FaultError(f"{case.name}: its {side} side took longer than the fault may last")

    def _capture(self, case: Case, side: str, serving: Serving, out: Path, undo: Undo) -> tuple[float | None, int]:
        """Record one side; return the time per token that the clients saw meanwhile, and of how many requests."""
        suite, fault, severity = self.suite, case.fault, case.severity
        load = serving.workload.load(suite.seed, f"{case.name} {side}")
        recording = 0
        if fault and severity is not None and side == "abnormal":
            load = fault.load(load, severity) if fault.load else load
            recording = int(severity) if fault.recording else 0
        profiled = bool(fault and fault.recording)
        with serving.load(load) as clients:
            time.sleep(suite.settle_seconds)
            began = time.monotonic()
            self._collect(serving, out, recording, undo)
            ended = time.monotonic()
        if clients and clients.failed:
            raise WorkloadError(f"{len(clients.failed)} request(s) failed, first: {clients.failed[0]}")
        return serving.us_per_token(clients, began, ended, profiled)

    def _collect(self, serving: Serving, out: Path, recording: int, undo: Undo) -> None:
        more = serving.collect_arguments(self.suite.capture_seconds, self.suite.steps, recording)
        command = [sys.executable, "-P", "-m", "rca.cli", "collect", "-q", "-f", "-o", str(out), *more]
        seconds = self.suite.capture_seconds + _EXPORT_SECONDS
        log = out.with_name(f"{out.name}.log")
        with undo.running(command, seconds, log=log) as collector:
            clients_first(collector.pid)
            try:
                collector.wait(seconds)
            except subprocess.TimeoutExpired:
                raise WorkloadError(f"its capture did not end within {seconds:g} s") from None
        said = " ".join(log.read_text(errors="replace").split())
        if collector.returncode != 0:
            raise WorkloadError(f"rca collect: {said or f'exit code {collector.returncode}'}")
        if not any((out / "traces").glob("*.json*")):
            raise WorkloadError(f"its capture holds no trace: {said}")
        log.unlink()

    # ---- the record

    @contextmanager
    def _folder(self) -> Iterator[None]:
        """Open the folder of the cases, for this run only."""
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
        handle = os.open(self.out, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{self.out}: another run writes its cases there") from None
            self._save()
            yield
        finally:
            os.close(handle)

    def _save(self) -> None:
        temporary = self.out / f".{RECORD}"
        try:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(self.record), indent=2) + b"\n")
            temporary.replace(self.out / RECORD)
        except OSError as error:
            raise OutputError(self.out / RECORD, f"cannot be written: {error.strerror or error}") from None

    def _tell(self, doing: str) -> None:
        self.on_progress(Progress(self._finished, self._of, doing))


def why_not(fault: Fault, workload: Workload, situation: Situation) -> str | None:
    """Return why a workload cannot have a fault here; None where it can."""
    if workload.engine == "loop" and fault.load:
        return "the built-in loop has no clients; start it with other arguments (software_change) instead"
    if workload.engine != "loop" and fault.recording:
        return "only the recording of the built-in loop can be changed"
    if fault.change and workload.url:
        return "the lab did not start this server, and cannot start it with other arguments"
    return fault.unavailable(situation)


def _device(case: Case, situation: Situation) -> str:
    if case.fault is None:
        return ""
    return f"GPU {situation.gpu.index}" if case.fault.device == "GPU" and situation.gpu else case.fault.device


def _label(case: Case) -> str | None:
    if case.fault is None:
        return None
    return f"{case.fault.name}.{case.change}" if case.change else case.fault.name
