"""The doctor: each check on a capture with the fault and on one without, and on real traces."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_captures import MS, SECOND, T0, US, capture, event, found, launches, samples

from rca.capture.findings import Finding, Severity
from rca.capture.health import check
from rca.capture.load import load
from rca.capture.tables import EVENTS
from rca.capture.words import share_of, time_text


def test_a_healthy_capture_has_no_findings() -> None:
    counters = [samples("gpu_power", range(0, 100 * MS, 10 * MS))]
    assert check(capture(launches(), counters, meta=({"rank": 0, "world_size": 1},))) == ()


def test_an_empty_capture_has_no_findings() -> None:
    assert check(capture([])) == ()


def test_one_event_is_enough() -> None:
    assert check(capture([event("op", "op", 0, 0)])) == ()


def test_checks_do_not_change_and_repeat_themselves() -> None:
    rows = [row for row in launches() if row["kind"] != "kernel" or row["correlation"] % 10]
    side = capture(rows)
    assert check(side) == check(side) != ()


class TestDroppedKernels:
    def test_lost_in_the_middle(self) -> None:
        lost = range(301, 351)
        rows = [row for row in launches() if row["kind"] != "kernel" or row["correlation"] not in lost]
        finding = found(capture(rows))["dropped_kernels"]
        assert finding.text.startswith("50 of 1,000 (5 %) launches have no GPU work, the first at 30 ms into the recording")
        assert finding.severity is Severity.DAMAGE
        assert finding.file == "rank0.json"

    def test_few_are_worth_knowing_and_one_in_a_thousand_is_not(self) -> None:
        few = [row for row in launches() if row["kind"] != "kernel" or row["correlation"] not in (300, 301, 302)]
        assert found(capture(few))["dropped_kernels"].severity is Severity.INFO
        one = [row for row in launches() if row["kind"] != "kernel" or row["correlation"] != 300]
        assert check(capture(one)) == ()

    def test_those_still_queued_at_the_end_are_no_loss(self) -> None:
        """The queue is 5 ms long throughout: the last 50 launches run after the recording, which ends with the calls."""
        rows = [row for row in launches(wait=5 * MS) if row["start_ns"] < T0 + 100 * MS]
        assert sum(row["kind"] == "kernel" for row in rows) == 950
        assert check(capture(rows)) == ()

    def test_a_short_queue_does_not_explain_a_lost_tail(self) -> None:
        rows = [row for row in launches() if row["kind"] != "kernel" or row["correlation"] <= 950]
        assert "49 of 1,000" in found(capture(rows))["dropped_kernels"].text, "only the last one may have run later"

    def test_launches_inside_a_stream_capture_do_not_run(self) -> None:
        rows = [row for row in launches() if row["kind"] != "kernel" or row["correlation"] not in range(301, 401)]
        begin = event("cudaStreamBeginCapture", "runtime", 299 * 100 * US + 50 * US, US, 5001)
        end = event("cudaStreamEndCapture", "runtime", 399 * 100 * US + 50 * US, US, 5002)
        assert "dropped_kernels" in found(capture(rows)), "without the marks they count as lost"
        marked = [begin, end]
        assert "dropped_kernels" not in found(capture([*rows, *marked]))
        other_thread = [row | {"tid": 7} for row in marked]
        assert "dropped_kernels" in found(capture([*rows, *other_thread]))

    def test_a_capture_that_was_open_at_the_start(self) -> None:
        rows = [row for row in launches() if row["kind"] != "kernel" or row["correlation"] > 100]
        end = event("hipStreamEndCapture", "runtime", 99 * 100 * US + 50 * US, US, 10**6)
        assert "dropped_kernels" in found(capture(rows))
        assert "dropped_kernels" not in found(capture([*rows, end]))

    def test_a_capture_whose_end_was_lost(self) -> None:
        begin = event("cudaStreamBeginCapture", "runtime", -50 * US, US, 10**6)
        rows = [row for row in launches() if row["kind"] != "kernel" or row["correlation"] > 900]
        assert "dropped_kernels" in found(capture(rows))
        assert "dropped_kernels" not in found(capture([begin, *rows]))

    @pytest.mark.parametrize("name", ["hipLaunchKernel", "hipExtModuleLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch",
                                      "cudaLaunchKernelExC", "cudaLaunchCooperativeKernel", "hipGraphLaunch"])  # fmt: skip
    def test_all_kinds_of_launches(self, name: str) -> None:
        rows = [row | {"name": name} if row["kind"] == "runtime" else row for row in launches()]
        rows = [row for row in rows if row["kind"] != "kernel" or row["correlation"] % 2]
        # the very last launch has no kernel either, but may have run after the end
        assert "of 1,000" in found(capture(rows))["dropped_kernels"].text

    @pytest.mark.parametrize("name", ["cudaMalloc", "cudaLaunchHostFunc", "cudaGraphInstantiate", "cudaEventRecord"])
    def test_other_calls_start_nothing(self, name: str) -> None:
        others = [event(name, "runtime", i * 100 * US + 50 * US, US, 5000 + i) for i in range(500)]
        assert "dropped_kernels" not in found(capture([*launches(), *others]))

    def test_graphs_traced_as_a_whole(self) -> None:
        rows = [row | {"name": "cudaGraphLaunch"} for row in launches() if row["kind"] == "runtime"]
        both = [*rows, *launches(first=5001)]
        told = (Finding("graph_level", "…", file="rank0.json"),)
        assert "dropped_kernels" in found(capture(both))
        assert "dropped_kernels" not in found(capture(both, findings=told))

    def test_a_trace_of_the_host_alone(self) -> None:
        assert check(capture([row for row in launches() if row["kind"] == "runtime"])) == ()

    def test_ids_that_several_processes_used_tell_nothing(self) -> None:
        rows = [row for row in launches() if row["kind"] != "kernel" or row["correlation"] % 2]
        told = (Finding("shared_ids", "…", file="rank0.json"),)
        assert check(capture(rows, findings=told)) == ()


class TestNoHostEvents:
    def test_calls_lost(self) -> None:
        rows = [row for row in launches() if row["kind"] == "kernel" or row["correlation"] not in range(101, 301)]
        finding = found(capture(rows))["no_host_events"]
        assert finding.text.startswith("200 of 1,000 (20 %) GPU rows have no host call")
        assert finding.severity is Severity.WARNING

    def test_work_launched_before_the_recording(self) -> None:
        rows = [row for row in launches() if row["kind"] == "kernel" or row["correlation"] > 200]
        assert check(capture(rows)) == ()

    def test_no_host_rows_at_all(self) -> None:
        rows = [row for row in launches() if row["kind"] == "kernel"]
        assert "has no host calls: its 1,000 GPU rows" in found(capture(rows))["no_host_events"].text

    def test_no_ids_at_all(self) -> None:
        rows = [row | {"correlation": None} if row["kind"] == "kernel" else row for row in launches()]
        assert "does not say which call started" in found(capture(rows))["no_host_events"].text

    def test_copies_without_an_id_are_usual(self) -> None:
        copies = [event("Memcpy HtoD", "memcpy", i * 100 * US, US, 0, device="GPU 0") for i in range(500)]
        assert check(capture([*launches(), *copies])) == ()

    def test_another_process_without_calls(self) -> None:
        rows = [*launches(), *(row for row in launches(pid=200, tid=200) if row["kind"] == "kernel")]
        assert "1,000 of 2,000 (50 %)" in found(capture(rows))["no_host_events"].text


class TestNegativeLaunchLatency:
    def test_gpu_clock_off(self) -> None:
        finding = found(capture(launches(wait=-40 * US)))["negative_launch_latency"]
        assert "1,000 of 1,000 (100 %)" in finding.text
        assert "by 40 µs (median) to 40 µs" in finding.text
        assert finding.severity is Severity.WARNING

    def test_a_few_microseconds_are_worth_knowing(self) -> None:
        assert found(capture(launches(wait=-4 * US)))["negative_launch_latency"].severity is Severity.INFO

    def test_jitter(self) -> None:
        assert check(capture(launches(wait=-1 * US))) == ()

    def test_a_graph_counts_by_its_first_kernel(self) -> None:
        later = [event("gemm", "kernel", i * 100 * US + 10 * MS, US, i + 1) for i in range(1000)]
        assert "1,000 of 1,000" in found(capture([*launches(wait=-40 * US), *later]))["negative_launch_latency"].text


class TestZeroTime:
    def test_an_event_at_zero(self) -> None:
        zero = event("op", "op", -T0, 0)
        finding = found(capture([*launches(), zero]))["zero_time"]
        assert finding.text.startswith("1 of 2,001 (0.05 %) events are at a time of their own, 2")
        assert " days before all others" in finding.text

    def test_a_cluster_at_the_base_of_the_clock(self) -> None:
        """Kineto clamps times before its base, up to three months back, to the base (FORMATS.md §1.3)."""
        clamped = [event("op", "op", -40 * 86_400 * SECOND + i, 0) for i in range(3)]
        text = found(capture([*launches(), *clamped]))["zero_time"].text
        assert text == "3 of 2,003 (0.15 %) events are at a time of their own, 40 days before all others"

    def test_an_idle_start_is_no_fault(self) -> None:
        assert check(capture([*launches(), event("op", "op", -600 * SECOND, 0)])) == ()

    def test_zero_on_a_clock_of_its_own(self) -> None:
        shifted = [row | {"start_ns": row["start_ns"] - T0} for row in launches()]
        assert check(capture(shifted)) == (), "a recording may begin at 0"
        late = [row | {"start_ns": row["start_ns"] + 5 * SECOND} for row in shifted]
        assert "5 s before" in found(capture([*late, event("op", "op", -T0, 0)]))["zero_time"].text

    def test_other_checks_leave_such_events_out(self) -> None:
        rows = [*launches(), event("Buffer Flush", "overhead", 50 * MS, 2 * MS), event("op", "op", -T0, 0)]
        assert "2.0% of the recording" in found(capture(rows))["profiler_overhead"].text
        ticks = [t for t in range(0, 100 * MS, MS) if not 40 * MS < t < 60 * MS]
        before = [*range(-200 * MS, -100 * MS, MS), *range(0, 100 * MS, MS)]
        assert set(found(capture(rows, [samples("gpu_power", before)]))) == {
            "zero_time",
            "profiler_stall",
            "profiler_overhead",
        }
        assert "at 40 ms into the recording" in found(capture(rows, [samples("gpu_power", ticks)]))["counter_hole"].text


class TestClockJump:
    def test_set_back(self) -> None:
        rows = [row | {"start_ns": row["start_ns"] - 20 * MS} if row["correlation"] > 500 else row for row in launches()]
        finding = found(capture(rows))["clock_jump"]
        # call 498 of three steady ones is at 49.7 ms, call 501 then at 30 ms
        assert finding.text.startswith("calls of process 100 go back in time by 19.7 ms at 30 ms into the recording")

    def test_a_descheduled_thread_is_none(self) -> None:
        rows = [
            row | {"start_ns": row["start_ns"] + 20 * MS} if row["correlation"] in (500, 501) else row for row in launches()
        ]
        assert check(capture(rows)) == ()

    def test_everything_silent_at_once(self) -> None:
        after = [row | {"start_ns": row["start_ns"] + 2 * SECOND} for row in launches()]
        ticks = [*range(0, 100 * MS, 10 * MS), *range(2100 * MS, 2200 * MS, 10 * MS)]
        frame = event("run_busy_loop", "python", 0, 2200 * MS)
        side = capture([*launches(), *(r | {"correlation": r["correlation"] + 1000} for r in after), frame],
                       [samples("gpu_power", ticks)])  # fmt: skip
        text = found(side)["clock_jump"].text
        # the last kernel ends at 99.98 ms, the next call begins at 2000 ms; counters are silent from 90 to 2100 ms
        assert text.startswith("neither events nor counters for 1.9 s at 100 ms into the recording")

    def test_an_idle_server_is_none(self) -> None:
        after = [r | {"start_ns": r["start_ns"] + 2 * SECOND, "correlation": r["correlation"] + 1000} for r in launches()]
        assert check(capture([*launches(), *after], [samples("gpu_power", range(0, 2100 * MS, 10 * MS))])) == ()

    def test_a_sampler_that_stood_still_is_a_hole_only(self) -> None:
        ticks = [t for t in range(0, 100 * MS, MS) if not 40 * MS < t < 60 * MS]
        assert set(found(capture(launches(), [samples("gpu_power", ticks)]))) == {"counter_hole"}


class TestCounters:
    def test_hole(self) -> None:
        ticks = [t for t in range(0, 100 * MS, MS) if not 40 * MS < t < 60 * MS]
        side = capture(launches(), [samples("gpu_power", ticks), samples("host_cpu_usage", range(0, 100 * MS, MS), "Host")])
        assert found(side)["counter_hole"].text == (
            "1 of 2 (50 %) counters were not sampled for more than 5 periods, 1 time; "
            "longest gpu_power of GPU 0: 20 ms (period 1 ms) at 40 ms into the recording"
        )

    def test_a_late_tick_is_no_hole(self) -> None:
        ticks = [t for t in range(0, 100 * MS, MS) if not 40 * MS < t < 45 * MS]
        assert check(capture(launches(), [samples("gpu_power", ticks)])) == ()

    def test_a_hole_outside_the_trace_does_not_matter(self) -> None:
        ticks = [*range(-200 * MS, -150 * MS, MS), *range(-50 * MS, 100 * MS, MS)]
        assert check(capture(launches(), [samples("gpu_power", ticks)])) == ()

    def test_samples_of_eight_devices_under_one_name(self) -> None:
        """The reference's files: eight GPUs within some ms, once a second (FORMATS.md §7.8 f)."""
        ticks = [second * SECOND + i * 3 * MS for second in range(20) for i in range(8)]
        assert check(capture([], [samples("gpu_power", ticks, "all GPUs")])) == ()
        many = [second * SECOND + i * 3 * MS for second in range(20) for i in range(32)]
        assert check(capture([], [samples("gpu_power", many, "all GPUs")])) == ()
        assert check(capture([], [samples("disk_free", many, "Host")])) == (), "and any other name"
        assert check(capture([], [samples("gpu_power", many[:64], "all GPUs")])) == (), "with a single pause"

    def test_samples_on_change(self) -> None:
        ticks = np.cumsum(np.random.default_rng(3).exponential(MS, 1000))
        assert check(capture(launches(), [samples("gpu_mem_used", ticks)])) == ()

    def test_apart(self) -> None:
        side = capture(launches(), [samples("gpu_power", range(-300 * SECOND, -200 * SECOND, SECOND)),
                                    samples("gpu_temp", range(0, 100 * MS, MS))])  # fmt: skip
        assert found(side)["counter_hole"].text == (
            "1 of 2 (50 %) counters have no sample while the trace ran: those of gpu_power lie 3.35 min before it began"
        )


