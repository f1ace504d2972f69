"""A program that is run to be recorded: ``rca collect -- COMMAND``."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from collectors import nsys
from rca.errors import UsageError

TRACES_VARIABLE = "RCA_TRACES"
"""Environment variable by which the program learns where its traces belong, if it writes any."""

_GRACE_SECONDS = 10.0


class RecordedCommand:
    """A program, and the recorder that it runs under, if any. Its output goes where ours does; it is not kept."""

    def __init__(self, command: Sequence[str], nsys_program: str | None) -> None:
        """Look for the program. Raises `UsageError` where there is none of that name."""
        if shutil.which(command[0]) is None:
            raise UsageError(f"{command[0]}: no such program")
        self._command = list(command)
        self._nsys = nsys_program
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, traces: Path) -> int:
        """Run it; return its pid."""
        command = self._command
        if self._nsys:
            command = nsys.profile_command(self._nsys, traces.absolute() / "nsys", command)
        environment = os.environ | {TRACES_VARIABLE: str(traces.absolute())}
        try:
            self._process = subprocess.Popen(command, env=environment)  # noqa: S603  (it is what the user asks for)
        except OSError as error:
            raise UsageError(f"{command[0]}: cannot be run: {error.strerror or error}") from None
        return self._process.pid

    def has_ended(self) -> bool:
        """Tell whether it has ended."""
        return self._process is not None and self._process.poll() is not None

    def end(self) -> str:
        """End it if it runs: politely, then not. Return how it ended."""
        process = self._process
        if process is None:
            return "was not started"
        by_us = process.poll() is None
        if by_us:
            process.terminate()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        code = process.returncode
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return f"{Path(self._command[0]).name} was ended after the recording" if by_us else f"it ended {how}"
