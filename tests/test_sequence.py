"""Cycles of traces without annotations: cut where the annotations were, and never a layer for a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from traces import decode_trace, span, write_trace

from rca.capture import Capture
from rca.capture.load import load
from rca.cycles import candidates, choose, cut
from rca.cycles.grammar import AnchorKind

STRIPPED = ["annotation", "gpu_annotation", "window"]


def stripped(capture: Capture) -> Capture:
    return replace(capture, events=capture.events.filter(~pl.col("kind").is_in(STRIPPED)))


def cycles_of(capture: Capture) -> pl.DataFrame:
    return cut(capture, choose(capture, capture)["normal"])[0].cycles


def boundary_error(truth: pl.DataFrame, found: pl.DataFrame) -> float:
    """Median distance from a true start to the nearest start found, as a share of the median cycle."""
    starts = found["start_ns"].to_numpy()
    distances = [np.abs(starts - start).min() for start in truth["start_ns"]]
    return float(np.median(distances) / truth["duration_us"].median() / 1000)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("file", "cycles", "missed"),
    [
        ("own/vllm/nostack/rank0.1795222509227140634.pt.trace.json.gz", 60, 0),
        ("own/vllm/stack-eager-4steps/rank0.1795222807173104861.pt.trace.json.gz", 4, 0),
        ("own/sglang/nostack-40steps-idle-gaps.1795221612.848706-TP-0.trace.json.gz", 40, 1),
        ("own/sglang/overlap-nostack-16steps.1795221756.3274808-TP-0.trace.json.gz", 16, 1),
        ("own/sglang/overlap-stack-4steps.1795222349.1191719-TP-0.trace.json.gz", 4, 0),
        ("own/sglang/stack-4steps.1795221621.9017775-TP-0.trace.json.gz", 4, 0),
        ("traces/kineto/resnet50_dataloader_4_workers.normal.json.gz", 6, 0),
        ("traces/kineto/resnet50_dataloader_0_workers.abnormal.json.gz", 6, 0),
        ("traces/kineto/ns_resolution_rank0.json.gz", 5, 0),
        ("traces/kineto/vit_bfloat16.json.gz", 5, 0),
    ],
)
def test_without_annotations_real_traces_are_cut_at_the_same_places(
    shared_data: Path, file: str, cycles: int, missed: int
) -> None:
    capture = load(shared_data / file)
    truth, found = cycles_of(capture), cycles_of(stripped(capture))
    assert truth.height == cycles
    assert cycles - missed <= found.height <= cycles
    assert boundary_error(truth, found) < 0.01


@pytest.mark.parametrize(
    "file", ["b200_eager", "sglang_decode_qwen3_30b_B300", "vllm_decode_cudagraph", "vllm_prefilldecode_piecewise"]
)
def test_the_layers_of_a_single_step_are_no_cycles(shared_data: Path, file: str) -> None:
    """These captures hold one step each: 18 to 48 layers, and what comes before and after them."""
    capture = stripped(load(shared_data / f"traces/kineto/{file}.json.gz"))
    without_frames = replace(capture, events=capture.events.filter(pl.col("kind") != "python"))
    assert [found for found in candidates(without_frames) if found.anchor.kind is AnchorKind.SEQUENCE] == []


def model_step(at: float, layers: int, prefill: bool, correlation: int, gpu: float = 4.0) -> list[dict[str, Any]]:
    """One step of a model: set-up, embedding, equal layers, head, sampling; each a launch and its kernel."""
    attention = ["qkv_gemm", "context_attention" if prefill else "paged_attention", "o_gemm"]
    names = [
        "prepare_inputs",
        "embedding",
        *[*attention, "norm", "up_gemm", "down_gemm"] * layers,
        "head",
        "sample",
        "copy_out",
    ]
    events = []
    for i, name in enumerate(names):
        start = at + 10.0 * i
        number = {"correlation": correlation + i}
        events.append(span("cudaLaunchKernel", "cuda_runtime", start, 3, args=number))
        kernel = {"args": number | {"device": 0, "stream": 7}, "pid": 0, "tid": 7}
        events.append(span(f"{name}_kernel", "kernel", start + 5, gpu * (3 if prefill else 1)) | kernel)
    return events


def serving(
    folder: Path, steps: int, layers: int = 24, prefill_every: int = 0, gap: float = 300.0
) -> tuple[Capture, list[float]]:
    rng = np.random.default_rng(1)
    at, starts, events = 1000.0, [], []
    for step in range(steps):
        starts.append(at)
        prefill = bool(prefill_every) and step % prefill_every == prefill_every // 2
        events += model_step(at, layers, prefill, 1 + step * 1000)
        at += 10.0 * (6 * layers + 5) + gap * float(rng.uniform(0.8, 1.2))
    return load(write_trace(folder / "t.json", {"traceEvents": events, "baseTimeNanoseconds": 0})), starts


@pytest.mark.parametrize("prefill_every", [0, 9])
def test_steps_are_told_from_layers(tmp_path: Path, prefill_every: int) -> None:
    capture, starts = serving(tmp_path, 40, prefill_every=prefill_every)
    cycles = cycles_of(capture)
    found = cycles["start_ns"].to_numpy() / 1000
    assert abs(len(found) - 40) <= 1
    nearest = np.array([np.abs(found - start).min() for start in starts])
    assert np.median(nearest) < 0.03 * 1800
    phases = cycles.filter("complete")["phase"].value_counts().sort("phase").rows()
    assert phases == ([("decode", len(found) - 1)] if not prefill_every else [("decode", len(found) - 5), ("prefill", 4)])


def test_one_step_alone_gives_no_cycles(tmp_path: Path) -> None:
    capture, _ = serving(tmp_path, 1)
    assert list(candidates(capture)) == []


def test_a_mark_found_on_one_side_cuts_the_other(tmp_path: Path) -> None:
    normal, _ = serving(tmp_path / "a", 30)
    abnormal, _ = serving(tmp_path / "b", 12, gap=900.0)
    anchors = choose(normal, abnormal)
    assert anchors["normal"] == anchors["abnormal"]
    assert cut(abnormal, anchors["abnormal"])[0].cycles.height == 12


def test_gpu_work_alone_is_enough(tmp_path: Path) -> None:
    """A trace of kernels without the host calls that launched them."""
    capture, _ = serving(tmp_path, 30)
    alone = replace(capture, events=capture.events.filter(pl.col("kind") == "kernel"))
    assert abs(cycles_of(alone).height - 30) <= 1


@pytest.mark.parametrize("steps", [2, 3, 20])
def test_layers_are_not_cut_where_steps_follow_at_once(tmp_path: Path, steps: int) -> None:
    """A few borders between steps, or pauses after every 24th layer, show that the layers are parts of something."""
    rng = np.random.default_rng(2)
    events, at = [], 1000.0
    for layer in range(24 * steps):
        if layer % 24 == 0:
            at += 400 if steps == 20 else 0
            if steps < 20:
                for name in ("embed", "mask", "head", "sample"):
                    events.append(span(name, "cpu_op", at, 8))
                    at += 10
        for name in ("qkv", "attention", "o", "norm", "up", "act", "down"):
            events.append(span(name, "cpu_op", at, float(rng.uniform(7, 9))))
            at += 10
    capture = load(write_trace(tmp_path / "t.json", {"traceEvents": events, "baseTimeNanoseconds": 0}))
    counts = [found.cycles for found in candidates(capture)]
    assert counts in ([], [steps])


def test_ranges_that_number_the_layers_are_believed(tmp_path: Path) -> None:
    events = []
    for i in range(20):
        events.append(span(f"FSDP::forward (blocks.{i})", "user_annotation", 100.0 * i, 50))
        events += [span(name, "cpu_op", 100.0 * i + 10 * k, 8) for k, name in enumerate(("qkv", "attention", "o", "mlp"))]
    capture = load(write_trace(tmp_path / "t.json", {"traceEvents": events, "baseTimeNanoseconds": 0}))
    assert list(candidates(capture)) == []
    steps = [event | {"name": "annotated"} if "blocks" in event["name"] else event for event in events]
    capture = load(write_trace(tmp_path / "u.json", {"traceEvents": steps, "baseTimeNanoseconds": 0}))
    assert next(found.anchor.name for found in candidates(capture)) == "annotated"


def test_micro_batches_are_no_cycles(tmp_path: Path) -> None:
    events, at = [], 0.0
    for _ in range(6):
        for _ in range(4):
            for name in ("forward", "loss", "backward", "accumulate"):
                events.append(span(name, "cpu_op", at, 80))
                at += 100
        events.append(span("Optimizer.step#AdamW.step", "user_annotation", at, 150))
        at += 200
    capture = load(write_trace(tmp_path / "t.json", {"traceEvents": events, "baseTimeNanoseconds": 0}))
    assert cycles_of(capture).height in (5, 6)


def test_other_batch_sizes_are_other_kernels_and_the_same_step(tmp_path: Path) -> None:
    """A GEMM's tile size is in its name and depends on the batch; so no kernel but the first and last runs every step."""
    events = []
    for step in range(40):
        tile = 16 << (step // 10)
        names = ["embedding", *[f"gemm_{tile}x{tile}_{kind}" for kind in ("qkv", "o", "up", "down")] * 8, "sample"]
        events += [span(name, "cpu_op", 1000.0 * step + 20 * i, 15) for i, name in enumerate(names)]
    capture = load(write_trace(tmp_path / "t.json", {"traceEvents": events, "baseTimeNanoseconds": 0}))
    assert cycles_of(capture).height == 40


def test_one_kernel_over_and_over_is_no_loop(tmp_path: Path) -> None:
    events = [span("kernel_a", "cpu_op", 10.0 * i, 8) for i in range(500)]
    capture = load(write_trace(tmp_path / "t.json", {"traceEvents": events, "baseTimeNanoseconds": 0}))
    assert list(candidates(capture)) == []


def test_random_work_has_no_cycles(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    names = [f"aten::op{'abcdefghij'[i // 10]}{'klmnopqrst'[i % 10]}" for i in rng.integers(0, 100, 3000)]
    events = [span(name, "cpu_op", 10.0 * i, 8) for i, name in enumerate(names)]
    capture = load(write_trace(tmp_path / "t.json", {"traceEvents": events, "baseTimeNanoseconds": 0}))
    assert list(candidates(capture)) == []


class TestRecurringSpans:
    """Annotations and frames that no table knows."""

    def anchors(self, folder: Path, events: list[dict[str, Any]]) -> list[tuple[str, int]]:
        capture = load(write_trace(folder / "t.json", {"traceEvents": events, "baseTimeNanoseconds": 0}))
        return [(found.anchor.name, found.cycles) for found in candidates(capture)]

    def test_the_outermost_loop_wins(self, tmp_path: Path) -> None:
        frames = [span("main", "python", 0, 1000)]
        for i in range(8):
            frames.append(span("Worker.serve_once", "python", 10 + 100.0 * i, 90))
            frames += [span("Layer.forward", "python", 15 + 100.0 * i + 10 * k, 9) for k in range(7)]
        assert self.anchors(tmp_path, frames) == [("Worker.serve_once", 8)]

    def test_frames_that_only_call_or_wait_do_not_count(self, tmp_path: Path) -> None:
        frames = []
        for i in range(8):
            frames += [span("Event.wait", "python", 100.0 * i, 99), span("Worker.work", "python", 100.0 * i + 10, 60)]
        assert self.anchors(tmp_path, frames) == [("Worker.work", 8)]

    @pytest.mark.parametrize(
        ("one", "two"), [("app/a.py(12): step", "app/a.py(14): step"), ("step (a.py:2)", "step (a.py:9)")]
    )
    def test_a_frame_whose_line_moved_is_the_same_loop(self, tmp_path: Path, one: str, two: str) -> None:
        names = {"normal": one, "abnormal": two}
        sides = []
        for side, name in names.items():
            frames = [span(name, "python_function", 100.0 * i, 90) for i in range(8)]
            trace = {"traceEvents": frames, "baseTimeNanoseconds": 0}
            sides.append(load(write_trace(tmp_path / side / "t.json", trace)))
        chosen = choose(*sides)
        assert chosen["normal"] == chosen["abnormal"]
        assert [cut(side, chosen["normal"])[0].cycles.height for side in sides] == [8, 8]

    def test_numbered_ranges_are_one_loop(self, tmp_path: Path) -> None:
        ranges = [span(f"req {i} of batch", "user_annotation", 100.0 * i, 90) for i in range(8)]
        assert self.anchors(tmp_path, ranges) == [("req # of batch", 8)]

    def test_short_ranges_are_no_loop(self, tmp_path: Path) -> None:
        ranges = [span("ncclGroupEnd", "user_annotation", 100.0 * i, 60) for i in range(8)]
        ranges += [span("mark", "user_annotation", 100.0 * i + 70, 1) for i in range(8)]
        assert self.anchors(tmp_path, ranges) == []

    def test_a_long_first_call_does_not_hide_the_loop(self, tmp_path: Path) -> None:
        """A first call that waits for a compiler, and short ones after it, take more time than the loop itself."""
        ranges = [span("reduce", "user_annotation", 0, 50_000)]
        for i in range(8):
            ranges += [span("step", "user_annotation", 60_000 + 1000.0 * i, 900)]
            ranges += [span("reduce", "user_annotation", 60_950 + 1000.0 * i, 1)]
        assert self.anchors(tmp_path, ranges)[0] == ("step", 8)


def test_kunlun_traces_are_cut_by_the_schedulers_frame(tmp_path: Path) -> None:
    trace = decode_trace(6, anchor="no engine")
    starts = [event["ts"] for event in trace["traceEvents"] if event["name"] == "no engine"]
    frames = [span("Scheduler.run_batch", "python", ts, 700) for ts in starts]
    modes = ["forward_extend"] + ["forward_decode"] * 5
    frames += [span(f"ModelRunner.{mode}", "python", ts + 5, 600) for mode, ts in zip(modes, starts, strict=True)]
    trace["traceEvents"] = frames + [event for event in trace["traceEvents"] if event["name"] != "no engine"]
    cycles = cycles_of(load(write_trace(tmp_path / "t.json", trace)))
    assert cycles.height == 6
    assert cycles["phase"].to_list() == ["prefill"] + ["decode"] * 5