class TestProfiler:
    def test_stall(self) -> None:
        rows = [*launches(), event("Buffer Flush", "overhead", 34 * MS, 12 * MS), event("Resource", "overhead", 80 * MS, US)]
        codes = found(capture(rows))
        assert codes["profiler_stall"].text == (
            "the profiler held up the program 1 time, for at most 12 ms (Buffer Flush) at 34 ms into the recording"
        )
        assert codes["profiler_stall"].severity is Severity.WARNING
        assert codes["profiler_overhead"].text == "the profiler's own work takes 12.0% of the recording (2 rows)"

    def test_rows_at_the_same_time_count_once(self) -> None:
        rows = [*launches(), *(event("Instrumentation", "overhead", 34 * MS + i * 100 * US, MS) for i in range(10))]
        assert "takes 1.9% of the recording (10 rows)" in found(capture(rows))["profiler_overhead"].text

    def test_short_rows_and_the_edges(self) -> None:
        rows = [event("Resource", "overhead", i * 10 * MS, 20 * US) for i in range(10)]
        edges = [
            event("Activity Buffer Request", "overhead", 0, 300 * US),
            event("Buffer Flush", "overhead", 99 * MS, 300 * US),
        ]
        assert check(capture([*launches(), *rows, *edges])) == ()

    @pytest.mark.parametrize("at", [0, 98 * MS])
    def test_no_stall_when_profiling_starts_or_stops(self, at: int) -> None:
        rows = [*launches(), event("Buffer Flush", "overhead", at, 1980 * US)]
        assert set(found(capture(rows))) == {"profiler_overhead"}

    @pytest.mark.parametrize(
        "name", ["Command Buffer Full", "Lazy Function Loading", "Runtime Triggered Module Loading", "Driver Compiler"]
    )
    def test_delays_of_cuda_itself(self, name: str) -> None:
        assert check(capture([*launches(), event(name, "overhead", 34 * MS, 12 * MS)])) == ()


