"""``--explain``, the verdict in JSON, and the benchmark that says how far verdicts can be trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from traces import write_counters, write_pair

from benchmarks import verdict as benchmark
from lab.case import cases_in
from rca.api import compare
from reports import explain, machine

LAB = Path(__file__).parents[1] / "fixtures" / "lab"


def test_a_cause_that_was_named(rca, fixtures: Path) -> None:
    ran = rca("compare", fixtures / "normal", fixtures / "abnormal", "--explain", "cpu_contention", "-q")
    assert ran.code == 0
    assert "Named, rank 1, on Host." in ran.out
    assert "others cpu, up (decisive): moved up: host_cpu_usage" in ran.out
    assert "Next check: pidstat" in ran.out


def test_a_cause_that_was_not(rca, fixtures: Path) -> None:
    ran = rca("compare", fixtures / "normal", fixtures / "abnormal", "--explain", "cpu_frequency", "-q")
    assert ran.code == 0
    assert "Not named." in ran.out
    assert "cpu clock, down (decisive): not measured on both sides" in ran.out


def test_every_cause_can_be_explained(fixtures: Path) -> None:
    result = compare(fixtures / "normal", fixtures / "abnormal")
    for cause in explain.causes():
        assert explain.explanation(result, cause).startswith(f"{cause}: ")
    same = compare(fixtures / "normal", fixtures / "normal")
    assert "Not judged" in explain.explanation(same, "cpu_quota")


def test_misuse_is_one_line(rca, fixtures: Path) -> None:
    unknown = rca("compare", fixtures / "normal", fixtures / "abnormal", "--explain", "gremlins")
    assert (unknown.code, "knows no cause 'gremlins'" in unknown.err) == (2, True)
    both = rca("compare", fixtures / "normal", fixtures / "abnormal", "--explain", "cpu_quota", "--json", "-")
    assert (both.code, "only one report can go to stdout" in both.err) == (2, True)


def test_the_ledger_in_json_sums_to_the_change(fixtures: Path) -> None:
    result = compare(fixtures / "normal", fixtures / "abnormal")
    document = json.loads(machine.comparison_json(result))
    mean = result.ranks[0].distribution.row(-1)
    assert sum(part["delta_us"] for part in document["ledger"]) == pytest.approx(mean[2] - mean[1])
    assert document["ledger"][-1]["part"] == "residual"
    assert [one["id"] for one in document["diagnosis"] if one["named"]] == [c["id"] for c in document["verdict"]["causes"]]
    assert {one["moved"] for one in document["signals"]} <= {-1, 0, 1}


def test_counters_alone_make_valid_reports(rca, tmp_path: Path) -> None:
    for side, value in (("normal", 0.0), ("abnormal", 80.0)):
        write_counters(tmp_path / side / "c.csv", {"cgroup_cpu_throttled": value, "host_cpu_usage": 30.0})
    ran = rca("compare", tmp_path / "normal", tmp_path / "abnormal", "-o", tmp_path / "out", "-q")
    assert ran.code == 4
    document = json.loads((tmp_path / "out/report.json").read_text())
    assert document["verdict"]["causes"][0]["id"] == "cpu_quota"
    assert document["comparability"]["ok"] is False
    assert "cpu_quota" in (tmp_path / "out/report.md").read_text()
    assert len((tmp_path / "out/cycles.csv").read_text().splitlines()) == 1


def test_a_side_without_cycles_leaves_the_counters(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    write_counters(normal / "c.csv", {"cgroup_cpu_throttled": 0.0})
    (abnormal / "rank0.json").unlink()
    write_counters(abnormal / "c.csv", {"cgroup_cpu_throttled": 80.0})
    result = compare(normal, abnormal)
    assert [cause.id for cause in result.verdict.causes] == ["cpu_quota"]
    assert any("only counters are compared" in warning for warning in result.warnings)


def test_the_benchmark_says_what_was_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = tmp_path / "cases"
    for folder in cases_in(LAB):
        if folder.name in ("loop.aa.r1", "vllm.disk_io.4.r1", "loop.memory_bandwidth.50.r1"):
            (cases / folder.name).mkdir(parents=True)
            for part in folder.iterdir():
                (cases / folder.name / part.name).symlink_to(part)
    monkeypatch.setattr("sys.argv", ["verdict", str(cases), "-o", str(tmp_path / "out.md")])
    monkeypatch.setenv("RCA_NO_CACHE", "1")
    benchmark.main()
    text = (tmp_path / "out.md").read_text()
    assert "3 cases: 2 with a fault, 1 undisturbed pairs" in text
    assert "memory_bandwidth.50.r1 (host_memory_pressure" in text
    assert "Reliability of the confidence" in text
