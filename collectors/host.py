"""Counters of a Linux host and of some of its processes, at a steady rate, as the counters CSV that `rca` reads.

Every metric is read from the kernel at each tick; rates are differences between ticks. What a machine does not have
(clocks in many virtual machines, ``schedstat`` in some kernels) is left out and named in `HostSampler.unavailable`.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from rca.capture.tables import HOST

FIELDS = ("timestamp", "metric", "device", "value", "unit", "pid")


class Sample(NamedTuple):
    """One value of one counter; ``timestamp`` is ns since the Unix epoch, ``pid`` empty for the whole host."""

    timestamp: int
    metric: str
    device: str
    value: float
    unit: str
    pid: int | str = ""


@dataclass(frozen=True)
class _Totals:
    """Cumulative counts of one process at one time."""

    at_ns: int
    threads: dict[str, tuple[int, int]]
    """On-CPU and run-queue ns of each thread."""
    voluntary: int
    involuntary: int

    def since(self, then: _Totals) -> tuple[int, int]:
        """Return on-CPU and run-queue ns since ``then``; a thread that ended in between takes its last moments along."""
        before = [then.threads.get(thread, (0, 0)) for thread in self.threads]
        gained = [(now[0] - old[0], now[1] - old[1]) for now, old in zip(self.threads.values(), before, strict=True)]
        return sum(on for on, _ in gained), sum(waiting for _, waiting in gained)


class HostSampler:
    """Samples the host and the processes ``pids`` (each with its children at the time of creation).

    The first `sample` starts the differences and returns no rates.
    """

    def __init__(self, pids: Iterable[int] = ()) -> None:
        trees = [(psutil.Process(pid), *psutil.Process(pid).children(recursive=True)) for pid in pids]
        self.processes = list({process.pid: process for tree in trees for process in tree}.values())
        self.unavailable: dict[str, str] = {}
        self._totals: dict[int, _Totals] = {}
        self._host: tuple[int, int] | None = None
        psutil.cpu_percent()
        self._has_clock = bool(psutil.cpu_freq(percpu=True))
        if not self._has_clock:
            self.unavailable["cpu_frequency"] = "the kernel states no clock (usual in virtual machines)"

    def sample(self) -> list[Sample]:
        """Return one value per counter that this machine has, all with the time at which the tick began."""
        now = time.time_ns()
        return [
            *self._host_samples(now),
            *(s for process in self.processes for s in self._process_samples(now, process)),
        ]

    def _host_samples(self, now: int) -> list[Sample]:
        samples = [Sample(now, "host_cpu_usage", HOST, psutil.cpu_percent(), "%")]
        if self._has_clock:
            samples += [
                Sample(now, "cpu_frequency", f"CPU {core}", clock.current, "MHz")
                for core, clock in enumerate(psutil.cpu_freq(percpu=True))
            ]
        memory = psutil.virtual_memory()
        samples += [
            Sample(now, "host_mem_usage", HOST, memory.percent, "%"),
            Sample(now, "host_mem_available", HOST, memory.available, "bytes"),
        ]
        switches = psutil.cpu_stats().ctx_switches
        if self._host:
            then, switches_then = self._host
            samples.append(Sample(now, "host_ctx_switches", HOST, (switches - switches_then) * 1e9 / (now - then), "1/s"))
        self._host = (now, switches)
        return samples

    def _process_samples(self, now: int, process: psutil.Process) -> list[Sample]:
        pid = process.pid
        try:
            memory = process.memory_info().rss
            totals = self._read_totals(now, process)
        except psutil.NoSuchProcess:
            self.unavailable[f"process {pid}"] = "it ended"
            self.processes = [p for p in self.processes if p.pid != pid]
            return []
        samples = [Sample(now, "process_mem_rss", HOST, memory, "bytes", pid)]
        if then := self._totals.get(pid):
            seconds = (now - then.at_ns) / 1e9
            oncpu_ns, runq_ns = totals.since(then)
            rates = (
                ("process_cpu_usage", oncpu_ns / 1e7 / seconds, "% of one core"),
                ("process_runq_wait", runq_ns / 1e7 / seconds, "% of one core"),
                ("process_voluntary_switches", (totals.voluntary - then.voluntary) / seconds, "1/s"),
                ("process_involuntary_switches", (totals.involuntary - then.involuntary) / seconds, "1/s"),
            )
            samples += [Sample(now, metric, HOST, max(value, 0.0), unit, pid) for metric, value, unit in rates]
        self._totals[pid] = totals
        return samples

    def _read_totals(self, now: int, process: psutil.Process) -> _Totals:
        """Read on-CPU and run-queue time thread by thread; the per-process file has the main thread only."""
        threads = {}
        for schedstat in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            try:
                on, waiting, _ = schedstat.read_text().split()
            except (OSError, ValueError):  # the thread ended, or the kernel has no schedstats
                continue
            threads[schedstat.parent.name] = (int(on), int(waiting))
        if not any(on for on, _ in threads.values()):
            self.unavailable["process_runq_wait"] = "the kernel keeps no schedstats"
            times = process.cpu_times()
            threads = {"process": (int((times.user + times.system) * 1e9), 0)}
        switches = process.num_ctx_switches()
        return _Totals(now, threads, switches.voluntary, switches.involuntary)


def record(sampler: HostSampler, path: Path, seconds: float, hz: float) -> int:
    """Sample at ``hz`` for ``seconds`` and write ``path``; return the number of ticks.

    Ticks are placed on a fixed grid; those that a stall made impossible are left out, not made up for in a burst, whose
    differences over a moment would say nothing.
    """
    ticks = slot = 0
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(FIELDS)
        begin = time.monotonic()
        while (due := begin + slot / hz) < begin + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            writer.writerows((*s[:3], f"{s.value:.6g}", *s[4:]) for s in sampler.sample())
            ticks += 1
            slot = max(slot + 1, math.ceil((time.monotonic() - begin) * hz))
    return ticks
