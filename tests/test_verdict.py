"""The verdict on captures made to order: one of each kind that a reader may bring, and what must hold for all of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from traces import BASE_NS, decode_trace, span, write_counters, write_pair, write_trace

from rca.api import Comparison, compare
from rca.verdict import Cause
from rca.verdict.catalogue import BY_ID, CATALOGUE
from rca.verdict.signals import BY_ID as SIGNAL
from rca.verdict.signals import SIGNALS
from reports.explain import catalogue_table

CALM = {
    "host_cpu_usage": 20.0,
    "host_cpu_system": 2.0,
    "host_cpu_steal": 0.0,
    "cpu_frequency": 3000.0,
    "pressure_io_some": 0.0,
    "pressure_memory_some": 0.0,
    "cgroup_cpu_throttled": 0.0,
    "disk_busy": 1.0,
    "gpu_sm_frequency": 1400.0,
    "gpu_usage": 60.0,
    "gpu_pcie_transmit": 1e7,
    "gpu_link_transmit": 1e8,
}
"""Counters of a machine on which nothing is the matter."""

DISTURBED: dict[str, dict[str, float]] = {
    "cpu_contention": {"host_cpu_usage": 80.0},
    "cpu_quota": {"cgroup_cpu_throttled": 60.0},
    "cpu_frequency": {"cpu_frequency": 1200.0},
    "host_memory_pressure": {"pressure_memory_some": 20.0},
    "disk_io": {"pressure_io_some": 40.0, "disk_busy": 95.0},
    "gpu_clock": {"gpu_sm_frequency": 300.0},
    "pcie_contention": {"gpu_pcie_transmit": 9e9},
    "nvlink_contention": {"gpu_link_transmit": 2.5e11},
}
"""What one cause does to them."""


def captures(folder: Path, normal: dict[str, float], abnormal: dict[str, float], **changed: Any) -> tuple[Path, Path]:
    """Write a pair with counters; ``changed`` is what `decode_trace` does otherwise on the abnormal side."""
    sides = write_pair(folder, **changed)
    for side, values, seed in zip(sides, (normal, abnormal), (1, 2), strict=True):
        write_counters(side / "counters.csv", values, seed=seed)
    return sides


def causes_of(result: Comparison) -> dict[str, Cause]:
    return {cause.id: cause for cause in result.verdict.causes}


def slower(folder: Path, cause: str) -> tuple[Path, Path]:
    """Write a pair whose cycles are longer where the cause takes its time: on the GPU, or on the host."""
    disturbed = CALM | DISTURBED[cause]
    if not BY_ID[cause].per_gpu:
        return captures(folder, CALM, disturbed, slow=1.5)
    sides = gpu_pair(folder, slow=1.5)
    for side, values, seed in zip(sides, (CALM, disturbed), (1, 2), strict=True):
        write_counters(side / "counters.csv", values, seconds=0.2, hz=100, seed=seed)
    return sides


@pytest.mark.parametrize("cause", DISTURBED)
def test_each_cause_by_its_own_signal(tmp_path: Path, cause: str) -> None:
    result = compare(*slower(tmp_path, cause))
    assert result.verdict.status == "slower"
    first = result.verdict.causes[0]
    assert first.id == cause
    assert first.metrics[0] in DISTURBED[cause]
    assert "95 % CI" in first.evidence_for[0]
    assert "effective n" in first.evidence_for[0]


@pytest.mark.parametrize("cause", DISTURBED)
def test_a_capture_that_got_faster_is_told_by_the_same_catalogue(tmp_path: Path, cause: str) -> None:
    normal, abnormal = slower(tmp_path, cause)
    result = compare(abnormal, normal)
    assert result.verdict.status == "faster"
    assert result.verdict.causes[0].id == cause
    assert "it is the normal side that has it" in result.verdict.causes[0].evidence_for


@pytest.mark.parametrize("cause", DISTURBED)
def test_a_cause_that_the_cycle_does_not_show_is_latent(tmp_path: Path, cause: str) -> None:
    result = compare(*captures(tmp_path, CALM, CALM | DISTURBED[cause]))
    assert result.verdict.status == "no_difference"
    assert (result.verdict.causes[0].id, result.verdict.causes[0].latent) == (cause, True)


@pytest.mark.parametrize("cause", DISTURBED)
def test_without_its_metric_a_cause_is_missing_and_no_other_takes_its_place(tmp_path: Path, cause: str) -> None:
    """Whatever else is recorded: what was not measured makes nobody guilty."""
    left = {metric: value for metric, value in CALM.items() if metric not in DISTURBED[cause]}
    result = compare(*captures(tmp_path, left, left, slow=1.5))
    assert [one.id for one in result.verdict.causes] == ["unexplained"]
    telling = next(iter(DISTURBED[cause]))
    assert any(telling in missing and cause in missing for missing in result.verdict.not_measured)
    judged = next(one for one in result.verdict.judgements if one.id == cause)
    assert any(telling in missing for missing in judged.missing)


def test_nothing_the_matter_names_nothing(tmp_path: Path) -> None:
    result = compare(*captures(tmp_path, CALM, CALM))
    assert result.verdict.status == "no_difference"
    assert result.verdict.causes == ()


def test_slower_with_all_counters_as_before_is_unexplained(tmp_path: Path) -> None:
    result = compare(*captures(tmp_path, CALM, CALM, slow=1.5))
    (cause,) = result.verdict.causes
    assert cause.id == "unexplained"
    assert any("host" in line for line in cause.evidence_for), "it says where the time went"
    assert cause.next_check


def test_a_counter_of_one_side_only_is_no_change(tmp_path: Path) -> None:
    """The server's own CPU time, recorded on one side, must not turn the host's on the other into that of other programs."""
    normal, abnormal = captures(tmp_path, CALM | {"host_cpu_usage": 60.0}, CALM | {"host_cpu_usage": 60.0}, slow=1.5)
    lines = [f"{BASE_NS + i * 20_000_000},process_cpu_usage,Host,{100 + i % 3},% of one core,100" for i in range(50)]
    (normal / "own.csv").write_text("\n".join(["timestamp,metric,device,value,unit,pid", *lines]) + "\n")
    cores = [f"{BASE_NS + i * 20_000_000},core_usage,CPU {core},{50 + i % 3},%," for i in range(50) for core in range(2)]
    for side in (normal, abnormal):
        (side / "cores.csv").write_text("\n".join(["timestamp,metric,device,value,unit,pid", *cores]) + "\n")
    assert [cause.id for cause in compare(normal, abnormal).verdict.causes] == ["unexplained"]


def test_a_sum_is_of_what_both_sides_recorded(tmp_path: Path) -> None:
    """What is received over PCIe was recorded on one side only: it must not add to what is sent."""
    result = compare(*captures(tmp_path, CALM, CALM | {"gpu_pcie_receive": 9e9}))
    assert result.verdict.causes == ()


def test_fewer_processes_are_no_fewer_cores(tmp_path: Path) -> None:
    """Ten processes of 16 allowed cores each, then eight: workers of a cold start have ended."""
    sides = captures(tmp_path, CALM, CALM, slow=1.5)
    for side, processes in zip(sides, (10, 8), strict=True):
        rows = [(i, pid) for i in range(50) for pid in range(100, 100 + processes)]
        lines = [f"{BASE_NS + i * 20_000_000},process_allowed_cores,Host,16,cores,{pid}" for i, pid in rows]
        (side / "p.csv").write_text("\n".join(["timestamp,metric,device,value,unit,pid", *lines]) + "\n")
        facts = {"schema": "rca.capture/1", "processes": [{"pid": 100 + i} for i in range(processes)]}
        (side / "capture.json").write_text(json.dumps(facts))
    assert "cpu_quota" not in causes_of(compare(*sides))


def test_two_faults_at_once_are_two_causes(tmp_path: Path) -> None:
    both = CALM | DISTURBED["cpu_quota"] | DISTURBED["gpu_clock"]
    result = compare(*captures(tmp_path, CALM, both, slow=1.5))
    found = causes_of(result)
    assert {"cpu_quota", "gpu_clock"} <= set(found)
    assert not found["cpu_quota"].latent
    assert found["gpu_clock"].confidence is None, "counted are causes that come first"
    assert found["gpu_clock"].latent, "the host is the bottleneck: the time was not lost on the GPU"
    assert any("ranked below cpu_quota" in text for text in found["gpu_clock"].evidence_against)


def test_a_clock_that_falls_because_cores_are_busy_is_a_symptom(tmp_path: Path) -> None:
    busy = CALM | {"host_cpu_usage": 75.0, "cpu_frequency": 2500.0}
    causes = compare(*captures(tmp_path, CALM, busy, slow=1.5)).verdict.causes
    assert [cause.id for cause in causes] == ["cpu_contention", "cpu_frequency"]
    assert causes[1].follows == "cpu_contention"


def test_a_clock_that_falls_further_than_turbo_goes_is_none(tmp_path: Path) -> None:
    busy = CALM | {"host_cpu_usage": 75.0, "cpu_frequency": 800.0}
    assert causes_of(compare(*captures(tmp_path, CALM, busy, slow=1.5)))["cpu_frequency"].follows == ""


def test_reading_back_what_memory_pressure_dropped_is_a_symptom(tmp_path: Path) -> None:
    short = CALM | {"pressure_memory_some": 20.0, "pressure_io_some": 30.0, "host_cpu_usage": 60.0}
    causes = compare(*captures(tmp_path, CALM, short, slow=1.5)).verdict.causes
    assert causes[0].id == "host_memory_pressure"
    assert {cause.id: cause.follows for cause in causes[1:]} == dict.fromkeys(
        ("disk_io", "cpu_contention"), "host_memory_pressure"
    )


def test_cpu_time_that_writers_take_in_the_kernel_is_a_symptom(tmp_path: Path) -> None:
    writers = CALM | {"pressure_io_some": 40.0, "disk_busy": 99.0, "host_cpu_usage": 55.0, "host_cpu_system": 30.0}
    causes = compare(*captures(tmp_path, CALM, writers, slow=1.5)).verdict.causes
    assert [cause.id for cause in causes] == ["disk_io", "cpu_contention"]


def test_other_programs_on_free_cores_are_no_contention(tmp_path: Path) -> None:
    """13 more busy cores of 100 change nothing while 65 are free."""
    result = compare(*captures(tmp_path, CALM, CALM | {"host_cpu_usage": 33.0}, slow=1.5))
    assert [cause.id for cause in result.verdict.causes] == ["unexplained"]
    judged = next(one for one in result.verdict.judgements if one.id == "cpu_contention")
    assert any("enough cores stayed free" in text for text in judged.evidence_against)


def test_an_idle_gpu_rests_at_a_low_clock(tmp_path: Path) -> None:
    """The host got slower, the GPU has less to do, and its clock falls: a symptom."""
    idle = CALM | {"host_cpu_usage": 80.0, "gpu_usage": 20.0, "gpu_sm_frequency": 500.0}
    causes = compare(*captures(tmp_path, CALM, idle, slow=1.5)).verdict.causes
    assert [cause.id for cause in causes] == ["cpu_contention"]


def test_counters_of_gpus_that_the_server_does_not_use_say_nothing(tmp_path: Path) -> None:
    sides = captures(tmp_path, {"host_cpu_usage": 20.0}, {"host_cpu_usage": 20.0})
    for side, clock in zip(sides, (1400, 210), strict=True):
        lines = [f"{BASE_NS + i * 20_000_000},gpu_sm_frequency,GPU 5,{clock}," for i in range(50)]
        (side / "gpu.csv").write_text("\n".join(["timestamp,metric,device,value,unit", *lines]) + "\n")
    assert compare(*sides).verdict.causes == ()


def gpu_bound(
    cycles: int = 14, *, slow: float = 1.0, launches: int = 8, kernel: str = "gemm_{}", **top: Any
) -> dict[str, Any]:
    """Return steps that wait for their kernels: kernels of their own names, about 1 ms times ``slow`` each."""
    events: list[dict[str, Any]] = []
    now, link = 1000.0, 0
    for _ in range(cycles):
        begins = now + 100
        for i in range(launches):
            link += 1
            took = 1000 * slow * (1 + 0.01 * ((link * 7) % 5))
            events.append(span("cudaLaunchKernel", "cuda_runtime", now + 5 * i, 4, args={"correlation": link}))
            args = {"correlation": link, "stream": 7, "device": 0}
            events.append({**span(kernel.format(i), "kernel", begins, took), "pid": 0, "tid": 7, "args": args})
            begins += took
        events.append(span("cudaStreamSynchronize", "cuda_runtime", now + 60, begins - now - 50))
        length = begins - now + 50
        events.append(span("execute_context_0(0)_generation_4(4)", "user_annotation", now, length - 10))
        now += length
    head = {"schemaVersion": 1, "baseTimeNanoseconds": BASE_NS, "distributedInfo": {"rank": 0, "world_size": 1}}
    return head | {"traceEvents": events, "deviceProperties": [{"id": 0, "name": "NVIDIA A100"}]} | top


def gpu_pair(folder: Path, **abnormal: Any) -> tuple[Path, Path]:
    write_trace(folder / "normal" / "t.json", gpu_bound())
    write_trace(folder / "abnormal" / "t.json", gpu_bound(**abnormal))
    return folder / "normal", folder / "abnormal"


def test_a_uniform_slowdown_blames_no_kernel(tmp_path: Path) -> None:
    """All kernels 1.4 times as long, and no clock recorded: nobody can say why."""
    result = compare(*gpu_pair(tmp_path, slow=1.4))
    assert result.verdict.status == "slower"
    (cause,) = result.verdict.causes
    assert cause.id == "unexplained"
    assert cause.evidence_for[0].startswith("GPU: kernels that compute")
    assert any("gpu_sm_frequency" in missing for missing in cause.missing)


def test_a_uniform_slowdown_by_the_clock_is_the_clock(tmp_path: Path) -> None:
    normal, abnormal = gpu_pair(tmp_path, slow=1.4)
    write_counters(normal / "c.csv", {"gpu_sm_frequency": 1400, "gpu_usage": 95}, seconds=0.2, hz=100, seed=1)
    write_counters(abnormal / "c.csv", {"gpu_sm_frequency": 1000, "gpu_usage": 95}, seconds=0.2, hz=100, seed=2)
    result = compare(normal, abnormal)
    first = result.verdict.causes[0]
    assert (first.id, first.device, first.latent) == ("gpu_clock", "GPU 0", False)
    assert "kernel time" in first.metrics
    left = next(one for one in result.verdict.observations if one.signal == "kernel_cycles")
    assert left.moved == 0, "time × clock is what it was: no more work, only slower"


def test_kernels_longer_than_the_clock_explains_are_said(tmp_path: Path) -> None:
    normal, abnormal = gpu_pair(tmp_path, slow=3.0)
    write_counters(normal / "c.csv", {"gpu_sm_frequency": 1400, "gpu_usage": 95}, seconds=0.2, hz=100, seed=1)
    write_counters(abnormal / "c.csv", {"gpu_sm_frequency": 1200, "gpu_usage": 95}, seconds=0.2, hz=100, seed=2)
    judged = {one.id: one for one in compare(normal, abnormal).verdict.judgements}
    assert any("longer than the clock explains" in text for text in judged["gpu_clock"].evidence_against)


def test_thousands_of_kernels_are_compared(tmp_path: Path) -> None:
    """Names of generated kernels differ from step to step: there may be any number of them."""
    for side, slow in (("normal", 1.0), ("abnormal", 1.3)):
        events = []
        for i in range(8):
            now = 1000.0 + 200_000 * i
            events.append(span("execute_context_0(0)_generation_4(4)", "user_annotation", now, 199_000))
            for k in range(1200):
                where = {"pid": 0, "tid": 7, "args": {"stream": 7, "device": 0}}
                name = f"triton_{chr(97 + k // 26 % 26)}{chr(97 + k % 26)}{chr(97 + k // 676)}"
                events.append({**span(name, "kernel", now + 150 * k, 100 * slow), **where})
        head = {"schemaVersion": 1, "baseTimeNanoseconds": BASE_NS, "distributedInfo": {"rank": 0}}
        write_trace(tmp_path / side / "t.json", head | {"traceEvents": events})
    seen = {one.signal: one for one in compare(tmp_path / "normal", tmp_path / "abnormal").verdict.observations}
    assert seen["kernel_stretch"].n == (1200, 1200)
    assert seen["kernel_stretch"].moved == 1


def test_a_server_that_was_restarted_on_another_gpu_is_no_other_software(tmp_path: Path) -> None:
    normal, _ = gpu_pair(tmp_path)
    trace = gpu_bound(slow=1.3)
    for event in trace["traceEvents"]:
        if event["cat"] == "kernel":
            event["pid"], event["args"]["device"] = 1, 1
    abnormal = write_trace(tmp_path / "other" / "t.json", trace)
    assert "software_change" not in causes_of(compare(normal, abnormal))


def test_another_process_on_the_gpu(tmp_path: Path) -> None:
    normal, abnormal = gpu_pair(tmp_path, slow=1.6)
    for side, usage, mine in ((normal, 60.0, 60.0), (abnormal, 99.0, 55.0)):
        values = {"gpu_sm_frequency": 1400.0, "gpu_usage": usage}
        write_counters(side / "c.csv", values, seconds=0.2, hz=100, seed=int(usage))
        lines = [f"{BASE_NS + i * 10_000_000},process_gpu_usage,GPU 0,{mine + i % 3},,100" for i in range(20)]
        (side / "p.csv").write_text("\n".join(["timestamp,metric,device,value,unit,pid", *lines]) + "\n")
    first = compare(normal, abnormal).verdict.causes[0]
    assert (first.id, first.device) == ("gpu_contention", "GPU 0")


def test_captures_of_different_hardware_say_so_first(tmp_path: Path) -> None:
    normal, abnormal = gpu_pair(
        tmp_path, slow=0.6, deviceProperties=[{"id": 0, "name": "NVIDIA H100"}], kernel="sm90_gemm_{}"
    )
    result = compare(normal, abnormal)
    assert result.verdict.causes[0].id == "hardware_change"
    assert all(cause.follows == "hardware_change" for cause in result.verdict.causes if cause.id == "software_change")


def test_more_launches_are_other_software(tmp_path: Path) -> None:
    causes = compare(*gpu_pair(tmp_path, launches=12)).verdict.causes
    assert [cause.id for cause in causes] == ["software_change"]


def test_a_version_that_differs_explains_nothing_where_nothing_differs(tmp_path: Path) -> None:
    for side, seed, version in (("normal", 1, "1.0"), ("abnormal", 2, "2.0")):
        write_trace(tmp_path / side / "t.json", decode_trace(12, seed=seed, vllm_version=version))
    result = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert result.verdict.causes == ()
    assert any("vllm_version" in warning for warning in result.warnings)


def test_larger_batches_are_the_workload_not_the_machine(tmp_path: Path) -> None:
    crowded = CALM | {"host_cpu_usage": 20.0}
    anchor = "execute_context_0(0)_generation_16(16)"
    result = compare(*captures(tmp_path, CALM, crowded, anchor=anchor, slow=1.6))
    assert result.verdict.status == "not_comparable"
    assert [cause.id for cause in result.verdict.causes] == ["workload_shift"]


def test_what_the_work_explains_is_told_from_what_remains(tmp_path: Path) -> None:
    """Batches of 2 to 6 on both sides, more large ones on the abnormal side, whose steps are 20 % longer at equal work."""
    for side, sizes, slow in (("normal", (2, 3, 4, 2, 3, 4), 1.0), ("abnormal", (2, 3, 4, 5, 6, 4), 1.2)):
        trace = decode_trace(36)
        now, moved = 1000.0, []
        for i in range(36):
            size = sizes[i % len(sizes)]
            length = slow * (4000 + 1000 * size)
            moved.append(span(f"execute_context_0(0)_generation_{size}({size})", "user_annotation", now, 0.8 * length))
            moved.append(span("aten::op", "cpu_op", now + 10, 0.5 * length))
            now += length
        write_trace(tmp_path / side / "t.json", trace | {"traceEvents": moved})
    result = compare(tmp_path / "normal", tmp_path / "abnormal")
    work = result.ranks[0].workload
    assert work is not None
    assert work.explained_us == pytest.approx(1000, rel=0.25)
    assert work.remains_low_us < 0.2 * 7500 < work.remains_high_us
    assert "by other work (batch)" in result.verdict.work
    assert "remains" in result.verdict.work


def test_warm_up_at_the_start_of_a_capture_is_no_slowdown(tmp_path: Path) -> None:
    """The first 5 of 40 steps take five times as long."""
    write_trace(tmp_path / "normal" / "t.json", decode_trace(40, seed=1))
    trace = decode_trace(40, seed=2)
    starts = sorted(event["ts"] for event in trace["traceEvents"] if event["cat"] == "user_annotation")
    border, late = starts[5], 4 * (starts[5] - starts[0])
    for event in trace["traceEvents"]:
        if event["ts"] >= border:
            event["ts"] += late
        else:
            event["ts"] = starts[0] + 5 * (event["ts"] - starts[0])
            event["dur"] *= 5
    write_trace(tmp_path / "abnormal" / "t.json", trace)
    result = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert result.verdict.status == "no_difference"
    assert any("may be warm-up" in warning for warning in result.warnings)


def test_counters_alone_tell_of_the_machine(tmp_path: Path) -> None:
    for side, values in (("normal", CALM), ("abnormal", CALM | DISTURBED["cpu_quota"])):
        write_counters(tmp_path / side / "counters.csv", values, seed=len(side))
    result = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert result.verdict.status == "insufficient_data"
    assert result.ranks == ()
    assert [cause.id for cause in result.verdict.causes] == ["cpu_quota"]


def test_traces_alone_get_the_ledger(tmp_path: Path) -> None:
    verdict = compare(*write_pair(tmp_path, slow=1.5)).verdict
    assert verdict.ledger is not None
    assert verdict.causes[0].missing


def lagging(folder: Path, slow_rank: int | None) -> Path:
    """Write two ranks whose all-reduce ends together: whoever computes longer makes the other one wait."""
    for rank in range(2):
        events: list[dict[str, Any]] = []
        now, link = 1000.0, 0
        for i in range(14):
            own = 4000 * (1.5 if rank == slow_rank else 1.0) * (1 + 0.01 * (i % 3))
            longest = 4000 * (1.5 if slow_rank is not None else 1.0) * (1 + 0.01 * (i % 3))
            steps = (("gemm", now + 50, own), ("ncclDevKernel_AllReduce(int)", now + 50 + own, longest - own + 200))
            for name, at, took in steps:
                link += 1
                events.append(span("cudaLaunchKernel", "cuda_runtime", now + link % 2, 1, args={"correlation": link}))
                where = {"pid": 0, "tid": 7, "args": {"correlation": link, "stream": 7, "device": 0}}
                events.append({**span(name, "kernel", at, took), **where})
            events.append(span("cudaStreamSynchronize", "cuda_runtime", now + 10, longest + 250))
            events.append(span("execute_context_0(0)_generation_4(4)", "user_annotation", now, longest + 300))
            now += longest + 400
        head = {"schemaVersion": 1, "baseTimeNanoseconds": BASE_NS, "distributedInfo": {"rank": rank, "world_size": 2}}
        events = [event | {"pid": 100 + rank} if event["cat"] != "kernel" else event for event in events]
        write_trace(folder / f"rank{rank}.json", head | {"traceEvents": events})
    return folder


def test_the_rank_that_waits_least_is_the_suspect(tmp_path: Path) -> None:
    result = compare(lagging(tmp_path / "normal", None), lagging(tmp_path / "abnormal", 1))
    assert result.verdict.status == "slower"
    straggler = causes_of(result)["straggler_rank"]
    assert "rank 1" in straggler.evidence_for[0]


def test_a_straggler_that_is_gone_is_told_too(tmp_path: Path) -> None:
    result = compare(lagging(tmp_path / "normal", 1), lagging(tmp_path / "abnormal", None))
    assert result.verdict.status == "faster"
    assert "straggler_rank" in causes_of(result)


def test_ranks_that_slow_down_together_have_no_straggler(tmp_path: Path) -> None:
    normal = lagging(tmp_path / "normal", None)
    abnormal = tmp_path / "abnormal"
    shutil.copytree(normal, abnormal)
    for file in abnormal.glob("*.json"):
        trace = json.loads(file.read_text())
        for event in trace["traceEvents"]:
            event["ts"], event["dur"] = event["ts"] * 1.5, event["dur"] * 1.5
        file.write_text(json.dumps(trace))
    assert "straggler_rank" not in causes_of(compare(normal, abnormal))


def test_duplicates_do_not_differ(tmp_path: Path) -> None:
    normal, _ = captures(tmp_path, CALM, CALM)
    copy = tmp_path / "copy"
    shutil.copytree(normal, copy)
    verdict = compare(normal, copy).verdict
    assert (verdict.status, verdict.causes) == ("no_difference", ())


def test_scaling_all_times_changes_no_cause(tmp_path: Path) -> None:
    normal, abnormal = captures(tmp_path / "one", CALM, CALM | DISTURBED["cpu_quota"], slow=1.4)
    for side in (normal, abnormal):
        four = tmp_path / "four" / side.name
        trace = json.loads((side / "rank0.json").read_text())
        for event in trace["traceEvents"]:
            event["ts"], event["dur"] = event["ts"] * 4, event["dur"] * 4
        write_trace(four / "rank0.json", trace)
        head, *lines = (side / "counters.csv").read_text().splitlines()
        scaled = [line.split(",", 1) for line in lines]
        rows = [f"{BASE_NS + 4 * (int(at) - BASE_NS)},{rest}" for at, rest in scaled]
        (four / "counters.csv").write_text("\n".join([head, *rows]) + "\n")
    one, four = (compare(tmp_path / name / "normal", tmp_path / name / "abnormal").verdict for name in ("one", "four"))
    assert (one.status, [c.id for c in one.causes]) == (four.status, [c.id for c in four.causes])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(sorted(CALM)), st.floats(0.2, 5.0), max_size=4), st.booleans())
def test_swapping_the_sides_mirrors_the_verdict(
    tmp_path_factory: pytest.TempPathFactory, factors: dict[str, float], slow: bool
) -> None:
    """Whatever moved, by whatever factor: the same causes, the other way round."""
    folder = tmp_path_factory.mktemp("swap")
    moved = CALM | {metric: CALM[metric] * factor for metric, factor in factors.items()}
    normal, abnormal = captures(folder, CALM, moved, slow=1.5 if slow else 1.0)
    there, back = compare(normal, abnormal, cached=False).verdict, compare(abnormal, normal, cached=False).verdict
    mirrored = {"slower": "faster", "faster": "slower"}
    assert back.status == mirrored.get(there.status, there.status)
    if there.status == "no_difference":  # both directions are judged there: the sets agree, whatever the order
        assert {cause.id for cause in there.causes} == {cause.id for cause in back.causes}
    shifts = [{(one.signal, one.device): one.shift for one in verdict.observations} for verdict in (there, back)]
    counters = {signal.id for signal in SIGNALS}
    for key, shift in shifts[0].items():
        if key[0] in counters:
            assert shift == pytest.approx(-shifts[1][key], rel=1e-6, abs=1e-9)


def test_the_catalogue_is_complete_and_consistent() -> None:
    listed = {
        *("cpu_frequency", "cpu_contention", "cpu_quota", "host_memory_pressure", "disk_io", "network", "gpu_clock"),
        *("gpu_contention", "gpu_memory_pressure", "pcie_contention", "nvlink_contention", "straggler_rank"),
        *("workload_shift", "software_change", "hardware_change", "cold_cache", "capture_artifact"),
    }
    assert set(BY_ID) == listed, "the closed list, less `unexplained`"
    others = {
        "call_count",
        "batch",
        "tokens",
        "prefills",
        "cycle_waiting",
        "changed_calls",
        "kernel_stretch",
        "kernel_cycles",
        "lag",
    }
    others |= {"allocations", "copy_time_h2d", "copy_time_d2h"}
    for entry in CATALOGUE:
        assert entry.why
        assert entry.next_check
        assert any(sign.decisive for sign in entry.signs) or entry.facts, f"{entry.id} can never be named"
        for sign in entry.signs:
            assert sign.signal in SIGNAL or sign.signal in others, f"{entry.id} looks for {sign.signal}, which nobody reads"
            assert sign.when is None or sign.otherwise, f"{entry.id}: {sign.signal} says not what it is otherwise"
        for parent in entry.symptom_of:
            assert parent.cause in BY_ID


def test_effects_are_mirrored_in_functions(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path, slow=1.3)
    tables = [
        compare(*sides).ranks[0].functions.sort("function", "device") for sides in ((normal, abnormal), (abnormal, normal))
    ]
    for column in ("count_effect_us", "duration_effect_us"):
        assert tables[0][column].to_list() == pytest.approx((-tables[1][column]).to_list(), abs=1e-6)
    assert tables[0].select(pl.all().exclude("class")).height > 0


def test_the_documentation_has_the_catalogue_as_it_is() -> None:
    text = (Path(__file__).parent.parent / "docs/verdict.md").read_text("utf-8")
    table = text.split("<!-- catalogue -->\n")[1].split("<!-- /catalogue -->")[0]
    assert table == catalogue_table(), "docs/verdict.md: put in what reports.explain.catalogue_table() returns"
