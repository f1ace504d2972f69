"""What a capture is of: a server, its engine and its processes; and the profiler that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from collectors.clocks import CaptureClock
from collectors.engines import Engine, detect, expected_traces, serving_process, vllm_profile_folder
from collectors.process_tree import ProcessTree
from collectors.profiling import TorchProfiler, shared_folder
from collectors.redact import is_secret, redacted_text
from collectors.sampling import Note
from collectors.server import Server
from rca.errors import UsageError


@dataclass
class Target:
    """What is recorded. ``roots``: processes that are watched with all they start; ``unavailable``: what cannot be."""

    server: Server | None = None
    engine: Engine | None = None
    roots: list[int] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)


def find_target(url: str | None, engine: str, pids: Sequence[int]) -> Target:
    """Look for a server and its processes.

    Raises:
        UsageError: a pid is of no process.
        NoServerError: no engine answers at the URL.
    """
    for pid in pids:
        if not psutil.pid_exists(pid):
            raise UsageError(f"--pid {pid}: no such process")
    target = Target(roots=list(pids))
    if url is None:
        return target
    target.server = Server(url)
    target.engine = detect(target.server, engine)
    if not pids:
        found = serving_process(target.server)
        if isinstance(found, str):
            target.unavailable["process_*"] = found
        else:
            target.roots.append(found)
    if target.roots and not target.engine.settings:
        target.engine = replace(target.engine, settings=settings_of(psutil.Process(target.roots[0]).cmdline()))
    return target


def settings_of(command: Sequence[str]) -> dict[str, str | bool]:
    """Return the options of a command line, without those that may hold secrets: what a server was started with."""
    settings: dict[str, str | bool] = {}
    last = ""
    for word in command:
        if word.startswith("--") and len(word) > 2:
            name, given, value = word[2:].partition("=")
            last = "" if given or is_secret(name) else name
            if not is_secret(name):
                settings[name.replace("-", "_")] = redacted_text(value) if given else True
        elif last and (not word.startswith("-") or word[1:2].isdigit()):
            settings[last.replace("-", "_")] = redacted_text(word)
            last = ""
        else:
            last = ""
    return settings


def profiler_of(
    target: Target, tree: ProcessTree, traces: Path, profile_dir: Path | None, clock: CaptureClock, note: Note
) -> TorchProfiler | None:
    """Return the profiler of a server; None, and a note, where its traces could not be found afterwards."""
    assert target.server is not None  # noqa: S101
    assert target.engine is not None  # noqa: S101
    root = target.roots[0] if target.roots else None
    served: Path | None = None
    if root is None and profile_dir is None:
        note("profiler", f"left alone: its traces could not be fetched ({target.unavailable['process_*']})")
        return None
    if target.engine.name == "sglang":
        folder, served = shared_folder(traces.absolute(), root)
    else:
        told = profile_dir or (vllm_profile_folder(root) if root is not None else None)
        if told is None:
            note(
                "profiler",
                "where this vLLM writes its traces is not known: it has no profiler, or name it with --profile-dir",
            )
            return None
        folder = told
    names = [tree.known[pid].name for pid in tree.pids() if pid in tree.known]
    expected = expected_traces(target.engine.name, names)
    return TorchProfiler(target.server, target.engine, clock, note, folder, served, tree.pids, expected)