def test_words() -> None:
    assert [time_text(ns) for ns in (0, 999, 1_530, 12_345_678, 3_400 * MS, 119 * SECOND, 9_000 * SECOND)] == [
        "0 ns", "999 ns", "1.53 µs", "12.3 ms", "3.4 s", "119 s", "2.5 h",
    ]  # fmt: skip
    assert share_of(3, 1200) == "3 of 1,200 (0.25 %)"


def test_speed() -> None:
    """Below 0.3 s per million events on an idle machine; here with room for a busy one, so that only a blow-up fails."""
    n = 100_000
    times = np.arange(n, dtype=np.int64) * 10_000 + T0
    calls = pl.DataFrame({"start_ns": times, "correlation": np.arange(n) + 1}).with_columns(
        dur_ns=5_000, name=pl.lit("cudaLaunchKernel"), kind=pl.lit("runtime"), pid=1, tid=1, rank=0, device=pl.lit("Host"),
        stream=None, bytes=None, file=0,
    )  # fmt: skip
    kernels = calls.with_columns(
        pl.col("start_ns") + 1000, name=pl.lit("gemm"), kind=pl.lit("kernel"), device=pl.lit("GPU 0")
    )
    events = pl.concat([calls, kernels]).select(pl.col(key).cast(dtype) for key, dtype in EVENTS.items()).sort("start_ns")
    side = replace(capture([]), events=events)
    begin = time.perf_counter()
    assert check(side) == ()
    assert time.perf_counter() - begin < 1.0


