"""β, μ and σ against plain loops over events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import KERNELS, decode_trace, span, write_counters, write_trace

from rca.capture.load import load
from rca.cycles import choose, cut
from rca.profile import Profile, build
from rca.profile.counters_join import Series, estimate_cores, event_moments, norm_factor
from rca.profile.self_time import self_time_ns


def profile_of(path: Path) -> Profile:
    capture = load(path)
    (rank,) = cut(capture, choose(capture, capture)["normal"])
    return build(capture, rank)


nested_calls = st.recursive(
    st.integers(0, 20).map(lambda own: (own, [])),
    lambda children: st.tuples(st.integers(0, 20), st.lists(children, max_size=4)),
    max_leaves=30,
)


@given(st.lists(nested_calls, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_self_time_of_nested_calls(calls: list) -> None:
    rows: list[tuple[int, int, int]] = []

    def lay(call: tuple, at: int) -> int:
        own, children = call
        start, row = at, len(rows)
        rows.append((0, 0, 0))
        for child in children:
            at = lay(child, at)
        at += own
        rows[row] = (start, at - start, own)
        return at

    at = 0
    for call in calls:
        at = lay(call, at)
    order = np.random.default_rng(0).permutation(len(rows))
    table = pl.DataFrame([rows[i] for i in order], schema=["start_ns", "dur_ns", "own"], orient="row").with_columns(
        pid=1, tid=1
    )
    found = table.with_columns(found=pl.Series(self_time_ns(table))).group_by("start_ns", "dur_ns").agg(pl.all().sum())
    assert found["found"].to_list() == found["own"].to_list(), "calls of one span share their time in either way"


def test_a_call_of_no_length_hides_nothing() -> None:
    table = pl.DataFrame({"pid": 1, "tid": 1, "start_ns": [0, 10, 20, 40], "dur_ns": [100, 0, 10, 50]})
    assert self_time_ns(table).tolist() == [40, 0, 10, 50]


def test_self_time_keeps_threads_apart() -> None:
    table = pl.DataFrame({"pid": [1, 1, 2], "tid": [1, 2, 1], "start_ns": [0, 10, 20], "dur_ns": [100, 50, 30]})
    assert self_time_ns(table).tolist() == [100, 50, 30]


def test_beta_is_time_in_the_cycle_over_its_duration(tmp_path: Path) -> None:
    profile = profile_of(write_trace(tmp_path / "t.json", decode_trace(5)))
    kernels = profile.rows.filter(pl.col("device") == "GPU 0")
    assert set(kernels["function"]) == set(KERNELS)
    durations = dict(profile.rank.cycles.select("cycle", "duration_us").iter_rows())
    for row in kernels.iter_rows(named=True):
        assert row["beta_pct"] == pytest.approx(100 * row["duration_us"] / durations[row["cycle"]])
        assert row["count"] == 1
    classes = dict(kernels.select("function", "class").iter_rows())
    assert classes[KERNELS[2]] == "gpu_comm"
    assert classes[KERNELS[1]] == "gpu_compute"


def test_gpu_work_belongs_to_the_cycle_that_launched_it(tmp_path: Path) -> None:
    steps = [span("step[DECODE bs=1]", "user_annotation", 10_000.0 * i, 9_000) for i in range(3)]
    launch = span("cudaGraphLaunch", "cuda_runtime", 9_500, 10, args={"correlation": 5})
    late = {**span("k", "kernel", 10_500, 4_000, args={"correlation": 5, "device": 0, "stream": 7}), "pid": 0, "tid": 7}
    profile = profile_of(write_trace(tmp_path / "t.json", {"traceEvents": [*steps, launch, late], "baseTimeNanoseconds": 0}))
    row = profile.rows.filter(pl.col("function") == "k").row(0, named=True)
    assert (row["cycle"], row["beta_pct"]) == (1, pytest.approx(40.0))


def naive_moments(ts: np.ndarray, value: np.ndarray, start: int, end: int) -> tuple[float, float, bool]:
    inside = value[(ts >= start) & (ts <= end)]
    if len(inside) >= 3:
        return float(inside.mean()), float(inside.var()), False
    ends = np.interp([start, end], ts, value)
    return float(ends.mean()), float(ends.var()), True


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 400)), min_size=1, max_size=30), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_counter_moments_by_loop(spans: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    ts = np.unique(rng.integers(0, 1200, 25))
    value = 1e9 + rng.normal(0, 10, len(ts))
    start = np.array([s for s, _ in spans])
    end = start + np.array([d for _, d in spans])
    mean, variance, interpolated = event_moments(Series(ts, value), start, end)
    for i in range(len(spans)):
        expected = naive_moments(ts, value, int(start[i]), int(end[i]))
        assert mean[i] == pytest.approx(expected[0], rel=1e-12)
        assert variance[i] == pytest.approx(expected[1], abs=1e-4)
        assert interpolated[i] == expected[2]


def test_counters_are_joined_by_time_and_normed(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.json", decode_trace(20))
    write_counters(tmp_path / "c.csv", {"gpu_usage": 80.0, "gpu_sm_frequency": 1410.0, "host_cpu_usage": 20.0})
    rows = profile_of(tmp_path).rows
    mu = {metric: part["mu_pct"].mean() for (metric,), part in rows.group_by("metric")}
    assert mu["gpu_usage"] == pytest.approx(80, rel=0.02)
    assert mu["host_cpu_usage"] == pytest.approx(20, rel=0.02)
    assert mu["gpu_sm_frequency"] == pytest.approx(141_000, rel=0.02), "counters that are no percentages are stored × 100"
    assert set(rows.filter(pl.col("function") == KERNELS[1])["interpolation"]) == {"**"}, "50 Hz, kernels of 1 ms"


def test_constant_counters_stay_constant(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.json", decode_trace(20))
    lines = [f"{1_790_857_026_000_000_000 + i * 10**7},host_cpu_usage,Host,99.9" for i in range(30)]
    (tmp_path / "c.csv").write_text("timestamp,metric,device,value\n" + "\n".join(lines))
    rows = profile_of(tmp_path).rows
    assert rows.filter(pl.col("metric") == "host_cpu_usage")["mu_pct"].n_unique() == 1


def test_norm_factors() -> None:
    assert norm_factor("process_cpu_usage", 8) == 800
    assert norm_factor("host_cpu_usage", 8) == 100
    assert norm_factor("net_rx_rate", 8) == 100
    assert norm_factor("cpu_frequency", 8) == 1


def test_cores_are_counted_or_estimated() -> None:
    sampled = pl.DataFrame(
        {"metric": ["cpu_frequency"] * 3, "device": ["CPU 0", "CPU 1", "CPU 0"], "pid": None, "value": 1.0}
    )
    assert estimate_cores(sampled) == 2
    used = pl.DataFrame({"metric": ["process_cpu_usage"] * 2, "device": "Host", "pid": [1, 2], "value": [450.0, 730.0]})
    assert estimate_cores(used) == 16
