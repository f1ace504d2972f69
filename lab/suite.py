"""A suite: workloads, the faults to inject into them, how hard and how often; and the cases that follow from it."""

from __future__ import annotations

import hashlib
import os
import random
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from lab.faults import FAULTS, Fault
from lab.load import Load
from rca.errors import InputError

AA = "aa"
_UNSET = re.compile(r"\$(?:\w+|\{[^}]*\})")


class Workload(msgspec.Struct, forbid_unknown_fields=True):
    """A server and its load.

    Attributes:
        engine: ``vllm``, ``sglang``, or ``loop``: the built-in decode loop (`lab.decode_loop`), which is its own load.
        command: starts the server; ``{port}``, ``{profile_dir}`` and environment variables are filled in. Of the loop: its
            arguments.
        url: of a server that runs already, instead of a command.
        pid: of that server, if the lab may change its affinity and priority.
        environment: variables for the server.
        python: a Python that has torch: runs the loop, and what disturbs a GPU.
        changes: arguments that are added for ``software_change``, by name of the change; ``{severity}`` is filled in.
        start_seconds: how long the server may take to answer.
        concurrency, requests_per_s, prompt_words, output_tokens: the load (`lab.load.Load`).
    """

    engine: Literal["vllm", "sglang", "loop"]
    command: list[str] = []
    url: str = ""
    pid: int | None = None
    environment: dict[str, str] = {}
    python: str = ""
    changes: dict[str, list[str]] = {}
    start_seconds: float = 240.0
    concurrency: int = 4
    requests_per_s: float | None = None
    prompt_words: int = 24
    output_tokens: int = 64

    def load(self, seed: int, name: str) -> Load:
        """Return the load of the normal side; its prompts begin with ``name``."""
        return Load(self.concurrency, self.requests_per_s, self.prompt_words, self.output_tokens, seed, name)


class Planned(msgspec.Struct, forbid_unknown_fields=True):
    """A fault of a suite. By default with its own severities, on all workloads, as often as the suite says.

    ``change`` names the workload's change, of ``software_change`` only.
    """

    fault: str
    severities: list[float] = []
    workloads: list[str] = []
    repeats: int | None = None
    change: str = ""


class Suite(msgspec.Struct, forbid_unknown_fields=True):
    """A suite as it is written (TOML).

    Attributes:
        workloads: by name.
        faults: what is injected.
        aa_pairs: pairs of undisturbed captures, spread over the workloads.
        repeats: of each fault at each severity on each workload.
        seed: of the order, and of prompts.
        capture_seconds: length of a capture.
        steps: that are profiled in each.
        settle_seconds: of load, and of the fault, before a capture.
        limit_minutes: no case is begun after so long.
    """

    workloads: dict[str, Workload]
    faults: list[Planned] = []
    aa_pairs: int = 0
    repeats: int = 3
    seed: int = 1
    capture_seconds: float = 9.0
    steps: int = 32
    settle_seconds: float = 2.0
    limit_minutes: float = 120.0
    name: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Case:
    """One case to run. ``fault`` is None of an A/A pair; ``arguments`` are those of the changed server."""

    name: str
    workload: str
    fault: Fault | None
    severity: float | None
    repeat: int
    abnormal_first: bool
    change: str = ""
    arguments: tuple[str, ...] = ()


