"""Run a command as a fresh process and take its wall time, CPU time and peak of memory, its child processes included."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile

import psutil

SAMPLE_S = 0.05


@dataclass(frozen=True)
class Run:
    """One run. ``peak_mb`` (MiB) is the larger of the biggest process' ru_maxrss and the sampled sum of PSS of all."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    events: int
    failed: str = ""


def run(command: Sequence[str | Path]) -> Run:
    """Run ``command``; if it prints a JSON object with ``events`` on its last line, that is how many it read."""
    with TemporaryFile() as out, TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        done, peak = threading.Event(), [0]
        watcher = threading.Thread(target=_watch, args=(process.pid, done, peak))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        done.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        printed, complaint = out.read().decode(errors="replace"), err.read().decode(errors="replace")
    events = 0
    with contextlib.suppress(ValueError, IndexError, KeyError, TypeError):
        events = int(json.loads(printed.strip().splitlines()[-1])["events"])
    # compare: 0 is no difference, 1 slower, 3 and 4 are verdicts too
    failed = "" if process.returncode in (0, 1, 3, 4) and "Traceback" not in complaint else f"exit {process.returncode}"
    if failed and complaint.strip():
        failed = complaint.strip().splitlines()[-1][:100]
    peak_mb = max(usage.ru_maxrss / 1024, peak[0] / 2**20)
    return Run(wall, usage.ru_utime + usage.ru_stime, peak_mb, events, failed)


def _watch(pid: int, done: threading.Event, peak: list[int]) -> None:
    """Keep the largest sum of PSS of a process and its descendants; pages that they share count once."""
    while not done.wait(SAMPLE_S):
        total = 0
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            children = root.children(recursive=True)
            if not children:
                continue  # ru_maxrss tells
            for process in (root, *children):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_full_info().pss
        peak[0] = max(peak[0], total)


def medians(runs: Sequence[Run]) -> Run:
    good = [item for item in runs if not item.failed]
    if not good:
        return runs[0]
    return Run(
        median(item.wall_s for item in good),
        median(item.cpu_s for item in good),
        max(item.peak_mb for item in good),
        good[0].events,
    )
