"""Runs a benchmark grid: plans its cells, has them timed by a Python that has torch, and keeps every trial.

Cells without warm-up are there to show what a first call costs, so each of them gets a process of its own; the others share
one. A cell that runs out of memory, or takes its process with it, becomes a line with ``error``, and the rest goes on.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rca.errors import OutputError, UsageError

TRIALS_FILE = "trials.jsonl"
ENVIRONMENT_FILE = "environment.json"
SIZES = {
    "small": (768, 12, 12),
    "medium": (1024, 24, 16),
    "large": (1280, 36, 20),
    "xl": (1600, 48, 25),
    "2.7B": (2560, 32, 32),
}
"""d_model, layers, heads of the sizes that have a name."""

PASSES = (False, True)
_SCRIPT = Path(__file__).with_name("sweep_trials.py")
_GRACE_SECONDS = 5.0
_MOST_CELLS = 100_000

Cell = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A grid. ``passes``: values of forward_only; ``python``: the interpreter that has torch."""

    cells: tuple[Cell, ...]
    trials: int
    batch_size: int
    vocab_size: int
    device: str
    dtype: str
    python: str


@dataclass(frozen=True)
class Progress:
    """How far a grid is: trials done of all, and the cell that is measured."""

    done: int
    of: int
    doing: str


@dataclass
class Outcome:
    """What came of a grid: trials that were kept, cells that failed (name, why), whether it was interrupted."""

    folder: Path
    trials: int
    failed: list[tuple[str, str]]
    interrupted: bool = False


def size(text: str) -> tuple[str, tuple[int, int, int]]:
    """Read ``small`` or ``NAME=d_model/layers/heads``; return the name and the three numbers. Raises `UsageError`."""
    text = text.strip()
    if text in SIZES:
        return text, SIZES[text]
    found = re.fullmatch(r"([^=]+)=(\d+)/(\d+)/(\d+)", text)
    if not found:
        raise UsageError(f"--sizes: {text!r} is none of {', '.join(SIZES)} and not NAME=d_model/layers/heads")
    width, layers, heads = map(int, found.groups()[1:])
    if min(width, layers, heads) < 1 or width % heads:
        raise UsageError(f"--sizes: {text}: all three must be above 0 and d_model a multiple of heads")
    return found[1], (width, layers, heads)


def cells(sizes: list[str], contexts: list[int], warmups: list[int], passes: tuple[bool, ...] = PASSES) -> tuple[Cell, ...]:
    """Return the cells of a grid, sizes outermost, in the order in which they are measured. Raises `UsageError`."""
    named = [size(text) for text in sizes]
    for option, values in (("sizes", [name for name, _ in named]), ("contexts", contexts), ("warmups", warmups)):
        if not values:
            raise UsageError(f"--{option}: nothing is listed")
        if len(set(values)) < len(values):
            raise UsageError(f"--{option}: one of them is listed twice")
    planned = tuple(
        {
            "model_size": name,
            "d_model": width,
            "context_length": context,
            "num_layers": layers,
            "num_heads": heads,
            "num_warmups": count,
            "forward_only": only,
        }
        for name, (width, layers, heads) in named
        for context in contexts
        for count in warmups
        for only in passes
    )
    if len(planned) > _MOST_CELLS:
        raise UsageError(f"{len(planned):,} cells are more than {_MOST_CELLS:,}")
    return planned


