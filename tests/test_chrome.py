"""The Chrome-trace reader against the standard library's JSON parser, on real files and on awkward ones."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from traces import BASE_NS, decode_trace, read_with, span, write_trace

from rca.capture.model import Clock
from rca.capture.readers import chrome, chrome_windows, chrome_worker
from rca.capture.source import Source
from rca.errors import InputError


def spans_by_json(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    document = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw, parse_float=Decimal)
    events = document["traceEvents"] if isinstance(document, dict) else document
    return [event for event in events if event.get("ph") == "X"]


def assert_same_spans(path: Path) -> None:
    reading = read_with(chrome, path)
    assert reading.findings == ()
    table = reading.events
    first = min(event["ts"] for event in spans_by_json(path))
    # µs since the first span as text of 3 decimals: exact ns, and the order of the table
    expected = sorted(
        spans_by_json(path), key=lambda event: (round((event["ts"] - first) * 1000), -round(event.get("dur", 0) * 1000))
    )
    assert table.height == len(expected)
    assert sorted(zip(table["start_ns"] - table["start_ns"].min(), table["name"].cast(pl.String), strict=True)) == sorted(
        (round((event["ts"] - first) * 1000), str(event["name"])) for event in expected
    )
    assert table["dur_ns"].to_list() == [round(event.get("dur", 0) * 1000) for event in expected]


def test_every_real_trace_reads_as_the_standard_parser_does(shared_data: Path) -> None:
    for path in sorted((shared_data / "traces/kineto").glob("*.json.gz")):
        assert_same_spans(path)


def test_fixture_reads_as_the_standard_parser_does(fixtures: Path) -> None:
    for path in sorted(fixtures.rglob("*.trace.json.gz")):
        if spans_by_json(path):
            assert_same_spans(path)


@pytest.mark.parametrize("window", [200, 1_000, 100_000])
@pytest.mark.parametrize("indent", [None, 2])
def test_window_borders_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, indent: int | None
) -> None:
    path = tmp_path / "trace.json"
    trace = decode_trace(20)
    trace["traceEvents"][3]["args"] = {"list": [{"a": 1}, {"b": "},{"}], "quote": '"},\n{"'}
    trace["after"] = [{"x": 1}, {"y": [{"z": 2}, {"z": 3}]}]
    path.write_text(json.dumps(trace, indent=indent))
    monkeypatch.setattr(chrome_windows, "WINDOW_BYTES", window)
    assert_same_spans(path)
    assert read_with(chrome, path).meta["rank"] == 0


def test_times_are_placed_on_the_wall_clock(tmp_path: Path) -> None:
    events = read_with(chrome, write_trace(tmp_path / "t.json", decode_trace(2))).events
    assert events["start_ns"].min() == BASE_NS + 1_000_000


def test_without_a_base_relative_times_are_noted(tmp_path: Path) -> None:
    trace = decode_trace(2)
    del trace["baseTimeNanoseconds"]
    reading = read_with(chrome, write_trace(tmp_path / "t.json", trace))
    assert reading.clock is Clock.OWN


def test_many_nested_objects_and_a_nested_event_array_do_not_mislead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = {"metadata": {"traceEvents": [span("wrong", "cpu_op", 1, 1)], "text": '"traceEvents": ['}} | decode_trace(30)
    for event in trace["traceEvents"]:
        event["args"] = event.get("args", {}) | {"list": [{"a": i} for i in range(100)]}
    path = tmp_path / "t.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(trace).encode())
    monkeypatch.setattr(chrome_windows, "WINDOW_BYTES", 2_000)
    events = read_with(chrome, path).events
    assert events.height == 300
    assert "wrong" not in set(events["name"].cast(pl.String))


def test_merged_processes_keep_their_gpu_work(tmp_path: Path) -> None:
    merged = decode_trace(3)
    for event in decode_trace(3, seed=1)["traceEvents"]:
        if event["cat"] == "kernel":
            event["pid"] = 1
            event["args"]["device"] = 1
        else:
            event["pid"] = 200
        if "args" in event:
            event["args"]["correlation"] += 500
        merged["traceEvents"].append(event)
    kernels = read_with(chrome, write_trace(tmp_path / "t.json", merged)).events.filter(pl.col("kind") == "kernel")
    pairs = set(kernels.select("pid", pl.col("device").cast(pl.String)).iter_rows())
    assert pairs == {(100, "GPU 0"), (200, "GPU 1")}


def test_events_with_fields_of_odd_types_are_salvaged(tmp_path: Path) -> None:
    odd = [
        span("good", "cpu_op", 1, 2),
        span("args is a list", "cpu_op", 3, 1) | {"args": [1, 2]},
        span("cat is a number", "cpu_op", 5, 1) | {"cat": 3},
        span("pid is a bool", "cpu_op", 7, 1) | {"pid": True},
        span("stream is a list", "kernel", 9, 1) | {"args": {"stream": [7], "device": 0}},
        {"ph": None, "name": "no phase"},
        None,
        7,
    ]
    reading = read_with(chrome, write_trace(tmp_path / "t.json", odd))
    assert reading.events.height == 5
    assert "3 items of its event array are no events; left out" in map(str, reading.findings)


def test_absolute_integer_microseconds_of_old_exporters(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.json", [span("a", "Operator", 1623212388426902, 35)])
    events = read_with(chrome, path).events
    assert events["start_ns"].to_list() == [1623212388426902000]
    assert events["kind"].to_list() == ["op"]


def test_gpu_rows_name_their_device_stream_and_process(tmp_path: Path) -> None:
    events = read_with(chrome, write_trace(tmp_path / "t.json.gz", decode_trace(1, device=3))).events
    kernels = events.filter(pl.col("kind") == "kernel")
    assert set(kernels["device"].cast(pl.String)) == {"GPU 3"}
    assert set(kernels["stream"]) == {7}
    assert set(kernels["pid"]) == {100}
    assert set(events.filter(pl.col("kind") == "op")["device"].cast(pl.String)) == {"Host"}


def test_text_in_odd_places_is_survived(tmp_path: Path) -> None:
    odd = [
        span("a", "cpu_op", 1.0, 2.0) | {"pid": "Spans", "tid": "thread 7 (x)"},
        span("b", "kernel", 3.0, 2.0) | {"pid": 0, "tid": "stream 9", "args": {"device": "", "stream": None}},
        span("c", "cpu_op", 4.0, 1.0) | {"args": "text", "tid": None},
        {"ph": "X", "cat": None, "name": None, "pid": 1, "tid": 1, "ts": "5.5", "dur": "2"},
        {"ph": "i", "name": "no span", "ts": 1},
        span("d", "cpu_op", 9.0, -4.0),
        {"ph": "X", "name": "e", "ts": 10},
    ]
    reading = read_with(chrome, write_trace(tmp_path / "t.json", odd))
    assert reading.events.height == 6
    assert reading.events["dur_ns"].min() == 0
    assert any("1 spans have a negative duration" in note for note in map(str, reading.findings))
    assert any("1 spans have no duration" in note for note in map(str, reading.findings))
    assert reading.events["tid"].to_list()[0] == 7


GOOD = b'{"ph": "X", "name": "a", "ts": 1, "dur": 1}'


@pytest.mark.parametrize(
    ("content", "spans", "said"),
    [
        (b'{"traceEvents": [' + GOOD, 1, "truncated: it ends in the middle"),
        (b'{"traceEvents": [' + GOOD + b', {"ph": "X", "na', 1, "truncated: it ends in the middle"),
        (b'{"traceEvents": [' + GOOD + b'], "x": tru', 1, "repaired: what stands around its events"),
        (b'{"traceEvents": [' + GOOD + b', {"ph": "X" "name": "a"}]}', 1, "repaired: 1 events are not valid JSON"),
        (b'{"traceEvents": [{"ph": "X", "name": "a "b" c", "ts": 1},' + GOOD + b"]}", 1, "repaired: 1 events"),
        (b'{"traceEvents": [{"ph": "X", "name": "a\x01", "ts": 1, "dur": 1}]}', 1, "repaired: holds invalid literals"),
        (b'{"traceEvents": [{"ph": "X", "name": "C:\\win", "ts": 1, "dur": NaN}]}', 1, "repaired: holds invalid literals"),
        (b"[" + GOOD + b"] trailing", 1, "repaired: what stands around"),
        (b'{"traceEvents": [' + GOOD + b', {"ph": "X", "name": "a", "dur": 1}]}', 1, "bad_values: 1 events have no time"),
        (
            b'{"traceEvents": [' + GOOD + b', {"ph": "X", "name": "a", "ts": 1, "dur": 1e22}]}',
            1,
            "bad_values: 1 spans have a",
        ),
    ],
)
def test_damaged_traces_are_read_as_far_as_they_go(tmp_path: Path, content: bytes, spans: int, said: str) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    reading = read_with(chrome, path)
    assert reading.events.height == spans
    assert any(f"{finding.code}: {finding.text}".startswith(said) for finding in reading.findings)


def test_what_follows_the_events_survives_a_broken_event(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(b'{"traceEvents": [' + GOOD + b', {"ph": "X" "name"}], "distributedInfo": {"rank": 3}}')
    assert read_with(chrome, path).meta["rank"] == 3


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"traceEvents": {}}', 'no "traceEvents" array'),
        (b'{"traceEvents": [{"ph": "X" "name": "a"}]}', "nothing in it can be read: its events are not valid JSON"),
        (b'{"traceEvents": [{"ph": "X", "na', "nothing in it can be read: it ends in the middle"),
    ],
)
def test_damage_beyond_use_is_one_clear_error(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="t.json") as caught:
        read_with(chrome, path)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_broken_strings_takes_no_hours(tmp_path: Path) -> None:
    """Each item looks like one that nests objects in arrays; searching on for the end of each would be quadratic."""
    path = tmp_path / "t.json"
    path.write_bytes(b'{"traceEvents": [' + b'{"ph": "X", "l": [{"a": "b},{"c": 1},' * 100_000 + GOOD + b"]}")
    reading = read_with(chrome, path)
    assert reading.events.height == 1
    assert any("events are not valid JSON; left out" in finding.text for finding in reading.findings)


@pytest.mark.parametrize("window", [300, 100_000])
def test_bytes_that_are_not_utf8_are_replaced_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    path = write_trace(tmp_path / "t.json", decode_trace(9))
    path.write_bytes(path.read_bytes().replace(b"aten::op", b"aten::\xffp", 3).replace(b"x.json", b"\xfe.json"))
    monkeypatch.setattr(chrome_windows, "WINDOW_BYTES", window)
    reading = read_with(chrome, path)
    assert reading.events.height == 9 * 10
    assert (reading.events["name"].cast(pl.String) == "aten::\ufffdp").sum() == 3
    assert any("not UTF-8" in note for note in map(str, reading.findings))


def test_truncated_gzip_is_read_up_to_the_cut(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.json.gz", decode_trace(50))
    whole = read_with(chrome, path).events.height
    path.write_bytes(path.read_bytes()[:-200])
    reading = read_with(chrome, path)
    assert whole * 0.8 < reading.events.height < whole
    assert [finding.code for finding in reading.findings] == ["truncated"]
    assert "cut off" in reading.findings[0].text


def test_several_processes_read_the_same_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_trace(tmp_path / "t.json", decode_trace(8000))
    monkeypatch.setattr(chrome_worker, "_BYTES_PER_WORKER", path.stat().st_size // 3)
    assert path.stat().st_size > chrome_windows.WINDOW_BYTES
    alone, together = (chrome.read(Source((path,), workers=workers)) for workers in (1, 3))
    assert together.events.equals(alone.events)


def test_absolute_times_with_decimals_keep_their_nanoseconds(tmp_path: Path) -> None:
    """16 digits before the point and 3 behind it do not fit a double (FORMATS.md §8, 3)."""
    events = [span("aten::mul", "cpu_op", 0, 1.001) for _ in range(3)]
    text = json.dumps({"traceEvents": events})
    for digits in ("1790857026000000.001", "1790857026000000.002", "1790857026123456.789"):
        text = text.replace('"ts": 0', f'"ts": {digits}', 1)
    path = tmp_path / "t.json"
    path.write_text(text)
    starts = read_with(chrome, path).events["start_ns"].to_list()
    assert starts == [1790857026000000001, 1790857026000000002, 1790857026123456789]


def test_begin_and_end_events_become_spans(tmp_path: Path) -> None:
    def half(phase: str, ts: int, tid: int, name: str = "") -> dict[str, Any]:
        return {"ph": phase, "ts": ts, "pid": 1, "tid": tid, "name": name, "cat": "x"}

    events = [
        half("B", 1, 1, "outer"), half("B", 2, 1, "inner"), half("B", 2, 2, "other"), half("E", 3, 1), half("E", 5, 2),
        half("B", 4, 1, "second"), half("E", 6, 1), half("E", 9, 1), half("B", 9, 3, "never ends"),
    ]  # fmt: skip
    reading = read_with(chrome, write_trace(tmp_path / "t.json", {"traceEvents": events}))
    spans = [
        (name, start // 1000, dur // 1000) for name, start, dur in reading.events["name", "start_ns", "dur_ns"].iter_rows()
    ]
    assert spans == [("outer", 1, 8), ("other", 2, 3), ("inner", 2, 1), ("second", 4, 2)]
    assert "1 begin or end events have no counterpart" in str(reading.findings[0])


def half(phase: str, ts: float | None, name: str = "") -> dict[str, Any]:
    event = {"ph": phase, "pid": 1, "tid": 1, "name": name, "cat": "x"}
    return event if ts is None else event | {"ts": ts}


@pytest.mark.parametrize(
    ("halves", "expected", "said"),
    [  # an end of one depth and a begin of another are no span, least of all one of negative length
        ([half("E", 10), half("E", 20), half("B", 30, "c")], [], "3 begin or end"),
        ([half("E", 10), half("E", 20), half("B", 30, "c"), half("E", 35)], [("c", 30, 5)], "2 begin or end"),
        # a half without a time is left out with all that was said about it
        (
            [half("B", 1, "a"), half("B", None, "lost"), half("E", 5), half("B", 6, "c"), half("E", 9)],
            [("a", 1, 4), ("c", 6, 3)],
            "1 events have no time",
        ),
    ],
)
def test_halves_without_their_other_half(tmp_path: Path, halves: list[Any], expected: list[Any], said: str) -> None:
    reading = read_with(chrome, write_trace(tmp_path / "t.json", halves))
    rows = reading.events["name", "start_ns", "dur_ns"].iter_rows()
    assert [(name, start // 1000, dur // 1000) for name, start, dur in rows] == expected
    assert any(said in finding.text for finding in reading.findings)


@pytest.mark.parametrize(
    ("ts", "base", "clock"), [(5e6, None, Clock.OWN), (5e6, BASE_NS, Clock.UNIX), (1.7630006e15, None, Clock.UNIX)]
)
def test_counters_alone_say_what_their_times_count_from(tmp_path: Path, ts: float, base: int | None, clock: Clock) -> None:
    sample = {"ph": "C", "name": "gpu_usage", "pid": "GPU 0", "tid": 0, "ts": ts, "args": {"value": 5}}
    document = {"traceEvents": [sample]} | ({} if base is None else {"baseTimeNanoseconds": base})
    reading = read_with(chrome, write_trace(tmp_path / "t.json", document))
    assert (reading.clock, reading.counters["ts_ns"].to_list()) == (clock, [int(ts * 1000) + (base or 0)])


def test_kunlun_traces(tmp_path: Path) -> None:
    def event(name: str, cat: str, tid: str, phase: str = "X", **args: Any) -> dict[str, Any]:
        at = {"ts": 1763000609029638.5, "dur": 10.5, "pid": "node-1(4242)", "tid": tid}
        return {"name": name, "cat": cat, "ph": phase, **at, "args": args}

    nested = json.dumps({"correlation": 7, "device": 3})
    reading = read_with(
        chrome,
        write_trace(
            tmp_path / "t.json",
            {
                "traceEvents": [
                    event("gemm", "Kernel", "stream 7", args=nested),
                    event("cudaLaunchKernel", "cuda_runtime", "x", args=nested),
                    event("oncpu cpu 3", "CAT_CPU", "CPU"),
                    event("runq", "CAT_CPU", "CPU"),
                    event("write", "CAT_DISK", "disk"),
                    event("Scheduler.run_batch", "python", "python thread 4242"),
                    event("gpu_sm_frequency", "CAT_XPU", "CAT_XPU_7", "C", value=1410.0),
                    event("process_cpu_usage_2.300005e+06", "CAT_CPU", "CAT_CPU", "C", value=180.0),
                ]
            },
        ),
    )
    by_name = {row["name"]: row for row in reading.events.iter_rows(named=True)}
    assert by_name["gemm"]["device"] == "GPU 3"
    assert by_name["gemm"]["stream"] == 7
    assert by_name["gemm"]["correlation"] == by_name["cudaLaunchKernel"]["correlation"] == 7
    assert {row["pid"] for row in by_name.values()} == {4242}
    assert by_name["gemm"]["start_ns"] == 1763000609029638500
    kinds = {name: row["kind"] for name, row in by_name.items()}
    assert kinds["oncpu cpu 3"] == "oncpu"
    assert (kinds["runq"], kinds["write"], kinds["Scheduler.run_batch"]) == ("runq", "io", "python")
    assert reading.counters.select("metric", "device", "pid", "value").rows() == [
        ("gpu_sm_frequency", "GPU 7", None, 1410.0),
        ("process_cpu_usage", "Host", 2300005, 180.0),
    ]


def rank_events(pid: object, gpu_pid: object, correlation: int, at: float, **more: Any) -> list[dict[str, Any]]:
    """One launch and its kernel, as one rank's file has them, with the pids and ids of a merged file."""
    launch = span("cudaLaunchKernel", "cuda_runtime", at, 5, args={"correlation": correlation, **more}) | {"pid": pid}
    kernel = span("gemm", "kernel", at + 9, 20, args={"correlation": correlation, "device": 0, "stream": 7, **more})
    return [launch, kernel | {"pid": gpu_pid, "tid": 7}]


