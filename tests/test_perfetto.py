"""Traces for Perfetto: nothing of the capture is lost, times are exact, and what was found stands beside it."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import made_captures as made
import numpy as np
import polars as pl
import pytest
import trace_processor
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import BASE_NS, decode_trace, span, write_counters, write_pair, write_trace

from rca.api import Comparison, compare
from rca.capture import Capture, Finding
from rca.capture.load import load
from rca.errors import InputError, OutputError
from rca.pictures import Place
from rca.redact import Redactor
from rca.verdict import Verdict
from reports import perfetto
from reports.perfetto.lanes import MAX_DEPTH, lanes

Event = dict[str, Any]


def nothing_found(capture: Capture) -> Comparison:
    return Comparison(capture, capture, (), cast(Verdict, None), ())


def written(capture: Capture, result: Comparison | None = None, side: Any = "normal", **more: Any) -> dict[str, Any]:
    pieces = perfetto.trace(result or nothing_found(capture), side, capture, **more)
    return json.loads(gzip.decompress(b"".join(pieces)))


def of_phase(trace: dict[str, Any], phase: str) -> list[Event]:
    return [event for event in trace["traceEvents"] if event["ph"] == phase]


def names(trace: dict[str, Any], what: str) -> dict[int, str]:
    """Return the name of each pid or tid."""
    key = "pid" if what == "process" else "tid"
    return {event[key]: event["args"]["name"] for event in of_phase(trace, "M") if event["name"] == f"{what}_name"}


def by_line(trace: dict[str, Any]) -> dict[str, list[Event]]:
    """Return the slices of each line, named ``process / thread``."""
    process, thread = names(trace, "process"), names(trace, "thread")
    found = defaultdict(list)
    for event in of_phase(trace, "X"):
        found[f"{process[event['pid']]} / {thread[event['tid']]}"].append(event)
    return dict(found)


def ns(us: float) -> int:
    """Return what Perfetto makes of a time in a trace."""
    return round(us * 1000)


def lost(slices: list[tuple[int, int]]) -> int:
    """Return how many slices of a thread (start, duration; in order of time) Perfetto drops.

    As of `SliceTracker::MaybeCloseStack` and `StartSlice` in its v55.
    """
    stack: list[tuple[int, int]] = []
    dropped = 0
    for start, duration in slices:
        fits = True
        for i in range(len(stack) - 1, -1, -1):
            end = sum(stack[i])
            if end < start or (end == start and not (stack[i][1] == 0 and duration == 0)):
                stack.pop(i)
            elif start < end < start + duration:
                fits = False
                break
        if fits and len(stack) < 512:
            stack.append((start, duration))
        else:
            dropped += 1
    return dropped


def assert_perfetto_keeps_all(trace: dict[str, Any]) -> None:
    threads = defaultdict(list)
    for event in of_phase(trace, "X"):
        threads[event["tid"]].append((ns(event["ts"]), ns(event["dur"])))
    for slices in threads.values():
        assert lost(sorted(slices, key=lambda slice_: slice_[0])) == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.one_of(st.just(0), st.integers(0, 30)), st.integers(0, 2)), min_size=1, max_size=40
    )
)
@settings(max_examples=300, deadline=None)
def test_lanes_nest_and_are_only_used_where_they_must_be(drawn: list[tuple[int, int, int]]) -> None:
    drawn.sort(key=lambda item: (item[0], -item[1]))
    start, duration, track = (np.array(column) for column in zip(*drawn, strict=True))
    lane = lanes(start, duration, track)
    for own_track in set(track.tolist()):
        own = track == own_track
        together = list(zip(start[own].tolist(), duration[own].tolist(), strict=True))
        if lost(together) == 0:
            assert not lane[own].any()
        for number in set(lane[own].tolist()):
            here = own & (lane == number)
            assert lost(list(zip(start[here].tolist(), duration[here].tolist(), strict=True))) == 0


@pytest.mark.parametrize("kind", ["calls", "marks"])
def test_what_lies_too_deep_gets_a_lane(kind: str) -> None:
    count = 2 * MAX_DEPTH + 7
    start = np.arange(count) if kind == "calls" else np.zeros(count, dtype=np.int64)
    duration = 3 * count - 2 * start if kind == "calls" else start
    lane = lanes(start, duration, np.zeros(count, dtype=np.int64))
    assert np.bincount(lane).tolist() == [MAX_DEPTH, MAX_DEPTH, 7]


def test_every_event_is_there_to_the_nanosecond() -> None:
    capture = made.capture([*made.launches(50), made.event("odd", "op", 1_234_567, 891, tid=7)])
    trace = written(capture)
    start = capture.events["start_ns"].min()
    expected = sorted(capture.events.select("start_ns", "dur_ns", pl.col("name").cast(pl.String)).rows())
    assert sorted((start + ns(e["ts"]), ns(e["dur"]), e["name"]) for e in of_phase(trace, "X")) == expected
    assert trace["baseTimeNanoseconds"] == start
    about = trace["otherData"]["rca"]
    assert (about["origin_ns"], about["events"], about["format"]) == (start, 101, perfetto.FORMAT)
    assert about["length_ns"] == int((capture.events["start_ns"] + capture.events["dur_ns"]).max() - start)


def test_threads_and_streams_stand_where_they_belong() -> None:
    rows = [
        made.event("op", "op", 0, 10),
        made.event("op", "op", 0, 10, tid=101),
        made.event("gemm", "kernel", 5, 10, stream=7),
        made.event("copy", "memcpy", 5, 10, device="GPU 0", stream=8),
        made.event("step", "gpu_annotation", 4, 30, pid=0, tid=7),  # as torch.profiler has them: GPU and stream
        made.event("on", "oncpu", 0, 10),
        made.event("read", "io", 0, 10),
        made.event("flush", "overhead", 0, 10, pid=-1, tid=0),
    ]
    trace = written(made.capture(rows))
    assert {line: [event["name"] for event in events] for line, events in by_line(trace).items()} == {
        "rank 0 (pid 100) / thread 100": ["op"],
        "rank 0 (pid 100) / thread 101": ["op"],
        "rank 0 (pid 100) / thread 100, scheduled": ["on"],
        "rank 0 (pid 100) / thread 100, I/O": ["read"],
        "rank 0: GPU 0 / stream 7": ["gemm"],
        "rank 0: GPU 0 / stream 8": ["copy"],
        "rank 0: GPU 0 / stream 7, annotations": ["step"],
        "profiler / overhead, rank 0": ["flush"],
    }
    kept = [event for event in of_phase(trace, "X") if event["cat"] == "op"]
    assert [(event["pid"], event["tid"]) for event in kept] == [(100, 100), (100, 101)]


def test_numbers_of_threads_are_their_own() -> None:
    """Containers share pids, torch.profiler writes pids that are no numbers, threads of two processes have one tid."""
    rows = [
        made.event("a", "op", 0, 10),
        made.event("b", "op", 0, 10, rank=1),
        made.event("c", "op", 0, 10, pid=200, tid=100),
        made.event("d", "op", 0, 10, pid=300, tid=-5),
        made.event("e", "op", 0, 10, pid=300, tid=2**40),
        made.event("f", "window", 0, 10, pid=-2848531747, tid=-1645028596),
    ]
    trace = written(made.capture(rows))
    lines = by_line(trace)
    assert len(lines) == 6
    slices = of_phase(trace, "X")
    assert len({event["tid"] for event in slices}) == 6
    assert all(0 < event[key] < 2**32 for event in trace["traceEvents"] for key in ("pid", "tid"))
    assert len({event["pid"] for event in slices}) == 5


def test_kernels_that_overlap_are_not_lost() -> None:
    """One may start before the one before it ends (programmatic dependent launch)."""
    rows = [made.event(f"k{i}", "kernel", i * 100, 130, stream=7) for i in range(10)]
    rows += [made.event("graph", "op", 0, 500), made.event("late", "op", 300, 500)]
    trace = written(made.capture(rows))
    assert_perfetto_keeps_all(trace)
    lines = by_line(trace)
    assert [event["name"] for event in lines["rank 0: GPU 0 / stream 7, overlapping 1"]] == ["k1", "k3", "k5", "k7", "k9"]
    assert [event["name"] for event in lines["rank 0 (pid 100) / thread 100, overlapping 1"]] == ["late"]


def test_launches_point_at_their_work() -> None:
    graph = [made.event(f"g{i}", "kernel", 40_000_000 + i, 1, 9000, stream=7) for i in range(3)]
    early = [made.event("cudaLaunchKernel", "runtime", 100, 5, 9001), made.event("early", "kernel", 50, 5, 9001)]
    rows = [*made.launches(3), made.event("cudaGraphLaunch", "runtime", 30_000_000, 5, 9000), *graph, *early]
    trace = written(made.capture(rows))
    starts = {event["bind_id"]: event["name"] for event in of_phase(trace, "X") if event.get("flow_out")}
    ends = [(event["name"], starts[event["bind_id"]]) for event in of_phase(trace, "X") if event.get("flow_in")]
    assert sorted(ends) == [("g0", "cudaGraphLaunch"), ("g1", "cudaGraphLaunch"), ("g2", "cudaGraphLaunch")] + 3 * [
        ("gemm", "cudaLaunchKernel")
    ]
    assert [e["args"] for e in of_phase(trace, "X") if e["name"] == "early"] == [{"correlation": 9001}]


@pytest.mark.parametrize(
    "name",
    [
        "</script><img src=x onerror=alert(1)>",
        'quo"te\\back\\u0041',
        "line\nbreak\ttab\x00\x1f\x7f",
        "naïve 名前 🙂 \u2028",
        "{}[],:",
        "",
    ],
)
def test_any_name_survives(name: str) -> None:
    trace = written(made.capture([made.event(name, "op", 0, 1), made.event("next", "op", 2, 1)]))
    assert [event["name"] for event in of_phase(trace, "X")] == [name, "next"]


def test_counters_of_each_device() -> None:
    samples = [made.samples("gpu_sm_frequency", [0, 10]), made.samples("host_cpu_usage", [5], "Host")]
    odd = samples[1].with_columns(value=pl.lit(float("nan")))
    of_process = samples[1].with_columns(pid=pl.lit(77, pl.Int64), unit=pl.lit("%").cast(pl.Categorical), value=pl.lit(1e-7))
    trace = written(made.capture([made.event("op", "op", 0, 1)], [*samples, odd, of_process]))
    process = names(trace, "process")
    assert [(process[e["pid"]], e["name"], ns(e["ts"]), e["args"]) for e in of_phase(trace, "C")] == [
        ("counters: GPU 0", "gpu_sm_frequency", 0, {"value": 1.0}),
        ("counters: GPU 0", "gpu_sm_frequency", 10, {"value": 1.0}),
        ("counters: Host", "host_cpu_usage", 5, {"value": 1.0}),
        ("counters: Host", "host_cpu_usage (pid 77)", 5, {"%": 1e-7}),
    ]


def test_a_trace_begins_at_what_was_recorded_first() -> None:
    """Perfetto drops what lies before 0."""
    trace = written(made.capture([made.event("op", "op", 1000, 1)], [made.samples("gpu_sm_frequency", [-500, 2000])]))
    assert [ns(event["ts"]) for event in of_phase(trace, "X") + of_phase(trace, "C")] == [1500, 0, 2500]


def test_clocks_that_count_from_different_moments_stay_exact() -> None:
    rows = [made.event("wall", "op", 123, 7), made.event("own", "op", 5 - made.T0, 7, file=1, tid=101)]
    capture = made.capture(rows, meta=({}, {}))
    trace = written(capture)
    assert sorted((event["name"], ns(event["ts"]), ns(event["dur"])) for event in of_phase(trace, "X")) == [
        ("own", 0, 7),
        ("wall", 0, 7),
    ]
    assert trace["otherData"]["rca"]["eras"] == [[5, 12], [made.T0 + 123, made.T0 + 130]]
    assert "baseTimeNanoseconds" not in trace


def test_without_a_wall_clock_none_is_claimed() -> None:
    capture = made.capture([made.event("op", "op", 0, 1)], findings=(Finding("no_wall_clock", "of its own"),))
    assert "baseTimeNanoseconds" not in written(capture)


def test_an_empty_capture_is_a_trace_too() -> None:
    capture = made.capture([])
    assert written(capture)["traceEvents"] == []
    assert written(made.capture([], [made.samples("gpu_sm_frequency", [1])]))["traceEvents"][-1]["ph"] == "C"


def test_cycles_phases_and_findings_stand_above_all(tmp_path: Path) -> None:
    write_counters(tmp_path / "normal" / "counters.csv", {"cpu_frequency": 3000.0})
    normal, abnormal = write_pair(tmp_path, slow=1.3)
    result = compare(normal, abnormal)
    row = result.ranks[0].abnormal.cycles.row(4, named=True)
    place = Place(
        "function:GPU 0:gemm::a", "took longest here", "abnormal", "rank 0", 5, "rank0.json", "", row["start_ns"], 9000, 12.5
    )
    result = replace(result, places=(place, replace(place, side="normal"), replace(place, role="rank 7")))
    trace = written(load(abnormal), result, "abnormal")
    lines = by_line(trace)
    cycles = lines["rca: rank 0 / cycles"]
    assert len(cycles) == result.ranks[0].abnormal.cycles.height
    fifth = cycles[4]
    assert fifth["name"].startswith("decode 5 (")
    assert fifth["name"].endswith(" ms)")
    assert fifth["args"]["compared"] == "yes"
    assert {key: fifth["args"][key] for key in ("cycle", "phase", "batch", "tokens")} == {
        "cycle": 5,
        "phase": "decode",
        "batch": row["batch"],
        "tokens": row["tokens"],
    }
    origin = trace["otherData"]["rca"]["origin_ns"]
    assert (origin + ns(fifth["ts"]), ns(fifth["dur"])) == (row["start_ns"], row["end_ns"] - row["start_ns"])
    assert cycles[-1]["args"]["compared"] == "no"
    assert cycles[-1]["args"]["note"] == "last of the recording"
    assert [event["name"] for event in lines["rca: rank 0 / phases"]] == ["decode"]
    assert lines["rca: rank 0 / phases"][0]["args"] == {"phase": "decode", "cycles": 12, "first": 1, "last": 12}
    (finding,) = lines["rca: rank 0 / findings"]
    assert finding["name"] == "gemm::a: took longest here"
    assert finding["args"]["finding"] == "function:GPU 0:gemm::a"
    assert (finding["ts"], ns(finding["dur"])) == (fifth["ts"], 9000)
    first = min(
        (e for e in of_phase(trace, "M") if e["name"] == "process_sort_index"), key=lambda e: e["args"]["sort_index"]
    )
    assert names(trace, "process")[first["pid"]] == "rca: rank 0"


def test_times_lead_back_into_the_files(tmp_path: Path) -> None:
    normal, _ = write_pair(tmp_path)
    trace = written(load(normal))
    about = trace["otherData"]["rca"]
    (file,) = about["files"]
    in_the_file = json.loads((normal / file["path"]).read_text())["traceEvents"]
    event = next(event for event in of_phase(trace, "X") if event["cat"] == "kernel")
    at_us = (about["origin_ns"] + ns(event["ts"]) - file["added_ns"]) / 1000
    assert any(e["name"] == event["name"] and abs(e["ts"] - at_us) < 5e-4 for e in in_the_file)
    assert file["added_ns"] == BASE_NS


def test_names_are_redacted_on_demand(tmp_path: Path) -> None:
    redactor = Redactor()
    sides: Any = {"normal": tmp_path / "normal", "abnormal": tmp_path / "abnormal"}
    for side, folder in sides.items():
        trace = decode_trace(seed=len(side))
        trace["traceEvents"].append(span("/home/mallory/x.py(3): f", "python_function", 1000, 1))
        write_trace(folder / "rank0.json", trace)
    result = redactor(compare(**sides))
    plain, clean = (
        gzip.decompress(perfetto.write_traces(result, sides, tmp_path / name, shown_as=shown_as)[0].read_bytes()).decode()
        for name, shown_as in (("plain", None), ("clean", redactor))
    )
    assert "/home/mallory/x.py(3): f" in plain
    assert "x.py(3): f" in clean
    assert "mallory" not in clean
    assert str(tmp_path) not in clean


def test_the_same_capture_is_the_same_file(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    result = compare(normal, abnormal)
    first, second = (b"".join(perfetto.trace(result, "normal", load(normal))) for _ in range(2))
    assert first == second
    assert first[4:8] == bytes(4), "a time of writing"


def test_two_files_are_written_and_describe_themselves(tmp_path: Path) -> None:
    sides: Any = dict(zip(("normal", "abnormal"), write_pair(tmp_path, slow=1.3), strict=True))
    result = compare(**sides)
    paths = perfetto.write_traces(result, sides, tmp_path / "new" / "traces")
    assert [path.name for path in paths] == ["normal.json.gz", "abnormal.json.gz"]
    assert sorted(path.name for path in (tmp_path / "new" / "traces").iterdir()) == ["abnormal.json.gz", "normal.json.gz"]
    about = perfetto.header(paths[1])
    assert (about["side"], about["events"]) == ("abnormal", 120)
    assert about["origin_ns"] == BASE_NS + 1_000_000
    assert load(paths[0]).events.height == 120 + perfetto.header(paths[0])["found"], "rca reads what it wrote"

    before = paths[0].read_bytes()
    with pytest.raises(OutputError, match="--force"):
        perfetto.write_traces(result, sides, tmp_path / "new" / "traces")
    perfetto.write_traces(result, sides, tmp_path / "new" / "traces", force=True)
    assert paths[0].read_bytes() == before


def test_a_capture_that_changed_since_is_refused(tmp_path: Path) -> None:
    sides: Any = dict(zip(("normal", "abnormal"), write_pair(tmp_path), strict=True))
    result = compare(**sides)
    write_trace(sides["normal"] / "rank0.json", decode_trace(seed=9))
    with pytest.raises(InputError, match="has changed since it was compared"):
        perfetto.write_traces(result, sides, tmp_path / "traces")
    assert not list(tmp_path.glob("traces/*"))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    sides: Any = dict(zip(("normal", "abnormal"), write_pair(tmp_path), strict=True))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        perfetto.write_traces(compare(**sides), sides, tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"text", b"{}\n", b'{"otherData":{"rca":{"format":99}},\n', b'{"otherData":[],\n'])
def test_other_files_have_no_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match="not a trace that rca wrote|another version"):
        perfetto.header(path)


def test_a_per_cycle_profile_has_cycles_and_counters(shared_data: Path) -> None:
    folder = shared_data / "sglang-a100" / "gpu_instability"
    result = compare(folder / "normal", folder / "abnormal")
    trace = written(load(folder / "abnormal"), result, "abnormal")
    lines = by_line(trace)
    assert {line.split(" / ")[1] for line in lines} >= {"cycles", "phases", "findings"}
    own = next(rank.abnormal for rank in result.ranks)
    assert len(lines[f"rca: {own.role} / cycles"]) == own.cycles.height
    assert len(of_phase(trace, "C")) == load(folder / "abnormal").counters.height
    assert_perfetto_keeps_all(trace)


def test_real_traces_lose_nothing(shared_data: Path) -> None:
    path = shared_data / "traces" / "kineto" / "sglang_decode_qwen3_30b_B300.json.gz"
    capture = load(path)
    trace = written(capture)
    assert len(of_phase(trace, "X")) == capture.events.height
    assert_perfetto_keeps_all(trace)


STATS = "select name, value from stats where severity != 'info' and value > 0"
SLICES = "select count(*), sum(dur) from slice where category != 'rca'"


def _of_perfetto(tmp_path: Path, capture: Capture, result: Comparison, side: Any) -> None:
    path = tmp_path / f"{side}.json.gz"
    path.write_bytes(b"".join(perfetto.trace(result, side, capture)))
    about = perfetto.header(path)
    stats, slices, found, samples, bounds, flows = trace_processor.query(
        path,
        STATS,
        SLICES,
        "select count(*) from slice where category = 'rca'",
        "select count(*) from counter",
        "select start_ts, end_ts from trace_bounds",
        "select count(*) from flow",
    )
    assert stats == []
    assert slices == [[capture.events.height, int(capture.events["dur_ns"].sum()) if capture.events.height else None]]
    assert found == [[about["found"]]]
    assert samples == [[about["samples"]]]
    assert bounds == [[0, about["length_ns"]]]
    places = [place for place in result.places if place.side == side]
    selected = places and trace_processor.query(
        path, *(f"select count(*) from slice where ts = {p.ts_ns - about['origin_ns']} and dur = {p.dur_ns}" for p in places)
    )
    assert all(rows[0][0] for rows in selected), "a link selects what it leads to"
    text = gzip.decompress(path.read_bytes()).decode()
    assert flows == [[text.count('"flow_in":true')]]


@trace_processor.needed
@pytest.mark.parametrize("side", ["normal", "abnormal"])
def test_perfetto_itself_keeps_all_of_the_fixture(tmp_path: Path, fixtures: Path, side: str) -> None:
    _of_perfetto(tmp_path, load(fixtures / side), compare(fixtures / "normal", fixtures / "abnormal"), side)


@trace_processor.needed
@pytest.mark.parametrize(
    "name",
    [
        "kineto/sglang_decode_qwen3_30b_B300.json.gz",
        "kineto/b200_eager.json.gz",
        "kineto/vit_bfloat16.json.gz",
        "nsys/mfu_2gpu_before.sqlite",
        "nsys/perlmutter-cloverleaf-cuda.sqlite",
        "rocm/rocprofv3_csv_b",
    ],
)
def test_perfetto_itself_keeps_all_of_real_traces(tmp_path: Path, shared_data: Path, name: str) -> None:
    capture = load(shared_data / "traces" / name)
    _of_perfetto(tmp_path, capture, nothing_found(capture), "normal")


@trace_processor.needed
def test_the_same_trace_as_it_was_loses_kernels(shared_data: Path) -> None:
    original = shared_data / "traces" / "kineto" / "sglang_decode_qwen3_30b_B300.json.gz"
    assert trace_processor.query(original, STATS) == [[["slice_drop_overlapping_complete_event", 340]]]


@trace_processor.needed
def test_perfetto_itself_keeps_all_of_a_per_cycle_profile(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "sglang-a100" / "cpu_frequency_reduction"
    _of_perfetto(tmp_path, load(folder / "abnormal"), compare(folder / "normal", folder / "abnormal"), "abnormal")


@trace_processor.needed
def test_perfetto_itself_reads_names_and_lanes(tmp_path: Path) -> None:
    rows = [made.event(f"k{i}", "kernel", i * 1001, 1501, i + 1, stream=7) for i in range(9)]
    rows += [made.event("launch", "runtime", i * 1001, 0, i + 1) for i in range(9)]
    rows += [made.event('"\\ </script>\n\x7f🙂', "op", 7, 3), made.event("deep", "op", 0, 0)]
    rows += [made.event("call", "python", i, 3000 - 2 * i, tid=55) for i in range(MAX_DEPTH + 20)]
    capture = made.capture(rows, [made.samples("gpu_sm_frequency", [-3, 10])])
    _of_perfetto(tmp_path, capture, nothing_found(capture), "normal")
    lines, named, counters = trace_processor.query(
        tmp_path / "normal.json.gz",
        "select p.name, t.name, count(*) from slice s join thread_track k on s.track_id = k.id join thread t using (utid) "
        "join process p using (upid) group by 1, 2 order by 1, 2",
        "select ts, dur from slice where name = '\"\\ </script>' || char(10) || char(127) || '🙂'",
        "select t.name, p.name, c.ts, c.value from counter c join process_counter_track t on c.track_id = t.id "
        "join process p using (upid)",
    )
    assert lines == [
        ["rank 0 (pid 100)", "thread 100", 11],
        ["rank 0 (pid 100)", "thread 55", MAX_DEPTH],
        ["rank 0 (pid 100)", "thread 55, overlapping 1", 20],
        ["rank 0: GPU 0", "stream 7", 5],
        ["rank 0: GPU 0", "stream 7, overlapping 1", 4],
    ]
    assert named == [[10, 3]]
    assert counters == [
        ["gpu_sm_frequency value", "counters: GPU 0", 0, 1.0],
        ["gpu_sm_frequency value", "counters: GPU 0", 13, 1.0],
    ]
