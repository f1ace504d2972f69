"""Model runs with a Python that has torch: what is asked of `collectors.bench_model`, and what is kept of its answers.

A folder of model runs holds ``runs.jsonl`` (one line per timed run, then one of the profiled run), ``environment.json``,
``operators.txt`` (the operator table of the profiled run) and ``profile.trace.json.gz`` (its trace).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rca.errors import InputError, OutputError, UsageError

SCHEMA = "rca.bench/1"
RUNS, ENVIRONMENT, TRACE, OPERATORS = "runs.jsonl", "environment.json", "profile.trace.json.gz", "operators.txt"
_CHILD = Path(__file__).with_name("bench_model.py")
_GRACE_SECONDS = 10.0
_TAIL_BYTES = 20_000


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        output: folder that the records go to.
        model: folder of a local Hugging Face checkpoint; None with ``config``.
        config: ``config.json`` of a model that gets random weights; None with ``model``.
        python: that has torch and transformers; None is the one that runs this.
        prompt_lengths, new_tokens: tokens; every length is run with every number of new ones.
        repeats, warmups: timed and untimed runs of each of them.
        device, dtype, quantize: as the child's options name them.
        compile: run the model through torch.compile.
        threads: of torch on the CPU; 0 is its own choice.
        seed: of random weights and prompts.
        profile: whether the last configuration is run once more under torch.profiler.
        force: replace what is in the folder.
    """

    output: Path
    model: Path | None = None
    config: Path | None = None
    python: Path | None = None
    prompt_lengths: tuple[int, ...] = (3, 26)
    new_tokens: tuple[int, ...] = (50, 100)
    repeats: int = 5
    warmups: int = 1
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "none"
    compile: bool = False
    threads: int = 0
    seed: int = 1
    profile: bool = True
    force: bool = False

    @property
    def total(self) -> int:
        """How many runs there will be, warm-ups and the profiled one included."""
        each = len(self.prompt_lengths) * len(self.new_tokens)
        return each * (self.repeats + self.warmups) + self.profile

    @property
    def subject(self) -> Path:
        """The model or its configuration. Raises `UsageError` where not just one of them is given."""
        if (self.model is None) == (self.config is None):
            raise UsageError("give either --model (a checkpoint) or --config (random weights)")
        return self.model or self.config or Path()


