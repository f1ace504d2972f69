"""The pipeline end to end, on made-to-order traces and on the real pair in fixtures/."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from traces import decode_trace, span, write_counters, write_pair, write_trace

from rca.api import Comparison, compare
from rca.comparison import Calibration, CycleTime
from rca.comparison.robust import MOST_SPLITS, calibrate, is_called
from rca.errors import TooLittleDataError
from rca.stats.robust import Shift


@pytest.mark.parametrize(
    ("estimate", "low", "high", "p", "floor", "tests", "called"),
    [
        (1.2, 1.1, 1.3, 0.001, 0.05, 1, True),
        (0.8, 0.7, 0.9, 0.001, 0.05, 1, True),
        (1.2, 1.1, 1.3, 0.001, None, 1, True),
        (1.2, 1.1, 1.3, 0.02, 0.05, 1, False),
        (1.2, 1.1, 1.3, 0.006, 0.05, 2, False),
        (1.2, 0.9, 1.3, 0.001, 0.05, 1, False),
        (1.2, 1.1, 1.3, 0.001, 0.25, 1, False),
        (1.005, 1.001, 1.009, 0.001, 0.0, 1, False),
    ],
)
def test_every_condition_of_a_difference_counts(
    estimate: float, low: float, high: float, p: float, floor: float | None, tests: int, called: bool
) -> None:
    time = CycleTime(1, 1, 20, 20, 20, 20, Shift(estimate, low, high), p)
    assert is_called(time, Calibration(10, 0.0, floor), tests) == called


def test_slower_host_is_slower(tmp_path: Path) -> None:
    result = compare(*write_pair(tmp_path, slow=1.3))
    time = result.ranks[0].cycle_time
    assert result.verdict.status == "slower"
    assert time.ratio is not None
    assert time.ratio.low < 1.3 < time.ratio.high
    assert (time.n_normal, time.n_abnormal) == (11, 11)


def test_faster_is_faster_with_the_mirrored_effect(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path, slow=1.3)
    there, back = compare(normal, abnormal), compare(abnormal, normal)
    assert back.verdict.status == "faster"
    one, two = there.ranks[0].cycle_time.ratio, back.ranks[0].cycle_time.ratio
    assert one is not None
    assert two is not None
    assert one.estimate == pytest.approx(1 / two.estimate)
    shifts = [
        dict(result.ranks[0].functions.select(pl.concat_str("function", "device"), "shift_us").iter_rows())
        for result in (there, back)
    ]
    assert shifts[0] == pytest.approx({name: -shift for name, shift in shifts[1].items()})


def test_nothing_differs(tmp_path: Path) -> None:
    result = compare(*write_pair(tmp_path))
    assert result.verdict.status == "no_difference"
    assert result.verdict.causes == ()


def test_slow_kernels_hidden_behind_the_host_are_found_in_the_functions(tmp_path: Path) -> None:
    result = compare(*write_pair(tmp_path, gpu_slow=1.5))
    assert result.verdict.status == "no_difference"
    changed = result.ranks[0].functions.filter(pl.col("q") < 0.05)
    assert set(changed["device"]) == {"GPU 0"}
    assert changed.height == 3


def test_scaling_all_times_changes_no_verdict(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path / "one", slow=1.3)
    for side in (normal, abnormal):
        trace = json.loads((side / "rank0.json").read_text())
        for event in trace["traceEvents"]:
            event["ts"], event["dur"] = event["ts"] * 4, event["dur"] * 4
        write_trace(tmp_path / "four" / side.name / "rank0.json", trace)
    one, four = compare(normal, abnormal), compare(tmp_path / "four/normal", tmp_path / "four/abnormal")
    assert one.verdict.status == four.verdict.status
    ratios = [result.ranks[0].cycle_time.ratio for result in (one, four)]
    assert ratios[0] is not None
    assert ratios[1] is not None
    assert ratios[0].estimate == pytest.approx(ratios[1].estimate, rel=1e-6)


def test_a_capture_against_itself(tmp_path: Path) -> None:
    normal, _ = write_pair(tmp_path)
    result = compare(normal, normal)
    assert result.verdict.status == "no_difference"
    assert "same capture" in result.verdict.headline
    assert any("compares a capture with itself" in warning for warning in result.warnings)


def test_the_same_files_under_other_names_are_recognised(tmp_path: Path) -> None:
    normal, _ = write_pair(tmp_path)
    copy = tmp_path / "copy" / "renamed.json"
    copy.parent.mkdir()
    copy.write_bytes((normal / "rank0.json").read_bytes())
    assert "same capture" in compare(normal, copy).verdict.headline


def test_few_cycles_are_too_little_data(tmp_path: Path) -> None:
    result = compare(*write_pair(tmp_path, cycles=3))
    assert result.verdict.status == "insufficient_data"
    assert "5 cycles a side" in result.verdict.headline


def test_one_cycle_is_too_little_data(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.json", decode_trace(1))
    result = compare(path, path)
    assert result.verdict.status == "insufficient_data"
    assert result.ranks[0].cycle_time.ratio is None


def test_different_annotations_around_the_same_work_are_no_obstacle(tmp_path: Path) -> None:
    write_pair(tmp_path, anchor="step[DECODE bs=4]", slow=1.3)
    result = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert result.verdict.status == "slower"
    assert result.ranks[0].normal.anchor.startswith("repeating kernel sequence")


def test_different_anchors_are_not_comparable(tmp_path: Path) -> None:
    write_pair(tmp_path, anchor="step[DECODE bs=4]")
    trace = tmp_path / "abnormal" / "rank0.json"
    text = trace.read_text()
    for name in ("aten::", "gemm", "Kernel", "cudaLaunch", "ncclDev", "vectorized"):
        text = text.replace(name, f"other_{name[::-1]}")
    trace.write_text(text)
    result = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert result.verdict.status == "not_comparable"
    assert "different anchors" in result.verdict.headline
    assert result.ranks[0].cycle_time.ratio is None


def test_different_phases_are_not_comparable(tmp_path: Path) -> None:
    result = compare(*write_pair(tmp_path, anchor="execute_context_4(400)_generation_0(0)"))
    assert result.verdict.status == "not_comparable"
    assert "no phase is on both sides" in result.verdict.headline


def test_other_batches_are_not_comparable(tmp_path: Path) -> None:
    result = compare(*write_pair(tmp_path, anchor="execute_context_0(0)_generation_16(16)", slow=1.6))
    assert result.verdict.status == "not_comparable"
    assert "different work (median 4 and 16 requests" in result.verdict.headline


def test_shared_batches_are_compared_with_each_other(tmp_path: Path) -> None:
    """A busier hour: larger batches take longer, the batch that both have takes the same."""
    trace = decode_trace(12, seed=5)
    busy = decode_trace(20, seed=6, slow=1.5, anchor="execute_context_0(0)_generation_8(8)")
    offset = 12 * 10_000 + 60_000
    for event in busy["traceEvents"]:
        event["ts"] += offset
        if "args" in event:
            event["args"]["correlation"] += 1000
        trace["traceEvents"].append(event)
    normal = write_trace(tmp_path / "normal.json", decode_trace(12, seed=4))
    result = compare(normal, write_trace(tmp_path / "abnormal.json", trace))
    assert result.ranks[0].gate.stratum == "decode, 4 requests"
    assert result.verdict.status == "no_difference"
    assert "per decode cycle of 4 requests" in result.verdict.headline
    assert any("only those of 4 requests are compared" in warning for warning in result.warnings)


@pytest.mark.parametrize("anchor", ["execute_context_1({})_generation_0(0)", "step[EXTEND bs=1 toks={}]"])
def test_longer_prompts_are_not_a_slower_server(tmp_path: Path, anchor: str) -> None:
    write_trace(tmp_path / "normal.json", decode_trace(12, seed=1, anchor=anchor.format(100)))
    write_trace(tmp_path / "abnormal.json", decode_trace(12, seed=2, anchor=anchor.format(4000), slow=8))
    result = compare(tmp_path / "normal.json", tmp_path / "abnormal.json")
    assert result.verdict.status == "not_comparable"
    assert "tokens" in result.verdict.headline


def joined(*parts: dict) -> dict:
    """Put traces one after the other, 5 ms apart, so that no gap looks like a pause."""
    whole = parts[0]
    for part in parts[1:]:
        end = max(event["ts"] + event["dur"] for event in whole["traceEvents"] if event["cat"] == "user_annotation")
        used = 1 + max(event["args"]["correlation"] for event in whole["traceEvents"] if "args" in event)
        for event in part["traceEvents"]:
            event["ts"] += end + 5_000
            if "args" in event:
                event["args"]["correlation"] += used
            whole["traceEvents"].append(event)
    return whole


PREFILL = "execute_context_1(64)_generation_0(0)"


def test_the_rarer_phase_is_tested_too(tmp_path: Path) -> None:
    for side, slow in (("normal", 1), ("abnormal", 4)):
        seed = len(side)
        trace = joined(decode_trace(30, seed=seed), decode_trace(15, seed=seed + 1, anchor=PREFILL, slow=slow))
        write_trace(tmp_path / side / "t.json", trace)
    result = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert result.verdict.status == "slower"
    assert result.ranks[0].gate.stratum == "prefill"
    assert "per prefill cycle" in result.verdict.headline
    assert result.ranks[0].tests == 2


def test_gpu_work_on_one_side_only_is_not_comparable(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    trace = json.loads((abnormal / "rank0.json").read_text())
    trace["traceEvents"] = [event for event in trace["traceEvents"] if event["cat"] != "kernel"]
    write_trace(abnormal / "rank0.json", trace)
    result = compare(normal, abnormal)
    assert result.verdict.status == "not_comparable"
    assert "abnormal side recorded no GPU work" in result.verdict.headline


def test_stalls_that_the_median_hides_are_in_the_headline(tmp_path: Path) -> None:
    parts = [decode_trace(9 if i % 2 == 0 else 1, seed=i, slow=1 if i % 2 == 0 else 30) for i in range(8)]
    abnormal = write_trace(tmp_path / "abnormal.json", joined(*parts))
    result = compare(write_trace(tmp_path / "normal.json", decode_trace(40, seed=9)), abnormal)
    assert "some cycles stall" in result.verdict.headline


def test_several_ranks_need_more_cycles_and_say_so(tmp_path: Path) -> None:
    for side, slow in (("normal", 1), ("abnormal", 3)):
        for rank in (0, 1):
            write_trace(tmp_path / side / f"{rank}.json", decode_trace(6, rank=rank, slow=slow, seed=rank + len(side)))
    result = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert result.verdict.status == "insufficient_data"
    assert "from 6 cycles a side on" in result.verdict.headline


def test_few_cycles_on_one_side_do_not_convict(tmp_path: Path) -> None:
    result = compare(*write_pair(tmp_path, cycles=4, slow=3))
    assert result.ranks[0].cycle_time.n_abnormal == 3
    assert result.verdict.status == "insufficient_data"


def test_a_drift_within_the_sides_does_not_convict(tmp_path: Path) -> None:
    for side, start in (("normal", 1.0), ("abnormal", 1.3)):
        steps = [decode_trace(1, seed=i, slow=start * 1.02**i, spread=0.001) for i in range(30)]
        for step in steps:
            step["traceEvents"][0]["dur"] *= 1.25  # back to back
        write_trace(tmp_path / f"{side}.json", joined(*steps))
    result = compare(tmp_path / "normal.json", tmp_path / "abnormal.json")
    assert result.ranks[0].cycle_time.effective_normal < 3
    assert result.verdict.status == "insufficient_data"


def test_copies_of_a_file_count_once(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    (normal / "copy.json").write_bytes((normal / "rank0.json").read_bytes())
    result = compare(normal, abnormal)
    assert result.ranks[0].cycle_time.n_normal == 11
    assert any("the same content as" in warning for warning in result.warnings)


def test_two_processes_that_claim_one_rank_are_not_guessed_apart(tmp_path: Path) -> None:
    for side in ("normal", "abnormal"):
        for i, slow in enumerate((1, 2)):
            write_trace(tmp_path / side / f"{i}.json", decode_trace(12, slow=slow, seed=i + len(side)))
    result = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert [rank.role for rank in result.ranks] == ["rank 0 #1", "rank 0 #2"]
    assert result.verdict.status == "not_comparable"
    assert "cannot be told" in result.verdict.headline


def test_recordings_one_after_the_other_are_one_process(tmp_path: Path) -> None:
    for side in ("normal", "abnormal"):
        for i in range(2):
            trace = decode_trace(8, seed=i + len(side))
            trace["baseTimeNanoseconds"] += i * 10**9
            write_trace(tmp_path / side / f"{i}.json", trace)
    result = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert result.ranks[0].cycle_time.n_normal == 14, "each recording's last cycle has no known end"
    assert result.verdict.status == "no_difference"


def test_ranks_without_a_number_pair_by_gpu(tmp_path: Path) -> None:
    for side, order in (("normal", (0, 1)), ("abnormal", (1, 0))):
        for start, gpu in enumerate(order):
            trace = decode_trace(12, device=gpu, slow=1 + gpu, seed=gpu + len(side), distributedInfo={})
            for event in trace["traceEvents"]:
                event["ts"] += start * 100
                if event["cat"] != "kernel":
                    event["pid"] = 100 + gpu
            write_trace(tmp_path / side / f"{start}.json", trace)
    result = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert [rank.role for rank in result.ranks] == ["GPU 0", "GPU 1"]
    assert result.verdict.status == "no_difference"


def test_what_takes_no_part_is_named(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    write_trace(
        normal / "frontend.json", {"traceEvents": [span("serve", "python_function", 1000, 5)], "baseTimeNanoseconds": 0}
    )
    write_counters(normal / "late.csv", {"host_cpu_usage": 10})
    text = (normal / "late.csv").read_text().replace("17908570", "17908590")
    (normal / "late.csv").write_text(text)
    warnings = compare(normal, abnormal).warnings
    assert "normal: frontend.json: no cycle in it; left out" in warnings
    assert any(w.startswith("normal: no counter sample lies within") for w in warnings)


def test_gpu_counters_of_other_gpus_are_not_used_silently(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path, device=3)
    write_counters(abnormal / "c.csv", {"gpu_usage": 50})
    warnings = compare(normal, abnormal).warnings
    assert any("counters of GPU 0, kernels on GPU 3" in warning for warning in warnings)


def test_two_samples_of_a_counter_convict_nobody(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path, slow=1.4)
    write_counters(normal / "c.csv", {"host_cpu_usage": 20}, hz=20, seconds=0.1)
    write_counters(abnormal / "c.csv", {"host_cpu_usage": 90}, hz=20, seconds=0.1)
    result = compare(normal, abnormal)
    assert result.ranks[0].metrics.height == 0, "a counter needs two samples within the cycles"
    assert [cause.id for cause in result.verdict.causes] == ["unexplained"]


def test_a_counter_that_falls_is_no_contention(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path, slow=1.4)
    write_counters(normal / "c.csv", {"gpu_usage": 90})
    write_counters(abnormal / "c.csv", {"gpu_usage": 40})
    assert [cause.id for cause in compare(normal, abnormal).verdict.causes] == ["unexplained"]


def test_many_more_kernels_per_cycle_are_not_comparable(tmp_path: Path) -> None:
    trace = decode_trace(12, seed=2)
    trace["traceEvents"] += [
        {**span("extra", "kernel", 1000 + 50 * i, 10, args={"device": 0, "stream": 7}), "pid": 0, "tid": 7}
        for i in range(2000)
    ]
    normal, _ = write_pair(tmp_path)
    result = compare(normal, write_trace(tmp_path / "more.json", trace))
    assert result.verdict.status == "not_comparable"
    assert "GPU operations" in result.verdict.headline


def test_ranks_pair_by_metadata_and_not_by_name(tmp_path: Path) -> None:
    for side, names, slow in (("normal", "ab", (1, 1)), ("abnormal", "ba", (1, 1.4))):
        for rank, name in enumerate(names):
            trace = decode_trace(12, rank=rank, slow=slow[rank], seed=rank + 10 * len(side))
            write_trace(tmp_path / side / f"{name}.json", trace)
    result = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert [rank.role for rank in result.ranks] == ["rank 0", "rank 1"]
    assert result.verdict.status == "slower"
    assert result.verdict.role == "rank 1"
    assert "on rank 1" in result.verdict.headline


def test_a_missing_rank_is_said(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    write_trace(abnormal / "rank1.json", decode_trace(12, rank=1))
    assert "rank 1 is on the abnormal side only; left out" in compare(normal, abnormal).warnings


def test_other_roles_in_equal_number_are_paired_with_a_note(tmp_path: Path) -> None:
    result = compare(*write_pair(tmp_path, rank=5))
    assert any("rank 0 with rank 5" in warning for warning in result.warnings)


def test_files_that_are_no_captures_are_named(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    (normal / "server.log").write_text("hello")
    (normal / "empty.json").touch()
    warnings = compare(normal, abnormal).warnings
    assert "normal: server.log: no format that is known; skipped" in warnings
    assert "normal: empty.json: empty file; skipped" in warnings


def test_a_counter_that_moved_is_a_suspect_with_the_confidence_that_was_counted(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path, slow=1.4)
    write_counters(normal / "counters.csv", {"host_cpu_usage": 20, "cpu_frequency": 3000}, seed=1)
    write_counters(abnormal / "counters.csv", {"host_cpu_usage": 90, "cpu_frequency": 3000}, seed=2)
    causes = compare(normal, abnormal).verdict.causes
    assert [cause.id for cause in causes] == ["cpu_contention"]
    assert causes[0].confidence is not None
    assert 0.5 < causes[0].confidence < 1
    assert causes[0].metrics[0] == "host_cpu_usage"


def test_counters_are_worth_their_own_samples(tmp_path: Path) -> None:
    """Four samples a side cannot convict, however many cycles the capture has."""
    normal, abnormal = write_pair(tmp_path, slow=1.4, cycles=40)
    write_counters(normal / "counters.csv", {"host_cpu_usage": 20}, hz=30, seconds=0.134)
    write_counters(abnormal / "counters.csv", {"host_cpu_usage": 90}, hz=30, seconds=0.134)
    result = compare(normal, abnormal)
    row = result.ranks[0].metrics.row(0, named=True)
    assert row["n_normal"] <= 4
    assert row["q"] >= 0.02


def contention(fixtures: Path) -> Comparison:
    return compare(fixtures / "normal", fixtures / "abnormal")


def test_real_pair_is_slower_and_the_run_queue_stands_out(fixtures: Path) -> None:
    result = contention(fixtures)
    assert result.verdict.status == "slower"
    time = result.ranks[0].cycle_time
    assert time.ratio is not None
    assert time.ratio.low > 2
    assert result.ranks[0].gate.stratum == "decode"
    assert result.verdict.causes[0].id == "cpu_contention"
    metrics = {row["metric"]: row for row in result.ranks[0].metrics.iter_rows(named=True)}
    assert metrics["process_runq_wait"]["abnormal"] > 3 * metrics["process_runq_wait"]["normal"]


def test_real_server_undisturbed_twice_does_not_differ(fixtures: Path) -> None:
    result = compare(fixtures / "normal", fixtures / "again")
    assert result.verdict.status == "no_difference"
    assert result.verdict.causes == ()


def test_every_real_trace_compares_with_itself_or_says_why_not(shared_data: Path) -> None:
    for path in sorted((shared_data / "traces/kineto").glob("*.json.gz")):
        try:
            result = compare(path, path)
        except TooLittleDataError as error:
            assert "no cycles found" in str(error)
            assert "--cycle" in str(error)
            continue
        n = result.ranks[0].cycle_time.n_normal
        assert result.verdict.status == ("no_difference" if n >= 5 else "insufficient_data")
        assert "same capture" in result.verdict.headline


def test_named_cycle_cuts_what_the_grammar_does_not_know(shared_data: Path) -> None:
    path = shared_data / "traces/kineto/resnet_30_iterations_dataloader_stalls.json.gz"
    result = compare(path, path, cycle="Optimizer.step#SGD.step")
    assert result.ranks[0].cycle_time.n_normal == 29


def test_resnet_loses_its_time_in_the_data_loader(shared_data: Path) -> None:
    sides = ("4_workers.normal", "0_workers.abnormal")
    result = compare(*(shared_data / f"traces/kineto/resnet50_dataloader_{side}.json.gz" for side in sides))
    functions = result.ranks[0].functions.filter(pl.col("normal_count") + pl.col("abnormal_count") > 0)
    largest = functions.row(0, named=True)
    assert "DataLoader" in largest["function"]
    assert largest["shift_us"] > 40_000
    gpu = functions.filter(pl.col("device").str.starts_with("GPU"))
    assert abs(gpu["shift_us"].sum()) < 0.1 * largest["shift_us"], "other kernels of the same work"


def test_long_captures_are_calibrated_on_some_places_around_the_circle() -> None:
    normal = np.random.default_rng(5).lognormal(0, 0.05, 2400)
    few, half = calibrate(normal, 2400), len(normal) // 2
    assert few.splits == MOST_SPLITS < half
    assert calibrate(normal[:900], 900).splits == 450
    assert few.noise_floor == pytest.approx(0.003077, rel=0.01)  # that of all 1,200 places
