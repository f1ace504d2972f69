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
_KILL_SECONDS = 5.0
_EMPTY_SECONDS = 5.0


def kill(pid: int) -> Action:
    """End a process that leads a session, with all of that session."""
    return {"do": "kill", "pid": pid, "started": started(pid)}


def write(path: Path, text: str) -> Action:
    """Write a setting of the kernel back."""
    return {"do": "write", "path": str(path), "text": text}


def remove_group(folder: Path) -> Action:
    """Remove a control group that the lab made, and end what is still in it."""
    return {"do": "remove_group", "folder": str(folder)}


def affinity(pid: int) -> Action:
    """Let a process, and all that it started, run on the cores that each thread has now."""
    masks = {thread: sorted(os.sched_getaffinity(thread)) for thread in threads_of(pid)}
    return {"do": "affinity", "pid": pid, "started": started(pid), "of_thread": masks, "otherwise": masks[pid]}


def nice(pid: int) -> Action:
    """Give a process, and all that it started, the priority that each thread has now."""
    values = {thread: os.getpriority(os.PRIO_PROCESS, thread) for thread in threads_of(pid)}
    return {"do": "nice", "pid": pid, "started": started(pid), "of_thread": values, "otherwise": values[pid]}


def remove_qdisc(device: str, handle: str) -> Action:
    """Remove a queueing discipline of ours from a network device."""
    return {"do": "remove_qdisc", "device": device, "handle": handle}


def delete(path: Path) -> Action:
    """Delete a folder with all that is in it."""
    return {"do": "delete", "path": str(path)}


def unlock_clocks(uuid: str) -> Action:
    """Let a GPU choose its clocks again."""
    return {"do": "unlock_clocks", "uuid": uuid}


def perform(action: Action) -> str | None:
    """Carry an action out; return what went wrong, None where nothing did."""
    arguments = {name: value for name, value in action.items() if name != "do"}
    try:
        _ACTIONS[action["do"]](**arguments)
    except Exception as error:  # whatever it is, the other actions still have to be carried out
        return f"{action['do']} {arguments}: {error}"
    return None


def started(pid: int) -> int:
    """Return when a process was started, in ticks since the machine was; 0 where there is none.

    Not `psutil.Process.create_time`: that moves when the wall clock is set.
    """
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


_started = started
"""Under a name that the actions' arguments do not hide."""


def threads_of(pid: int) -> list[int]:
    """Return the threads of a process and of all that it started."""
    threads = []
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                threads += [thread.id for thread in process.threads()]
    return threads


def _kill(pid: int, started: int) -> None:
    if _started(pid) not in (0, started):  # the number is another's now
        return
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        deadline = time.monotonic() + seconds
        told: set[int] = set()
        while session := _session(pid):  # again and again: what is told to end may still start something
            for member in session:
                if member not in told:
                    told.add(member)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(member, number)
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
    if session := _session(pid):
        raise OSError(f"processes {session} do not end")


def _session(leader: int) -> list[int]:
    """Return the processes of a session, its leader first, zombies left out.

    The kernel gives a leader's number to nobody else as long as its session has members.
    """
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return sorted(found, key=lambda pid: (pid != leader, pid))


def _write(path: str, text: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(path).write_text(text)


def _remove_group(folder: str) -> None:
    """Remove a group; whoever is still in it was started by the lab, and is ended."""
    group = Path(folder)
    deadline = time.monotonic() + _EMPTY_SECONDS
    while group.is_dir():
        with contextlib.suppress(FileNotFoundError):
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:  # a process that ends stays in its group for a moment
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _affinity(pid: int, started: int, of_thread: dict[Any, list[int]], otherwise: list[int]) -> None:
    masks = {int(thread): mask for thread, mask in of_thread.items()}  # JSON makes words of numbers
    for thread in threads_of(pid) if _started(pid) == started else []:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, masks.get(thread, otherwise))


def _nice(pid: int, started: int, of_thread: dict[Any, int], otherwise: int) -> None:
    values = {int(thread): value for thread, value in of_thread.items()}
    for thread in threads_of(pid) if _started(pid) == started else []:
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, thread, values.get(thread, otherwise))


def _remove_qdisc(device: str, handle: str) -> None:
    own = ["dev", device]
    shown = subprocess.run(["tc", "qdisc", "show", *own], capture_output=True, text=True, timeout=30, check=True)  # noqa: S603, S607
    if f" {handle} " in shown.stdout:
        subprocess.run(["tc", "qdisc", "del", *own, "root", "handle", handle], check=True, capture_output=True, timeout=30)  # noqa: S603, S607


def _delete(path: str) -> None:
    if Path(path).exists():
        shutil.rmtree(path)


def _unlock_clocks(uuid: str) -> None:
    import pynvml  # noqa: PLC0415  (only where there is a GPU)

    pynvml.nvmlInit()
    try:
        pynvml.nvmlDeviceResetGpuLockedClocks(pynvml.nvmlDeviceGetHandleByUUID(uuid))
    finally:
        pynvml.nvmlShutdown()


_ACTIONS: dict[str, Callable[..., None]] = {
    "kill": _kill,
    "write": _write,
    "remove_group": _remove_group,
    "affinity": _affinity,
    "nice": _nice,
    "remove_qdisc": _remove_qdisc,
    "delete": _delete,
    "unlock_clocks": _unlock_clocks,
}
