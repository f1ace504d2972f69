"""Cutting: what a span's name says, where a cycle ends, what is a pause."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from traces import decode_trace, span, write_trace

from rca.capture import Capture
from rca.capture.load import load
from rca.cycles import choose, cut
from rca.cycles.grammar import GRAMMAR, Work
from rca.errors import TooLittleDataError, UsageError


def work_of(name: str) -> Work:
    return next(anchor.work(match) for anchor in GRAMMAR if (match := anchor.pattern.search(name)))


@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("execute_context_0(0)_generation_4(4)", Work("decode", 4, 4)),
        ("execute_context_1(114)_generation_3(3)", Work("mixed", 4, 117)),
        ("execute_context_2(900)_generation_0(0)", Work("prefill", 2, 900)),
        ("execute_context_0(0)_generation_0(0)", Work("idle", 0, 0)),
        ("execute_8192_context_9(sq8155sk8155sqsq1sqsk2)_generation_37(sq37sk9sqsq37sqsk9)", Work("mixed", 46, 8192)),
        ("execute_context_1(888_788544)_generation_0(0)", Work("prefill", 1, None)),
        ("step[DECODE bs=6]", Work("decode", 6, 6)),
        ("step[EXTEND bs=1 toks=150]", Work("prefill", 1, 150)),
        ("step[TARGET_VERIFY bs=2]", Work("verify", 2, None)),
        ("[Executor] _forward_step 60000: 1 ctx reqs, 500 ctx tokens, 32 gen reqs", Work("mixed", 33, 532)),
        ("[Executor] _forward_step 7: 0 ctx reqs, 32 gen reqs", Work("decode", 32, None)),
        ("Iteration 12", Work()),
        ("step[IDLE]", Work("idle", None, None)),
        ("ProfilerStep#17", Work()),
    ],
)
def test_grammar(name: str, work: Work) -> None:
    assert work_of(name) == work


def capture_of(
    tmp_path: Path, spans: list[tuple[str, float, float]], extra: list[dict[str, object]] | None = None
) -> Capture:
    events = [span(name, "user_annotation", ts, dur) for name, ts, dur in spans] + (extra or [])
    return load(write_trace(tmp_path / "t.json", {"traceEvents": events, "baseTimeNanoseconds": 0}))


def cycles_of(capture: Capture, cycle: str | None = None) -> pl.DataFrame:
    (rank,) = cut(capture, choose(capture, capture, cycle)["normal"])
    return rank.cycles


DECODE, PREFILL = "step[DECODE bs=4]", "step[EXTEND bs=1 toks=64]"


def test_a_cycle_lasts_to_the_next_start(tmp_path: Path) -> None:
    cycles = cycles_of(capture_of(tmp_path, [(DECODE, 1000 + 10_000 * i, 6_000) for i in range(4)]))
    assert cycles["duration_us"].to_list() == [10_000, 10_000, 10_000, 6_000]
    assert cycles["span_us"].to_list() == [6_000] * 4
    assert cycles["complete"].to_list() == [True, True, True, False]
    assert cycles["note"][3] == "last of the recording"


def test_the_last_of_back_to_back_steps_is_whole(tmp_path: Path) -> None:
    cycles = cycles_of(capture_of(tmp_path, [(f"ProfilerStep#{i}", 1000 + 10_010 * i, 10_000) for i in range(4)]))
    assert cycles["complete"].all()


def test_a_long_gap_before_a_prefill_is_a_pause(tmp_path: Path) -> None:
    spans = [(DECODE, 10_000.0 * i, 9_000) for i in range(5)] + [(PREFILL, 400_000, 9_000), (DECODE, 410_000, 9_000)]
    cycles = cycles_of(capture_of(tmp_path, spans))
    assert cycles["note"].to_list() == ["", "", "", "", "ends in an idle pause", "", "last of the recording"]
    assert cycles["duration_us"].to_list()[3:6] == [10_000, 9_000, 10_000], "the pause is no one's time"


def test_a_long_gap_before_a_decode_is_waiting(tmp_path: Path) -> None:
    """Requests in flight: whatever took so long happened to them."""
    spans = [(DECODE, 10_000.0 * i, 9_000) for i in range(5)] + [(DECODE, 400_000, 9_000), (DECODE, 410_000, 9_000)]
    cycles = cycles_of(capture_of(tmp_path, spans))
    assert cycles["duration_us"][4] == 360_000
    assert cycles["complete"][4]


def test_the_engines_own_idle_marks_are_believed(tmp_path: Path) -> None:
    mark = span("scheduler.idle", "user_annotation", 25_000, 10)
    spans = [(DECODE, 0, 9_000), (DECODE, 10_000, 9_000), (DECODE, 30_000, 9_000), (DECODE, 40_000, 9_000)]
    cycles = cycles_of(capture_of(tmp_path, spans, [mark]))
    assert cycles["note"].to_list() == ["", "ends in an idle pause", "", "last of the recording"]


def test_user_names_the_cycle(tmp_path: Path) -> None:
    capture = capture_of(tmp_path, [("timed region", 1000.0 * i, 900) for i in range(5)])
    assert choose(capture, capture)["normal"].name == "timed region"
    assert cycles_of(capture, "timed region").height == 5
    assert cycles_of(capture, "^timed").height == 5
    with pytest.raises(TooLittleDataError, match="no span is named"):
        choose(capture, capture, "absent")
    with pytest.raises(UsageError, match="no regular expression"):
        choose(capture, capture, "(")


def test_a_name_is_taken_at_its_word(tmp_path: Path) -> None:
    spans = [("train", 10_000.0 * i, 9_000) for i in range(4)] + [("train_inner", 10_000.0 * i + 100, 500) for i in range(4)]
    capture = capture_of(tmp_path, [*spans, ("step (1", 50_000, 100), ("step (1", 60_000, 100)])
    assert cycles_of(capture, "train").height == 4
    assert cycles_of(capture, "step (1").height == 2
    assert cycles_of(capture, "(?i)TRAIN$").height == 4
    assert cycles_of(capture, "train").height == 4


def test_of_spans_inside_each_other_the_outermost_counts(tmp_path: Path) -> None:
    spans = [
        (name, 10_000.0 * i + at, dur) for i in range(4) for name, at, dur in (("step a", 0, 9_000), ("step b", 10, 80))
    ]
    assert cycles_of(capture_of(tmp_path, spans), "^step").height == 4


def test_per_cycle_profiles_cannot_be_cut_again(shared_data: Path) -> None:
    capture = load(shared_data / "sglang-a100/gpu_instability/normal")
    with pytest.raises(UsageError, match="were cut before"):
        choose(capture, capture, "x")


def test_both_sides_get_the_anchor_that_both_have(tmp_path: Path) -> None:
    both = [(DECODE, 10_000.0 * i, 9_000) for i in range(4)] + [
        (f"ProfilerStep#{i}", 20_000.0 * i, 19_000) for i in range(2)
    ]
    one = capture_of(tmp_path / "a", both)
    other = capture_of(tmp_path / "b", both[4:])
    assert {anchor.name for anchor in choose(one, other).values()} == {"ProfilerStep#"}
    assert {anchor.name for anchor in choose(one, one).values()} == {"step[…]"}


@pytest.mark.parametrize("side", ["4_workers.normal", "0_workers.abnormal"])
def test_resnet_has_six_cycles(shared_data: Path, side: str) -> None:
    capture = load(shared_data / f"traces/kineto/resnet50_dataloader_{side}.json.gz")
    cycles = cycles_of(capture)
    assert cycles.height == 6
    assert cycles["complete"].all()


@pytest.mark.parametrize(
    ("file", "steps", "idle"),
    [
        ("sglang/nostack-40steps-idle-gaps.1795221612.848706-TP-0.trace.json.gz", 40, 0),
        ("sglang/overlap-nostack-16steps.1795221756.3274808-TP-0.trace.json.gz", 16, 0),
        ("vllm/nostack/rank0.1795222509227140634.pt.trace.json.gz", 60, 0),
    ],
)
def test_own_traces_have_the_steps_that_were_asked_for(shared_data: Path, file: str, steps: int, idle: int) -> None:
    cycles = cycles_of(load(shared_data / "own" / file))
    assert cycles.height == steps
    assert (cycles["note"] == "ends in an idle pause").sum() == idle


def test_ranks_are_told_apart_by_metadata(tmp_path: Path) -> None:
    for name, rank in (("b.json", 1), ("a.json", 3)):
        write_trace(tmp_path / name, decode_trace(6, rank=rank))
    capture = load(tmp_path)
    assert [rank.role for rank in cut(capture, choose(capture, capture)["normal"])] == ["rank 1", "rank 3"]


def test_a_pause_before_a_prefill_that_only_a_frame_names_is_idle(tmp_path: Path) -> None:
    """The annotation says nothing of phases; the frames inside do, and they tell a pause from a slow cycle."""
    starts = [*range(0, 100_000, 10_000), *range(10_000_000, 10_100_000, 10_000)]
    frames = []
    for i, at in enumerate(starts):
        mode = "forward_extend" if i == 10 else "forward_decode"
        frames += [span("Scheduler.run_batch", "python", at, 9_000), span(f"ModelRunner.{mode}", "python", at + 10, 8_000)]
    cycles = cycles_of(load(write_trace(tmp_path / "t.json", {"traceEvents": frames, "baseTimeNanoseconds": 0})))
    assert cycles["note"][9] == "ends in an idle pause"
    assert cycles.filter("complete")["duration_us"].to_numpy().max() == 10_000


def test_one_profiler_step_is_no_loop(tmp_path: Path) -> None:
    spans = [("ProfilerStep#3", 0.0, 10_000)] + [("my_loop", 100.0 * i, 90) for i in range(30)]
    capture = capture_of(tmp_path, spans)
    assert choose(capture, capture)["normal"].name == "my_loop"


def test_ranges_can_be_asked_for_by_nvtx(tmp_path: Path) -> None:
    """`Optimizer.step` is work of its own in a profile, and an annotation all the same."""
    spans = [("Optimizer.step#SGD.step", 1000.0 * i, 200) for i in range(6)]
    assert cycles_of(capture_of(tmp_path, spans), "nvtx:Optimizer.step#SGD.step").height == 6


def test_phases_follow_the_launch_of_a_kernel(tmp_path: Path) -> None:
    """The GPU is a step behind: the decode kernel that runs in the second cycle was launched in the first."""
    events = [span("my_step", "user_annotation", 1000.0 * i, 990) for i in range(4)]
    for i, name in enumerate(("paged_attention", "context_attention", "paged_attention", "paged_attention")):
        number = {"correlation": i + 1}
        events.append(span("cudaLaunchKernel", "cuda_runtime", 1000.0 * i + 500, 5, args=number))
        kernel = {"args": number | {"device": 0, "stream": 7}, "pid": 0, "tid": 7}
        events.append(span(name, "kernel", 1000.0 * (i + 1) + 100, 50) | kernel)
    capture = load(write_trace(tmp_path / "t.json", {"traceEvents": events, "baseTimeNanoseconds": 0}))
    assert cycles_of(capture, "my_step")["phase"].to_list() == ["decode", "prefill", "decode", "decode"]