KINETO = {
    # 9 overhead rows, 8 of them Lazy Function Loading (CUDA's own); the Activity Buffer Request takes 1,527 µs of 87.4 ms:
    # aten::copy_ waits for it, and the first cudaMemcpyAsync begins 2 µs after its end
    "b200_eager.json.gz": {"profiler_stall", "profiler_overhead", "rank_missing"},
    # 872 GPU rows without a call: all have ids below the first recorded call's (815,091..824,946 < 824,968) and lie in
    # the first 163 ms: launched before the recording, no finding. Only 1 of 16 ranks is here
    "negative_queue_length_rank0.json.gz": {"rank_missing"},
    "ns_resolution_rank0.json.gz": set(),
    "resnet50_dataloader_0_workers.abnormal.json.gz": set(),
    "resnet50_dataloader_4_workers.normal.json.gz": set(),
    # silent for up to 1.6 s while the data loader stalls: no finding, since nothing tells it from a jump of the clock
    "resnet_30_iterations_dataloader_stalls.json.gz": set(),
    # one Activity Buffer Request of 583 µs in 9.25 ms; cudaLaunchKernel begins 11 µs after its end
    "sglang_decode_qwen3_30b_B300.json.gz": {"profiler_stall", "profiler_overhead"},
    "sglang_decode_qwen3_30b_MI300.json.gz": set(),
    "sglang_prefill_qwen3_8b_MI300.json.gz": set(),
    # 372 of 390 launches have no kernel: 3 x 124 between cudaStreamBeginCapture and cudaStreamEndCapture
    "vit_bfloat16.json.gz": set(),
    "vllm_decode_cudagraph.json.gz": set(),
    "vllm_prefilldecode_piecewise.json.gz": set(),
}


