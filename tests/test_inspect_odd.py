"""``rca inspect`` on hostile names, odd facts and random captures: it prints them as text and never fails."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_captures import MS, SECOND, T0, event, samples
from test_inspect import capture, validated
from traces import decode_trace, span, write_trace

from rca.api import inspect
from rca.capture.model import Capture
from rca.capture.tables import KINDS
from rca.inspection import describe
from reports import inspection as report

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]x[/red][/nope]:smile:\r\n\u202e\u2028" + "k" * 5000


class TestHostileNames:
    @pytest.fixture
    def side(self, tmp_path: Path) -> Path:
        trace = decode_trace(4, anchor="step" + HOSTILE, deviceProperties=[{"id": 0, "name": "GPU" + HOSTILE}])
        trace["traceEvents"].append(span("x", "kernel", 500, 10, args={"stream": 1, "device": 0}) | {"name": HOSTILE})
        write_trace(tmp_path / "a[red]\x1b[31m\n.json", trace)
        lines = ["timestamp,metric,device,value,unit"]
        lines += [f'{T0 + i * MS},"m[red]\x1b[31m{"k" * 300}","Host[bold]\x1b",{i},"[blink]\x1b"' for i in range(20)]
        (tmp_path / "counters.csv").write_text("\n".join(lines))
        return tmp_path

    def test_plain_text(self, side: Path) -> None:
        result = inspect(side)
        for text in (report.text(result), report.text(result, everything=True), report.anchors_text({"normal": result})):
            assert all(char.isprintable() or char == "\n" for char in text)
            assert "[red]" in text, "markup is text"
            assert max(map(len, text.splitlines())) < 1000

    def test_terminal(self, side: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        out = io.StringIO()
        monkeypatch.setattr(report, "_console", _terminal_into(out))
        result = inspect(side)
        report.show(result, everything=True)
        report.show_anchors({"normal": result})
        without_styles = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
        assert all(char.isprintable() or char == "\n" for char in without_styles)
        assert "[red]" in without_styles
        assert ":smile:" in without_styles
        assert max(map(len, without_styles.splitlines())) <= 80

    def test_json(self, side: Path) -> None:
        document = validated(inspect(side))
        assert "step" + HOSTILE in [anchor["name"] for anchor in document["anchors"]]
        assert any(item["metric"].startswith("m[red]\x1b[31m") for item in document["counters"])

    def test_odd_facts(self) -> None:
        odd = {"rank": 10**30, "x": float("nan"), "lone\ud800": ["\ud800", {"deep": float("inf")}], "world_size": 10**40}
        side = capture([event("op", "op", 0, 1)], meta=(odd,))
        document = validated(describe(side))
        assert document["files"][0]["facts"]["x"] is None
        assert document["files"][0]["facts"]["lone?"] == ["?", {"deep": None}]
        assert document["ranks"][0]["world_size"] is None


def _terminal_into(out: io.StringIO) -> Any:
    from rich.console import Console

    def console(**_: Any) -> Console:
        return Console(
            file=out, width=80, force_terminal=True, highlight=False, markup=False, emoji=False, color_system="standard"
        )

    return console


def test_numbers_are_rounded_and_finite() -> None:
    side = capture([event("op", "op", 0, SECOND // 3)], [samples("m", [0, MS // 3, 2 * MS])])
    side = replace(side, counters=side.counters.with_columns(value=pl.Series([float("nan"), 1 / 3, float("inf")])))
    (counter,) = validated(describe(side))["counters"]
    assert (counter["mean"], counter["max"]) == (None, None)
    assert validated(describe(side))["time"]["span_s"] == 0.333333


ROWS = st.lists(
    st.builds(
        event,
        name=st.sampled_from(["step", "gemm", "execute_context_1(4)_generation_0(0)", "ProfilerStep#3", "", "\x1b["]),
        kind=st.sampled_from(KINDS),
        start=st.integers(-T0, 10**12),
        dur=st.integers(0, 10**10),
        correlation=st.none() | st.integers(0, 5),
        pid=st.integers(0, 3),
        rank=st.integers(-1, 2),
        device=st.sampled_from(["Host", "GPU 0", "GPU 11", "GPU ?", "", "9"]),
        stream=st.none() | st.integers(0, 2),
        file=st.integers(0, 1),
    ),
    max_size=30,
)


@given(rows=ROWS, times=st.lists(st.integers(-T0, 10**12), max_size=12))
@settings(max_examples=60, deadline=None)
def test_whatever_a_capture_holds(rows: list[dict[str, Any]], times: list[int]) -> None:
    side: Capture = capture(rows, [samples("m", sorted(times))], meta=({"rank": 0}, {}))
    document = validated(describe(side))
    assert document["events"]["total"] == sum(document["events"]["by_kind"].values()) == len(rows)
    assert sum(device["events"] for device in document["devices"]) == len(rows)
    assert sum(file["events"] for file in document["files"]) == len(rows)
    assert (document["cycles"]["count"] == 0) == (document["cycles"]["anchor"] is None)
