"""Faults, each injected for real into a small program, and what is left of them afterwards."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from lab import groups as lab_groups
from lab.faults import FAULTS, FaultError, Situation
from lab.faults.devices import _commands
from lab.groups import Groups, own_groups
from lab.load import Load
from lab.run import why_not
from lab.suite import Workload
from lab.undo import Undo

CORES = sorted(os.sched_getaffinity(0))
BUSY = [sys.executable, "-c", "while True: pass"]
VICTIM = """
import subprocess, sys, threading, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
time.sleep(300)
"""


@contextmanager
def situation(folder: Path, command: list[str], allowed: frozenset[str] = frozenset()) -> Iterator[Situation]:
    scratch = folder.with_name(f"{folder.name}-scratch")
    scratch.mkdir(exist_ok=True)
    with Undo() as undo, own_groups(undo) as groups:
        places = list(dict.fromkeys(groups.folders.values()))
        with undo.running(command, groups=places) as process:
            deadline = time.monotonic() + 10
            while "python" not in psutil.Process(process.pid).name() and time.monotonic() < deadline:
                time.sleep(0.02)
            yield Situation(
                undo=undo,
                root=process.pid,
                may_touch=True,
                groups=groups,
                cores=CORES,
                used_cores=1.0,
                port=8000,
                scratch=scratch,
                folder=folder,
                seconds=60,
                allowed=allowed,
            )
        assert undo.problems == []


def hogs() -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["cmdline"]) if "lab.hogs" in (process.info["cmdline"] or ())]


def children_ready(own: Situation) -> list[psutil.Process]:
    deadline = time.monotonic() + 10
    root = psutil.Process(own.root)
    while not root.children() or root.num_threads() < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [root, *root.children()]


@pytest.mark.parametrize("name", ["cpu_scalar", "cpu_vector"])
def test_rivals_take_what_the_dial_says(tmp_path: Path, name: str) -> None:
    with situation(tmp_path, BUSY) as own:
        with FAULTS[name].inject(own, 50) as parameters:
            assert parameters["cores"] == CORES
            found = hogs()
            assert len(found) == len(CORES)
            before = {process: sum(process.cpu_times()[:2]) for process in found}
            began = time.monotonic()
            time.sleep(1.5)
            taken = [(sum(process.cpu_times()[:2]) - was) / (time.monotonic() - began) for process, was in before.items()]
            if os.geteuid() == 0:  # else it comes first of nothing
                assert all(0.3 < share < 0.75 for share in taken), taken
            pinned = sorted(core for process in found for core in process.cpu_affinity())
            assert pinned == CORES
        assert hogs() == []


def test_a_quota_holds_and_is_lifted(tmp_path: Path) -> None:
    with situation(tmp_path, BUSY) as own:
        assert own.groups is not None
        if "cpu" in own.groups.missing:
            pytest.skip(own.groups.missing["cpu"])
        victim = psutil.Process(own.root)
        with FAULTS["cpu_quota"].inject(own, 20) as parameters:
            assert parameters["quota_cores"] == 0.2
            time.sleep(0.3)
            before, began = sum(victim.cpu_times()[:2]), time.monotonic()
            time.sleep(2)
            assert (sum(victim.cpu_times()[:2]) - before) / (time.monotonic() - began) < 0.35
        folder = own.groups.folders["cpu"]
        limits = [folder / "cpu.max", folder / "cpu.cfs_quota_us"]
        limit = next(file for file in limits if file.exists()).read_text().split()[0]
        assert limit in ("max", "-1")
    assert not folder.exists()


def test_a_memory_limit_is_set_and_lifted(tmp_path: Path) -> None:
    with situation(tmp_path, [sys.executable, "-c", VICTIM]) as own:
        assert own.groups is not None
        if "memory" in own.groups.missing:
            pytest.skip(own.groups.missing["memory"])
        folder = own.groups.folders["memory"]
        file = next(f for f in (folder / "memory.max", folder / "memory.limit_in_bytes") if f.exists())
        unlimited = file.read_text()
        with FAULTS["memory_limit"].inject(own, 256) as parameters:
            assert abs(int(file.read_text()) - parameters["limit_bytes"]) < 8192
        assert file.read_text() == unlimited
    assert not folder.exists()


@pytest.mark.skipif(len(CORES) < 2, reason="one core only")
def test_fewer_cores_for_the_server_and_all_it_started(tmp_path: Path) -> None:
    with situation(tmp_path, [sys.executable, "-c", VICTIM]) as own:
        processes = children_ready(own)
        with FAULTS["fewer_cores"].inject(own, 1):
            assert {tuple(p.cpu_affinity()) for p in processes} == {tuple(CORES[:1])}
        assert {tuple(sorted(p.cpu_affinity())) for p in processes} == {tuple(CORES)}


def test_lower_priority_for_the_server_and_all_it_started(tmp_path: Path) -> None:
    with situation(tmp_path, [sys.executable, "-c", VICTIM]) as own:
        fault = FAULTS["lower_priority"]
        if reason := fault.unavailable(own):
            pytest.skip(reason)
        processes = children_ready(own)
        usual = processes[0].nice()
        with fault.background(own, 19), fault.inject(own, 19):
            assert {p.nice() for p in processes} == {19}
            rivals = hogs()
            assert rivals
            assert own.groups is not None
            assert all(own.groups.holds("cpu", rival.pid) for rival in rivals), "between groups priorities do not count"
        assert {p.nice() for p in processes} == {usual}


def test_writers_write_and_leave_nothing(tmp_path: Path) -> None:
    with situation(tmp_path, BUSY) as own:
        with FAULTS["disk_io"].inject(own, 2):
            (hog,) = hogs()
            before = hog.io_counters().write_bytes
            time.sleep(1)
            assert hog.io_counters().write_bytes > before
        assert list(tmp_path.iterdir()) == []


def test_memory_is_held_and_given_back(tmp_path: Path) -> None:
    with situation(tmp_path, BUSY) as own:
        leave = psutil.virtual_memory().available / 2**20 - 512
        with own.hog("memory", "--leave", str(int(leave * 2**20)), "--folder", str(tmp_path), "--read", "0"):
            (hog,) = hogs()
            assert hog.memory_info().rss > 300 * 2**20
            assert Path(f"/proc/{hog.pid}/oom_score_adj").read_text().strip() == "1000"
        assert hogs() == []
        with pytest.raises(FaultError, match="available anyway"), FAULTS["memory_scarce"].inject(own, 1 << 40):
            pass


def test_a_hog_that_does_not_get_to_work_says_why(tmp_path: Path) -> None:
    with situation(tmp_path, BUSY) as own:
        with pytest.raises(FaultError, match="did not get to work: .*no_such"), own.hog("no_such"):
            pytest.fail("the block was entered")
        with pytest.raises(FaultError, match="did not get to work"), own.hog("write", "--folder", str(tmp_path / "no")):
            pytest.fail("the block was entered")


def test_a_hog_that_ends_too_early_spoils_the_case(tmp_path: Path) -> None:
    def killed(own: Situation) -> None:
        with own.hog("spin", "--cores", str(CORES[0]), "--duty", "1"):
            (hog,) = hogs()
            hog.kill()
            hog.wait(5)

    with situation(tmp_path, BUSY) as own, pytest.raises(FaultError, match="ended before the capture did"):
        killed(own)


def test_nothing_is_touched_without_leave(tmp_path: Path) -> None:
    """A server that the lab did not start keeps its priority, its cores and its group; clocks need a flag."""
    with situation(tmp_path, BUSY) as own:
        own.may_touch, own.groups = False, None
        refused = {name for name, fault in FAULTS.items() if fault.unavailable(own)}
    assert {
        "lower_priority",
        "fewer_cores",
        "cpu_quota",
        "memory_limit",
        "cpu_clock",
        "gpu_clock",
        "page_cache_drop",
    } <= refused
    assert {"cpu_scalar", "disk_io"}.isdisjoint(refused)


def test_a_bandwidth_hog_needs_a_core_of_its_own(tmp_path: Path) -> None:
    with situation(tmp_path, BUSY) as own:
        own.used_cores = float(len(CORES))
        assert "CPU time" in (FAULTS["memory_bandwidth"].unavailable(own) or "")
        own.used_cores = 0.05
        assert FAULTS["memory_bandwidth"].unavailable(own) is None


def test_a_gpu_that_is_not_there_is_a_reason(tmp_path: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    with situation(tmp_path, BUSY) as own:
        for name in ("gpu_contention", "gpu_memory", "pcie_saturation", "nvlink_saturation", "gpu_clock"):
            assert "no GPU" in (FAULTS[name].unavailable(own) or "")


def test_loopback_commands_touch_one_port_only() -> None:
    commands = [" ".join(command) for command in _commands(8123, ["delay", "5ms"])]
    assert "priomap 0 0 0 0" in commands[0], "everything else stays in the first band"
    assert [command for command in commands if "match" in command] == [
        "tc filter add dev lo parent 7ca1: protocol ip u32 match ip sport 8123 0xffff flowid 7ca1:3",
        "tc filter add dev lo parent 7ca1: protocol ip u32 match ip dport 8123 0xffff flowid 7ca1:3",
    ]


def test_loads_are_changed_by_the_dial() -> None:
    load = Load(concurrency=4, prompt_words=24, output_tokens=64)
    changed = {name: fault.load(load, 4) for name, fault in FAULTS.items() if fault.load}
    assert changed["more_clients"].concurrency == 16
    assert changed["longer_prompts"].prompt_words == 96
    assert changed["shorter_answers"].output_tokens == 16


def test_what_a_workload_cannot_have() -> None:
    nothing: Situation = None  # type: ignore[assignment]  # not looked at
    loop, served = Workload(engine="loop"), Workload(engine="vllm", url="http://h:1")
    assert "no clients" in (why_not(FAULTS["more_clients"], loop, nothing) or "")
    assert "other arguments" in (why_not(FAULTS["software_change"], served, nothing) or "")
    assert "built-in loop" in (why_not(FAULTS["profiler"], served, nothing) or "")


def test_groups_of_version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder for all controllers, below the innermost group that passes them on."""
    top, inner = tmp_path / "top", tmp_path / "top" / "session"
    inner.mkdir(parents=True)
    (top / "cgroup.subtree_control").write_text("cpu memory\n")
    (inner / "cgroup.subtree_control").write_text("\n")
    monkeypatch.setattr(lab_groups, "folders_of", lambda _pid, _controller: [inner, top])
    with Undo() as undo, own_groups(undo) as groups:
        own = groups.folders["cpu"]
        assert groups == Groups({"cpu": own, "memory": own}, {})
        assert own.parent == top
        (own / "cpu.max").write_text("max 100000\n")
        (own / "memory.max").write_text("max\n")
        (own / "cgroup.procs").write_text("")
        with groups.cpu_quota(undo, 1.5, 60):
            assert (own / "cpu.max").read_text() == "150000 100000"
        with groups.memory_limit(undo, 4096, 60):
            assert (own / "memory.max").read_text() == "4096"
        assert (own / "cpu.max").read_text() == "max 100000"
        assert (own / "memory.max").read_text() == "max"
        for file in own.iterdir():  # a real group's files are no obstacle to removing it
            file.unlink()
    assert not own.exists()
