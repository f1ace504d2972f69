"""Which processes are watched: those that were named, and all that they start."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import psutil

from collectors.clocks import CaptureClock
from collectors.redact import redacted
from collectors.sampling import Note
from rca.capture.manifest import ProcessFacts

REFRESH_NS = 2_000_000_000
"""Looking for new processes costs more than reading those that are known."""


class ProcessTree:
    """The processes ``roots`` and their descendants, without this one, looked up again every two seconds.

    Several threads ask; one of them, the sampler of processes, refreshes.
    """

    def __init__(self, roots: Iterable[int], clock: CaptureClock, note: Note) -> None:
        self.known: dict[int, ProcessFacts] = {}
        self._roots = list(roots)
        self._clock = clock
        self._note = note
        self._due_ns = 0
        self._alive: list[int] = []
        self._created: dict[int, float] = {}
        self._parents: dict[int, int] = {}
        self.refresh(announce=False)

    def pids(self) -> list[int]:
        """Return those that are alive, as of the last refresh."""
        return self._alive

    def refresh_if_due(self, now_ns: int) -> None:
        """Refresh once in `REFRESH_NS`."""
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + REFRESH_NS
            self.refresh()

    def refresh(self, announce: bool = True) -> None:
        """Look for processes that began or ended since the last time."""
        children = self._children()
        alive: list[int] = []
        waiting = [*self._roots, *self._alive]  # an orphan has another parent now, and stays watched
        while waiting:
            pid = waiting.pop()
            if pid not in alive and pid != os.getpid() and self._is_alive(pid):
                alive.append(pid)
                waiting += children.get(pid, [])
        for pid in sorted(alive):
            if pid not in self.known:
                self._meet(pid, announce)
        for pid in sorted(set(self._alive) - set(alive)):
            self._lose(pid)
        self._alive = sorted(alive)

    def _children(self) -> dict[int, list[int]]:
        """Return the children of every process; only of new ones is the parent looked up, for a host may have thousands."""
        present = {int(name) for name in os.listdir("/proc") if name.isdecimal()}
        self._parents = {pid: self._parents.get(pid) or _parent_of(pid) for pid in present}
        children: dict[int, list[int]] = {}
        for pid, parent in self._parents.items():
            children.setdefault(parent, []).append(pid)
        return children

    def _is_alive(self, pid: int) -> bool:
        """Tell whether a process runs and is still the one that was met: the kernel gives pids out again."""
        try:
            process = psutil.Process(pid)
            created = process.create_time()
            running = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False
        return running and self._created.setdefault(pid, created) == created

    def _meet(self, pid: int, announce: bool) -> None:
        facts = describe(pid)
        if facts is None:
            return
        self.known[pid] = facts
        if announce:
            self._note("process_started", f"{facts.name} (pid {pid}), child of pid {facts.parent}")

    def _lose(self, pid: int) -> None:
        facts = self.known.get(pid)
        if facts:
            facts.ended_ns = self._clock.now_ns()
            self._note("process_ended", f"{facts.name} (pid {pid})")


def _parent_of(pid: int) -> int:
    """Return the parent's pid; 0 for a process that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split(None, 2)[1])


def describe(pid: int) -> ProcessFacts | None:
    """Return what the manifest says of a process, secrets in its command line left out; None if it is gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            parent, name, command, created = process.ppid(), process.name(), process.cmdline(), process.create_time()
        allowed = len(os.sched_getaffinity(pid))
    except (psutil.Error, OSError):
        return None
    return ProcessFacts(
        pid=pid,
        parent=parent,
        inner_pid=inner_pid(pid),
        name=_text(name),
        command=redacted([_text(word) for word in command if word]),  # a process that renamed itself leaves empty ones
        started_ns=int(created * 1e9),
        allowed_cores=allowed,
    )


def _text(word: str) -> str:
    """Return what psutil read with what is no UTF-8 replaced."""
    return word.encode(errors="replace").decode()


def inner_pid(pid: int) -> int | None:
    """Return a process' pid in its own namespace, as a program in a container states it (FORMATS.md §8, 13)."""
    with contextlib.suppress(OSError):
        found = re.search(r"^NSpid:.*\s(\d+)$", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"), re.MULTILINE)
        return int(found[1]) if found else None
    return None
