"""A workload while it runs: its server, started or found, and the load on it; and what its clients saw."""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil

from collectors.engines import serving_process
from collectors.machine import open_gpus
from collectors.server import Server, ServerError
from lab.groups import Groups
from lab.load import Clients, Load, serving
from lab.suite import Workload, filled_in
from lab.undo import Undo
from rca.capture.manifest import Gpu
from rca.errors import RcaError

LOOP_SCRIPT = Path(__file__).with_name("decode_loop.py")
_POLL_SECONDS = 0.25
_LOG_LINES = 3
_LOOK_SECONDS = 2.0
_WARM_SECONDS = 3.0


class WorkloadError(RcaError):
    """A workload cannot be run, or its server failed: why."""

    exit_code = 2


@dataclass(frozen=True)
class Serving:
    """A server that answers. ``root``: its process; ``ours``: whether the lab started it."""

    workload: Workload
    url: str
    root: int
    ours: bool

    @property
    def server(self) -> Server:
        """HTTP to it."""
        return Server(self.url)

    def alive(self) -> bool:
        """Tell whether it answers."""
        return _is_up(self.server)

    def cores(self) -> list[int]:
        """Return the cores that its process may use."""
        return sorted(psutil.Process(self.root).cpu_affinity() or [])

    def cpu_seconds(self) -> float:
        """Return the CPU time that it and all it started have used so far."""
        total = 0.0
        root = psutil.Process(self.root)
        for process in [root, *root.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def load(self, load: Load) -> AbstractContextManager[Clients | None]:
        """Keep it busy; the loop keeps itself busy."""
        return nullcontext(None) if self.workload.engine == "loop" else serving(self.url, load)

    def collect_arguments(self, seconds: float, steps: int, recording: int) -> list[str]:
        """Return the arguments of ``rca collect`` for it. ``recording``: 1 with shapes, 2 with stacks too.

        Of the loop the capture lasts as long as its command, which waits for the trace.
        """
        if self.workload.engine != "loop":
            return ["--url", self.url, "--steps", str(steps), "--duration", f"{seconds:g}"]
        port = str(self.server.port)
        times = ["--steps", str(steps), "--after", f"{seconds / 3:g}", "--for", f"{seconds:g}"]
        more = ["--record-shapes", "--with-stack"][:recording]
        return ["--pid", str(self.root), "--", sys.executable, "-P", "-m", "lab.profile_loop", port, *times, *more]

    def us_per_token(self, clients: Clients | None, began: float, ended: float, profiled: bool) -> tuple[float | None, int]:
        """Return the median time per output token that the clients saw, and over how many requests.

        Of the loop: of its steps; with ``profiled`` of those only that were recorded.
        """
        if clients is not None:
            return clients.us_per_token(began, ended)
        query = f"/steps?since={began}&until={ended}" + ("&profiled=1" if profiled else "")
        steps = self.server.get(query, timeout=30).json()["durations_us"]
        return (statistics.median(steps) if steps else None), len(steps)


def resolved(workload: Workload, port: int, profile_dir: Path) -> list[str]:
    """Return the command that starts a workload's server.

    Raises:
        WorkloadError: it cannot be run here: why.
    """
    try:
        words = filled_in(workload.command, {"port": str(port), "profile_dir": str(profile_dir)})
        python = filled_in([workload.python], {})[0] or sys.executable
    except KeyError as error:
        raise WorkloadError(f"the environment variable {error.args[0]} is not set") from None
    if workload.engine == "loop":
        words = [python, str(LOOP_SCRIPT), "--port", str(port), *words]
    if shutil.which(words[0]) is None:
        raise WorkloadError(f"{words[0]}: no such program")
    return words


@contextmanager
def started(
    workload: Workload, arguments: Sequence[str], groups: Groups, undo: Undo, folder: Path, seconds: float
) -> Iterator[Serving]:
    """Start a workload's server and wait until it answers; it is ended with the block, or after ``seconds``.

    Raises:
        WorkloadError: it cannot be started; its last words are in the message.
    """
    port = _free_port()
    command = [*resolved(workload, port, folder / "profiles"), *arguments]
    log = folder / "server.log"
    environment = {k: os.path.expandvars(v) for k, v in workload.environment.items()}
    places = list(dict.fromkeys(groups.folders.values()))
    with ExitStack() as stack:
        process = stack.enter_context(undo.running(command, seconds, environment, log, places))
        serving_ = Serving(workload, f"http://127.0.0.1:{port}", process.pid, ours=True)
        deadline = time.monotonic() + workload.start_seconds
        while not serving_.alive():
            if process.poll() is not None:
                raise WorkloadError(f"its server ended with exit code {process.returncode}: {_last_words(log)}")
            if time.monotonic() > deadline:
                raise WorkloadError(f"its server is not up after {workload.start_seconds:g} s: {_last_words(log)}")
            time.sleep(_POLL_SECONDS)
        yield serving_


@contextmanager
def found(workload: Workload) -> Iterator[Serving]:
    """Use a server that runs already. Raises `WorkloadError` where it does not answer, or is on another machine."""
    server = Server(workload.url)
    if not _is_up(server):
        raise WorkloadError(f"{workload.url}: no server answers there")
    root = workload.pid or serving_process(server)
    if isinstance(root, str):
        raise WorkloadError(f"{workload.url}: {root}")
    if not psutil.pid_exists(root):
        raise WorkloadError(f"pid {root}: no such process")
    yield Serving(workload, server.url, root, ours=False)


class KeptServer:
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
        with self._serving.load(self._workload.load(0, "warm up")):  # a server's first requests are not like the others
            time.sleep(_WARM_SECONDS)
        return self._serving

    def used_cores(self) -> float:
        """Return how many cores' worth of CPU time the server uses under its load."""
        serving_ = self.with_arguments(())
        with serving_.load(serving_.workload.load(0, "look")):
            time.sleep(_LOOK_SECONDS)
            before, began = serving_.cpu_seconds(), time.monotonic()
            time.sleep(_LOOK_SECONDS)
            return (serving_.cpu_seconds() - before) / (time.monotonic() - began)

    def end(self) -> None:
        """End it, if it runs and is ours."""
        self._serving = None
        self._stack.close()


def gpu_of(pid: int) -> Gpu | None:
    """Return the first GPU that a process, or one that it started, has a context on; None where there is none."""
    gpus = open_gpus(lambda _kind, _text: None)
    try:
        in_use = gpus.in_use_by()
        own = {process.pid for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))}
        used = sorted({index for member in own for index in in_use.get(member, [])})
        return next((gpu for gpu in gpus.facts if used and gpu.index == used[0] and gpu.uuid), None)
    finally:
        gpus.close()


def _is_up(server: Server) -> bool:
    try:
        return server.get("/health", timeout=10).status == 200
    except ServerError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-_LOG_LINES:]) or "it said nothing"
