"""What a fault is, and what it may touch."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.groups import Groups
from lab.load import Load
from lab.undo import Undo
from rca.capture.manifest import Gpu
from rca.errors import RcaError

_READY_SECONDS = 60.0

Parameters = dict[str, Any]


class FaultError(RcaError):
    """A fault could not be injected: which one, and why."""

    exit_code = 2


@dataclass
class Situation:
    """The server that a fault is for, and the machine around it.

    Attributes:
        undo: undoes what is changed.
        root: pid of the server; everything that it started counts as it.
        may_touch: whether its processes may be changed: the lab started it, or was told its pid.
        groups: the control groups of a server that the lab started; None of one that it did not.
        cores: cores that the server may use.
        used_cores: what it uses of them, undisturbed and under its load.
        port: where it serves.
        scratch: folder for what hogs say.
        folder: on the server's disk, for what hogs write.
        seconds: after so long a fault ends, whatever happens.
        allowed: flags of what may be touched although the lab did not start it: ``clocks``, ``foreign``.
        python: a Python that has torch, for what needs a GPU.
        gpu: the GPU that the server uses; None where there is none, or it uses none.
    """

    undo: Undo
    root: int
    may_touch: bool
    groups: Groups | None
    cores: list[int]
    used_cores: float
    port: int
    scratch: Path
    folder: Path
    seconds: float
    allowed: frozenset[str] = frozenset()
    python: str = sys.executable
    gpu: Gpu | None = None

    @contextmanager
    def hog(self, *arguments: str, groups: Sequence[Path] = ()) -> Iterator[None]:
        """Run one of `lab.hogs` beside the server, or in control groups of its.

        Raises:
            FaultError: it does not get to work, or not for as long as the block lasts.
        """
        with self._beside([sys.executable, "-P", "-m", "lab.hogs", *arguments], {}, groups):
            yield

    @contextmanager
    def gpu_hog(self, *arguments: str, others: Sequence[str] = ()) -> Iterator[None]:
        """Run one of `lab.gpu_hogs` on the server's GPU; ``others``: uuids of more GPUs that it sees. Raises as `hog`."""
        assert self.gpu is not None  # noqa: S101  (the fault is unavailable without)
        script = Path(__file__).parents[1] / "gpu_hogs.py"
        seen = {"CUDA_VISIBLE_DEVICES": ",".join([self.gpu.uuid, *others])}
        with self._beside([self.python, str(script), *arguments], seen, ()):
            yield

    @contextmanager
    def _beside(self, command: list[str], environment: dict[str, str], groups: Sequence[Path]) -> Iterator[None]:
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | environment
        place = Path(tempfile.mkdtemp(dir=self.scratch))
        ready, log = place / "ready", place / "log"
        command = [*command, "--seconds", str(int(self.seconds)), "--ready", str(ready)]
        with self.undo.running(command, self.seconds, one, log, groups) as process:
            deadline = time.monotonic() + _READY_SECONDS
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise FaultError(f"{_name(command)}: did not get to work: {_last_word(log)}")
                time.sleep(0.05)
            yield
            if process.poll() is not None:
                raise FaultError(f"{_name(command)}: ended before the capture did: {_last_word(log)}")


def _name(command: Sequence[str]) -> str:
    return " ".join(word for word in command[:5] if not word.startswith("-"))


def _last_word(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]


def _no_reason(_situation: Situation) -> str | None:
    return None


def _nothing(_situation: Situation, _severity: float) -> AbstractContextManager[Parameters]:
    return nullcontext({})


@dataclass(frozen=True)
class Fault:
    """One kind of trouble.

    Attributes:
        name: as suites call it.
        cause: the entry of the catalogue (DESIGN.md) that a verdict should name.
        text: what is done.
        unit: what the severity is measured in.
        severities: settings of the dial that make sense, mildest first.
        least, most: of what the dial can be set to.
        device: where the trouble is.
        unavailable: why a machine or server cannot have it; None where it can.
        inject: starts it, and ends it with the block; yields numbers for the label.
        background: what is there on both sides, so that only the fault differs.
        rest_seconds: how long the machine takes to be as before, once it is over.
        load: of the abnormal side.
        change: whether the server has to be started anew, with the arguments that its workload has for ``software_change``.
        recording: whether it is the abnormal side's recording that differs.
    """

    name: str
    cause: str
    text: str
    unit: str
    severities: tuple[float, ...]
    least: float
    most: float
    device: str = "Host"
    unavailable: Callable[[Situation], str | None] = _no_reason
    inject: Callable[[Situation, float], AbstractContextManager[Parameters]] = _nothing
    background: Callable[[Situation, float], AbstractContextManager[Parameters]] = _nothing
    rest_seconds: float = 0.0
    load: Callable[[Load, float], Load] | None = None
    change: bool = False
    recording: bool = False


def joined(cores: Sequence[int]) -> str:
    """Write cores as `lab.hogs` reads them."""
    return ",".join(map(str, cores))
