"""Samplers of processes on this machine: real programs, and what the kernel's scheduler did with them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from statistics import fmean
from typing import Any

import msgspec
import psutil
import pytest
from sampling_tools import (
    BUSY,
    PARENT,
    SECOND,
    WAITING,
    Notes,
    Start,
    check_samples,
    patiently,
    tell,
    tree_of,
    values,
    watched,
)

from collectors.clocks import CaptureClock
from collectors.process_tree import REFRESH_NS, ProcessTree
from collectors.samplers import processes
from collectors.samplers.processes import Processes, Threads
from rca.capture.metrics import METRICS


class TestThreads:
    def test_a_busy_process_runs_or_waits_all_the_time(self, start: Start) -> None:
        pid = start(BUSY).pid

        def check() -> None:
            samples = watched(Threads(20, tree_of(pid)), 0.6, hz=2)
            usage, waiting = (fmean(values(samples, metric)) for metric in ("process_cpu_usage", "process_runq_wait"))
            assert usage > 50
            assert usage + waiting == pytest.approx(100, abs=15)

        patiently(check)

    def test_an_idle_process_does_neither(self, start: Start) -> None:
        samples = watched(Threads(20, tree_of(start(WAITING).pid)), 0.3)
        assert fmean(values(samples, "process_cpu_usage")) < 10
        assert fmean(values(samples, "process_runq_wait")) < 10

    def test_two_on_one_core_wait_for_each_other(self, start: Start) -> None:
        pids = [start(BUSY).pid for _ in range(2)]
        for pid in pids:
            os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})

        def check() -> None:
            samples = watched(Threads(20, tree_of(*pids)), 0.6, hz=2)
            for pid in pids:
                usage, waiting = (fmean(values(samples, f"process_{what}", pid=pid)) for what in ("cpu_usage", "runq_wait"))
                assert waiting > 35
                assert usage + waiting == pytest.approx(100, abs=15)

        patiently(check)

    def test_threads_are_told_by_their_role(self, start: Start) -> None:
        process = start(
            "import sys, threading, time\n"
            "def work(name, busy):\n"
            "    with open('/proc/thread-self/comm', 'w') as comm: comm.write(name)\n"
            "    begun.wait()\n"
            "    while busy: pass\n"
            "    time.sleep(60)\n"
            "begun = threading.Barrier(4)\n"
            "for what in (('spin', True), ('pool', False), ('pool', False)):\n"
            "    threading.Thread(target=work, args=what, daemon=True).start()\n"
            "begun.wait()\n"
            "print('ready', flush=True)\n"
            "sys.stdin.readline()\n"
        )

        def check() -> None:
            samples = watched(Threads(20, tree_of(process.pid)), 1.0)
            roles = {one.device for one in samples if one.metric == "thread_cpu_usage"}
            assert roles == {"main thread", "threads spin", "threads pool"}
            usage = {role: fmean(values(samples, "thread_cpu_usage", role)) for role in roles}
            assert usage["threads spin"] > 50
            assert usage["main thread"] + usage["threads pool"] < 20
            assert 3 <= len(values(samples, "thread_cpu_usage", "threads pool")) <= 6, "both together, five times a second"

        patiently(check)

    @pytest.mark.parametrize("most", [4, 512])
    def test_threads_that_are_read_seldom_still_add_up(
        self, start: Start, monkeypatch: pytest.MonkeyPatch, most: int
    ) -> None:
        """Ten threads rest until the settled ones are left out, then one after the other runs a while."""
        monkeypatch.setattr(processes, "MAX_THREADS", most)
        monkeypatch.setattr(processes, "_MANY_REST_NS", SECOND // 5)
        process = start(
            "import sys, threading, time\n"
            "def work(turn):\n"
            "    turn.wait()\n"
            "    ends = time.thread_time() + 0.05\n"
            "    while time.thread_time() < ends: pass\n"
            "    done.wait()\n"
            "    time.sleep(60)\n"
            "turns = [threading.Event() for _ in range(10)]\n"
            "done = threading.Barrier(11)\n"
            "for turn in turns: threading.Thread(target=work, args=(turn,), daemon=True).start()\n"
            "print('ready', flush=True)\n"
            "sys.stdin.readline()\n"
            "for turn in turns:\n"
            "    turn.set()\n"
            "    time.sleep(0.02)\n"
            "done.wait()\n"
            "print('done', flush=True)\n"
            "sys.stdin.readline()\n"
        )
        sampler, clock = Threads(20, tree_of(process.pid)), CaptureClock()
        before = psutil.Process(process.pid).cpu_times()
        sampler.sample(last_ns := clock.now_ns())
        seconds = 0.0

        def tick(now_ns: int) -> None:
            nonlocal seconds, last_ns
            [usage] = values(sampler.sample(now_ns), "process_cpu_usage")
            seconds += usage / 100 * (now_ns - last_ns) / SECOND
            last_ns = now_ns

        with contextlib.closing(sampler):
            began = time.monotonic()
            working = threading.Thread(target=tell, args=(process, "go"))
            while working.ident is None or working.is_alive():
                time.sleep(0.02)
                tick(clock.now_ns())
                if working.ident is None and time.monotonic() >= began + 0.4:
                    working.start()
            tick(later_ns := clock.now_ns() + 2 * SECOND)
            after = psutil.Process(process.pid).cpu_times()
            truth = after.user + after.system - before.user - before.system
            assert truth > 0.4
            assert seconds == pytest.approx(truth, abs=0.06)

            tick(later_ns + SECOND)

            def never(*_: Any) -> bytes:
                raise AssertionError("a thread that rests is read at every tick")

            monkeypatch.setattr(processes.os, "pread", never)
            tick(later_ns + SECOND + SECOND // 20)


class TestProcessTree:
    def test_what_a_process_starts_is_noted_and_watched(self, start: Start) -> None:
        notes = Notes()
        parent = start(PARENT)
        tree = ProcessTree([parent.pid], CaptureClock(), notes)
        sampler = Threads(20, tree)
        with contextlib.closing(sampler):
            sampler.sample(SECOND)
            assert tree.pids() == [parent.pid]
            assert notes == [], "what runs when a capture begins is no event"
            child = int(tell(parent, "start"))
            sampler.sample(SECOND + 2 * REFRESH_NS)
            assert notes.kinds() == ["process_started"]
            assert f"(pid {child}), child of pid {parent.pid}" in notes[0][1]
            samples = sampler.sample(SECOND + 3 * REFRESH_NS)
            assert {one.pid for one in samples} == {parent.pid, child}
            tell(parent, "end")
            samples = sampler.sample(SECOND + 5 * REFRESH_NS)
            assert {one.pid for one in samples} == {parent.pid}
        assert notes.kinds() == ["process_started", "process_ended"]
        assert f"(pid {child})" in notes[1][1]
        assert tree.known[child].ended_ns is not None
        assert tree.known[parent.pid].ended_ns is None

    def test_an_orphan_stays_watched(self, start: Start) -> None:
        parent = start(PARENT)
        tree = tree_of(parent.pid)
        child = int(tell(parent, "start"))
        tree.refresh()
        assert tree.pids() == sorted([parent.pid, child])
        parent.kill()
        parent.wait()
        tree.refresh()
        assert tree.pids() == [child]

    def test_the_collector_itself_is_never_in_the_tree(self, start: Start) -> None:
        child = start(WAITING)
        assert tree_of(os.getpid(), child.pid).pids() == [child.pid]
        collector = start(
            "import os, sys\n"
            "from collectors.clocks import CaptureClock\n"
            "from collectors.process_tree import ProcessTree\n"
            "print('ready', flush=True)\n"
            "sys.stdin.readline()\n"
            "pids = ProcessTree([os.getppid()], CaptureClock(), print).pids()\n"
            "print(os.getppid() in pids, os.getpid() in pids, int(sys.stdin.readline()) in pids, flush=True)\n"
        )
        assert tell(collector, f"go\n{child.pid}") == "True False True", "its parent and that one's other child are"

    def test_facts_of_a_process_are_taken_down_without_secrets(self) -> None:
        command = [sys.executable, "-c", "import time; time.sleep(60)", "--api-key", "hunter2"]
        with subprocess.Popen(command) as process:
            try:
                facts = tree_of(process.pid).known[process.pid]
            finally:
                process.kill()
        assert (facts.parent, facts.inner_pid) == (os.getpid(), process.pid)
        assert facts.command[-2:] == ["--api-key", "[redacted]"]
        assert facts.allowed_cores == len(os.sched_getaffinity(0))
        assert abs(facts.started_ns - time.time_ns()) < 60 * SECOND

    def test_arguments_need_not_be_text(self) -> None:
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", b"caf\xe9"]) as process:
            try:
                facts = tree_of(process.pid).known[process.pid]
            finally:
                process.kill()
        assert b"caf" in msgspec.json.encode(facts)


class TestProcesses:
    def test_memory_priority_and_cores_are_those_of_the_process(self, start: Start) -> None:
        process = start(
            "import sys\nprint('ready', flush=True)\nsys.stdin.readline()\n"
            "held = b'x' * 50_000_000\nprint('held', flush=True)\nsys.stdin.readline()"
        )
        sampler = Processes(1, tree_of(process.pid))

        def amounts(now_ns: int) -> dict[str, float]:
            return {one.metric: one.value for one in sampler.sample(now_ns)}

        before = amounts(SECOND)
        assert before["process_allowed_cores"] == len(os.sched_getaffinity(0))
        assert before["process_threads"] == 1
        tell(process, "go")
        os.setpriority(os.PRIO_PROCESS, process.pid, 7)
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        after = amounts(2 * SECOND)
        assert after["process_nice"] == 7
        assert after["process_allowed_cores"] == 1
        assert after["process_mem_rss"] - before["process_mem_rss"] == pytest.approx(50e6, rel=0.1)
        assert after["process_minor_faults"] > 0
        psutil.Process(process.pid).nice(12)
        assert amounts(3 * SECOND)["process_nice"] == 12

    def test_samples_are_of_known_metrics(self, start: Start) -> None:
        pid = start(BUSY).pid
        sampler = Processes(1, tree_of(pid))
        samples = watched(sampler, 0.2)
        check_samples(samples, sampler.unavailable)
        assert {one.pid for one in samples} == {pid}
        metrics = {metric for metric in METRICS if metric.startswith("process_")}
        of_others = {"process_cpu_usage", "process_runq_wait", "process_gpu_usage", "process_gpu_mem_usage"}
        assert {one.metric for one in samples} | set(sampler.unavailable) == metrics - of_others

    def test_a_process_that_ends_between_two_reads_is_left_out(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        process = start(WAITING)
        sampler = Processes(1, tree_of(process.pid))
        text_of = processes.text_of

        def ends_first(path: str, default: str = "") -> str:
            if path == f"/proc/{process.pid}/status":
                process.kill()
                process.wait()
            return text_of(path, default)

        monkeypatch.setattr(processes, "text_of", ends_first)
        assert sampler.sample(SECOND) == []
