"""The Chrome-trace reader on crafted files: bounded time and memory, no foreign code, no traceback."""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from traces import decode_trace, read_with, span, write_trace

from rca.capture.readers import chrome, chrome_damage, chrome_windows, chrome_worker
from rca.capture.source import Source
from rca.errors import InputError

GOOD = b'{"ph": "X", "name": "a", "ts": 1, "dur": 1}'
NAN = GOOD.replace(b'"dur": 1', b'"dur": NaN')
MB = 1 << 20


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of 4 MiB, so that tests stay small."""
    monkeypatch.setattr(chrome_windows, "MAX_BYTES", 4 * MB)


def written(path: Path, *content: bytes) -> Path:
    path.write_bytes(gzip.compress(b"".join(content), 1))
    return path


def texts(path: Path) -> list[str]:
    return [finding.text for finding in read_with(chrome, path).findings]


def test_workers_run_nothing_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_trace(tmp_path / "t.json", decode_trace(200))
    (tmp_path / "msgspec.py").write_text("open('run', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setattr(chrome_worker, "_BYTES_PER_WORKER", path.stat().st_size // 3)
    monkeypatch.setattr(chrome, "read_damaged", None)  # which would take over if no worker came up
    assert chrome.read(Source((path,), workers=2)).events.height == 200 * 10
    assert not (tmp_path / "run").exists()


def test_workers_import_from_where_this_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_trace(tmp_path / "t.json", decode_trace(200))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "sitecustomize.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w').close()")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "lib"), *sys.path])
    monkeypatch.setattr(chrome_worker, "_BYTES_PER_WORKER", path.stat().st_size // 3)
    assert chrome.read(Source((path,), workers=2)).events.height == 200 * 10
    assert (tmp_path / "run").exists()


def test_many_nested_event_arrays_before_the_own_one(tmp_path: Path) -> None:
    """Counting the depth of each from the start of the file takes a minute for 150 KB."""
    nested = [{"traceEvents": [], "text": '{[\\"' * (i % 3)} for i in range(8_000)]
    began = time.perf_counter()
    with pytest.raises(InputError, match='no "traceEvents" array'):
        read_with(chrome, write_trace(tmp_path / "none.json", {"schemaVersion": 1, "x": nested}))
    trace = {"x": nested, '"traceEvents': [1], "traceEvents": [span("own", "cpu_op", 1, 1)]}
    reading = read_with(chrome, write_trace(tmp_path / "t.json", trace))
    assert reading.events["name"].cast(pl.String).to_list() == ["own"]
    assert time.perf_counter() - began < 3


def test_an_array_that_begins_in_the_second_chunk(tmp_path: Path) -> None:
    """The reader looks again once there is twice as much, and at the end of the file."""
    path = write_trace(tmp_path / "t.json", {"notes": "x" * 300_000, "traceEvents": [span("a", "cpu_op", 1, 1)]})
    assert read_with(chrome, path).events.height == 1


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("event", [GOOD, NAN])
def test_a_tail_without_end_is_left_out(tmp_path: Path, event: bytes) -> None:
    head = b'{"distributedInfo": {"rank": 3}, "traceEvents": [' + event + b'], "x": "'
    for size, end in ((3, b'"}'), (9, b'"}'), (9, b"")):
        path = written(tmp_path / "t.json.gz", head, b" " * (size * MB), end)
        reading = read_with(chrome, path)
        assert reading.events.height == 1
        assert reading.meta["rank"] == 3
        too_long = "what follows its events is longer than 4 MiB and was not read"
        assert (too_long in texts(path)) == (size == 9)
        assert not any("around its events" in text for text in texts(path))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("fill", [b"a", b"{", b"[", b'"', b"\\", b"\xff", b"}", b"NaN,"])
def test_an_event_without_end_ends_the_reading(tmp_path: Path, fill: bytes) -> None:
    for end in (b"", b'"}, ' + GOOD + b"]}"):
        path = written(
            tmp_path / "t.json.gz", b'{"traceEvents": [', GOOD, b',{"ph": "X", "name": "', fill * (9 * MB // len(fill)), end
        )
        reading = read_with(chrome, path)
        assert reading.events.height == 1
        assert reading.findings[0].text.startswith("an event is longer than 4 MiB; the 1 spans before that were read")


@pytest.mark.usefixtures("short")
def test_a_head_without_end_is_no_trace(tmp_path: Path) -> None:
    path = written(tmp_path / "t.json.gz", b'{"schemaVersion": 1, "x": "', b"a" * (9 * MB), b'", "traceEvents": [', GOOD)
    with pytest.raises(InputError, match='no "traceEvents" array'):
        read_with(chrome, path)


@pytest.mark.parametrize("where", ["args", "tail", "nested"])
def test_values_nested_a_thousand_deep(tmp_path: Path, where: str) -> None:
    deep = "[" * 5_000 + "]" * 5_000
    bad = f'{{"ph": "X", "name": "b", "ts": 3, "dur": 1, "args": {{"x": {deep}}}}}'
    if where == "nested":
        bad = json.dumps(span("b", "cpu_op", 3, 1, args={"args": f'{{"x": {deep}}}'}))
    if where == "tail":
        bad = GOOD.decode()
    path = tmp_path / "t.json"
    path.write_text(f'{{"traceEvents": [{GOOD.decode()}, {bad}], "x": {deep if where == "tail" else 1}}}')
    assert read_with(chrome, path).events.height == (1 if where == "args" else 2)


def test_long_events_that_nest_objects_are_not_searched_for_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 60 joins at most the pieces that follow it until the allowance is used up; the last event is still found."""
    monkeypatch.setattr(chrome_damage, "_MAX_SEARCHED_BYTES", 4 * MB)
    decoded = []
    monkeypatch.setattr(chrome_damage, "_repaired", lambda text: decoded.append(len(text)) or text)
    item = b'{"ph": "X", "l": [{"a": "' + b"x" * 50_000 + b'"},{"c": 1},'
    path = tmp_path / "t.json"
    path.write_bytes(b'{"traceEvents": [' + item * 60 + GOOD + b"]}")
    assert read_with(chrome, path).events.height >= 1
    assert sum(decoded) < 60 * MB


@pytest.mark.parametrize(
    ("event", "table"), [(b'{"ph": "B", "ts": 1}', "events"), (b'{"ph": "C", "ts": 1, "args": {"v": 2}}', "counters")]
)
def test_a_cut_off_file_without_whole_spans_is_not_empty(tmp_path: Path, event: bytes, table: str) -> None:
    path = tmp_path / "t.json"
    end = b'{"ph": "E", "ts": 2}'
    path.write_bytes(b'{"traceEvents": [' + event + b", " + end + b', {"ph": "X", "na')
    assert getattr(read_with(chrome, path), table).height == 1


@pytest.mark.parametrize("space", [b"", b" ", b"\n\t  " * 9_000])
def test_the_last_border_is_found_however_far_back_it_lies(space: bytes) -> None:
    text = b'{"a": 1}' + space + b"," + space + b'{"b": 2}'
    border = 8 + len(space)
    assert chrome_windows.last_border(b"{}, " + text) == border + 4
    assert chrome_windows.last_border(text + b" , {[" * 20_000) == len(text) + 1
    assert chrome_windows.last_border(text + b"x, {[" * 20_000) == border
    assert chrome_windows.last_border(b"{" * 100_000) == -1