def test_ranks_merged_by_sglang_are_told_apart(tmp_path: Path) -> None:
    """All ranks use the same correlation ids and call their GPU 0; the label before the pid tells whose it is."""
    events = [*rank_events("[TP00] 100", "[TP00] 0", 1, 10), *rank_events("[TP01] 200", "[TP01] 0", 1, 12)]
    table = read_with(chrome, write_trace(tmp_path / "t.json", {"traceEvents": events})).events
    assert table.sort("rank", "start_ns").select("rank", "pid", "kind").rows() == [
        (0, 100, "runtime"), (0, 100, "kernel"), (1, 200, "runtime"), (1, 200, "kernel"),
    ]  # fmt: skip


def test_ranks_fused_with_offsets_are_told_apart(tmp_path: Path) -> None:
    events = [*rank_events(100, 0, 1, 10, rank=0), *rank_events(1_000_000_100, 1_000_000_000, 1_000_000_001, 12, rank=1)]
    table = read_with(chrome, write_trace(tmp_path / "t.json", {"traceEvents": events})).events
    assert table.sort("rank", "start_ns").select("rank", "pid", "device").rows() == [
        (0, 100, "Host"), (0, 100, "GPU 0"), (1, 1_000_000_100, "Host"), (1, 1_000_000_100, "GPU 0"),
    ]  # fmt: skip