@dataclass(frozen=True)
class Progress:
    """How far it is: what is being done, so many of all runs are done; a record where a run has just ended."""

    doing: str
    done: int
    total: int
    record: dict[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What was done: timed runs kept, whether a profile is, whether Ctrl-C ended it."""

    folder: Path
    runs: int
    profiled: bool
    interrupted: bool


def run(plan: Plan, progress: Callable[[Progress], None] = lambda _: None) -> Outcome:
    """Run a model and keep its records, line by line; on Ctrl-C what is done is kept.

    Raises:
        UsageError: the plan contradicts itself, or there is no such Python.
        InputError: the model cannot be run: why, in the child's words.
        OutputError: the folder holds something else, or cannot be written.
    """
    _check(plan)
    try:
        _prepare(plan)
        with (plan.output / RUNS).open("w", encoding="utf-8") as runs, tempfile.TemporaryFile() as errors:
            return _Runner(plan, runs, errors, progress).run()
    except OSError as error:
        raise OutputError(plan.output, f"cannot be written: {error.strerror or error}") from None


def _check(plan: Plan) -> None:
    if not plan.subject.exists():
        raise InputError(plan.subject, "does not exist", "models are read from local files only")
    if not plan.prompt_lengths or not plan.new_tokens or min(*plan.prompt_lengths, *plan.new_tokens, plan.repeats) < 1:
        raise UsageError("prompt lengths, new tokens and repeats are numbers from 1")


def _prepare(plan: Plan) -> None:
    if plan.output.exists() and not plan.output.is_dir():
        raise OutputError(plan.output, "is a file, not a folder")
    plan.output.mkdir(parents=True, exist_ok=True)
    if any(plan.output.iterdir()) and not plan.force:
        raise OutputError(plan.output, "exists and is not empty; --force writes into it")
    for name in (RUNS, ENVIRONMENT, TRACE, OPERATORS):
        (plan.output / name).unlink(missing_ok=True)


class _Runner:
    """The child, and what it says."""

    def __init__(self, plan: Plan, runs: IO[str], errors: IO[bytes], progress: Callable[[Progress], None]) -> None:
        self._plan, self._runs, self._errors, self._progress = plan, runs, errors, progress
        self._begun = self._kept = 0
        self._doing = "loading the model"
        self._profiled = False
        self._why = ""

    def run(self) -> Outcome:
        """Listen to it to its end."""
        self._progress(Progress(self._doing, 0, self._plan.total))
        child = self._started()
        interrupted = False
        try:
            assert child.stdout  # noqa: S101  (it is a pipe)
            for line in child.stdout:
                self._take(line)
            child.wait()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            _end(child)
        if child.returncode and not interrupted:
            raise InputError(self._plan.subject, self._failure(child.returncode), self._remedy())
        return Outcome(self._plan.output, self._kept, self._profiled, interrupted)

    def _started(self) -> subprocess.Popen[str]:
        python = str(self._plan.python or sys.executable)
        try:
            return subprocess.Popen(  # noqa: S603  (the Python that the user names)
                [python, str(_CHILD), *_arguments(self._plan)],
                stdout=subprocess.PIPE,
                stderr=self._errors,
                stdin=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C is ours: the child is ended when its last line is kept
            )
        except OSError as error:
            raise UsageError(f"--python {python}: cannot be run: {error.strerror or error}") from None

    def _take(self, line: str) -> None:
        try:
            said = json.loads(line)
            kind = said.pop("kind")
        except (ValueError, KeyError, AttributeError, TypeError):  # what a Python says when it starts, as some are set up to
            return
        if kind == "failed":
            self._why = " ".join(str(said.get("why", "")).split())
        elif kind == "environment":
            text = json.dumps({"schema": SCHEMA, **said}, indent=1) + "\n"
            (self._plan.output / ENVIRONMENT).write_text(text, encoding="utf-8")
        elif kind == "progress":
            self._doing = _doing(said)
            self._progress(Progress(self._doing, self._begun, self._plan.total))
            self._begun += 1
        else:
            self._runs.write(json.dumps({"schema": SCHEMA, "kind": kind, **said}) + "\n")
            self._runs.flush()
            self._kept += kind == "run"
            self._profiled |= kind == "profile"
            self._progress(Progress(self._doing, self._begun, self._plan.total, said if kind == "run" else None))

    def _failure(self, code: int) -> str:
        if self._why:
            return self._why
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _TAIL_BYTES))
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        if code < 0:
            return f"the run was ended by signal {-code} while {self._doing}"
        return lines[-1] if lines else f"the run ended with exit code {code} while {self._doing}"

    def _remedy(self) -> str:
        if self._kept:
            return f"while {self._doing}; timed runs kept in {self._plan.output}: {self._kept}"
        return "--python names one that has torch and transformers" if self._plan.python is None else f"while {self._doing}"


def _doing(said: dict[str, Any]) -> str:
    of = f" {said['run']}/{said['of']}" if "run" in said else ""
    return f"{said['doing']}{of}, prompt {said['prompt_tokens']}, new {said['new_tokens']}"


def _arguments(plan: Plan) -> list[str]:
    subject = ["--model", str(plan.model)] if plan.model else ["--config", str(plan.config)]
    return [
        *("--folder", str(plan.output)),
        *subject,
        *("--prompt-lengths", ",".join(map(str, plan.prompt_lengths))),
        *("--new-tokens", ",".join(map(str, plan.new_tokens))),
        *("--repeats", str(plan.repeats)),
        *("--warmups", str(plan.warmups)),
        *("--device", plan.device),
        *("--dtype", plan.dtype),
        *("--quantize", plan.quantize),
        *("--threads", str(plan.threads)),
        *("--seed", str(plan.seed)),
        *(["--compile"] if plan.compile else []),
        *([] if plan.profile else ["--no-profile"]),
    ]


def _end(child: subprocess.Popen[str]) -> None:
    """End it if it runs: politely, then not."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_SECONDS)
        if child.poll() is None:
            child.kill()
            child.wait()
    if child.stdout:
        child.stdout.close()
