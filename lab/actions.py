"""What undoes a fault: small, named, written down as JSON, so that another process can do it when this one is killed.

Every action may be carried out twice, and of something that is gone already: then it does nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

Action = dict[str, Any]

_GRACE_SECONDS = 15.0
_EMPTY_SECONDS = 5.0


def kill(process: psutil.Process) -> Action:
    """End a process, with all of its session, that leads one."""
    return {"do": "kill", "pid": process.pid, "started": process.create_time()}


def write(path: Path, text: str) -> Action:
    """Write a setting of the kernel back."""
    return {"do": "write", "path": str(path), "text": text}


def remove_group(folder: Path, parent: Path) -> Action:
    """Remove a control group; who is still in it moves to its parent."""
    return {"do": "remove_group", "folder": str(folder), "parent": str(parent)}


def affinity(process: psutil.Process, cores: list[int]) -> Action:
    """Let a process with all its threads run on these cores again."""
    return {"do": "affinity", "pid": process.pid, "started": process.create_time(), "cores": cores}


def nice(process: psutil.Process, value: int) -> Action:
    """Give a process with all its threads its priority back."""
    return {"do": "nice", "pid": process.pid, "started": process.create_time(), "value": value}


def run(command: list[str]) -> Action:
    """Run a command."""
    return {"do": "run", "command": command}


def delete(path: Path) -> Action:
    """Delete a folder with all that is in it."""
    return {"do": "delete", "path": str(path)}


def unlock_clocks(index: int) -> Action:
    """Let a GPU choose its clocks again."""
    return {"do": "unlock_clocks", "index": index}


def perform(action: Action) -> str | None:
    """Carry an action out; return what went wrong, None where nothing did."""
    arguments = {name: value for name, value in action.items() if name != "do"}
    try:
        _ACTIONS[action["do"]](**arguments)
    except Exception as error:  # whatever it is, the other actions still have to be carried out
        return f"{action['do']} {arguments}: {error}"
    return None


def _same(pid: int, started: float) -> bool:
    """Tell whether a process is still the one that was meant: numbers are used again."""
    try:
        return abs(psutil.Process(pid).create_time() - started) < 1.0
    except psutil.NoSuchProcess:
        return False


def _kill(pid: int, started: float) -> None:
    session = _session(pid) if _same(pid, started) else []
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
        for process in session:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        _, session = psutil.wait_procs(session, timeout=seconds)
        if not session:
            return


def _session(leader: int) -> list[psutil.Process]:
    """Return the processes of a session, its leader first: what a server started belongs to it, even when orphaned."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return sorted(found, key=lambda process: process.pid != leader)


def _write(path: str, text: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(path).write_text(text)


def _remove_group(folder: str, parent: str) -> None:
    group = Path(folder)
    deadline = time.monotonic() + _EMPTY_SECONDS
    while group.is_dir():
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (Path(parent) / "cgroup.procs").write_text(pid)
        try:
            group.rmdir()
        except OSError:  # a process that ends stays in its group for a moment
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _threads(pid: int, started: float) -> list[int]:
    if not _same(pid, started):
        return []
    return [thread.id for thread in psutil.Process(pid).threads()]


def _affinity(pid: int, started: float, cores: list[int]) -> None:
    for thread in _threads(pid, started):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, cores)


def _nice(pid: int, started: float, value: int) -> None:
    for thread in _threads(pid, started):
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, thread, value)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)  # noqa: S603


def _delete(path: str) -> None:
    if Path(path).exists():
        shutil.rmtree(path)


def _unlock_clocks(index: int) -> None:
    import pynvml  # noqa: PLC0415  (only where there is a GPU)

    pynvml.nvmlInit()
    try:
        pynvml.nvmlDeviceResetGpuLockedClocks(pynvml.nvmlDeviceGetHandleByIndex(index))
    finally:
        pynvml.nvmlShutdown()


_ACTIONS: dict[str, Callable[..., None]] = {
    "kill": _kill,
    "write": _write,
    "remove_group": _remove_group,
    "affinity": _affinity,
    "nice": _nice,
    "run": _run,
    "delete": _delete,
    "unlock_clocks": _unlock_clocks,
}