def test_ids_that_several_processes_used_count_for_the_largest(tmp_path: Path) -> None:
    """Process 100 is the first, 200 has most rows; both launched something as 1, only 100 something as 2."""
    events = [*rank_events(100, 0, 1, 10), *rank_events(100, 0, 2, 50), *rank_events(200, 0, 1, 90)]
    events += [span("aten::add", "cpu_op", 200 + i, 1) | {"pid": 200} for i in range(3)]
    reading = read_with(chrome, write_trace(tmp_path / "t.json", {"traceEvents": events}))
    kernels = reading.events.filter(pl.col("kind") == "kernel").sort("start_ns")
    assert kernels.select("correlation", "pid").rows() == [(1, 200), (2, 100), (1, 200)]
    assert [finding.text.split(";")[0] for finding in reading.findings] == [
        "1 correlation ids are used by several processes"
    ]


def test_single_events_at_zero_do_not_hide_the_wall_clock(tmp_path: Path) -> None:
    events = [span("aten::mm", "cpu_op", 1_790_857_026_000_000 + 100 * i, 50) for i in range(20)]
    reading = read_with(chrome, write_trace(tmp_path / "t.json", {"traceEvents": [*events, span("x", "cpu_op", 0, 1)]}))
    assert reading.clock is Clock.UNIX


def test_times_beyond_any_clock_are_left_out(tmp_path: Path) -> None:
    events = ", ".join(f'{{"ph": "X", "name": "a", "ts": 9300000000000{i:03}.5, "dur": 1}}' for i in range(20))
    path = tmp_path / "t.json"
    path.write_text(f'{{"traceEvents": [{events}, {GOOD.decode()}]}}')
    reading = read_with(chrome, path)
    assert reading.events.height == 1
    assert "20 spans have a time or duration that no clock" in str(reading.findings[0])


def test_times_that_begin_with_other_digits_are_not_shortened(tmp_path: Path) -> None:
    """A window may reach over a border of 10,000 s: then no time in it is rebased, and each keeps its own."""
    times = ("1790859999999999.5", "1790860000000000.5")
    events = ", ".join(f'{{"ph": "X", "name": "a", "ts": {ts}, "dur": 1}}' for ts in times)
    path = tmp_path / "t.json"
    path.write_text(f'{{"traceEvents": [{events}]}}')
    starts = read_with(chrome, path).events["start_ns"].to_list()
    assert starts == [1790859999999999500, 1790860000000000500]
