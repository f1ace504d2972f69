"""Control groups: a real one with a quota, and trees of both versions as the kernel shows them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import pytest
from sampling_tools import (
    BUSY,
    SECOND,
    Start,
    check_samples,
    patiently,
    values,
    watched,
)

from collectors.samplers import cgroups
from collectors.samplers.cgroups import Cgroups, folders_of, memory_limit, quota_pct


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
