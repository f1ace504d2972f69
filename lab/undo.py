"""Whatever the lab changes is undone: by itself, or by a watchdog process when it is killed or takes too long.

What undoes a change is told to the watchdog before the change is made.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from lab import actions
from lab.actions import Action
from rca.errors import RcaError

_WAIT_SECONDS = 5.0

READY = b"ready"
"""What the watchdog says when it watches."""

_LAUNCH = (
    'read -r go || exit 1; for group in $RCA_LAB_GROUPS; do echo $$ > "$group/cgroup.procs" || exit 125; done; exec "$@"'
)
"""A program is not started before the watchdog knows of it: were the lab killed in between, nobody would end it."""


@dataclass
class Undo:
    """Keeps what is still to be undone. Use it as a context manager; at its end everything is.

    Attributes:
        problems: what could not be undone, one line each.
    """

    problems: list[str] = field(default_factory=list)
    _open: dict[int, Action] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _watchdog: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Undo:
        self._watchdog = subprocess.Popen(
            [sys.executable, "-P", "-m", "lab.watchdog"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._watchdog.stdout is not None  # noqa: S101
        with self._watchdog.stdout as said:
            if said.readline().strip() != READY:
                raise RcaError("the lab's watchdog does not start: nothing is changed without it")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number in sorted(self._open, reverse=True):
            self._undo(number)
        if self._watchdog and self._watchdog.stdin:
            with contextlib.suppress(OSError):
                self._watchdog.stdin.close()
            self._watchdog.wait()

    @contextmanager
    def holding(self, action: Action, seconds: float | None = None) -> Iterator[None]:
        """Undo a change when the block ends, by the watchdog if that takes longer than ``seconds``.

        Make the change inside of the block.
        """
        number = next(self._numbers)
        self._open[number] = action
        deadline = time.monotonic() + seconds if seconds is not None else None
        try:
            if not self._tell({"keep": number, "action": action, "deadline": deadline}):
                raise RcaError("the lab's watchdog is gone: nothing is changed without it")
            yield
        finally:
            self._undo(number)

    @contextmanager
    def running(
        self,
        command: Sequence[str],
        seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        groups: Sequence[Path] = (),
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program in a session of its own, until the block ends; all of its session is ended then.

        Args:
            command: the program; it may read its stdin, whose end is the end of this process.
            seconds: it is ended after so long at the latest.
            environment: variables besides ours.
            log: file to which it writes what it says.
            groups: control groups that it is born into.
        """
        more = {**os.environ, **(environment or {}), "RCA_LAB_GROUPS": " ".join(map(str, groups))}
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(log.open("ab")) if log else subprocess.DEVNULL
            started = subprocess.Popen(  # noqa: S603  (the suite says what is run)
                ["/bin/sh", "-c", _LAUNCH, "lab", *command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=more,
            )
            process = stack.enter_context(_waited_for(started))
            stack.enter_context(self.holding(actions.kill(process.pid), seconds))
            assert process.stdin is not None  # noqa: S101
            process.stdin.write(b"go\n")
            process.stdin.flush()
            yield process

    def _undo(self, number: int) -> None:
        action = self._open.pop(number, None)
        if action is None:
            return
        if problem := actions.perform(action):
            self.problems.append(problem)  # the watchdog tries again at the end
        else:
            self._tell({"done": number})

    def _tell(self, message: dict[str, Any]) -> bool:
        """Tell the watchdog something; return whether it could be told."""
        try:
            assert self._watchdog is not None  # noqa: S101
            assert self._watchdog.stdin is not None  # noqa: S101
            self._watchdog.stdin.write(json.dumps(message).encode() + b"\n")
            self._watchdog.stdin.flush()
        except OSError:
            return False
        return True


@contextmanager
def _waited_for(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Collect a child that was ended, so that none is left as a zombie."""
    try:
        yield process
    finally:
        if process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # what does not even end by SIGKILL is not waited for
            process.wait(_WAIT_SECONDS)


@contextmanager
def signals_unwind() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does: through every ``finally``."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
