"""Counters of this machine's cores, memory, disks, network, sensors and pressure."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from statistics import fmean, median

import psutil
import pytest
from sampling_tools import (
    BUSY,
    SECOND,
    Page,
    Start,
    check_samples,
    patiently,
    values,
    watched,
)

from collectors.clocks import CaptureClock
from collectors.samplers.host import Cores, Cpu, Disks, Memory, Network, Sensors
from collectors.samplers.pressure import Pressure
from collectors.samplers.procfs import KeptOpen
from collectors.sampling import Rate, Sampler
from collectors.server import Server

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