@pytest.mark.parametrize("name", KINETO)
def test_real_traces(shared_data: Path, name: str) -> None:
    assert {finding.code for finding in check(load(shared_data / "traces" / "kineto" / name))} == KINETO[name]


# Cut out of longer recordings, so both edges show. h100: 1,138 GPU rows in each of two processes were launched before the
# cut (ids below the first call's; they end at 424 ms of 969 ms), and 857 launches in each run after it (all later than
# 719 ms): the queue is 424 ms long, and its 126 long "overhead" rows are Command Buffer Full: no findings. The two mfu
# files have 16 and 31 such rows at the start, and 3 and 20 such launches at the end
NSYS = {
    "h100_2gpu_1s.sqlite": set(),
    # CUPTI Buffer flush of 6.0 ms at 172 ms; of 1.5 ms at 252 ms (SELECT … FROM PROFILER_OVERHEAD)
    "mfu_2gpu_after.sqlite": {"profiler_stall", "profiler_overhead"},
    "mfu_2gpu_before.sqlite": {"profiler_stall"},
    # "CUDA profiling initialization" of 62.8 ms before the first CUDA call, and others: 9.5 % of the recording
    "perlmutter-cloverleaf-cuda.sqlite": {"profiler_stall", "profiler_overhead"},
}


