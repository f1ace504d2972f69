"""Control groups of the lab's own: a limit is set on them, never on a group that was there before."""

from __future__ import annotations

import contextlib
import os
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

    def memory(self) -> dict[str, int]:
        """Return what the group's memory is used for, in bytes (``memory.stat``)."""
        lines = (self.folders["memory"] / "memory.stat").read_text().split("\n")
        return {name: int(value) for name, _, value in (line.partition(" ") for line in lines) if value.isdigit()}


@contextmanager
def own_groups(undo: Undo, name: str) -> Iterator[Groups]:
    """Make groups below ours, or as near to it as the machine allows, and remove them at the end."""
    folders: dict[str, Path] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        for controller in CONTROLLERS:
            parent = _parent(controller)
            if parent is None:
                missing[controller] = f"no control group with the {controller} controller can be made here"
                continue
            folder = parent / name
            if folder not in folders.values():
                stack.enter_context(undo.holding(actions.remove_group(folder, parent)))
                try:
                    folder.mkdir(exist_ok=True)
                except OSError as error:
                    missing[controller] = f"{folder}: {error.strerror}"
                    continue
            folders[controller] = folder
        yield Groups(folders, missing)


def _parent(controller: str) -> Path | None:
    """Return the innermost group from ours upwards below which a group with this controller can be made."""
    for folder in folders_of(os.getpid(), controller):
        passes_on = folder / "cgroup.subtree_control"
        with contextlib.suppress(OSError):
            if passes_on.exists() and controller not in passes_on.read_text().split():
                continue
            if os.access(folder, os.W_OK):
                return folder
    return None