class Sweep:
    """A grid on its way into a folder."""

    def __init__(self, plan: Plan, folder: Path, force: bool, show: Callable[[Progress], None]) -> None:
        """Look for the interpreter and the folder. Raises `UsageError` or `OutputError`."""
        if shutil.which(plan.python) is None:
            raise UsageError(f"--python {plan.python}: no such program")
        self._plan = plan
        self._folder = folder
        self._show = show
        self._environment: dict[str, Any] = {}
        self._outcome = Outcome(folder, 0, [])
        self._left = list(enumerate(plan.cells))
        self._began_a_cell = False
        try:
            if folder.is_dir() and any(folder.iterdir()) and not force:
                raise OutputError(folder, "exists and is not empty; --force writes into it")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ENVIRONMENT_FILE).unlink(missing_ok=True)
            (folder / TRIALS_FILE).write_text("")
        except OSError as error:
            raise OutputError(folder, f"cannot be written: {error.strerror or error}") from None

    def run(self) -> Outcome:
        """Measure what is planned; Ctrl-C and SIGTERM keep what was measured. Raises `UsageError` where nothing can be."""
        try:
            with _interruptible(), (self._folder / TRIALS_FILE).open("w", encoding="utf-8") as out:
                while self._left:
                    self._measure(self._next(), out)
        except KeyboardInterrupt:
            self._outcome.interrupted = True
        except UsageError:
            self._clear_up()
            raise
        except OSError as error:
            raise OutputError(self._folder, f"cannot be written: {error.strerror or error}") from None
        return self._outcome

    def _clear_up(self) -> None:
        """Leave no folder behind in which nothing is."""
        with contextlib.suppress(OSError):
            if not self._outcome.trials:
                (self._folder / TRIALS_FILE).unlink()
                (self._folder / ENVIRONMENT_FILE).unlink(missing_ok=True)
                self._folder.rmdir()

    def _next(self) -> list[tuple[int, Cell]]:
        """Return the cells that the next process measures: one without warm-up, or those with one up to the next without."""
        if self._left[0][1]["num_warmups"] == 0:
            return self._left[:1]
        until = next((i for i, (_, cell) in enumerate(self._left) if cell["num_warmups"] == 0), len(self._left))
        return self._left[:until]

    def _measure(self, part: list[tuple[int, Cell]], out: IO[str]) -> None:
        """Have some cells measured; where the process dies, the cell that it was at has failed."""
        self._began_a_cell = False
        with _started(self._plan, part) as (child, last_words):
            assert child.stdout is not None  # noqa: S101  (a pipe was asked for)
            for line in child.stdout:
                self._take(line, out)
            code = child.wait()
            text = last_words()
        if self._left and self._left[0] in part:
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            if not self._began_a_cell:
                raise UsageError(text or f"{self._plan.python} ended {how} before its first cell")
            index = self._left[0][0]
            self._fail(index, f"its process ended {how}" + (f": {text}" if text else ""), out)
            self._done(index)

    def _take(self, line: str, out: IO[str]) -> None:
        """Keep what the child says."""
        try:
            said = json.loads(line)
        except ValueError:
            return  # something that a library printed
        if not isinstance(said, dict):
            return
        if "environment" in said:
            self._environments(said["environment"])
        elif "begin" in said:
            self._begin(said["begin"])
        elif "error" in said:
            self._fail(said["cell"], said["error"], out)
            self._done(said["cell"])
        elif "time_ms" in said:
            self._keep(said["cell"], {"trial": said["trial"], "time_ms": said["time_ms"]}, out)
            self._outcome.trials += 1
            if said["trial"] == self._plan.trials - 1:
                self._done(said["cell"])
            self._tell(said["cell"])

    def _environments(self, facts: dict[str, Any]) -> None:
        if not self._environment:
            self._environment = facts
            text = json.dumps(facts, indent=1) + "\n"
            (self._folder / ENVIRONMENT_FILE).write_text(text, encoding="utf-8")

    def _begin(self, index: int) -> None:
        self._began_a_cell = True
        self._tell(index)

    def _done(self, index: int) -> None:
        self._left = [item for item in self._left if item[0] > index]

    def _tell(self, index: int) -> None:
        planned = len(self._plan.cells) * self._plan.trials
        left = len(self._left) * self._plan.trials
        of_this = self._outcome.trials % self._plan.trials if self._left and self._left[0][0] == index else 0
        self._show(Progress(planned - left + of_this, planned, name(self._plan.cells[index])))

    def _fail(self, index: int, why: str, out: IO[str]) -> None:
        self._outcome.failed.append((name(self._plan.cells[index]), why))
        self._keep(index, {"error": why}, out)

    def _keep(self, index: int, found: dict[str, Any], out: IO[str]) -> None:
        plan = self._plan
        common = {"batch_size": plan.batch_size, "vocab_size": plan.vocab_size, "dtype": plan.dtype}
        line = {**plan.cells[index], **common, "device": self._environment.get("device"), **found}
        out.write(json.dumps(line) + "\n")
        out.flush()


def name(cell: Cell) -> str:
    """Return what a cell is called."""
    done = "forward" if cell["forward_only"] else "forward+backward"
    return f"{cell['model_size']}, context {cell['context_length']}, {done}, {cell['num_warmups']} warm-up(s)"


@contextlib.contextmanager
def _started(plan: Plan, part: list[tuple[int, Cell]]) -> Iterator[tuple[subprocess.Popen[str], Callable[[], str]]]:
    """Start the process that measures, and end it whatever happens; with it comes what says the last line of its stderr."""
    given = {
        "cells": part,
        "trials": plan.trials,
        "batch_size": plan.batch_size,
        "vocab_size": plan.vocab_size,
        "device": plan.device,
        "dtype": plan.dtype,
    }
    with tempfile.TemporaryFile("w+") as plan_file, tempfile.TemporaryFile("w+", errors="replace") as errors:
        json.dump(given, plan_file)
        plan_file.seek(0)
        try:
            child = subprocess.Popen(  # noqa: S603  (the interpreter that the user names)
                [plan.python, str(_SCRIPT)],
                stdin=plan_file,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C is for this process, which ends the other one
            )
        except OSError as error:
            raise UsageError(f"--python {plan.python}: cannot be run: {error.strerror or error}") from None

        def last_words() -> str:
            errors.seek(0)
            lines = errors.read()[-4096:].strip().splitlines()
            return lines[-1][:300] if lines else ""

        try:
            yield child, last_words
        finally:
            _end(child)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt at once: the handler that polars puts in place lets a read go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if child.stdout:
        child.stdout.close()
