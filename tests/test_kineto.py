"""The trace reader against the standard library's JSON parser, on real files and on awkward ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from traces import BASE_NS, decode_trace, read_with, span, write_trace

from rca.capture.readers import json_windows, kineto
from rca.errors import InputError


def spans_by_json(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    document = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    events = document["traceEvents"] if isinstance(document, dict) else document
    return [event for event in events if event.get("ph") == "X"]


def assert_same_spans(path: Path) -> None:
    table, expected = read_with(kineto, path).events, spans_by_json(path)
    assert table.height == len(expected)
    assert table["name"].cast(pl.String).to_list() == [str(event["name"]) for event in expected]
    durations = [round(event.get("dur", 0) * 1000) for event in expected]
    assert table["dur_ns"].to_list() == durations
    first = min(event["ts"] for event in expected)
    assert [round(ns / 1000) for ns in table["start_ns"] - table["start_ns"].min()] == pytest.approx(
        [event["ts"] - first for event in expected], abs=1
    )


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
    monkeypatch.setattr(json_windows, "WINDOW_BYTES", window)
    assert_same_spans(path)
    assert read_with(kineto, path).meta["rank"] == 0


def test_times_are_placed_on_the_wall_clock(tmp_path: Path) -> None:
    events = read_with(kineto, write_trace(tmp_path / "t.json", decode_trace(2))).events
    assert events["start_ns"].min() == BASE_NS + 1_000_000


def test_without_a_base_relative_times_are_noted(tmp_path: Path) -> None:
    trace = decode_trace(2)
    del trace["baseTimeNanoseconds"]
    reading = read_with(kineto, write_trace(tmp_path / "t.json", trace))
    assert reading.meta["wall_clock"] is False
    assert "wall clock" in str(reading.findings[0])


def test_many_nested_objects_and_a_nested_event_array_do_not_mislead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = {"metadata": {"traceEvents": [span("wrong", "cpu_op", 1, 1)], "text": '"traceEvents": ['}} | decode_trace(30)
    for event in trace["traceEvents"]:
        event["args"] = event.get("args", {}) | {"list": [{"a": i} for i in range(100)]}
    path = tmp_path / "t.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(trace).encode())
    monkeypatch.setattr(json_windows, "WINDOW_BYTES", 2_000)
    events = read_with(kineto, path).events
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
    kernels = read_with(kineto, write_trace(tmp_path / "t.json", merged)).events.filter(pl.col("kind") == "kernel")
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
    reading = read_with(kineto, write_trace(tmp_path / "t.json", odd))
    assert reading.events.height == 5
    assert "3 items of its event array are no events; left out" in map(str, reading.findings)


def test_absolute_integer_microseconds_of_old_exporters(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.json", [span("a", "Operator", 1623212388426902, 35)])
    events = read_with(kineto, path).events
    assert events["start_ns"].to_list() == [1623212388426902000]
    assert events["kind"].to_list() == ["op"]


def test_gpu_rows_name_their_device_stream_and_process(tmp_path: Path) -> None:
    events = read_with(kineto, write_trace(tmp_path / "t.json.gz", decode_trace(1, device=3))).events
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
    reading = read_with(kineto, write_trace(tmp_path / "t.json", odd))
    assert reading.events.height == 6
    assert reading.events["dur_ns"].min() == 0
    assert any("1 spans have a negative duration" in note for note in map(str, reading.findings))
    assert any("1 spans have no duration" in note for note in map(str, reading.findings))
    assert reading.events["tid"].to_list()[0] == 7


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"traceEvents": [{"ph": "X", "name": "a", "ts": 1, "dur": 1}', "cut off"),
        (b'{"traceEvents": [{"ph": "X", "name": "a", "ts": 1, "dur": 1}, {"ph": "X", "na', "cut off"),
        (b'{"traceEvents": [{"ph": "X" "name": "a"}]}', "broken JSON near byte"),
        (b'{"traceEvents": [{"ph": "X", "name": "a\x01", "ts": 1}]}', "broken JSON near byte"),
        (b'{"traceEvents": {}}', 'no "traceEvents" array'),
        (b'{"traceEvents": [], "x": 1, "traceEvents": [{"ph": "X", "name": "a", "ts": 1, "dur": 1}]}', "two"),
        (b'[{"ph": "X", "name": "a", "ts": 1, "dur": 1}] trailing', "goes on after"),
        (b'{"traceEvents": [{"ph": "X", "name": "a", "dur": 1}]}', "without a time"),
        (b'{"traceEvents": [{"ph": "X", "name": "a", "ts": 1, "dur": 1e22}]}', "no clock"),
        (b'{"traceEvents": [{"ph": "X", "name": "a", "ts": 1, "dur": 1}], "x": tru', "cut off"),
    ],
)
def test_damage_is_one_clear_error(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="t.json") as caught:
        read_with(kineto, path)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("window", [300, 100_000])
def test_bytes_that_are_not_utf8_are_replaced_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    path = write_trace(tmp_path / "t.json", decode_trace(9))
    path.write_bytes(path.read_bytes().replace(b"aten::op", b"aten::\xffp", 3).replace(b"x.json", b"\xfe.json"))
    monkeypatch.setattr(json_windows, "WINDOW_BYTES", window)
    reading = read_with(kineto, path)
    assert reading.events.height == 9 * 10
    assert (reading.events["name"].cast(pl.String) == "aten::\ufffdp").sum() == 3
    assert any("not UTF-8" in note for note in map(str, reading.findings))


def test_truncated_gzip_is_one_clear_error(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.json.gz", decode_trace(50))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cut off"):
        read_with(kineto, path)
