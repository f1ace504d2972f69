"""The host sampler on this host: real reads, and what it does when it is held up."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from collectors.host import FIELDS, HostSampler, _Totals, record
from traces import read_with

from rca.capture.readers import counters


@pytest.fixture
def busy():
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process.pid
    process.kill()
    process.wait()


def test_records_what_the_reader_reads(tmp_path: Path, busy: int) -> None:
    path = tmp_path / "counters.csv"
    sampler = HostSampler([busy, os.getpid()])
    ticks = record(sampler, path, seconds=0.5, hz=20)
    assert 5 <= ticks <= 10
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == FIELDS
    table = read_with(counters, path).counters
    assert table.height == len(rows)
    metrics = set(table["metric"].cast(str))
    assert {"host_cpu_usage", "host_mem_usage", "process_cpu_usage", "process_runq_wait"} <= metrics
    usage = [float(row["value"]) for row in rows if row["metric"] == "process_cpu_usage" and row["pid"] == str(busy)]
    assert max(usage) > 20
    assert ("cpu_frequency" in metrics) != ("cpu_frequency" in sampler.unavailable)


def test_a_stall_leaves_ticks_out_instead_of_making_up_for_them(tmp_path: Path) -> None:
    class Stalling:
        calls = 0

        def sample(self) -> list:
            self.calls += 1
            time.sleep(0.3 if self.calls == 2 else 0)
            return []

    assert record(Stalling(), tmp_path / "c.csv", seconds=0.5, hz=20) <= 6  # type: ignore[arg-type]


def test_a_thread_that_ends_takes_nothing_back() -> None:
    then = _Totals(0, {"1": (100, 10), "2": (500, 50)}, 0, 0)
    now = _Totals(1, {"1": (130, 15), "3": (7, 1)}, 0, 0)
    assert now.since(then) == (37, 6)


def test_a_process_that_ends_is_named(busy: int) -> None:
    sampler = HostSampler([busy])
    os.kill(busy, 9)
    os.waitpid(busy, 0)
    sampler.sample()
    assert f"process {busy}" in sampler.unavailable
