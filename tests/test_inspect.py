"""``rca inspect`` and ``--cycle list``: what a capture holds, as tables and as JSON, whatever it is."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import made_captures
import polars as pl
import pytest
from made_captures import MS, SECOND, T0, US, event, samples
from traces import decode_trace, write_counters, write_pair, write_trace

from rca.api import inspect
from rca.capture.findings import Finding, Severity
from rca.capture.health import check
from rca.capture.model import Capture
from rca.errors import UsageError
from rca.inspection import Inspection, describe
from reports import inspection as report

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "reports/schema/inspection-1.schema.json").read_text())
STEP = "execute_context_…_generation_…"


def capture(rows: list[dict[str, Any]], counters: list[pl.DataFrame] | None = None, **fields: Any) -> Capture:
    side = made_captures.capture(rows, counters, **fields)
    files = tuple(replace(file, sha256=file.sha256.zfill(64)) for file in side.files)
    return replace(side, files=files, findings=(*side.findings, *check(side)))  # as `rca.capture.load.read` does


def validated(result: Inspection) -> dict[str, Any]:
    """Return the JSON report, checked against its schema; the tables must not fail either."""
    document: dict[str, Any] = json.loads(report.inspection_json(result))
    jsonschema.validate(document, SCHEMA)
    assert report.text(result, everything=True)
    return document


class TestWhatACaptureHolds:
    def test_fixture(self, fixtures: Path) -> None:
        """Numbers by an independent reading: annotations and their distances by json and statistics, counters by polars."""
        result = inspect(fixtures / "normal")
        document = validated(result)
        assert document["schema"] == "rca.inspection/1"
        assert document["events"] == {"total": 39_638, "by_kind": {"op": 39_552, "annotation": 84, "window": 2}}
        assert (result.time.of, result.time.start) == ("events", "2026-11-26T04:33:53.475Z")
        cycles = document["cycles"]
        assert (cycles["count"], cycles["complete"], cycles["anchor"], cycles["kind"]) == (84, 83, STEP, "annotation")
        assert cycles["phases"] == {"decode": 78, "mixed": 6}
        assert cycles["median_us"] == pytest.approx(7_162.08, rel=1e-4)
        assert cycles["phase_median_us"]["decode"] == pytest.approx(7_022.35, rel=1e-4)
        assert cycles["reason"] is None
        (rank,) = document["ranks"]
        assert (rank["role"], rank["rank"], rank["pid"], rank["world_size"], rank["cycles"]) == ("rank 0", 0, 25060, 1, 84)
        assert len(document["counters"]) == 148
        memory = next(item for item in document["counters"] if item["metric"] == "host_mem_available")
        assert (memory["samples"], memory["unit"], memory["holes"], memory["pid"]) == (13, "bytes", 0, None)
        assert (memory["min"], memory["max"]) == (2.20254e10, 2.21918e10)
        assert memory["period_ms"] == pytest.approx(1000, rel=0.02)
        devices = {device["name"]: device["counters"] for device in document["devices"]}
        assert list(devices)[:5] == ["Host", "CPU 0", "CPU 1", "disk vda", "main thread"]
        assert (len(devices), list(devices.values())[:5]) == (15, [104, 1, 1, 4, 8])
        assert document["anchors"][0] == {
            "name": STEP,
            "kind": "annotation",
            "cycles": 84,
            "coverage": pytest.approx(1, abs=0.01),
            "median_us": cycles["median_us"],
        }

    def test_busy_share_is_of_the_union(self) -> None:
        """GPU 0: [0, 40] and [20, 60] on two streams, and [80, 90]: 70 µs of the 100 µs from first to last event."""
        rows = [
            event("op", "op", 0, 100 * US),
            event("a", "kernel", 0, 40 * US, stream=7),
            event("b", "kernel", 20 * US, 40 * US, stream=8),
            event("copy", "memcpy", 80 * US, 10 * US, stream=7, device="GPU 0"),
            event("range", "gpu_annotation", 0, 100 * US, device="GPU 0"),
            event("c", "kernel", 0, 25 * US, stream=7, device="GPU 10"),
            event("d", "kernel", 0, 50 * US, device="GPU 2"),
        ]
        host, gpu0, gpu2, gpu10 = describe(capture(rows)).devices
        assert (host.name, host.events, host.busy_share, host.streams) == ("Host", 1, None, None)
        assert (gpu0.name, gpu0.events, gpu0.busy_share, gpu0.streams) == ("GPU 0", 4, 0.7, 2)
        assert (gpu2.name, gpu2.busy_share, gpu2.streams) == ("GPU 2", 0.5, 0)
        assert (gpu10.name, gpu10.busy_share, gpu10.streams) == ("GPU 10", 0.25, 1)

    def test_time_between_recordings_is_nobodys(self) -> None:
        rows = [event("k", "kernel", i * 10 * SECOND, SECOND, stream=7, file=i, pid=100 + i, rank=i) for i in range(2)]
        result = describe(capture(rows, meta=({"rank": 0, "world_size": 4}, {"rank": 1, "world_size": 4})))
        assert (result.time.span_s, result.time.recorded_s) == (11.0, 2.0)
        assert result.devices[0].busy_share == 1.0
        assert [(rank.role, rank.pid, rank.files, rank.world_size) for rank in result.ranks] == [
            ("rank 0", 100, ("rank0.json",), 4),
            ("rank 1", 101, ("rank1.json",), 4),
        ]
        assert [finding.code for finding in result.findings] == ["no_host_events", "no_host_events", "rank_missing"]
        assert "recorded for 2 s of them" in report.text(result)

    def test_an_event_at_zero_does_not_stretch_the_time(self) -> None:
        rows = [event("op", "op", i * MS, MS // 2) for i in range(50)] + [event("op", "op", -T0, 1)]
        result = describe(capture(rows))
        assert result.time.span_s == pytest.approx(0.0495)
        assert "zero_time" in {finding.code for finding in result.findings}

    def test_no_wall_clock(self) -> None:
        side = capture([event("op", "op", 0, SECOND)], findings=(Finding("no_wall_clock", "x", file="rank0.json"),))
        assert (describe(side).time.start, describe(side).time.span_s) == (None, 1.0)
        assert "no wall-clock time" in report.text(describe(side))

    def test_counters(self) -> None:
        every_10_ms = [i * 10 * MS for i in range(100)]
        with_hole = [*every_10_ms[:40], *every_10_ms[60:]]
        on_change = [0, 1 * MS, 500 * MS, 501 * MS, 502 * MS, 900 * MS, 950 * MS, 951 * MS, 989 * MS, 990 * MS]
        bursts = [i * 200 * MS + j * US for i in range(5) for j in range(8)]
        made = {"steady": every_10_ms, "holed": with_hole, "rare": on_change, "bursts": bursts, "once": [0]}
        side = capture([event("op", "op", 0, SECOND)], [samples(name, times) for name, times in made.items()])
        side = replace(
            side, counters=side.counters.with_columns(value=pl.int_range(pl.len()).cast(pl.Float64).over("metric"))
        )
        result = {item.metric: item for item in describe(side).counters}
        found = {name: (item.samples, item.period_ms, item.holes) for name, item in result.items()}
        assert found["steady"] == (100, 10.0, 0)
        assert found["holed"] == (80, 10.0, 1)
        assert found["rare"][2] is None
        assert found["bursts"] == (40, None, None)
        assert found["once"] == (1, None, None)
        assert (result["steady"].min, result["steady"].mean, result["steady"].max) == (0, 49.5, 99)
        assert report.text(describe(side)).split("holes\n")[1].startswith("holed ")

    def test_findings_most_severe_first_and_once(self) -> None:
        mild, bad = Finding("skipped", "mild", Severity.INFO), Finding("truncated", "bad", Severity.DAMAGE, "rank0.json")
        result = describe(capture([event("op", "op", 0, 1)], findings=(mild, bad, mild)))
        assert result.findings == (bad, mild)
        assert validated(result)["findings"][0] == {
            "code": "truncated",
            "text": "bad",
            "severity": "damage",
            "file": "rank0.json",
        }

    def test_front_end_and_gpu_index_are_no_ranks(self) -> None:
        rows = [event("op", "op", i * MS, MS, pid=1, rank=0) for i in range(3)]
        rows += [event("x", "gpu_annotation", 0, MS, pid=0, rank=0, device="GPU 0"), event("y", "op", 0, MS, pid=9, rank=-1)]
        assert [(rank.pid, rank.rank, rank.cycles) for rank in describe(capture(rows)).ranks] == [(1, 0, 0)]

    def test_several_ranks(self, tmp_path: Path) -> None:
        for rank in range(3):
            trace = decode_trace(12 + rank, rank=rank, device=rank, distributedInfo={"rank": rank, "world_size": 4})
            for row in trace["traceEvents"]:
                row["pid"] += 10 * rank if row["cat"] != "kernel" else 0
            write_trace(tmp_path / f"rank{rank}.json", trace)
        result = inspect(tmp_path)
        assert [(item.role, item.rank, item.cycles, item.world_size) for item in result.ranks] == [
            ("rank 0", 0, 12, 4),
            ("rank 1", 1, 13, 4),
            ("rank 2", 2, 14, 4),
        ]
        assert (result.cycles.rank, result.cycles.count, result.cycles.phases) == ("rank 2", 14, {"decode": 14})
        assert [finding.code for finding in result.findings] == ["rank_missing"]


class TestNoCycles:
    """A capture that cannot be cut is inspected all the same."""

    def test_only_counters(self, tmp_path: Path, rca) -> None:
        write_counters(tmp_path / "counters.csv", {"cpu_frequency": 3000, "gpu_power": 200})
        result = inspect(tmp_path)
        document = validated(result)
        assert document["cycles"]["count"] == 0
        assert document["cycles"]["anchor"] is None
        assert document["cycles"]["reason"] == "the capture holds no events, only counters"
        assert document["events"] == {"total": 0, "by_kind": {}}
        assert (document["time"]["of"], document["time"]["span_s"]) == ("counters", 0.98)
        assert [(item["metric"], item["samples"], item["period_ms"]) for item in document["counters"]] == [
            ("cpu_frequency", 50, 20),
            ("gpu_power", 50, 20),
        ]
        assert rca("inspect", tmp_path).code == 0
        assert rca("inspect", tmp_path, "--cycle", "list").out.endswith(
            "no anchor: the capture holds no events, only counters\n"
        )

    def test_nothing_repeats(self) -> None:
        result = describe(capture([event("init", "op", 0, MS), event("k", "kernel", 0, MS)]))
        validated(result)
        assert result.cycles.reason is not None
        assert result.cycles.reason.startswith("no annotation of a known engine")
        assert (result.anchors, [(rank.role, rank.cycles) for rank in result.ranks]) == ((), [("rank 0", 0)])

    def test_cycle_names_no_span(self, fixtures: Path, rca) -> None:
        ran = rca("inspect", fixtures / "normal", "--cycle", "no such span")
        assert ran.code == 0
        assert "none: no span is named or matches 'no such span'" in ran.out

    def test_one_cycle_only(self, tmp_path: Path) -> None:
        write_trace(tmp_path / "one.json", decode_trace(1))
        result = inspect(tmp_path)
        assert result.cycles.count == 1
        validated(result)

    def test_cut_before(self, tmp_path: Path, rca) -> None:
        names = (
            "cycle,pid,beta_pct,function_name,metric_name,device,mu_pct,duration,anchor_name,anchor_dur_us,cycle_start_ts"
        )
        lines = [f"{i},7,10,f,N/A,GPU 3,,50,run_batch,{500 + 10 * i},{1763000605515065 + 1000 * i}" for i in range(1, 6)]
        (tmp_path / "result_perf_data.csv").write_text("\n".join([names, *lines]) + "\n")
        result = inspect(tmp_path)
        document = validated(result)
        cycles = document["cycles"]
        assert (cycles["count"], cycles["anchor"], cycles["kind"], cycles["median_us"]) == (
            5,
            "run_batch",
            "per-cycle profile",
            530,
        )
        assert cycles["coverage"] is None
        anchor = {"name": "run_batch", "kind": "per-cycle profile", "cycles": 5, "coverage": None, "median_us": 530}
        assert document["anchors"] == [anchor]
        assert [(rank["role"], rank["pid"], rank["cycles"]) for rank in document["ranks"]] == [("GPU 3", 7, 5)]
        assert document["time"]["of"] == "cycles"
        assert document["time"]["span_s"] == pytest.approx(4 * 0.001 + 550e-6)
        ran = rca("inspect", tmp_path, "--cycle", "f")
        assert ran.code == 2
        assert "cut before" in ran.err

    def test_published_profiles(self, shared_data: Path) -> None:
        """12 cycles: ``cut -d, -f1 result_perf_data.csv | sort -u | wc -l`` less the heading."""
        document = validated(inspect(shared_data / "sglang-a100/gpu_instability/normal"))
        assert (document["cycles"]["count"], document["cycles"]["anchor"]) == (12, "Scheduler.run_batch")
        frequency = next(item for item in document["counters"] if item["metric"] == "gpu_frequency")
        assert frequency["period_ms"] is None, "eight GPUs under one name come in bursts"


class TestCommand:
    def test_a_pipe_gets_plain_aligned_text(self, fixtures: Path, rca, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.setenv("FORCE_COLOR", "1")
        ran = rca("inspect", fixtures / "normal")
        assert (ran.code, ran.err) == (0, "")
        assert "\x1b" not in ran.out
        lines = ran.out.splitlines()
        assert all(line == line.rstrip() for line in lines)
        start = lines.index("Counters")
        heading, first, second = lines[start + 1 : start + 4]
        assert heading.index("device") == first.index("Host") == second.index("Host")
        assert lines[start + 14] == "… 136 more (--all)"
        assert lines[-1].startswith("info")
        assert rca("inspect", fixtures / "normal", "--all").out.count("process_") > ran.out.count("process_")

    def test_a_terminal_gets_colours_in_its_width(self, tmp_path: Path) -> None:
        write_trace(tmp_path / "rank0.json", decode_trace(12, distributedInfo={"rank": 0, "world_size": 8}))
        ours, theirs = pty.openpty()
        environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {
            "COLUMNS": "70",
            "TERM": "xterm",
        }
        command = [sys.executable, "-m", "rca.cli", "inspect", str(tmp_path)]
        with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment) as process:
            os.close(theirs)
            out = b""
            while True:
                try:
                    more = os.read(ours, 65536)
                except OSError:  # what Linux says when the other end is closed
                    break
                if not more:
                    break
                out += more
            assert process.wait(20) == 0
        os.close(ours)
        text = out.decode()
        assert "\x1b[33mwarning" in text
        assert "rank_missing" in text
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert max(map(len, plain.splitlines())) <= 70

    @pytest.mark.parametrize("form", [["--json", "-"], ["--json"]])
    def test_json_goes_to_stdout(self, fixtures: Path, rca, form: list[str]) -> None:
        ran = rca("inspect", fixtures / "normal", *form)
        assert (ran.code, ran.err) == (0, "")
        jsonschema.validate(json.loads(ran.out), SCHEMA)
        assert ran.out == rca("inspect", fixtures / "normal", *form).out, "same capture, same bytes"

    def test_json_goes_to_a_file(self, fixtures: Path, tmp_path: Path, rca) -> None:
        ran = rca("inspect", fixtures / "normal", "--json", tmp_path / "out.json", "-q")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("capture ")
        assert json.loads((tmp_path / "out.json").read_text())["cycles"]["count"] == 84

    def test_cycle(self, fixtures: Path, rca) -> None:
        def cycles(text: str) -> tuple[int, str, str]:
            own = json.loads(rca("inspect", fixtures / "normal", "--json", "-", "--cycle", text).out)["cycles"]
            return own["count"], own["anchor"], own["kind"]

        assert cycles("execute_.*_generation") == (84, "execute_.*_generation", "named by the user")
        assert cycles("nvtx:execute_context") == (84, "nvtx:execute_context", "named by the user")
        assert cycles("nvtx:aten::mm") == (0, None, None), "an operator is no annotation"
        steps_of_4 = "execute_context_0(0)_generation_4(4)"  # parentheses and all: a name, not an expression
        assert cycles(steps_of_4) == (72, steps_of_4, "named by the user")

    def test_cycle_list(self, fixtures: Path, rca) -> None:
        ran = rca("inspect", fixtures / "normal", "--cycle", "list")
        assert ran.code == 0
        title, heading, first, *_ = ran.out.splitlines()
        assert title == str(fixtures / "normal")
        assert heading.split() == ["anchor", "kind", "cycles", "coverage", "median"]
        assert re.split(r"  +", first) == [STEP, "annotation", "84", "99.9%", "7.16 ms"]

    def test_cycle_list_of_both_sides(self, fixtures: Path, tmp_path: Path, rca) -> None:
        sides = (fixtures / "normal", fixtures / "abnormal")
        ran = rca("compare", *sides, "--cycle", "list")
        assert ran.code == 0
        assert ran.out.startswith(f"normal: {sides[0]}\n")
        assert f"\n\nabnormal: {sides[1]}\n" in ran.out
        assert [line.split()[2] for line in ran.out.splitlines() if line.startswith(STEP)] == ["84", "83"]
        assert rca("compare", *sides, "--cycle", "list", "--md", tmp_path / "x").code == 2
        assert not (tmp_path / "x").exists()

    def test_cycle_list_where_compare_finds_nothing(self, tmp_path: Path, rca) -> None:
        for side in ("normal", "abnormal"):
            write_counters(tmp_path / side / "counters.csv", {"cpu_frequency": 3000})
        ran = rca("compare", tmp_path / "normal", tmp_path / "abnormal", "--cycle", "list")
        assert ran.code == 0
        assert ran.out.count("no anchor: ") == 2

    def test_what_is_refused(self, fixtures: Path, tmp_path: Path, rca) -> None:
        (tmp_path / "empty").mkdir()
        assert rca("inspect", tmp_path / "nowhere").code == 2
        assert rca("inspect", tmp_path / "empty").code == 2
        assert rca("inspect").code == 2
        assert rca("inspect", fixtures / "normal", "--cycle", "").code == 2
        ran = rca("inspect", fixtures / "normal", "--cycle", "(")
        assert ran.code == 2
        assert ran.err.count("\n") == 1
        ran = rca("inspect", tmp_path, "--json", tmp_path / "x.json")
        assert ran.code == 2
        assert "lies in a capture" in ran.err

    def test_a_truncated_file_is_a_finding(self, tmp_path: Path, rca) -> None:
        whole = write_trace(tmp_path / "rank0.json", decode_trace(12))
        whole.write_bytes(whole.read_bytes()[:-4000])
        ran = rca("inspect", tmp_path)
        assert ran.code == 0
        assert re.search(r"^damage +truncated +rank0.json: ", ran.out, re.MULTILINE)
        assert re.search(r"^findings +\d damage", ran.out, re.MULTILINE)

    def test_completion(self) -> None:
        environment = os.environ | {"_RCA_COMPLETE": "bash_complete", "COMP_WORDS": "rca inspect --c", "COMP_CWORD": "2"}
        command = [sys.executable, "-m", "rca.cli"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
        assert "--cycle" in ran.stdout


def test_a_pattern_that_is_none(fixtures: Path) -> None:
    with pytest.raises(UsageError):
        inspect(fixtures / "normal", cycle="[")


def test_a_pair_is_listed_alike(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    assert [item.name for item in inspect(normal).anchors] == [item.name for item in inspect(abnormal).anchors]
