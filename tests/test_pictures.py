"""What pictures are drawn from: curves, single cycles, call trees, and where in the files a finding is seen."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import BASE_NS, decode_trace, span, write_counters, write_pair, write_trace

from rca import api
from rca.cycles import outlying_cycles, warm_up_cycles
from rca.pictures import distributions, function_quantiles, metrics
from rca.pictures.density import _curve, bandwidth, median_interval
from rca.pictures.excerpt import MAX_EVENTS, MAX_LANES, MAX_ROWS, _rows
from rca.pictures.model import Excerpt
from reports.page import page
from reports.page.data import page_data
from reports.page.figures import times
from reports.page.limits import Limits


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> api.Comparison:
    normal, abnormal = write_pair(tmp_path_factory.mktemp("pair"), slow=1.5)
    for number, side in enumerate((normal, abnormal)):
        write_counters(side / "counters.csv", {"cpu_frequency": 3000 - 900 * number}, seed=number)
    return api.compare(normal, abnormal, pictures=True, cached=False)


def test_pictures_change_nothing_of_the_comparison(tmp_path: Path, slower: api.Comparison) -> None:
    normal, abnormal = slower.normal.path, slower.abnormal.path
    plain = api.compare(normal, abnormal, cached=False)
    assert plain.pictures is None
    assert plain.verdict == slower.verdict
    assert plain.places == slower.places
    first, again = (api.compare(normal, abnormal, pictures=True) for _ in range(2))  # the second one from the cache
    for one, two in zip(first.pictures.ranks, again.pictures.ranks, strict=True):
        assert [e.of for e in one.excerpts] == [e.of for e in two.excerpts]
        assert all(a.events.equals(b.events) for a, b in zip(one.excerpts, two.excerpts, strict=True))


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (9, 2), (10, 2), (20, 6), (100, 40)])
def test_median_interval_is_that_of_order_statistics(n: int, rank: int) -> None:
    """Ranks from the table in Conover, Practical Nonparametric Statistics (binomial, 95 %)."""
    values = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    assert median_interval(values) == (rank, n + 1 - rank)


def test_few_values_have_no_median_interval() -> None:
    assert median_interval(np.arange(5.0)) == (None, None)


def test_densities_integrate_to_one(slower: api.Comparison) -> None:
    (found,) = distributions(slower.ranks[0])
    assert found.phase == "decode"
    for curve, cycles in ((found.normal, slower.ranks[0].cycle_time.normal_us), (found.abnormal, 0)):
        assert np.trapezoid(curve.density, curve.x) == pytest.approx(1, abs=0.06)  # its tails end where the drawing does
        assert curve.low <= curve.median <= curve.high
        assert not cycles or curve.median == pytest.approx(cycles)
    assert found.abnormal.median / found.normal.median == pytest.approx(1.5, rel=0.05)


def test_few_cycles_are_points_without_a_curve(tmp_path: Path) -> None:
    normal, abnormal = (write_trace(tmp_path / side / "t.json", decode_trace(6, seed=i)) for i, side in enumerate("ab"))
    (found,) = distributions(api.compare(normal, abnormal, cached=False).ranks[0])
    assert (found.normal.x, found.abnormal.density) == ((), ())
    assert len(found.normal.points) >= 5


def _by_cycle(result: api.Comparison) -> dict[tuple[str, str], Excerpt]:
    return {(e.of.side, e.of.which): e for e in result.pictures.ranks[0].excerpts}


def test_the_middle_and_the_longest_cycle_are_shown(slower: api.Comparison) -> None:
    shown = _by_cycle(slower)
    assert set(shown) == {(side, which) for side in ("normal", "abnormal") for which in ("median", "worst")}
    for (side, which), excerpt in shown.items():
        own = slower.ranks[0].compared.filter(pl.col("side") == side)["duration_us"].sort().to_list()
        expected = own[-1] if which == "worst" else own[(len(own) - 1) // 2]
        assert (excerpt.of.end_ns - excerpt.of.start_ns) / 1000 == pytest.approx(expected)


def test_an_excerpt_has_what_the_trace_has(slower: api.Comparison) -> None:
    excerpt = _by_cycle(slower)["abnormal", "worst"]
    lanes = [lane.name for lane in excerpt.lanes]
    assert lanes == ["thread 100", "GPU 0 stream 7"]
    names = excerpt.events.group_by("lane").agg(pl.col("name")).sort("lane")["name"].to_list()
    assert names[0].count("cudaLaunchKernel") == 3
    assert sum("gemm" in name for name in names[1]) >= 1
    assert excerpt.left_out == 0


def test_of_a_cycle_with_too_many_events_the_longest_are_shown(tmp_path: Path) -> None:
    trace = decode_trace(4, spread=0.0)
    starts = [event["ts"] for event in trace["traceEvents"] if event["name"].startswith("execute_context")]
    trace["traceEvents"] += [
        span("tiny", "cpu_op", start + 0.5 * i, 0.2) for start in starts for i in range(MAX_EVENTS + 500)
    ]
    sides = [write_trace(tmp_path / side / "t.json", trace) for side in "ab"]
    result = api.compare(*sides, cached=False, pictures=True)
    busy = max(result.pictures.ranks[0].excerpts, key=lambda excerpt: excerpt.left_out)
    assert busy.events.height == MAX_EVENTS
    assert busy.left_out > 0
    assert "execute_context_0(0)_generation_4(4)" in busy.events["name"].to_list()


calls = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), max_size=40)


@given(calls)
def test_nothing_is_drawn_over_another_call(spans: list[tuple[int, int]]) -> None:
    ordered = sorted(spans, key=lambda span: (span[0], -span[1]))
    rows = _rows([start for start, _ in ordered], [dur for _, dur in ordered])
    by_row: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for (start, dur), row in zip(ordered, rows, strict=True):
        assert all(end <= start for _, end in by_row[row])
        by_row[row].append((start, start + dur))


def test_callers_are_above_what_they_call() -> None:
    assert _rows([0, 1, 2, 5, 12], [10, 3, 1, 2, 1]) == [0, 1, 2, 1, 0]


def _stack_trace(load_us: float, frames: str = "python_function") -> dict[str, Any]:
    """Return steps of 1 ms: ``step`` calls ``forward`` (with two ops) and ``load``, which takes its own time."""
    events = []
    for number in range(10):
        at = 1000 + number * (1000 + load_us)
        events += [
            span(f"ProfilerStep#{number}", "user_annotation", at, 990 + load_us),
            span("model.py(3): forward", frames, at + 10, 600),
            span("aten::mm", "cpu_op", at + 20, 300),
            span("aten::add", "cpu_op", at + 400, 100),
            span("data.py(7): load at 0x7f00deadbeef", frames, at + 700, 100 + load_us),
        ]
    return {"baseTimeNanoseconds": BASE_NS, "traceEvents": events}


def test_call_trees_of_both_sides_in_one(tmp_path: Path) -> None:
    sides = [write_trace(tmp_path / side / "t.json", _stack_trace(load)) for side, load in (("a", 0), ("b", 500))]
    result = api.compare(*sides, cached=False, pictures=True)
    nodes = result.pictures.ranks[0].stacks.nodes
    paths = {}
    for row, (name, parent, normal, abnormal) in enumerate(nodes.iter_rows()):
        paths[row] = (*(paths[parent][0] if parent >= 0 else ()), name), normal, abnormal
    step = ("ProfilerStep#N",)
    assert {path: (normal, abnormal) for path, normal, abnormal in paths.values()} == {
        step: (990, 1490),
        (*step, "model.py(3): forward"): (600, 600),
        (*step, "model.py(3): forward", "aten::mm"): (300, 300),
        (*step, "model.py(3): forward", "aten::add"): (100, 100),
        (*step, "data.py(7): load at 0x…"): (100, 600),
    }


def test_a_trace_whose_calls_do_not_nest_has_no_call_tree(tmp_path: Path) -> None:
    sides = [write_trace(tmp_path / side / "t.json", decode_trace(seed=i)) for i, side in enumerate("ab")]
    for path in sides:
        trace = json.loads(path.read_text())
        trace["traceEvents"] = [e for e in trace["traceEvents"] if e.get("cat") != "user_annotation"]
        trace["traceEvents"] = [e for e in trace["traceEvents"] if e.get("cat") != "cpu_op"]
        path.write_text(json.dumps(trace))
    result = api.compare(*sides, cycle="cudaLaunchKernel", cached=False, pictures=True)
    assert result.pictures.ranks[0].stacks is None


def test_places_are_where_the_file_says(slower: api.Comparison) -> None:
    assert {place.finding.split(":")[0] for place in slower.places} >= {"headline", "ledger"}
    for place in slower.places:
        capture = slower.normal if place.side == "normal" else slower.abnormal
        trace = json.loads((capture.path / place.file).read_text())
        starts = [e["ts"] for e in trace["traceEvents"] if e["name"].startswith("execute_context")]
        assert min(abs(start - place.file_ts_us) for start in starts) < 0.002
        assert place.ts_ns == pytest.approx(BASE_NS + place.file_ts_us * 1000, abs=1000)
        assert place.dur_ns > 0


def test_a_changed_function_is_shown_where_it_took_longest(tmp_path: Path) -> None:
    sides = write_pair(tmp_path, gpu_slow=2.0)
    result = api.compare(*sides, cached=False)
    (place,) = (p for p in result.places if p.finding == "function:GPU 0:ampere_bf16_gemm_64x64")
    rows = result.ranks[0].profiles[1].rows.filter(pl.col("function") == "ampere_bf16_gemm_64x64")
    longest = rows.sort("duration_us", descending=True).row(0, named=True)
    assert (place.side, place.cycle) == ("abnormal", longest["cycle"])
    assert f"{longest['duration_us']:,.1f} us" in place.text


def test_times_are_of_the_file_where_the_wall_clock_was_added(tmp_path: Path) -> None:
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(json.dumps(decode_trace()).encode()))
    capture = api.load(path)
    assert capture.meta[0]["added_ns"] == json.loads(gzip.decompress(path.read_bytes())).get("baseTimeNanoseconds", 0)


def test_functions_have_the_quantiles_of_their_cycles(slower: api.Comparison) -> None:
    rank = slower.ranks[0]
    quantiles = function_quantiles(rank, "abnormal")
    assert [row[2] for row in quantiles] == pytest.approx(rank.functions["abnormal_us"].to_list())
    assert all(row == sorted(row) for row in quantiles)


def _floats(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in _floats(item)]
    if isinstance(value, list):
        return [number for item in value for number in _floats(item)]
    return [value] if isinstance(value, float) else []


def test_the_page_gets_only_numbers_that_json_knows(slower: api.Comparison) -> None:
    data = page_data(slower)
    json.dumps(data, allow_nan=False)
    (rank,) = data["ranks"]
    assert {key: len(column) for key, column in rank["functions"].items() if isinstance(column, list)} == dict.fromkeys(
        [key for key, column in rank["functions"].items() if isinstance(column, list)], slower.ranks[0].functions.height
    )
    cycles = rank["cycles"]["abnormal"]
    assert sum(state == 0 for state in cycles["state"]) == slower.ranks[0].cycle_time.n_abnormal
    for row, duration in enumerate(cycles["dur"]):
        if cycles["state"][row] == 0:
            assert sum(part[row] for part in cycles["parts"].values()) == pytest.approx(duration, rel=1e-4)


def test_a_thinned_counter_keeps_its_extremes(tmp_path: Path) -> None:
    sides = write_pair(tmp_path)
    for number, side in enumerate(sides):
        write_counters(side / "counters.csv", {"cpu_frequency": 3000}, hz=20_000, seed=number)
    result = api.compare(*sides, cached=False)
    (counter,) = page_data(result)["ranks"][0]["counters"]
    samples = api.load(sides[0]).counters
    assert len(counter["normal"]["v"]) <= Limits().samples
    cycles = result.ranks[0].normal.cycles
    within = samples.filter(pl.col("ts_ns").is_between(cycles["start_ns"].min(), cycles["end_ns"].max()))["value"]
    assert within.len() > Limits().samples
    assert (min(counter["normal"]["v"]), max(counter["normal"]["v"])) == pytest.approx(
        (within.min(), within.max()), rel=1e-5
    )
    assert counter["normal"]["t"] == sorted(counter["normal"]["t"])


def test_two_groups_of_cycles_are_two_humps() -> None:
    rng = np.random.default_rng(3)
    groups = np.concatenate([rng.normal(10, 0.3, 60), rng.normal(80, 3, 60)])
    curve = _curve(rng.permutation(groups))
    between = np.interp(30, curve.x, curve.density)
    assert between < 0.01 * max(curve.density)
    assert np.interp(10, curve.x, curve.density) > np.interp(80, curve.x, curve.density) > 20 * between


def test_one_hump_stays_one() -> None:
    values = np.random.default_rng(4).lognormal(3, 0.1, 200)
    scott = np.log(values).std(ddof=1) * 200**-0.2
    assert bandwidth(np.log(values)) == pytest.approx(scott, rel=0.5)


def test_a_curve_of_any_values_is_drawn() -> None:
    rng = np.random.default_rng(5)
    plain = rng.normal(10, 1, 900)
    for size in (1e-9, 1.0, 1e18, 1e200):
        x, density = metrics.curve(tuple((plain * size).tolist()))
        assert np.trapezoid(density, x) == pytest.approx(1, abs=0.02)
    assert metrics.curve((-1.7e308, 1.7e308) * 5) == ((), ())


def test_a_timeline_is_never_higher_than_a_canvas_may_be(tmp_path: Path) -> None:
    trace = decode_trace(4, spread=0.0)
    starts = [event["ts"] for event in trace["traceEvents"] if event["name"].startswith("execute_context")]
    for start in starts:
        overlapping = [span("k", "kernel", start + i, 9000, pid=0, tid=7, args={"stream": 9}) for i in range(600)]
        idle = [span("op", "cpu_op", start + 100, 50, tid=1000 + i) for i in range(200)]
        trace["traceEvents"] += [*overlapping, *idle]
    sides = [write_trace(tmp_path / side / "t.json", trace) for side in "ab"]
    for excerpt in api.compare(*sides, cached=False, pictures=True).pictures.ranks[0].excerpts:
        assert len(excerpt.lanes) <= MAX_LANES
        assert sum(lane.depth for lane in excerpt.lanes) <= MAX_ROWS
        assert excerpt.left_out > 0
        assert {lane.name for lane in excerpt.lanes} >= {"thread 100", "GPU 0 stream 9"}
        deepest = excerpt.events.group_by("lane").agg(pl.col("depth").max()).sort("lane")["depth"].to_list()
        assert deepest == [lane.depth - 1 for lane in excerpt.lanes]


def test_calls_that_are_too_deep_are_said_to_be_left_out(tmp_path: Path) -> None:
    trace = decode_trace(6, spread=0.0)
    starts = [event["ts"] for event in trace["traceEvents"] if event["name"].startswith("execute_context")]
    trace["traceEvents"] += [
        span(f"f{depth}", "python_function", start + 200 + depth, 1000 - 2 * depth)
        for start in starts
        for depth in range(300)
    ]
    sides = [write_trace(tmp_path / side / "t.json", trace) for side in "ab"]
    assert (
        "calls more than 250 deep are left out"
        in api.compare(*sides, cached=False, pictures=True).pictures.ranks[0].stacks.note
    )


def test_outliers_are_told_by_phase(tmp_path: Path) -> None:
    """A prefill among decode steps is long, which is no oddity; a long decode step is one."""
    sides = []
    for number, side in enumerate("ab"):
        trace, now = decode_trace(40, seed=number), 1000.0
        kinds = ["execute_context_0(0)_generation_4(4)"] * 5 + ["execute_context_1(512)_generation_0(0)"]
        events = []
        for step in range(84):
            usual = 60_000 if step % 6 == 5 else 10_000
            name, took = kinds[step % 6], usual * (3 if step in (20, 35) else 1) + 37 * (step % 7)
            events += [span(name, "user_annotation", now, 0.9 * took), span("aten::mm", "cpu_op", now + 50, 0.5 * took)]
            now += took
        sides.append(write_trace(tmp_path / side / "t.json", trace | {"traceEvents": events}))
    result = api.compare(*sides, cached=False)
    assert [text for text in result.warnings if "1 of 70 decode cycles are outliers (cycle 21)" in text]
    own = page_data(result)["ranks"][0]["cycles"]["normal"]
    assert [cycle for cycle, odd in zip(own["cycle"], own["outlier"], strict=True) if odd] == [21, 36]


def test_a_counter_whose_unit_one_side_does_not_state_is_drawn(tmp_path: Path) -> None:
    sides = write_pair(tmp_path)
    for side, unit in zip(sides, ("", "furlongs"), strict=True):
        path = write_counters(side / "counters.csv", {"own_counter": 5})
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], *(line + unit for line in lines[1:])]) + "\n")
    (counter,) = page_data(api.compare(*sides, cached=False))["ranks"][0]["counters"]
    assert (counter["metric"], counter["unit"]) == ("own_counter", "furlongs")


def test_cycles_without_a_time_are_found_by_number(tmp_path: Path) -> None:
    """Per-cycle profiles may state 0 for every start."""
    head = (
        "cycle,pid,hostname,beta_pct,function_name,metric_name,device,func_type,mu_pct,sigma_pct,duration,"
        "interpolation_status,anchor_name,anchor_dur_us,cycle_start_ts,instances_count,simple_name"
    )
    for side, us in (("normal", 1000), ("abnormal", 1500)):
        rows = [f"{n},1,,50,mm,N/A,Host,op,,,{us / 2},,step,{us + n % 5},0,3,mm" for n in range(1, 21)]
        (tmp_path / side).mkdir()
        (tmp_path / side / "result_perf_data.csv").write_text("\n".join([head, *rows]) + "\n")
    result = api.compare(tmp_path / "normal", tmp_path / "abnormal", cached=False)
    assert result.places
    assert {(place.ts_ns, place.file_ts_us, place.timed) for place in result.places} == {(0, None, False)}
    markup = page(result)
    assert f"result_perf_data.csv cycle {result.places[0].cycle}, " in markup
    assert "0.000 ms" not in markup
    drawn = times(result.ranks[0])
    assert drawn is not None
    assert [tick.text for tick in drawn.ticks][-1] == "cycle 20"


def test_a_part_of_the_ledger_is_shown_where_it_took_most(slower: api.Comparison) -> None:
    rank, entries = slower.ranks[0], {entry.part: entry for entry in slower.verdict.ledger.entries}
    shown = [place for place in slower.places if place.finding.startswith("ledger:")]
    assert {place.finding for place in shown} == {f"ledger:{part}" for part, entry in entries.items() if entry.sure}
    for place in shown:
        part = place.finding.removeprefix("ledger:")
        assert place.side == ("abnormal" if entries[part].change_us > 0 else "normal")
        own = rank.parts.filter((pl.col("side") == place.side) & (pl.col("part") == part)).sort("us")
        assert place.cycle == own["cycle"][-1]


def test_a_cause_is_shown_where_its_counter_is_furthest_from_normal(fixtures: Path) -> None:
    result = api.compare(fixtures / "normal", fixtures / "abnormal")
    (cause,) = (cause for cause in result.verdict.causes if cause.id == "cpu_contention")
    (place,) = (place for place in result.places if place.finding == f"cause:cpu_contention:{cause.device}")
    metric = place.text.split()[0]
    assert metric in cause.metrics
    rank = result.ranks[0]
    shift = rank.metrics.filter(pl.col("metric") == metric)["shift"][0]
    counters = rank.profiles[1].counters.filter(pl.col("metric").cast(pl.String) == metric)
    counters = counters.filter(pl.col("pid").is_null() | (pl.col("pid") == rank.abnormal.pid))
    means = {}
    for cycle in rank.compared.filter(pl.col("side") == "abnormal").iter_rows(named=True):
        inside = (pl.col("ts_ns") >= cycle["start_ns"]) & (pl.col("ts_ns") < cycle["end_ns"])
        if (values := counters.filter(inside)["value"]).len():
            means[cycle["cycle"]] = values.mean()
    assert place.side == "abnormal"
    assert means[place.cycle] == (max if shift > 0 else min)(means.values())


def test_outliers_are_of_their_phase_and_warm_up_is_those_at_the_start() -> None:
    durations = [
        50.0,
        49.0,
        *[10.0 + 0.1 * (i % 5) for i in range(20)],
        40.0,
        90.0,
        *[30.0 + 0.1 * (i % 5) for i in range(20)],
    ]
    cycles = pl.DataFrame(
        {
            "cycle": list(range(1, len(durations) + 1)),
            "start_ns": list(range(len(durations))),
            "duration_us": durations,
            "phase": ["decode"] * 23 + ["prefill"] * 21,
            "complete": [True] * len(durations),
        }
    )
    assert outlying_cycles(cycles) == {"decode": [1, 2, 23], "prefill": [24]}
    assert warm_up_cycles(cycles) == [1, 2]
    assert outlying_cycles(cycles.with_columns(complete=pl.col("cycle") > 2)) == {"decode": [23], "prefill": [24]}
    assert warm_up_cycles(cycles.clear()) == []
