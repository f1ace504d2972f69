"""Where the time of a cycle goes: partitions of made-to-order timelines, and their sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import BASE_NS, decode_trace, span, write_pair, write_trace

from rca.api import Comparison, compare
from rca.capture.load import load
from rca.cycles import anchor_named, cut
from rca.cycles.grammar import GRAMMAR
from rca.profile.timeline import timeline_parts
from rca.stats.intervals import Intervals, contains, intersection, length_within, union
from rca.verdict.ledger import ledger
from reports import ticket
from reports.machine import as_dict
from reports.page import page
from reports.plots import captures

ANCHOR = next(anchor.name for anchor in GRAMMAR if anchor.name.startswith("execute_context"))


def step_trace(
    cycles: int = 12,
    *,
    period: float = 10_000,
    calls: list[tuple[str, str, float, float]],
    kernels: list[tuple[str, float, float, float]],
) -> dict[str, Any]:
    """Return steps that are all alike: ``calls`` are (name, category, at, µs), ``kernels`` (name, launch, begin, µs)."""
    events = []
    for i in range(cycles):
        now = 1000.0 + i * period
        events.append(span("execute_context_0(0)_generation_4(4)", "user_annotation", now, 0.9 * period))
        events += [span(name, category, now + at, took) for name, category, at, took in calls]
        for j, (name, launched, begins, took) in enumerate(kernels):
            link = {"correlation": 1 + i * len(kernels) + j}
            events.append(span("cudaLaunchKernel", "cuda_runtime", now + launched, 5, args=link))
            where = {"pid": 0, "tid": 7, "args": link | {"stream": 7, "device": 0}}
            events.append({**span(name, "kernel", now + begins, took), **where})
    return {"schemaVersion": 1, "baseTimeNanoseconds": BASE_NS, "traceEvents": events, "distributedInfo": {"rank": 0}}


def parts_of(folder: Path, trace: dict[str, Any]) -> dict[str, float]:
    """Return the parts of the third step in µs."""
    capture = load(write_trace(folder / "t.json", trace))
    (rank,) = cut(capture, anchor_named(ANCHOR))
    table = timeline_parts(capture, rank)
    total = table.group_by("cycle").agg(pl.col("us").sum()).join(rank.cycles, on="cycle")
    assert np.allclose(total["us"], total["duration_us"]), "the parts of a cycle sum to its duration"
    return dict(table.filter(pl.col("cycle") == 3).select("part", "us").iter_rows())


def test_kernels_that_the_host_outruns_are_hidden(tmp_path: Path) -> None:
    """The GPU is done long before the next launch: the host is the bottleneck, and slower kernels cost nothing."""
    calls = [("aten::op", "cpu_op", 0, 8000)]
    parts = parts_of(tmp_path, step_trace(calls=calls, kernels=[("gemm", 100, 120, 2000), ("gemm", 5000, 5020, 2000)]))
    assert "gpu_compute" not in parts
    assert parts["host_calls"] == pytest.approx(8000)
    assert parts["between"] == pytest.approx(1000)


def test_kernels_that_the_host_waits_for_are_the_cycle(tmp_path: Path) -> None:
    """All is launched at once, and the host waits: the GPU's time is the cycle's."""
    calls = [("aten::op", "cpu_op", 0, 200), ("cudaStreamSynchronize", "cuda_runtime", 200, 8000)]
    kernels = [("gemm", 20, 40, 5000), ("ncclDevKernel_AllReduce", 60, 5045, 3000)]
    parts = parts_of(tmp_path, step_trace(calls=calls, kernels=kernels))
    assert parts["gpu_compute"] == pytest.approx(5000)
    assert parts["gpu_comm"] == pytest.approx(3000)
    assert parts["gpu_gaps"] == pytest.approx(5)
    assert parts["sync"] == pytest.approx(155)  # the call returns a moment after the GPU is done


def test_waiting_for_an_idle_gpu_is_no_gpu_time(tmp_path: Path) -> None:
    calls = [("cudaDeviceSynchronize", "cuda_runtime", 4000, 3000)]
    parts = parts_of(tmp_path, step_trace(calls=calls, kernels=[("gemm", 100, 120, 1000)]))
    assert parts["sync"] == pytest.approx(3000)


def test_communication_that_computing_covers_is_not_counted_twice(tmp_path: Path) -> None:
    calls = [("cudaStreamSynchronize", "cuda_runtime", 200, 8000)]
    kernels = [("gemm", 20, 40, 6000), ("ncclDevKernel_AllReduce", 30, 1000, 3000)]
    parts = parts_of(tmp_path, step_trace(calls=calls, kernels=kernels))
    assert parts["gpu_compute"] == pytest.approx(6000)
    assert "gpu_comm" not in parts


def test_a_gpu_that_falls_behind_its_queue_is_the_bottleneck(tmp_path: Path) -> None:
    """Launched far ahead, without any call that waits: the GPU never runs dry."""
    trace = step_trace(calls=[], kernels=[("gemm", 10, 9_000, 9_990)])
    assert parts_of(tmp_path, trace)["gpu_compute"] > 9_900


def test_without_launches_all_gpu_time_counts(tmp_path: Path) -> None:
    trace = step_trace(calls=[], kernels=[("gemm", 100, 120, 2000)])
    trace["traceEvents"] = [event for event in trace["traceEvents"] if event["cat"] != "cuda_runtime"]
    assert parts_of(tmp_path, trace)["gpu_compute"] == pytest.approx(2000)


def slower(tmp_path: Path, **changed: float) -> Comparison:
    return compare(*write_pair(tmp_path, **changed))


def test_the_ledger_sums_to_the_change(tmp_path: Path) -> None:
    result = slower(tmp_path, slow=1.4)
    found = result.verdict.ledger
    assert found is not None
    assert found.timeline
    mean = result.ranks[0].distribution.row(-1)
    assert found.change_us == pytest.approx(mean[2] - mean[1])
    assert sum(entry.change_us for entry in found.entries) == pytest.approx(found.change_us, abs=1)
    assert abs(found.residual_us) < 1
    assert len(found.entries) <= 12


def test_a_slow_host_is_in_the_hosts_parts(tmp_path: Path) -> None:
    found = slower(tmp_path, slow=1.4).verdict.ledger
    assert found is not None
    assert found.share("host_calls", "host_python", "between") == pytest.approx(1, abs=0.02)


def test_the_ledger_is_mirrored_when_the_sides_are_swapped(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path, slow=1.4)
    there, back = (compare(*sides).verdict.ledger for sides in ((normal, abnormal), (abnormal, normal)))
    assert there is not None
    assert back is not None
    changes = [{entry.part: entry.change_us for entry in found.entries} for found in (there, back)]
    assert changes[0] == pytest.approx({part: -change for part, change in changes[1].items()})


def test_cycles_that_are_not_alike_have_none(tmp_path: Path) -> None:
    result = compare(*write_pair(tmp_path, anchor="execute_context_4(400)_generation_0(0)"))
    assert result.verdict.status == "not_comparable"
    assert result.verdict.ledger is None
    assert ledger(result.ranks[0]) is None


def test_the_change_of_a_function_is_calls_times_time(tmp_path: Path) -> None:
    """Twice the calls of half as long are no change in sum, and the two effects say so."""
    for side, calls, took in (("normal", 4, 800), ("abnormal", 8, 400)):
        spans = [("aten::copy_", "cpu_op", 1000 * i, took) for i in range(calls)]
        write_trace(tmp_path / side / "t.json", step_trace(calls=spans, kernels=[("gemm", 9000, 9020, 100)]))
    table = compare(tmp_path / "normal", tmp_path / "abnormal").ranks[0].functions
    row = table.row(by_predicate=pl.col("function") == "aten::copy_", named=True)
    assert row["count_effect_us"] == pytest.approx(4 * 600)
    assert row["duration_effect_us"] == pytest.approx(-4 * 600)


def test_a_function_of_one_side_is_all_calls(tmp_path: Path) -> None:
    write_trace(tmp_path / "normal" / "t.json", decode_trace(12, seed=1))
    trace = decode_trace(12, seed=2)
    steps = [event for event in trace["traceEvents"] if event["cat"] == "user_annotation"]
    trace["traceEvents"] += [span("aten::new", "cpu_op", step["ts"] + 100, 50) for step in steps]
    write_trace(tmp_path / "abnormal" / "t.json", trace)
    table = compare(tmp_path / "normal", tmp_path / "abnormal").ranks[0].functions
    row = table.row(by_predicate=pl.col("function") == "aten::new", named=True)
    assert (row["count_effect_us"], row["duration_effect_us"]) == pytest.approx((50, 0), abs=1)


intervals = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12)


def as_set(pairs: list[tuple[int, int]]) -> tuple[Intervals, set[int]]:
    start = np.array([at for at, _ in pairs], dtype=np.int64)
    end = np.array([at + length for at, length in pairs], dtype=np.int64)
    return union((start, end)), {point for at, length in pairs for point in range(at, at + length)}


@given(intervals, intervals, st.integers(0, 80), st.integers(0, 30))
def test_intervals_are_sets(one: list[tuple[int, int]], two: list[tuple[int, int]], at: int, length: int) -> None:
    """Against sets of whole numbers, which hold the same."""
    (x, x_points), (y, y_points) = as_set(one), as_set(two)
    window = np.array([at]), np.array([at + length])
    inside = set(range(at, at + length))
    assert length_within(x, *window)[0] == len(x_points & inside)
    assert length_within(union(x, y), *window)[0] == len((x_points | y_points) & inside)
    assert length_within(intersection(x, y), *window)[0] == len(x_points & y_points & inside)
    assert (x.start[1:] > x.end[:-1]).all(), "disjoint and in order"
    assert contains(x, np.array([at]))[0] == (at in x_points or at - 1 in x_points)


def test_single_cycles_have_a_ledger_without_intervals(tmp_path: Path) -> None:
    sides = [write_trace(tmp_path / side / "t.json", decode_trace(2, seed=i, slow=1 + i)) for i, side in enumerate("ab")]
    result = compare(*sides, cached=False, pictures=True)
    assert (result.ranks[0].cycle_time.n_normal, result.ranks[0].cycle_time.n_abnormal) == (1, 1)
    assert result.verdict.ledger is not None
    assert {(entry.low_us, entry.high_us, entry.sure) for entry in result.verdict.ledger.entries} == {(None, None, False)}
    table = ticket.render(result, "full").partition("| Where the time goes")[2].partition("\n\n")[0]
    assert "ms" in table
    assert " to " not in table
    assert "None" not in page(result)
    assert captures(result)["verdict.svg"]
    assert all(part["low_us"] is None for part in as_dict(result)["ledger"])