def read_suite(path: Path) -> Suite:
    """Read a suite from a file, or one of those that come with the lab (``cpu``, ``smoke``, ``gpu``) by its name.

    Raises:
        InputError: there is none, or what is wrong with it.
    """
    file = path
    built_in = Path(__file__).parent / f"{path}.toml"
    if not path.exists() and re.fullmatch(r"\w+", str(path)) and built_in.exists():
        file = built_in
    try:
        text = file.read_bytes()
        suite = msgspec.toml.decode(text, type=Suite)
    except OSError as error:
        known = ", ".join(sorted(own.stem for own in Path(__file__).parent.glob("*.toml")))
        raise InputError(path, f"cannot be read: {error.strerror or error}", f"suites that come along: {known}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(path, f"is no suite: {error}") from None
    suite.name, suite.digest = file.stem, hashlib.sha256(text).hexdigest()
    for problem in _problems(suite):
        raise InputError(path, problem)
    return suite


def _problems(suite: Suite) -> list[str]:
    """Return what is wrong with a suite beyond its syntax."""
    found = [] if suite.workloads else ["names no workload"]
    for name, workload in suite.workloads.items():
        if not re.fullmatch(r"[\w-]+", name):
            found.append(f"workload {name!r}: a name may have letters, digits, - and _ only: it becomes part of file names")
        if workload.engine != "loop" and bool(workload.command) == bool(workload.url):
            found.append(f"workload {name!r} needs a command that starts its server, or the url of one that runs")
        if min(workload.concurrency, workload.output_tokens) < 1 or workload.prompt_words < 1:
            found.append(f"workload {name!r}: concurrency, prompt_words and output_tokens are at least 1")
        if workload.requests_per_s is not None and not workload.requests_per_s > 0:
            found.append(f"workload {name!r}: requests_per_s is more than 0")
    for planned in suite.faults:
        found += _problems_of(suite, planned)
    if min(suite.repeats, suite.steps) < 1 or not 3 <= suite.capture_seconds <= 600 or not 0 <= suite.settle_seconds <= 60:
        found.append("repeats and steps are at least 1, capture_seconds from 3 to 600, settle_seconds from 0 to 60")
    names = [case.name for case in _cases(suite)] if not found else []
    found += [f"case {name} is planned twice" for name in sorted({n for n in names if names.count(n) > 1})]
    return found


def _problems_of(suite: Suite, planned: Planned) -> list[str]:
    if planned.fault not in FAULTS:
        return [f"fault {planned.fault!r} is unknown; `rca lab list` shows those that there are"]
    fault = FAULTS[planned.fault]
    found = [f"fault {fault.name!r}: no workload {w!r}" for w in planned.workloads if w not in suite.workloads]
    found += [
        f"fault {fault.name!r}: a severity is from {fault.least:g} to {fault.most:g} {fault.unit}".rstrip()
        for severity in planned.severities
        if not fault.least <= severity <= fault.most
    ][:1]
    if planned.repeats is not None and planned.repeats < 1:
        found.append(f"fault {fault.name!r}: repeats is at least 1")
    if planned.change and not fault.change:
        found.append(f"fault {fault.name!r} has no change; that is of software_change")
    if fault.change:
        chosen = {name: suite.workloads[name] for name in _workloads_of(suite, planned) if name in suite.workloads}
        missing = [name for name, workload in chosen.items() if planned.change not in workload.changes]
        found += [f"software_change: workload {name!r} has no change {planned.change!r}" for name in missing]
    return found


def plan(suite: Suite) -> list[Case]:
    """Return the cases of a suite: workload after workload, for starting a server takes long; within one in random order.

    Cases with another command line come last, alternately the normal and the abnormal side first, so that the server is
    started anew once for each. The same seed gives the same order.
    """
    rng = random.Random(suite.seed)  # noqa: S311  (an order, not a secret)
    ordered: list[Case] = []
    for workload in suite.workloads:
        own = [case for case in _cases(suite) if case.workload == workload]
        rng.shuffle(own)
        changing = [case for case in own if case.fault and case.fault.change]
        same = [case for case in own if not (case.fault and case.fault.change)]
        ordered += [replace(case, abnormal_first=rng.random() < 0.5) for case in same]
        ordered += [replace(case, abnormal_first=bool(i % 2)) for i, case in enumerate(changing)]
    return ordered


def _workloads_of(suite: Suite, planned: Planned) -> list[str]:
    return planned.workloads or list(suite.workloads)


def _cases(suite: Suite) -> list[Case]:
    names = list(suite.workloads)
    turns = [(names[i % len(names)], i // len(names) + 1) for i in range(suite.aa_pairs)]
    cases = [Case(f"{workload}.{AA}.r{turn}", workload, None, None, turn, False) for workload, turn in turns]
    for planned in suite.faults:
        fault = FAULTS[planned.fault]
        label = f"{fault.name}.{planned.change}" if planned.change else fault.name
        for workload in _workloads_of(suite, planned):
            words = suite.workloads[workload].changes.get(planned.change, [])
            for severity in planned.severities or fault.severities:
                arguments = tuple(word.replace("{severity}", f"{severity:g}") for word in words)
                cases += [
                    Case(
                        name=f"{workload}.{label}.{severity:g}.r{repeat}",
                        workload=workload,
                        fault=fault,
                        severity=severity,
                        repeat=repeat,
                        abnormal_first=False,
                        change=planned.change,
                        arguments=arguments,
                    )
                    for repeat in range(1, (planned.repeats or suite.repeats) + 1)
                ]
    return cases


def filled_in(words: list[str], places: dict[str, str]) -> list[str]:
    """Return a command with placeholders and variables filled in. Raises `KeyError`, naming a variable that is not set."""
    filled = []
    for word in words:
        for name, value in places.items():
            word = word.replace(f"{{{name}}}", value)  # noqa: PLW2901
        expanded = os.path.expandvars(word)
        if missing := _UNSET.search(expanded):
            raise KeyError(missing.group())
        filled.append(expanded)
    return filled
