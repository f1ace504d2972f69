"""Control groups of the lab's own: a limit is set on them, never on a group that was there before."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from collectors.samplers.cgroups import folders_of
from lab import actions
from lab.undo import Undo

CONTROLLERS = ("cpu", "memory")
_PERIOD_US = 100_000
_UNLIMITED_V1 = "-1"
_UNLIMITED_V2 = "max"


@dataclass(frozen=True)
class Groups:
    """A control group per controller; of version 2 they are one and the same.

    Attributes:
        folders: by controller, of those that can be limited here.
        missing: why not, by controller.
    """

    folders: dict[str, Path]
    missing: dict[str, str]

    @contextmanager
    def cpu_quota(self, undo: Undo, cores: float, seconds: float) -> Iterator[None]:
        """Limit the group to so many cores' worth of CPU time in each tenth of a second."""
        folder = self.folders["cpu"]
        limit = max(1000, round(cores * _PERIOD_US))
        if (folder / "cpu.max").exists():
            file, text, before = folder / "cpu.max", f"{limit} {_PERIOD_US}", f"{_UNLIMITED_V2} {_PERIOD_US}"
        else:
            (folder / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            file, text, before = folder / "cpu.cfs_quota_us", str(limit), _UNLIMITED_V1
        with undo.holding(actions.write(file, before), seconds):
            file.write_text(text)
            yield

    @contextmanager
    def memory_limit(self, undo: Undo, limit: int, seconds: float) -> Iterator[None]:
        """Limit the group to so many bytes.

        Raises:
            OSError: it holds more that cannot be taken from it (version 1 refuses such a limit).
        """
        folder = self.folders["memory"]
        of_v2 = (folder / "memory.max").exists()
        file = folder / ("memory.max" if of_v2 else "memory.limit_in_bytes")
        with undo.holding(actions.write(file, _UNLIMITED_V2 if of_v2 else _UNLIMITED_V1), seconds):
            file.write_text(str(limit))
            yield

    def holds(self, controller: str, pid: int) -> bool:
        """Tell whether a process is in the group: a limit on another one would do nothing."""
        return str(pid) in (self.folders[controller] / "cgroup.procs").read_text().split()

    def kept_bytes(self) -> int:
        """Return the memory of the group that the kernel cannot take back by dropping pages of files."""
        folder = self.folders["memory"]
        usage = next(f for f in (folder / "memory.current", folder / "memory.usage_in_bytes") if f.exists())
        lines = (folder / "memory.stat").read_text().splitlines()
        stat = {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}
        return int(usage.read_text()) - stat["active_file"] - stat["inactive_file"]


@contextmanager
def own_groups(undo: Undo) -> Iterator[Groups]:
    """Make groups below ours, or as near to it as the machine allows, and remove them at the end."""
    name = f"rca-lab-{os.getpid()}-{secrets.token_hex(3)}"
    parents = {controller: _chain(controller) for controller in CONTROLLERS}
    together = set.intersection(*map(set, parents.values()))
    folders: dict[str, Path] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        for controller, chain in parents.items():
            usable = [parent for parent in chain if parent in together] if together else chain
            if not usable:
                missing[controller] = f"no control group with the {controller} controller can be made here"
                continue
            folder = usable[0] / name
            if folder not in folders.values():
                stack.enter_context(undo.holding(actions.remove_group(folder)))
                try:
                    folder.mkdir()
                except OSError as error:
                    missing[controller] = f"{folder}: {error.strerror}"
                    continue
            folders[controller] = folder
        yield Groups(folders, missing)


def _chain(controller: str) -> list[Path]:
    """Return the groups from ours upwards below which one with this controller can be made.

    Of version 1 every controller has a tree of its own, of version 2 they share one: there a process is in one group only,
    which has to have all controllers.
    """
    chain = []
    for folder in folders_of(os.getpid(), controller):
        passes_on = folder / "cgroup.subtree_control"
        with contextlib.suppress(OSError):
            passed = not passes_on.exists() or controller in passes_on.read_text().split()
            if passed and os.access(folder, os.W_OK):
                chain.append(folder)
    return chain
