"""Samplers on this machine: real processes, a real control group, the kernel's own counters."""

from __future__ import annotations

import contextlib
import http.server
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any

import msgspec
import psutil
import pytest

from collectors.clocks import CaptureClock
from collectors.process_tree import REFRESH_NS, ProcessTree
from collectors.samplers import cgroups, processes
from collectors.samplers.cgroups import Cgroups, folders_of, memory_limit, quota_pct
from collectors.samplers.engine import EngineMetrics, totals_of
from collectors.samplers.host import Cores, Cpu, Disks, Memory, Network, Sensors
from collectors.samplers.pressure import Pressure
from collectors.samplers.processes import Processes, Threads
from collectors.samplers.procfs import KeptOpen
from collectors.sampling import Rate, Sample, Sampler
from collectors.server import Server
from rca.capture.metrics import HOST, METRICS

ROOT = Path(__file__).parents[1]
SECOND = 1_000_000_000
Start = Callable[[str], subprocess.Popen[str]]

WAITING = "import sys; print('ready', flush=True); sys.stdin.readline()"
BUSY = "print('ready', flush=True)\nwhile True: pass"
PARENT = """
import subprocess, sys
print("ready", flush=True)
for line in sys.stdin:
    if line == "start\\n":
        child = subprocess.Popen(["sleep", "60"])
    else:
        child.kill()
        child.wait()
    print(child.pid, flush=True)
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Run Python programs that say when they are ready; at the end they are killed, with all that they started."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=ROOT,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if os.geteuid() == 0:  # other jobs of this machine must not starve it; a session counts as one of them
            os.setpriority(os.PRIO_PROCESS, process.pid, -10)
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/autogroup").write_text("-10")
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with process:
            pass


def tell(process: subprocess.Popen[str], line: str) -> str:
    """Send a line to a program and return its answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def patiently(check: Callable[[], None], attempts: int = 6) -> None:
    """Measure and check again where that fails: other jobs may take all of this machine for a second or two."""
    for _ in range(attempts - 1):
        with contextlib.suppress(AssertionError):
            return check()
    return check()


class Notes(list[tuple[str, str]]):
    def __call__(self, kind: str, text: str) -> None:
        self.append((kind, text))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self]


def tree_of(*roots: int) -> ProcessTree:
    return ProcessTree(roots, CaptureClock(), Notes())


def watched(sampler: Sampler, seconds: float, hz: float = 20) -> list[Sample]:
    """Call a sampler for a time, and close it; return what it said after the first call."""
    clock = CaptureClock()
    samples = []
    with contextlib.closing(sampler):
        sampler.sample(clock.now_ns())
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(1 / hz)
            samples += sampler.sample(clock.now_ns())
    return samples


def values(samples: list[Sample], metric: str, device: str = HOST, pid: int | None = None) -> list[float]:
    return [s.value for s in samples if (s.metric, s.device) == (metric, device) and pid in (None, s.pid)]