@pytest.mark.parametrize("name", NSYS)
def test_real_nsys_exports(shared_data: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nsys_sqlite = pytest.importorskip("rca.capture.readers.nsys_sqlite")
    monkeypatch.setattr("rca.capture.discover.READERS", (nsys_sqlite,))
    assert {finding.code for finding in check(load(shared_data / "traces" / "nsys" / name))} == NSYS[name]


def test_launches_of_a_graph_capture_in_a_real_trace(shared_data: Path) -> None:
    """Without its two marks per capture the same trace has 372 launches (222 + 150) without kernels."""
    side = load(shared_data / "traces" / "kineto" / "vit_bfloat16.json.gz")
    marks = pl.col("name").cast(pl.String).str.contains("Stream(Begin|End)Capture")
    assert "372 of 390" in found(replace(side, events=side.events.filter(~marks)))["dropped_kernels"].text


@pytest.mark.parametrize("folder", ["normal", "abnormal", "again"])
def test_own_captures_are_healthy(fixtures: Path, folder: str) -> None:
    assert check(load(fixtures / folder)) == ()


def test_the_reference_captures_are_healthy(shared_data: Path) -> None:
    for folder in sorted((shared_data / "sglang-a100").glob("*/*normal")):
        assert check(load(folder)) == (), folder


def test_between_two_recordings_no_sample_is_expected() -> None:
    """Two traces a minute apart, each with its own counters: no clock jumped, and no counter has a hole."""
    rows = [event("op", "op", part * 60 * SECOND + i * MS, MS // 2, file=part) for part in range(2) for i in range(500)]
    times = [part * 60 * SECOND + tick * 10 * MS for part in range(2) for tick in range(50)]
    side = capture(rows, [samples("gpu_power", times)], meta=({}, {}))
    assert len(side.files) == 2
    assert check(side) == ()
