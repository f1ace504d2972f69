"""Pictures for tickets: what they show is what the JSON says, and no name can break them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from startup_logs import Vllm, vllm_starts
from traces import KERNELS, decode_trace, write_counters, write_trace

from rca import api
from rca.bench import compare as compare_runs
from rca.bench import read_all
from rca.startup import compare_startups, report
from rca.sweep import sweep
from reports import bench_data, machine, plots, startup
from reports.charts import captures as charts_captures
from reports.charts import model as charts
from reports.charts.bench import comparison_charts, latency_charts
from reports.charts.model import LineChart, Mark, RowChart
from reports.charts.startup import drawable, ledger_chart, overview_chart, response_charts, start_chart
from reports.charts.sweep import effect_charts, line_charts
from reports.plots.cycles import cycles_sheet
from reports.plots.sheet import SMALL, WIDTH, Sheet, broken, fitted, plain, width
from reports.plots.verdict import verdict_sheet

ROOT = Path(__file__).parents[1]
NS = {"svg": "http://www.w3.org/2000/svg"}


def check_picture(name: str, data: bytes) -> None:
    """A picture is 7 inches wide, tells nothing of time or maker, and an SVG is XML that refers to nothing outside."""
    if name.endswith(".png"):
        assert data.startswith(b"\x89PNG\r\n")
        assert struct.unpack(">I", data[16:20])[0] == 1400
        assert b"tEXt" not in data
        assert b"tIME" not in data
        return
    text = data.decode()
    root = ET.fromstring(text)
    assert root.get("width") == "504pt"
    assert root.get("role") == "img"
    assert root.findtext("svg:title", namespaces=NS)
    assert "DOCTYPE" not in text
    assert set(re.findall(r"""(?:href|src)=["']([^#"'][^"']*)""", text)) == set()
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
        "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
        "http://creativecommons.org/ns#",
        "http://purl.org/dc/elements/1.1/",
    }
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


def names(pictures: dict[str, bytes]) -> set[str]:
    for name, data in pictures.items():
        check_picture(name, data)
    found = {name.rpartition(".")[0] for name in pictures}
    assert set(pictures) == {f"{name}.{kind}" for name in found for kind in ("svg", "png")}
    return found


def steps(chart: RowChart) -> list[float]:
    """The changes of a waterfall, as drawn: each from where the row above ended."""
    ends = [row.end for row in chart.rows[:-1]]
    assert None not in ends
    return [after - before for before, after in itertools.pairwise(ends)]  # type: ignore[operator]


def bar(row: Any) -> Mark:
    return next(mark for mark in row.marks if mark.shape == "bar")


def whisker(row: Any) -> Mark | None:
    return next((mark for mark in row.marks if mark.shape == "whisker"), None)


@pytest.fixture(scope="module")
def contention(fixtures: Path) -> api.Comparison:
    return api.compare(fixtures / "normal", fixtures / "abnormal", cached=False)


def test_pictures_of_a_comparison(contention: api.Comparison) -> None:
    assert names(plots.captures(contention)) == {"verdict", "cycles", "metrics", "functions"}


def test_ledger_is_that_of_the_json(contention: api.Comparison) -> None:
    ledger = contention.verdict.ledger
    assert ledger
    chart = charts_captures.ledger_chart(ledger)
    stated = [row for row in machine.as_dict(contention)["ledger"] if row["part"] != "residual"]
    assert steps(chart) == pytest.approx([row["delta_us"] for row in stated])
    for row, own in zip(chart.rows[1:-1], stated, strict=True):
        before = own["normal_us"]
        end = row.end or math.nan
        drawn = whisker(row)
        assert drawn
        start = end - own["delta_us"]
        assert (drawn.low - start, drawn.high - start) == pytest.approx((own["low_us"], own["high_us"]))
        assert before is not None
    assert bar(chart.rows[0]).high == pytest.approx(sum(row["normal_us"] for row in stated))
    assert bar(chart.rows[-1]).high == pytest.approx(sum(row["abnormal_us"] for row in stated))


def test_no_figure_is_cut(contention: api.Comparison) -> None:
    shown = plots.captures(contention)
    chart = charts_captures.functions_chart(contention.ranks[0])
    assert chart
    for row in chart.rows:
        assert row.said in shown["functions.svg"].decode()
    effects = charts_captures.metric_effects(contention)[: charts_captures.MAX_METRICS]
    for one in charts_captures.relative_chart(effects).rows:
        assert one.said in shown["metrics.svg"].decode()
    unit = fitted("15.38 → 13.33 % of the cycles that compute prompts", 1.5, at_end=True)
    assert re.fullmatch(r"15\.38 → 13\.33 % .*…", unit)


def test_functions_and_metrics_are_those_of_the_json(contention: api.Comparison) -> None:
    stated = machine.as_dict(contention)
    functions = {row["function"]: row for row in stated["functions"]}
    chart = charts_captures.functions_chart(contention.ranks[0])
    assert chart
    assert len(chart.rows) == charts_captures.MAX_FUNCTIONS
    for row in chart.rows:
        own = functions[row.hint]
        drawn = whisker(row)
        assert (bar(row).low + bar(row).high) == pytest.approx(own["shift_us"])
        assert drawn
        assert (drawn.low, drawn.high) == pytest.approx((own["shift_low_us"], own["shift_high_us"]))
    sure = {row["function"] for row in stated["functions"] if row["q"] < 0.05}
    assert {row.hint for row in chart.rows if bar(row).kind != "rest"} <= sure
    effects = charts_captures.metric_effects(contention)
    metrics = stated["metrics"]
    assert [one.delta for one in effects] == [row["cliffs_delta"] for row in metrics]
    relative = charts_captures.relative_chart(effects)
    for one, row, own in zip(effects, relative.rows, metrics, strict=True):
        if one.normal:
            assert row.marks[-1].low == pytest.approx(100 * own["shift"] / abs(own["normal"]))
        else:
            assert row.marks == ()


EVIL = ("$x^2$ </svg><script>alert(1)</script>", f"_a 中文 🚀 \u202e{'x' * 300}", '\\frac{1}{2} & "q" --> \x07\x00<b>')


def evil_pair(folder: Path) -> tuple[Path, Path]:
    """Sides and functions with names that look like formulas, markup, other scripts and control characters."""
    sides = []
    for side, slow in (("$normal$", 1.0), ("<svg>&", 1.4)):
        trace = decode_trace(12, slow=slow, gpu_slow=slow)
        for event in trace["traceEvents"]:
            if event.get("name") in KERNELS:
                event["name"] = EVIL[KERNELS.index(event["name"])]
        sides.append(folder / side)
        write_trace(sides[-1] / "t.json", trace)
    return sides[0], sides[1]


def test_names_cannot_break_pictures_and_equal_results_make_equal_bytes(tmp_path: Path) -> None:
    pair = evil_pair(tmp_path)
    here = plots.captures(api.compare(*pair, cached=False))
    assert "functions" in names(here)
    text = here["functions.svg"].decode()
    assert "<script" not in text
    assert "$x^2$" in text  # in a comment: what is drawn are paths
    assert "Oblique" not in text  # as the letters of a formula would be
    script = (
        "import sys, hashlib, json; from rca import api; from reports import plots;"
        "made = plots.captures(api.compare(*sys.argv[1:], cached=False));"
        "print(json.dumps({name: hashlib.sha256(data).hexdigest() for name, data in made.items()}))"
    )
    own = tmp_path / "matplotlibrc"  # a user's settings do not go in
    own.write_text("font.size: 20\naxes.grid: True\nsavefig.dpi: 50\n")
    environment = os.environ | {"PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(own), "SOURCE_DATE_EPOCH": "86400"}
    ran = subprocess.run(
        [sys.executable, "-c", script, *map(str, pair)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        check=True,
    )
    assert json.loads(ran.stdout) == {name: hashlib.sha256(data).hexdigest() for name, data in here.items()}
    assert ran.stderr == ""


def test_plain_text() -> None:
    assert plain("a\x00b\n\u2028c") == "a b c"
    assert plain("\u202eab中") == "\N{REPLACEMENT CHARACTER}ab\N{REPLACEMENT CHARACTER}"


def test_counters_alone_and_sides_that_are_not_alike(tmp_path: Path) -> None:
    for side, value in (("normal", 3500.0), ("abnormal", 900.0)):
        write_counters(tmp_path / "c" / side / "c.csv", {"cpu_frequency": value, "host_cpu_usage": 20.0})
    alone = api.compare(tmp_path / "c" / "normal", tmp_path / "c" / "abnormal", cached=False)
    assert not alone.ranks
    assert names(plots.captures(alone)) == {"verdict", "metrics"}
    write_trace(tmp_path / "n" / "t.json", decode_trace(12))
    other = decode_trace(12, anchor="execute_context_0(0)_generation_4(4)")
    for event in list(other["traceEvents"]):
        if event["cat"] == "kernel":
            other["traceEvents"] += [dict(event, name=f"k{i}", ts=event["ts"] + i, dur=1) for i in range(40)]
    write_trace(tmp_path / "a" / "t.json", other)
    unlike = api.compare(tmp_path / "n", tmp_path / "a", cached=False)
    assert unlike.verdict.status == "not_comparable"
    pictures = plots.captures(unlike)
    assert {"verdict", "cycles"} <= names(pictures)
    assert "functions" not in names(pictures)
    assert "Not shown:" in pictures["verdict.svg"].decode()


def test_few_cycles(tmp_path: Path) -> None:
    for side, n in (("n", 2), ("a", 9)):
        write_trace(tmp_path / side / "t.json", decode_trace(n))
    found = api.compare(tmp_path / "n", tmp_path / "a", cached=False)
    assert found.verdict.status == "insufficient_data"
    check_picture("verdict.svg", verdict_sheet(found).drawn()["svg"])
    cycles = cycles_sheet(found)
    assert cycles
    check_picture("cycles.svg", cycles.drawn()["svg"])


def test_startups(tmp_path: Path) -> None:
    normal, slow = Vllm(), Vllm(load=9.0, silence=20.0)
    found = compare_startups(vllm_starts(tmp_path / "normal", [normal] * 3), vllm_starts(tmp_path / "abnormal", [slow] * 3))
    assert names(plots.startups(found)) == {"verdict", "starts"}
    stated = json.loads(startup.comparison_json(found))
    chart = ledger_chart(found.compared)
    assert steps(chart) == pytest.approx([row["change_s"] for row in stated["ledger"]])
    assert [row.title for row in chart.rows[1:-1]] == [row["title"] for row in stated["ledger"]]
    one = found.compared.typical[0]
    seconds = {phase.id: phase.spans for phase in one.phases.values()}
    load = next(row for row in start_chart("x", one, 100.0).rows if row.title == "load weights")
    assert [(mark.low, mark.high) for mark in load.marks] == [
        (start - one.start, end - one.start) for start, end in seconds["load_weights"]
    ]


def test_starts_that_respond_to_a_parameter(tmp_path: Path) -> None:
    for number in range(12):
        log = Vllm(gpu_memory=f"0.{number % 6 + 3}", capture=4.0 + 3 * (number % 6), load=2.5 + 0.01 * (number % 5))
        log.log().save(tmp_path / "logs" / f"start{number}.log")
    found = report([tmp_path / "logs"])
    responding = [one.phase for one in found.responses if one.responds]
    assert "graph_capturing" in responding
    assert names(plots.startups(found)) == {"starts", "responses"}
    (chart,) = response_charts(found)
    panel = next(panel for panel in chart.panels if panel.title == "graph capturing")
    points = sorted((0.3 + 0.1 * (n % 6), 4.0 + 3 * (n % 6)) for n in range(12))
    assert [y for _, y in panel.lines[0].repeats] == [y for _, y in points]
    starts = [start for start in found.startups.starts if drawable(start)]
    overview = overview_chart(starts)
    assert [row.title for row in overview.rows] == [start.name for start in starts]


def test_a_table_of_starts_has_no_time_to_draw(tmp_path: Path) -> None:
    rows = "Metric a b\nload_weights 1.0 2.0\nmodel_init 0.1 0.2\ntotal_time 5.0 6.0\nactual_total_time 7.0 8.0\n"
    grid = "+---+\n".join(f"| {' | '.join(line.split())} |\n" for line in rows.splitlines())
    (tmp_path / "grid.txt").write_text(grid)
    pictures = plots.startups(report([tmp_path / "grid.txt"]))
    assert names(pictures) == {"starts"}
    assert "nothing tells when phases were" in pictures["starts.svg"].decode()


def test_grids() -> None:
    found = sweep(ROOT / "fixtures" / "sweep")
    drawn = line_charts(found)
    assert list(drawn) == ["context_length", "d_model", "num_layers", "num_warmups"]
    cells = {
        (row["model_size"], row["context_length"], row["num_warmups"], row["forward_only"]): row for row in _cells(found)
    }
    seen = 0
    chart = drawn["context_length"]
    key = dict(chart.key)
    for panel in chart.panels:
        for line in panel.lines:
            done, _, warmups = key[line.style].partition(", warm-ups ")
            for point in line.points:
                row = cells[panel.title, int(point.x), int(warmups), done == "forward"]
                assert point.y == row["mean_time_ms"]
                assert (point.low, point.high) == (point.y - row["std_time_ms"], point.y + row["std_time_ms"])
                seen += 1
    assert seen == sum(row["num_warmups"] > 0 for row in cells.values())
    backward, warmups, within, _ = effect_charts(found)
    assert [(row.title, row.marks[-1].low) for row in backward.rows] == [
        (effect.name, effect.estimate) for effect in found.meaning.backward
    ]
    drawn_whisker = whisker(warmups.rows[0])
    assert drawn_whisker
    assert (drawn_whisker.low, drawn_whisker.high) == (found.meaning.warmups[0].low, found.meaning.warmups[0].high)
    assert len(within.rows) == sum(len(scaling.within) for scaling in found.meaning.scaling)


def _cells(found: Any) -> list[dict[str, Any]]:
    return found.sweep.cells.to_dicts()


def test_a_grid_without_anything_to_compare(tmp_path: Path) -> None:
    header = "model_size,context_length,num_warmups,forward_only,mean_time_ms,std_time_ms\n"
    (tmp_path / "one.csv").write_text(f"{header}$small$,128,1,True,10.0,\n")
    pictures = plots.sweep(sweep(tmp_path / "one.csv"))
    assert names(pictures) == {"grid"}
    assert "Nothing to draw" in pictures["grid.svg"].decode()
    rows = [f"m{n},{c},1,True,{c / 10 + n},0.5\n" for n in range(12) for c in (64, 128)]
    (tmp_path / "many.csv").write_text(header + "".join(rows))
    chart = line_charts(sweep(tmp_path / "many.csv"))["context_length"]
    assert len(chart.panels) == 9
    assert "The first 9 of 12 panels." in chart.caption


def test_model_runs() -> None:
    runs = read_all(ROOT / "fixtures" / "bench" / "float32")
    assert names(plots.model_runs(runs)) == {"runs"}
    (chart,) = latency_charts(runs)
    stated = json.loads(bench_data.bench_json(runs[0]))["summary"]
    points = sorted((point.x, point.y, point.low, point.high) for line in chart.panels[0].lines for point in line.points)
    own = [(row["configuration"]["new_tokens"], row["mean_s"], *(row["ci95_s"] or (None, None))) for row in stated]
    assert points == sorted(own)


def test_comparison_of_model_runs() -> None:
    found = compare_runs(ROOT / "fixtures" / "bench" / "float32", ROOT / "fixtures" / "bench" / "bfloat16")
    assert names(plots.model_runs(found)) == {"verdict", "more"}
    stated = json.loads(bench_data.comparison_json(found))
    (ratios, ledger), (latencies,) = comparison_charts(found)
    assert isinstance(ledger, RowChart)
    assert isinstance(latencies, LineChart)
    assert [row.marks[-1].low for row in ratios.rows] == [row["ratio"] for row in stated["latency"]]
    own = stated["host"]
    assert sum(steps(ledger)) == pytest.approx(own["change_us"], rel=1e-6, abs=1)
    drawn = steps(ledger)[: min(12, len(own["entries"]))]
    assert drawn == pytest.approx([row["change_us"] for row in own["entries"][:12]])
    assert bar(ledger.rows[0]).high == own["normal_us"]
    assert bar(ledger.rows[-1]).high == own["abnormal_us"]


def test_waterfall_says_where_its_axis_begins() -> None:
    step = charts.Step("part", 50.0, 10.0, 90.0, "+50 µs")
    ends = (("normal", 10_000.0, "10 ms"), ("abnormal", 10_050.0, "10.05 ms"))
    chart = charts.waterfall("t", "c.", ends, [step], "µs")
    assert chart.is_cut
    assert 0 < chart.axis.low < 10_000
    assert "it begins at" in chart.caption
    whole = charts.waterfall("t", "c.", (("n", 10.0, ""), ("a", 60.0, "")), [step], "µs")
    assert not whole.is_cut
    assert whole.axis.low == 0
    assert whole.caption == "c."


finite = st.floats(-1e12, 1e12, allow_nan=False)


@given(finite, finite, st.sampled_from(["µs", "ms", "s", "", "MHz"]))
@settings(max_examples=150, deadline=None)
def test_scales_hold_their_range_and_have_few_ticks(one: float, other: float, unit: str) -> None:
    low, high = min(one, other), max(one, other)
    axis = charts.scale(low, high, unit, "time")
    assert axis.low <= low <= high <= axis.high
    assert 0 < len(axis.ticks) <= 12
    slack = 1e-8 * (axis.high - axis.low)
    assert all(axis.low - slack <= at <= axis.high + slack for at, _ in axis.ticks)
    assert 0 <= axis.at(low) <= axis.at(high) <= 1


@given(st.lists(st.floats(1e-6, 1e12), max_size=20))
@settings(max_examples=150, deadline=None)
def test_logarithmic_scales(values: list[float]) -> None:
    axis = charts.logarithmic(values, "µs")
    assert all(0 < axis.at(value) < 1 for value in values)
    assert 0 < len(axis.ticks) <= 6
    assert len({label for _, label in axis.ticks}) == len(axis.ticks)


def test_ticks_are_the_values_that_were_measured() -> None:
    axis = charts.at_values([128, 256, 512, 128], "context length", log=True)
    assert [label for _, label in axis.ticks] == ["128", "256", "512"]
    assert axis.at(256) == pytest.approx(0.5)
    assert len(charts.at_values(range(1000), "n").ticks) <= 8
    assert charts.at_values([5], "n").at(5) == pytest.approx(0.5)
    assert charts.scale(0, 2500, "µs", "time").title == "time, ms"
    assert [charts.number(x) for x in (0, -0.0, 1234.5, 0.25, 1e-9)] == ["0", "0", "1,234.5", "0.25", "1e-09"]


@given(st.text(max_size=400), st.floats(0.3, 6))
@settings(max_examples=60, deadline=None)
def test_texts_fit(text: str, inches: float) -> None:
    assert width(fitted(text, inches), SMALL) <= inches or len(fitted(text, inches)) <= 1
    lines = broken(text, inches, SMALL, most=3)
    assert len(lines) <= 3
    assert all(width(line, SMALL) <= inches or len(line) <= 8 for line in lines)


def test_a_sheet_of_nothing_but_words() -> None:
    sheet = Sheet("$title$ & <b>")
    sheet.gap()
    sheet.text("")
    sheet.text("$a_b$ " * 200, most=2)
    made = sheet.drawn()
    check_picture("a.svg", made["svg"])
    check_picture("a.png", made["png"])
    assert charts.middle("abcdefghij", 5) == "ab…ij"
    assert WIDTH == 7.0


def test_commands_write_pictures_and_pages(tmp_path: Path, rca) -> None:
    grid = tmp_path / "grid.csv"
    header = "model_size,context_length,num_warmups,forward_only,mean_time_ms,std_time_ms\n"
    grid.write_text(f"{header}m,64,1,True,1.5,0.1\nm,128,1,True,2.5,0.1\n")
    expected = {
        ("startup", ROOT / "fixtures/startup/sglang"): {"starts"},
        ("bench report", ROOT / "fixtures/bench/float32"): {"runs"},
        ("sweep report", grid): {"context_length", "effects"},
    }
    for (command, path), pictures in expected.items():
        folder, page = tmp_path / command, tmp_path / f"{command}.html"
        ran = rca(*command.split(), path, "--plots", folder, "--html", page, "-q")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out
        assert {file.stem for file in folder.iterdir()} == pictures
        assert page.read_text().startswith("<!doctype html>")
    for command, path in expected:
        refused = rca(*command.split(), path, "--plots", tmp_path / command)
        assert refused.code == 2
        assert "--force" in refused.err
    assert rca("sweep", "report", grid, "--plots", tmp_path / "sweep report", "--force").code == 0
    assert rca("startup", ROOT / "fixtures/startup", "--plots", ROOT / "fixtures/startup/pictures").code == 2
