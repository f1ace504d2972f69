"""Reports: they fit where they are pasted, show text as text, and carry the same numbers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import decode_trace, write_pair, write_trace

from rca.api import Comparison, compare
from reports import machine, tables, ticket
from reports.names import MAX_LENGTH, NameIndex, shorten

SCHEMA = json.loads((Path(machine.__file__).parent / "schema/comparison-1.schema.json").read_text())
SECTIONS = (
    "# Cross Performance Comparison: ",
    "## 1. High-Level Performance Summary",
    "## 2. Cycle Duration Distribution Comparison",
    "## 3. In-depth Core Metric Comparison",
    "### Overview",
    "### Key Findings",
    "### Detailed comparison table",
    "## 4. Legend",
)


@pytest.fixture(scope="module")
def result(fixtures: Path) -> Comparison:
    return compare(fixtures / "normal", fixtures / "abnormal")


def validated(result: Comparison) -> dict[str, Any]:
    document = json.loads(machine.comparison_json(result))
    jsonschema.validate(document, SCHEMA)
    return document


def test_sections_stand_in_the_seeds_order(result: Comparison) -> None:
    text = ticket.render(result)
    places = [text.index(f"\n{section}" if i else section) for i, section in enumerate(SECTIONS)]
    assert places == sorted(places)
    assert text.index("SLOWER") < places[1]
    assert text.index("Can I trust this?") < places[1]


@pytest.mark.parametrize(("target", "budget"), [("github", 60_000), ("jira", 30_000), ("gitlab", 900_000)])
def test_reports_fit(result: Comparison, target: str, budget: int) -> None:
    assert len(ticket.render(result, target)) <= budget


def test_published_scenarios_fit_and_validate(shared_data: Path) -> None:
    for folder in sorted(path for path in (shared_data / "sglang-a100").iterdir() if path.is_dir()):
        compared = compare(folder / "normal", folder / "abnormal")
        assert 20_000 < len(ticket.render(compared)) <= 60_000
        assert len(ticket.render(compared, "jira")) <= 30_000
        validated(compared)


def test_full_report_has_every_row(result: Comparison) -> None:
    text = ticket.render(result, "full")
    table = text[text.index("### Detailed") : text.index("## 4.")]
    assert table.count("\n| `") == result.ranks[0].rows.height
    assert "The first" not in table


def test_tables_are_well_formed_markdown(result: Comparison) -> None:
    lines = ticket.render(result).splitlines()
    for i, line in enumerate(lines):
        if line.startswith("|:--"):
            columns = line.count("|")
            assert lines[i - 2] == "", "a table needs an empty line before it"
            block = [lines[i - 1]]
            block += lines[i + 1 :][: next(k for k, row in enumerate(lines[i + 1 :]) if row == "")]
            for row in block:
                assert row.replace("\\|", "").count("|") == columns


def test_json_agrees_with_the_result_and_validates(result: Comparison) -> None:
    document = validated(result)
    time = result.ranks[0].cycle_time
    assert document["schema"] == "rca.comparison/1"
    assert document["verdict"]["status"] == "slower"
    assert document["verdict"]["cycle_time"]["normal_us"] == time.normal_us
    assert len(document["functions"]) == result.ranks[0].functions.height
    assert {file["path"] for file in document["captures"][0]["files"]} == {file.path for file in result.normal.files}


def test_json_without_numbers_is_null(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.json", decode_trace(1))
    document = validated(compare(path, path))
    assert document["verdict"]["cycle_time"]["ratio"] is None
    assert document["functions"][0]["shift_us"] is None


def test_same_input_same_bytes(fixtures: Path, result: Comparison) -> None:
    again = compare(fixtures / "normal", fixtures / "abnormal")
    for render in (ticket.render, machine.comparison_json, tables.comparison_csv, tables.cycles_csv):
        assert render(again) == render(result)


def test_csv_has_every_cycle_and_rank(tmp_path: Path) -> None:
    for side in ("normal", "abnormal"):
        for rank in (0, 1):
            write_trace(tmp_path / side / f"r{rank}.json", decode_trace(8, rank=rank, seed=len(side) + rank))
    compared = compare(tmp_path / "normal", tmp_path / "abnormal")
    rows = list(csv.DictReader(io.StringIO(tables.comparison_csv(compared))))
    assert list(rows[0])[:3] == ["Rank", "PID", "Function Name"]
    assert {row["Rank"] for row in rows} == {"rank 0", "rank 1"}
    cycles = pl.read_csv(io.StringIO(tables.cycles_csv(compared)))
    assert cycles.height == 32
    assert cycles["compared"].sum() == 28


HOSTILE = "</script><img src=x onerror=alert(1)> | pipe `tick` *bold* [link](http://x) @team #1\nnew {color:red}"


def test_every_real_trace_that_compares_has_a_report(shared_data: Path) -> None:
    for path in sorted((shared_data / "traces/kineto").glob("*.json.gz")):
        cycle = {"vit_bfloat16": "timed region", "resnet_30_iterations_dataloader_stalls": "Optimizer.step#SGD.step"}
        compared = compare(path, path, cycle=cycle.get(path.name.removesuffix(".json.gz")))
        assert len(ticket.render(compared)) <= 60_000
        validated(compared)


@pytest.mark.parametrize("target", ["github", "jira"])
def test_many_ranks_fit_and_the_one_in_the_headline_leads(tmp_path: Path, target: str) -> None:
    for side in ("normal", "abnormal"):
        for rank in range(20):
            slow = 1.5 if (side, rank) == ("abnormal", 17) else 1
            write_trace(tmp_path / side / f"{rank}.json", decode_trace(14, rank=rank, slow=slow, seed=rank + 50 * len(side)))
    compared = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert compared.verdict.role == "rank 17"
    assert "(of 20 ranks: 19 no difference, 1 slower)" in compared.verdict.headline
    text = ticket.render(compared, target)
    assert len(text) <= ticket.TARGETS[target].budget
    headings = [line for line in text.splitlines() if line.lstrip("#h1. ").startswith("rank ")]
    assert "rank 17" in headings[0]
    assert "Made by rca" in text


def test_functions_without_counter_can_lead_the_overview(tmp_path: Path) -> None:
    columns = "cycle,pid,beta_pct,function_name,metric_name,device,mu_pct,duration,anchor_name,anchor_dur_us,cycle_start_ts"
    for side, factor in (("normal", 1), ("abnormal", 3)):
        lines = [columns]
        for i in range(12):
            start = 1763000605515065 + i * 1000
            lines.append(f"{i},7,10,oncpu,host_cpu_usage,Host,5,{100 + i},a,1000,{start}")
            lines.append(f"{i},7,5,a sync call without counter,N/A,Host,,{factor * 50 + i},a,1000,{start}")
        (tmp_path / side).mkdir()
        (tmp_path / side / "result_perf_data.csv").write_text("\n".join(lines))
    compared = compare(tmp_path / "normal", tmp_path / "abnormal")
    assert compared.ranks[0].rows_left_out == 1
    assert "a sync call without counter" in ticket.render(compared)


def test_missing_counters_are_not_an_acquittal(tmp_path: Path) -> None:
    text = ticket.render(compare(*write_pair(tmp_path, slow=1.5)))
    assert "unexplained" in text
    assert "Not measured on both sides" in text
    assert "cpu_contention" in text


def test_names_from_traces_are_text(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path, slow=1.5)
    for side in (normal, abnormal):
        trace = json.loads((side / "rank0.json").read_text())
        for event in trace["traceEvents"]:
            if event["name"] == "aten::op":
                event["name"] = HOSTILE
        write_trace(side / "rank0.json", trace)
    compared = compare(normal, abnormal)
    text = ticket.render(compared)
    test_tables_are_well_formed_markdown(compared)
    assert "`tick`" not in text
    outside_code = "".join(part for i, part in enumerate(text.split("`")) if i % 2 == 0)
    assert "<img" not in outside_code
    assert "[link](" not in outside_code
    jira = ticket.render(compared, "jira")
    assert "{color" not in jira.replace("\\{", "")
    validated(compared)


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_name_is_shortened_to_one_line(name: str) -> None:
    short = shorten(name)
    assert len(short) <= MAX_LENGTH
    assert "\n" not in short


@given(st.lists(st.text("ab<>(),: ", max_size=80), max_size=20))
@settings(max_examples=100, deadline=None)
def test_short_names_stay_unique(names: list[str]) -> None:
    index = NameIndex(names)
    shorts = [index.short(name) for name in dict.fromkeys(names)]
    assert len(set(shorts)) == len(shorts)


def test_a_name_that_is_another_ones_short_form_gets_its_own() -> None:
    index = NameIndex(["void f<1>(int)", "f<1>"])
    assert index.short("void f<1>(int)") == "f<1>"
    assert index.short("f<1>") == "f<1>…2"


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ("Memcpy HtoD (Pinned -> Device)", "Memcpy HtoD (Pinned -> Device)"),
        ("void at::native::k<128, at::native::Op<float>, 4>(int)", "native::k<128, Op…, 4>"),
        ("void (anonymous namespace)::softmax<float>(float*)", "softmax<float>"),
        ("_ZN7cutlass6KernelI4GemmEEvT_", "cutlass::Kernel<Gemm>"),
        ("_ZN5aiter4normIDF16bLi8EEEvPT_", "aiter::norm<bf16, 8>"),
        ("_ZN3abc3defIQQQ", "abc::def"),
        ("_ZT_M", "_ZT_M"),
        ("/opt/lib/sglang/scheduler.py(12): run_batch", "scheduler.py(12): run_batch"),
        ("a" * 100, "a" * 43 + "…" + "a" * 16),
    ],
)
def test_shortening(full: str, short: str) -> None:
    assert shorten(full) == short
