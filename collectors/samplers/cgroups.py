"""Control groups of the watched processes: quotas, throttling, memory limits, pressure; versions 1 and 2 (FORMATS.md §5.2).

A limit may stand in any group above a process: all of them are looked at, and the tightest counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from collectors.samplers.pressure import PSI_HZ, stall_totals
from collectors.samplers.procfs import number_of, text_of
from collectors.sampling import Pids, Rate, Sample, sample

ROOT = Path("/sys/fs/cgroup")

_CONTROLLERS = ("cpu", "cpuacct", "memory")
_LOOK_NS = 2_000_000_000
"""Processes seldom move between groups; finding a group costs more than reading it."""

_UNLIMITED_BYTES = 1 << 60
"""Version 1 writes "no limit" as the largest multiple of a page below 2^63."""

_NS_TO_PERCENT = 1e-7
_US_TO_PERCENT = 1e-4


def folders_of(pid: int, controller: str) -> list[Path]:
    """Return the folders of a process' groups, innermost first, as far as they can be seen from here.

    In version 1 every controller has a tree of its own; in version 2 they share one.
    """
    path_of: dict[str, str] = {}
    for line in text_of(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        path_of |= dict.fromkeys(controllers.split(","), path)
    if controller in path_of:
        top, path = ROOT / controller, path_of[controller]
    elif "" in path_of and not path_of.keys() & set(_CONTROLLERS):
        top, path = ROOT, path_of[""]
    else:
        return []
    folder = top / path.lstrip("/")
    chain = [folder, *folder.parents]
    return [place for place in chain[: chain.index(top) + 1] if place.is_dir()]


def quota_pct(folder: Path) -> float | None:
    """Return a group's CPU limit in % of one core; None where there is none."""
    limit, _, period = text_of(folder / "cpu.max", "max ").partition(" ")
    if limit != "max":
        return 100 * float(limit) / float(period)
    limit_us, period_us = number_of(folder / "cpu.cfs_quota_us"), number_of(folder / "cpu.cfs_period_us")
    return 100 * limit_us / period_us if limit_us and period_us and limit_us > 0 else None


def memory_limit(folder: Path) -> float | None:
    """Return a group's memory limit in bytes; None where there is none."""
    found = number_of(folder / "memory.max") or number_of(folder / "memory.limit_in_bytes")
    return found if found is not None and found < _UNLIMITED_BYTES else None


def _memory_used(folder: Path) -> float | None:
    return number_of(folder / "memory.current") or number_of(folder / "memory.usage_in_bytes")


def _cpu_stat(folder: Path) -> dict[str, float]:
    lines = (line.split() for line in text_of(folder / "cpu.stat").splitlines())
    return {line[0]: float(line[1]) for line in lines if len(line) == 2}


class Cgroups:
    """Limits and throttling of the control groups of the watched processes."""

    name = "cgroups"

    def __init__(self, hz: float, pids: Pids) -> None:
        self.hz = min(hz, 1.0)
        self.unavailable: dict[str, str] = {}
        self._pids = pids
        self._rate = Rate()
        self._psi_due_ns = 0
        self._look_ns = 0
        self._folders: dict[str, list[Path]] = {}
        self._look(0)
        folders = self._folders["cpu"]
        if not folders:
            self.unavailable["cgroup_cpu_throttled"] = "no control group of the watched processes can be seen"
        elif not any("nr_periods" in _cpu_stat(folder) for folder in folders):
            self.unavailable["cgroup_cpu_throttled"] = "the CPU controller is off for the groups of the watched processes"
        if folders and not any((folder / "cpu.pressure").exists() for folder in folders):
            self.unavailable["cgroup_pressure_cpu_some"] = "no pressure information per control group (version 1, or psi=0)"

    def sample(self, now_ns: int) -> list[Sample]:
        """Return the tightest limits, and what the most throttled group lost since the call before."""
        if now_ns >= self._look_ns:
            self._look(now_ns)
        samples = self._cpu(now_ns) + self._memory(now_ns)
        if now_ns >= self._psi_due_ns:
            self._psi_due_ns = now_ns + int(1e9 / PSI_HZ)
            samples += self._pressure(now_ns)
        return samples

    def _look(self, now_ns: int) -> None:
        self._look_ns = now_ns + _LOOK_NS
        pids = self._pids()
        for controller in _CONTROLLERS:
            self._folders[controller] = list(dict.fromkeys(place for pid in pids for place in folders_of(pid, controller)))

    def _cpu(self, now_ns: int) -> list[Sample]:
        folders = self._folders["cpu"]
        quota = min(_known(map(quota_pct, folders)), default=None)
        waits, shares = [], []
        for folder in folders:
            counts = _cpu_stat(folder)
            if "nr_periods" not in counts:
                continue
            waited_ns = counts.get("throttled_time", counts.get("throttled_usec", 0.0) * 1000)
            waits.append(self._rate((folder, "wait"), now_ns, waited_ns, _NS_TO_PERCENT))
            periods = self._rate((folder, "periods"), now_ns, counts["nr_periods"])
            used_up = self._rate((folder, "throttled"), now_ns, counts["nr_throttled"])
            shares += [100 * used_up / periods] if periods and used_up is not None else []
        found = {
            "cgroup_cpu_quota": quota,
            "cgroup_cpu_throttled": max(_known(waits), default=None),
            "cgroup_cpu_throttled_periods": max(shares, default=None) if quota is not None else None,
            "cgroup_cpu_usage": self._busiest(now_ns),
        }
        return [sample(now_ns, metric, value) for metric, value in found.items() if value is not None]

    def _busiest(self, now_ns: int) -> float | None:
        totals: dict[Path, float | None] = {}
        for folder in _below_top(self._folders["cpuacct"]):
            of_v2 = _cpu_stat(folder).get("usage_usec")
            totals[folder] = of_v2 * 1000 if of_v2 is not None else number_of(folder / "cpuacct.usage")
        known = {folder: total for folder, total in totals.items() if total is not None}
        rates = [self._rate((folder, "usage"), now_ns, total, _NS_TO_PERCENT) for folder, total in known.items()]
        return max(_known(rates), default=None)

    def _memory(self, now_ns: int) -> list[Sample]:
        folders = self._folders["memory"]
        limits = {folder: limit for folder in folders if (limit := memory_limit(folder)) is not None}
        samples = []
        if limits:
            tightest = min(limits, key=lambda folder: limits[folder])
            samples.append(sample(now_ns, "cgroup_mem_limit", limits[tightest]))
            folders = [tightest]
        used = max(_known(map(_memory_used, _below_top(folders))), default=None)
        return [*samples, sample(now_ns, "cgroup_mem_used", used)] if used is not None else samples

    def _pressure(self, now_ns: int) -> list[Sample]:
        samples = []
        for resource in ("cpu", "io", "memory"):
            shares = []
            for folder in _below_top(self._folders["cpu"]):
                totals = stall_totals(text_of(folder / f"{resource}.pressure").encode())
                if totals:
                    shares.append(self._rate((folder, resource), now_ns, totals["some"], _US_TO_PERCENT))
            if known := _known(shares):
                samples.append(sample(now_ns, f"cgroup_pressure_{resource}_some", min(max(known), 100.0)))
        return samples

    def close(self) -> None:
        """Nothing is open."""


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _below_top(folders: list[Path]) -> list[Path]:
    """Leave out the group of the whole machine: what it holds is the host's, not the processes'."""
    tops = {ROOT, *(ROOT / controller for controller in _CONTROLLERS)}
    return [folder for folder in folders if folder not in tops]