class TestRate:
    def test_the_first_call_says_nothing(self) -> None:
        assert Rate()("a", 0, 5) is None

    def test_growth_per_second_is_scaled(self) -> None:
        rate = Rate()
        rate("a", 0, 5)
        rate("b", 0, 1000)
        assert rate("a", SECOND // 2, 15, scale=3) == 60
        assert rate("a", SECOND, 15) == 0

    def test_a_total_that_falls_says_nothing_once(self) -> None:
        rate = Rate()
        rate("a", 0, 50)
        assert rate("a", SECOND, 7) is None
        assert rate("a", 2 * SECOND, 9) == 2

    def test_no_time_is_no_rate(self) -> None:
        rate = Rate()
        rate("a", SECOND, 5)
        assert rate("a", SECOND, 6) is None


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
        monkeypatch.setattr(processes, "_SETTLED_NS", SECOND // 5)
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

    def test_a_root_that_is_added_is_watched_at_once(self, start: Start) -> None:
        tree = tree_of()
        tree.add_root(start(WAITING).pid)
        assert len(tree.pids()) == 1

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


HOST_METRICS: dict[Callable[[float], Sampler], str] = {
    Cpu: "host_cpu_usage host_cpu_system host_cpu_iowait host_cpu_steal host_procs_running host_procs_blocked "
    "host_ctx_switches",
    Cores: "core_usage cpu_frequency",
    Memory: "host_mem_usage host_mem_available host_mem_cache host_swap_used host_swap_in host_swap_out "
    "host_major_faults host_direct_reclaim host_background_reclaim",
    Disks: "disk_busy",
    Network: "net_rx_rate net_tx_rate net_drops net_errors tcp_retransmits",
    Sensors: "cpu_temp cpu_power cpu_throttle_events",
    Pressure: "pressure_cpu_some pressure_io_some pressure_io_full pressure_memory_some pressure_memory_full",
}
"""What each sampler either says or names as unavailable."""


def check_samples(samples: list[Sample], unavailable: dict[str, str]) -> None:
    assert samples or unavailable
    for one in samples:
        assert one.unit == METRICS[one.metric].unit
        assert math.isfinite(one.value)
        assert one.value >= 0 or one.metric == "process_nice"
    assert not {one.metric for one in samples} & unavailable.keys()
    assert unavailable.keys() <= METRICS.keys()


class TestHost:
    @pytest.mark.parametrize("kind", HOST_METRICS)
    def test_every_metric_is_sampled_or_said_to_be_unavailable(self, kind: Callable[[float], Sampler]) -> None:
        sampler = kind(20)
        samples = watched(sampler, 0.3)
        check_samples(samples, dict(sampler.unavailable))
        assert set(HOST_METRICS[kind].split()) <= {one.metric for one in samples} | sampler.unavailable.keys()
        assert all(
            one.value <= 100 for one in samples if one.metric.startswith(("core_usage", "pressure_", "host_mem_usage"))
        )

    def test_the_host_is_busy_when_all_its_cores_are(self, start: Start) -> None:
        if len(os.sched_getaffinity(0)) < (psutil.cpu_count() or 1):
            pytest.skip("this process may not use all cores of the host")
        for core in os.sched_getaffinity(0):
            os.sched_setaffinity(start(BUSY).pid, {core})

        def check() -> None:
            samples = watched(Cpu(20), 0.6, hz=10)
            usage, steal = values(samples, "host_cpu_usage"), values(samples, "host_cpu_steal")
            assert all(0 <= value <= 100 for value in usage)
            assert median(map(sum, zip(usage, steal, strict=True))) > 85
            assert max(values(samples, "host_procs_running")) >= len(os.sched_getaffinity(0))

        patiently(check)

    def test_iowait_that_falls_makes_no_usage_beyond_100(self) -> None:
        class Stat:
            content = b"cpu  100 0 0 100 50 0 0 0 0 0\n"

            def read(self) -> bytes:
                return self.content

        sampler = Cpu(20)
        sampler.close()
        sampler._stat = Stat()  # type: ignore[assignment]
        sampler.sample(0)
        Stat.content = b"cpu  110 0 0 100 49 0 0 0 0 0\n"
        assert values(sampler.sample(SECOND), "host_cpu_usage")[0] <= 100

    def test_files_of_more_than_a_page_are_read_whole(self) -> None:
        with contextlib.closing(KeptOpen("/proc/kallsyms")) as file:
            assert len(file.read(50_000)) == 50_000

    def test_a_busy_core_is_told_from_the_others(self, start: Start) -> None:
        core = max(os.sched_getaffinity(0))
        os.sched_setaffinity(start(BUSY).pid, {core})

        def check() -> None:
            samples = watched(Cores(20), 0.6, hz=4)
            assert fmean(values(samples, "core_usage", f"CPU {core}")) > 60
            assert {one.device for one in samples} == {f"CPU {index}" for index in range(psutil.cpu_count() or 1)}

        patiently(check)

    def test_what_a_socket_carries_is_counted_for_its_device_and_not_for_the_host(self) -> None:
        sampler, clock = Network(2), CaptureClock()
        with contextlib.closing(sampler):
            sampler.sample(clock.now_ns())
            with Page("x" * 2_000_000) as page:
                assert len(Server(page.url).get("/metrics").body) == 2_000_000
            time.sleep(0.1)
            samples = sampler.sample(clock.now_ns() + SECOND)
        lo, host = values(samples, "net_rx_rate", "net lo"), values(samples, "net_rx_rate")
        assert lo[0] > 1_000_000
        received = {one.device: one.value for one in samples if one.metric == "net_rx_rate"}
        outer = [value for device, value in received.items() if device.startswith("net ") and device != "net lo"]
        assert host[0] == pytest.approx(sum(outer))


@pytest.fixture
def fifth_of_a_core() -> Iterator[Path]:
    """A control group that may use 20 % of a core."""
    top = Path("/sys/fs/cgroup")
    parent = top / "cpu" if (top / "cpu").is_dir() else top
    group = parent / f"rca-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        if parent == top:
            limits = {"cpu.max": "20000 100000"}
        else:
            limits = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "20000"}
        try:
            for name, limit in limits.items():
                (group / name).write_text(limit)
        except OSError as error:
            pytest.skip(f"no CPU limit can be set here: {error.strerror}")
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (parent / "cgroup.procs").write_text(pid)
        group.rmdir()


class TestCgroups:
    def test_a_quota_throttles(self, fifth_of_a_core: Path, start: Start) -> None:
        process = start(BUSY)
        (fifth_of_a_core / "cgroup.procs").write_text(str(process.pid))
        if fifth_of_a_core not in folders_of(process.pid, "cpu"):
            pytest.skip("control groups are named as another namespace sees them")
        sampler = Cgroups(2, lambda: [process.pid])

        def check() -> None:
            samples = watched(sampler, 0.9, hz=2)
            check_samples(samples, sampler.unavailable)
            assert set(values(samples, "cgroup_cpu_quota")) == {20}
            assert fmean(values(samples, "cgroup_cpu_throttled")) > 20
            assert fmean(values(samples, "cgroup_cpu_throttled_periods")) > 50

        patiently(check)

    def test_this_process_has_groups_or_a_reason_for_none(self) -> None:
        sampler = Cgroups(2, lambda: [os.getpid()])
        check_samples(watched(sampler, 0.2, hz=10), sampler.unavailable)

    def test_no_process_has_no_group(self) -> None:
        sampler = Cgroups(2, list)
        assert sampler.unavailable["cgroup_cpu_throttled"] == "no control group of the watched processes can be seen"
        assert sampler.sample(SECOND) == []


V2 = {
    "cgroup.procs": "",
    "a/cpu.max": "50000 100000",
    "a/memory.max": "1000",
    "a/memory.current": "900",
    "a/cpu.stat": "usage_usec 1000000\nnr_periods 10\nnr_throttled 1\nthrottled_usec 0",
    "a/b/cpu.max": "max 100000",
    "a/b/memory.max": "max",
    "a/b/memory.current": "700",
    "a/b/cpu.stat": "usage_usec 500000\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0",
}
V1 = {
    "cpu/cpu.cfs_quota_us": "-1",
    "cpu/cpu.cfs_period_us": "100000",
    "cpu/a/cpu.cfs_quota_us": "25000",
    "cpu/a/cpu.cfs_period_us": "50000",
    "cpu/a/cpu.stat": "nr_periods 10\nnr_throttled 1\nthrottled_time 0",
    "cpu/a/b/cpu.cfs_quota_us": "-1",
    "cpu/a/b/cpu.cfs_period_us": "100000",
    "cpuacct/a/b/cpuacct.usage": "1000000000",
    "memory/a/memory.limit_in_bytes": "1000",
    "memory/a/memory.usage_in_bytes": "900",
    "memory/a/b/memory.limit_in_bytes": "9223372036854771712",
    "memory/a/b/memory.usage_in_bytes": "700",
}
MEMBER_V2 = "0::/a/b\n"
MEMBER_V1 = "5:memory:/a/b\n4:cpu,cpuacct:/a/b\n1:name=systemd:/a/b\n0::/\n"


class FakeGroups:
    """A tree of control groups in a folder, and a process 7 that is a member of some."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.member = ""
        text_of = cgroups.text_of
        monkeypatch.setattr(cgroups, "ROOT", root)
        monkeypatch.setattr(
            cgroups, "text_of", lambda path, default="": self.member if path == "/proc/7/cgroup" else text_of(path, default)
        )

    def write(self, files: dict[str, str], member: str) -> None:
        self.member = member
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text + "\n")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGroups:
    return FakeGroups(tmp_path, monkeypatch)


class TestFakeCgroups:
    @pytest.mark.parametrize(
        ("files", "member", "controller", "expected"),
        [
            (V2, MEMBER_V2, "cpu", ["a/b", "a", "."]),
            (V2, "1:name=systemd:/\n" + MEMBER_V2, "memory", ["a/b", "a", "."]),
            (V2, "0::/\n", "cpu", ["."]),
            (V2, "0::/docker/abc\n", "cpu", ["."]),
            (V2, "0::/a/gone\n", "cpu", ["a", "."]),
            (V2, "", "cpu", []),
            (V1, MEMBER_V1, "cpu", ["cpu/a/b", "cpu/a", "cpu"]),
            (V1, MEMBER_V1, "memory", ["memory/a/b", "memory/a", "memory"]),
            (V1, MEMBER_V1, "cpuacct", ["cpuacct/a/b", "cpuacct/a", "cpuacct"]),
            (V1, "4:cpu,cpuacct:/docker/abc\n0::/\n", "cpu", ["cpu"]),
            (V1, "4:cpu,cpuacct:/a/b\n0::/\n", "memory", []),
        ],
    )
    def test_folders(
        self, groups: FakeGroups, files: dict[str, str], member: str, controller: str, expected: list[str]
    ) -> None:
        groups.write(files, member)
        assert [str(folder.relative_to(groups.root)) for folder in folders_of(7, controller)] == expected

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({"cpu.max": "150000 100000"}, 150),
            ({"cpu.max": "max 100000"}, None),
            ({"cpu.cfs_quota_us": "25000", "cpu.cfs_period_us": "50000"}, 50),
            ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, None),
            ({}, None),
        ],
    )
    def test_quota(self, groups: FakeGroups, files: dict[str, str], expected: float | None) -> None:
        groups.write(files, "")
        assert quota_pct(groups.root) == expected

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({"memory.max": "1048576"}, 1 << 20),
            ({"memory.max": "max"}, None),
            ({"memory.limit_in_bytes": "1048576"}, 1 << 20),
            ({"memory.limit_in_bytes": "9223372036854771712"}, None),
            ({}, None),
        ],
    )
    def test_memory_limit(self, groups: FakeGroups, files: dict[str, str], expected: float | None) -> None:
        groups.write(files, "")
        assert memory_limit(groups.root) == expected

    @pytest.mark.parametrize(
        ("files", "member", "later"),
        [
            (
                V2,
                MEMBER_V2,
                {
                    "a/cpu.stat": "usage_usec 1500000\nnr_periods 20\nnr_throttled 6\nthrottled_usec 250000",
                    "a/b/cpu.stat": "usage_usec 900000\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0",
                },
            ),
            (
                V1,
                MEMBER_V1,
                {
                    "cpu/a/cpu.stat": "nr_periods 20\nnr_throttled 6\nthrottled_time 250000000",
                    "cpuacct/a/b/cpuacct.usage": "1500000000",
                },
            ),
        ],
        ids=["v2", "v1"],
    )
    def test_the_limits_of_a_parent_count(
        self, groups: FakeGroups, files: dict[str, str], member: str, later: dict[str, str]
    ) -> None:
        groups.write(files, member)
        sampler = Cgroups(2, lambda: [7])
        sampler.sample(SECOND)
        groups.write(later, member)
        samples = sampler.sample(2 * SECOND)
        assert {one.metric: one.value for one in samples} == {
            "cgroup_cpu_quota": 50,
            "cgroup_cpu_throttled": pytest.approx(25),
            "cgroup_cpu_throttled_periods": pytest.approx(50),
            "cgroup_cpu_usage": pytest.approx(50),
            "cgroup_mem_limit": 1000,
            "cgroup_mem_used": 900,
        }

    def test_pressure_of_a_group(self, groups: FakeGroups) -> None:
        stalls = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0"
        groups.write(V2 | {"a/b/cpu.pressure": stalls.format(100)}, MEMBER_V2)
        sampler = Cgroups(2, lambda: [7])
        sampler.sample(SECOND)
        groups.write({"a/b/cpu.pressure": stalls.format(500_100)}, MEMBER_V2)
        samples = sampler.sample(3 * SECOND)
        assert values(samples, "cgroup_pressure_cpu_some") == [25]
        assert not values(samples, "cgroup_pressure_io_some")

    def test_a_group_that_goes_away_is_no_error(self, groups: FakeGroups) -> None:
        groups.write(V2, MEMBER_V2)
        sampler = Cgroups(2, lambda: [7])
        sampler.sample(SECOND)
        shutil.rmtree(groups.root / "a")
        assert sampler.sample(2 * SECOND) == []
        assert sampler.sample(9 * SECOND) == []


VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="m"}} 2.0
vllm:num_requests_running{{engine="1",model_name="m"}} 3.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="0",model_name="m"}} 0.25
vllm:kv_cache_usage_perc{{engine="1",model_name="m"}} 0.5
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{engine="0",model_name="m"}} {tokens}
vllm:generation_tokens_total{{engine="1",model_name="m"}} 10.0
# TYPE vllm:generation_tokens_created gauge
vllm:generation_tokens_created{{engine="0",model_name="m"}} 1.7e+09
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{{engine="0",le="0.1",model_name="m"}} 4.0
vllm:time_to_first_token_seconds_bucket{{engine="0",le="+Inf",model_name="m"}} 4.0
vllm:time_to_first_token_seconds_count{{engine="0",model_name="m"}} {first}
vllm:time_to_first_token_seconds_sum{{engine="0",model_name="m"}} {first_sum}
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_count{{engine="0",model_name="m"}} {steps}
vllm:iteration_tokens_total_sum{{engine="0",model_name="m"}} {step_tokens}
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 99.0
"""
BEFORE = VLLM.format(tokens=100.0, first=4.0, first_sum=2.0, steps=50.0, step_tokens=400.0)
AFTER = VLLM.format(tokens=700.0, first=8.0, first_sum=3.0, steps=150.0, step_tokens=1200.0)

SGLANG = """\
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0"} 7.0
# TYPE sglang:token_usage gauge
sglang:token_usage{tp_rank="0"} 0.31
# TYPE sglang:gen_throughput gauge
sglang:gen_throughput{tp_rank="0"} 512.5
# TYPE sglang:realtime_tokens_total counter
sglang:realtime_tokens_total{mode="decode",tp_rank="0"} 30.0
sglang:realtime_tokens_total{mode="prefill_compute",tp_rank="0"} 12.0
# TYPE sglang:cuda_graph_passes_total counter
sglang:cuda_graph_passes_total{mode="decode_cuda_graph"} 5.0
sglang:cuda_graph_passes_total{mode="prefill_none"} 1.0
"""


class Page:
    """A server with one page, ``/metrics``, on a port of its own; ``stop`` and ``start`` it as often as wanted."""

    def __init__(self, text: str = "", status: int = 200) -> None:
        self.text, self.status = text, status
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = page.text.encode()
                self.send_response(page.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._handler = Handler
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = http.server.HTTPServer(("127.0.0.1", self._port), self._handler)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Now:
    """A clock that is set by hand, in seconds."""

    ns = SECOND

    def __call__(self, seconds: int | None = None) -> int:
        if seconds is not None:
            self.ns = seconds * SECOND
        return self.ns


class TestEngineMetrics:
    def test_label_sets_are_put_together(self) -> None:
        assert totals_of(BEFORE) == {
            "vllm:num_requests_running": 5,
            "vllm:kv_cache_usage_perc": 0.5,
            "vllm:generation_tokens_total": 110,
            "vllm:time_to_first_token_seconds_count": 4,
            "vllm:time_to_first_token_seconds_sum": 2,
            "vllm:iteration_tokens_total_count": 50,
            "vllm:iteration_tokens_total_sum": 400,
        }
        assert totals_of(SGLANG) == {
            "sglang:num_running_reqs": 7,
            "sglang:token_usage": 0.31,
            "sglang:gen_throughput": 512.5,
            "sglang:realtime_tokens_total": 42,
            "sglang:cuda_graph_passes_total": 6,
        }
        assert totals_of("") == {}

    @pytest.mark.parametrize("line", ['vllm:num_requests_running{engine="0', "vllm:num_requests_running nothing"])
    def test_a_line_that_is_no_sample_is_left_out(self, line: str) -> None:
        assert totals_of(f"{SGLANG}{line}\n").keys() == totals_of(SGLANG).keys()

    def test_totals_become_rates_and_histograms_means(self) -> None:
        now = Now()
        with Page(BEFORE) as page:
            metrics = EngineMetrics(1, Server(page.url), now, Notes())
            first = metrics.sample(now(1))
            page.text = AFTER
            samples = metrics.sample(now(3))
        assert {one.metric for one in first} == {"vllm:num_requests_running", "vllm:kv_cache_usage_perc"}
        assert {one.metric: (one.value, one.unit) for one in samples} == {
            "vllm:num_requests_running": (5, ""),
            "vllm:kv_cache_usage_perc": (0.5, "fraction"),
            "vllm:generation_tokens_total": (300, "1/s"),
            "vllm:time_to_first_token_seconds": (0.25, "s"),
            "vllm:time_to_first_token_seconds_count": (2, "1/s"),
            "vllm:iteration_tokens_total": (8, "tokens"),
            "vllm:iteration_tokens_total_count": (50, "1/s"),
        }
        assert {(one.device, one.pid, one.ts_ns) for one in samples} == {(HOST, None, 3 * SECOND)}
        assert metrics.history == [(SECOND, 50, 110), (3 * SECOND, 150, 710)]

    def test_steps_and_tokens_of_sglang_are_known_too(self) -> None:
        with Page(SGLANG) as page:
            metrics = EngineMetrics(1, Server(page.url), Now(), Notes())
            metrics.look()
        assert metrics.progress() == (SECOND, 6, 42)

    def test_a_histogram_without_new_values_has_no_mean(self) -> None:
        now = Now()
        with Page(BEFORE) as page:
            metrics = EngineMetrics(1, Server(page.url), now, Notes())
            metrics.sample(now(1))
            names = {one.metric for one in metrics.sample(now(2))}
        assert "vllm:time_to_first_token_seconds_count" in names
        assert "vllm:time_to_first_token_seconds" not in names

    def test_a_look_between_two_samples_does_not_shorten_their_time(self) -> None:
        now = Now()
        with Page(BEFORE) as page:
            metrics = EngineMetrics(1, Server(page.url), now, Notes())
            metrics.sample(now(1))
            page.text = AFTER
            now(2)
            metrics.look()
            samples = metrics.sample(now(3))
        assert metrics.history[1:] == [(2 * SECOND, 150, 710), (3 * SECOND, 150, 710)]
        assert values(samples, "vllm:generation_tokens_total") == [300]

    def test_silence_is_noted_once_and_so_is_its_end(self) -> None:
        notes, now = Notes(), Now()
        with Page(BEFORE) as page:
            metrics = EngineMetrics(1, Server(page.url), now, notes)
            metrics.sample(now(1))
            assert notes == []
            page.stop()
            assert metrics.sample(now(2)) == metrics.sample(now(3)) == []
            metrics.look()
            assert metrics.history == [(SECOND, 50, 110)]
            assert notes.kinds() == ["server_silent"]
            page.text = AFTER
            page.start()
            assert values(metrics.sample(now(4)), "vllm:generation_tokens_total") == [200]
            metrics.sample(now(5))
        assert notes.kinds() == ["server_silent", "server_silent"]
        assert notes[1][1] == f"{page.url} answers again"

    def test_a_server_without_the_page_says_why(self) -> None:
        notes = Notes()
        with Page(status=404) as page:
            metrics = EngineMetrics(1, Server(page.url), Now(), notes)
            assert metrics.sample(SECOND) == []
        assert "--enable-metrics" in metrics.unavailable["engine metrics"]
        assert notes == []
        assert metrics.progress() is None
