"""The functions ``oncpu`` and ``runq``: from scheduler slices, or from counters that are dense enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from traces import BASE_NS, decode_trace, span, write_trace

from rca.api import compare
from rca.capture import Capture
from rca.capture.load import load
from rca.cycles import choose, cut
from rca.profile import Profile, build

STEP_US = 1000.0


def steps(n: int, extra: list[dict[str, Any]]) -> dict[str, Any]:
    """Annotated steps of 1 ms that follow each other at once."""
    marks = [span("execute_context_0(0)_generation_4(4)", "user_annotation", STEP_US * i, STEP_US) for i in range(n)]
    work = [span("aten::mm", "cpu_op", STEP_US * i + 10, 100) for i in range(n)]
    return {"traceEvents": [*marks, *work, *extra], "baseTimeNanoseconds": BASE_NS}


def slice_of(name: str, start: float, end: float, tid: int) -> dict[str, Any]:
    return span(name, "CAT_CPU", start, end - start) | {"tid": tid}


def profile_of(capture: Capture) -> Profile:
    (rank,) = cut(capture, choose(capture, capture)["normal"])
    return build(capture, rank)


def rows_of(profile: Profile, function: str) -> list[tuple[Any, ...]]:
    own = profile.rows.filter(pl.col("function") == function)
    return own.select("cycle", "duration_us", "count").unique().sort("cycle").rows()  # a row for each metric


class TestSlices:
    def test_overlapping_slices_keep_their_sum_and_their_number(self, tmp_path: Path) -> None:
        """FORMATS.md §7.5: β counts the originals, so a process of two threads may exceed 100 %."""
        slices = [slice_of("oncpu", 100, 600, 1), slice_of("oncpu", 200, 900, 2), slice_of("oncpu", 1100, 1200, 1)]
        profile = profile_of(load(write_trace(tmp_path / "t.json", steps(4, slices))))
        assert rows_of(profile, "oncpu") == [(1, 1200.0, 2), (2, 100.0, 1)]
        beta = profile.rows.filter((pl.col("function") == "oncpu") & (pl.col("cycle") == 1))["beta_pct"][0]
        assert beta == pytest.approx(120.0)

    def test_slices_that_touch_are_not_one(self, tmp_path: Path) -> None:
        slices = [slice_of("oncpu", 100, 200, 1), slice_of("oncpu", 200, 300, 1)]
        capture = load(write_trace(tmp_path / "t.json", steps(3, slices)))
        assert rows_of(profile_of(capture), "oncpu") == [(1, 200.0, 2)]

    def test_a_slice_is_cut_where_a_cycle_ends(self, tmp_path: Path) -> None:
        profile = profile_of(load(write_trace(tmp_path / "t.json", steps(5, [slice_of("oncpu", 500, 3250, 1)]))))
        assert rows_of(profile, "oncpu") == [(1, 500.0, 1), (2, 1000.0, 1), (3, 1000.0, 1), (4, 250.0, 1)]

    def test_waits_are_not_merged(self, tmp_path: Path) -> None:
        waits = [slice_of("runq", 100, 150, 1), slice_of("runq", 120, 170, 2)]
        assert rows_of(profile_of(load(write_trace(tmp_path / "t.json", steps(3, waits)))), "runq") == [(1, 100.0, 2)]


def with_counters(folder: Path, period_us: float, pid: int = 100, **metrics: float) -> Path:
    write_trace(folder / "t.json", steps(40, []))
    rng = np.random.default_rng(abs(hash(str(folder.name))) % 1000)
    lines = ["timestamp,metric,device,value,pid"]
    for tick in range(int(40 * STEP_US / period_us)):
        at = BASE_NS + int(tick * period_us * 1000)
        lines += [f"{at},{name},Host,{value * rng.normal(1, 0.05):.6g},{pid}" for name, value in metrics.items()]
    (folder / "counters.csv").write_text("\n".join(lines) + "\n")
    return folder


class TestCounters:
    def test_dense_counters_become_functions(self, tmp_path: Path) -> None:
        profile = profile_of(load(with_counters(tmp_path / "a", 100, process_cpu_usage=150.0, process_runq_wait=20.0)))
        on_cpu, waiting = (np.array([row[1] for row in rows_of(profile, name)]) for name in ("oncpu", "runq"))
        assert len(on_cpu) == len(waiting) == 40
        assert on_cpu.mean() == pytest.approx(1500, rel=0.03)
        assert waiting.mean() == pytest.approx(200, rel=0.03)

    def test_slow_counters_do_not(self, tmp_path: Path) -> None:
        """One sample in five cycles is one measurement, not five."""
        profile = profile_of(load(with_counters(tmp_path / "a", 5000, process_cpu_usage=150.0)))
        assert rows_of(profile, "oncpu") == []

    def test_those_of_another_process_do_not(self, tmp_path: Path) -> None:
        profile = profile_of(load(with_counters(tmp_path / "a", 100, pid=7, process_cpu_usage=150.0)))
        assert rows_of(profile, "oncpu") == []

    def test_each_function_is_decided_alone(self, tmp_path: Path) -> None:
        folder = with_counters(tmp_path / "a", 100, process_cpu_usage=150.0, process_runq_wait=20.0)
        write_trace(folder / "t.json", steps(40, [slice_of("oncpu", 100, 200, 1)]))
        profile = profile_of(load(folder))
        assert rows_of(profile, "oncpu") == [(1, 100.0, 1)]
        assert len(rows_of(profile, "runq")) == 40

    def test_recorded_on_one_side_only_they_say_nothing(self, tmp_path: Path) -> None:
        normal = with_counters(tmp_path / "normal", 100, process_cpu_usage=150.0)
        (normal / "counters.csv").rename(tmp_path / "unused.csv")
        abnormal = with_counters(tmp_path / "abnormal", 100, process_cpu_usage=150.0)
        functions = compare(normal, abnormal).ranks[0].functions["function"].to_list()
        assert functions == ["aten::mm"]


def test_work_of_ranks_that_share_a_pid_is_kept_apart(tmp_path: Path) -> None:
    """Containers may all have pid 100; in a merged file only the label tells them apart."""
    events = []
    for rank, gpu_us in ((0, 100.0), (1, 300.0)):
        own = decode_trace(8, rank=rank, gpu_slow=gpu_us / 100)["traceEvents"]
        events += [event | {"pid": f"[TP0{rank}] {event['pid']}"} for event in own]
    capture = load(write_trace(tmp_path / "merged.json", {"traceEvents": events, "baseTimeNanoseconds": BASE_NS}))
    ranks = cut(capture, choose(capture, capture)["normal"])
    assert [(rank.role, rank.pid) for rank in ranks] == [("rank 0", 100), ("rank 1", 100)]
    gemm = [
        build(capture, rank)
        .rows.filter(pl.col("function").str.contains("gemm"))
        .select("count", "duration_us")
        .mean()
        .row(0)
        for rank in ranks
    ]
    assert gemm[0][0] == gemm[1][0]
    assert gemm[1][1] == pytest.approx(3 * gemm[0][1], rel=0.1)
