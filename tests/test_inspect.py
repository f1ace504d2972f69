"""``rca inspect`` and ``--cycle list``: what a capture holds, as tables and as JSON, whatever it is."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import made_captures
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_captures import MS, SECOND, T0, US, event, samples
from traces import decode_trace, span, write_counters, write_pair, write_trace

from rca import cli as command_line
from rca.api import inspect
from rca.capture.findings import Finding, Severity
from rca.capture.model import Capture
from rca.capture.tables import KINDS
from rca.errors import UsageError
from rca.inspection import Inspection, describe
from reports import inspection as report

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "reports/schema/inspection-1.schema.json").read_text())
STEP = "execute_context_…_generation_…"


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def rca(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]):
    def run(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["rca", *map(str, arguments)])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        sys.stdout.flush()
        captured = capfdbinary.readouterr()
        return Ran(int(ended.value.code or 0), captured.out.decode(), captured.err.decode())

    return run


def capture(rows: list[dict[str, Any]], counters: list[pl.DataFrame] | None = None, **fields: Any) -> Capture:
    side = made_captures.capture(rows, counters, **fields)
    return replace(side, files=tuple(replace(file, sha256=file.sha256.zfill(64)) for file in side.files))


def validated(result: Inspection) -> dict[str, Any]:
    """Return the JSON report, checked against its schema; the tables must not fail either."""
    document: dict[str, Any] = json.loads(report.inspection_json(result))
    jsonschema.validate(document, SCHEMA)
    assert report.text(result, everything=True)
    return document


class TestWhatACaptureHolds:
    def test_fixture(self, fixtures: Path) -> None:
        """Numbers by an independent reading: annotations and their distances with json and statistics, counters with awk."""
        result = inspect(fixtures / "normal")
        document = validated(result)
        assert document["schema"] == "rca.inspection/1"
        assert document["events"] == {"total": 40_426, "by_kind": {"op": 40_344, "annotation": 80, "window": 2}}
        assert (result.time.of, result.time.start) == ("events", "2026-11-21T02:13:06.094Z")
        cycles = document["cycles"]
        assert (cycles["count"], cycles["complete"], cycles["anchor"], cycles["kind"]) == (80, 79, STEP, "annotation")
        assert cycles["phases"] == {"decode": 77, "mixed": 3}
        assert cycles["median_us"] == pytest.approx(34_648.7)
        assert cycles["phase_median_us"]["decode"] == pytest.approx(34_545.1)
        assert cycles["reason"] is None
        (rank,) = document["ranks"]
        assert (rank["role"], rank["rank"], rank["pid"], rank["world_size"], rank["cycles"]) == ("rank 0", 0, 3812, 1, 80)
        assert len(document["counters"]) == 26
        memory = next(item for item in document["counters"] if item["metric"] == "host_mem_available")
        assert (memory["samples"], memory["unit"], memory["holes"], memory["pid"]) == (80, "bytes", 0, None)
        assert (memory["min"], memory["max"]) == (2.20197e10, 2.20764e10)
        assert memory["period_ms"] == pytest.approx(50, rel=0.02)
        assert [device["name"] for device in document["devices"]] == ["Host", "CPU 0", "CPU 1"]
        assert [device["counters"] for device in document["devices"]] == [24, 1, 1]
        assert document["anchors"][0] == {
            "name": STEP,
            "kind": "annotation",
            "cycles": 80,
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


KINETO: dict[str, tuple[dict[str, int], dict[str, int], int, str]] = {
    "kineto/b200_eager.json.gz": (
        {"kernel": 768, "memcpy": 161, "runtime": 1151, "driver": 221, "op": 4809, "annotation": 3, "gpu_annotation": 3}
        | {"python": 15230, "overhead": 9},
        {"GPU 0": 929},
        1,
        STEP,
    ),
    "kineto/negative_queue_length_rank0.json.gz": (
        {"kernel": 6080, "memcpy": 1390, "memset": 277, "runtime": 33924, "op": 25190, "annotation": 355, "window": 1},
        {"GPU 0": 7747},
        5,
        "ProfilerStep#",
    ),
    "kineto/ns_resolution_rank0.json.gz": (
        {"kernel": 4350, "memcpy": 1600, "memset": 145, "runtime": 15329, "op": 23920, "annotation": 60}
        | {"gpu_annotation": 15, "window": 1},
        {"GPU 0": 6095},
        5,
        "ProfilerStep#",
    ),
    "kineto/resnet50_dataloader_0_workers.abnormal.json.gz": (
        {"kernel": 8772, "memcpy": 12, "memset": 312, "runtime": 11923, "op": 23640, "annotation": 6, "window": 1},
        {"GPU 0": 9096},
        6,
        "ProfilerStep#",
    ),
    "kineto/resnet50_dataloader_4_workers.normal.json.gz": (
        {"kernel": 8868, "memcpy": 12, "memset": 378, "runtime": 12085, "op": 20556, "annotation": 6, "window": 1},
        {"GPU 0": 9258},
        6,
        "ProfilerStep#",
    ),
    "kineto/resnet_30_iterations_dataloader_stalls.json.gz": (
        {"kernel": 9628, "memcpy": 123, "memset": 362, "runtime": 25928, "op": 39506, "window": 1},
        {"GPU 0": 10113},
        30,
        "repeating kernel sequence",
    ),
    "kineto/sglang_decode_qwen3_30b_B300.json.gz": (
        {"kernel": 713, "memcpy": 4, "memset": 1, "runtime": 61, "driver": 1, "op": 258, "annotation": 2}
        | {"gpu_annotation": 3, "python": 2142, "overhead": 1, "window": 1},
        {"GPU 0": 718},
        1,
        STEP,
    ),
    "kineto/sglang_decode_qwen3_30b_MI300.json.gz": (
        {
            "kernel": 802,
            "memcpy": 3,
            "runtime": 50,
            "op": 198,
            "annotation": 2,
            "gpu_annotation": 3,
            "python": 2132,
            "window": 1,
        },
        {"GPU 5": 805},
        1,
        STEP,
    ),
    "kineto/sglang_prefill_qwen3_8b_MI300.json.gz": (
        {"kernel": 527, "memcpy": 7, "runtime": 1069, "op": 3786, "annotation": 2, "python": 53321},
        {"GPU 9": 534},
        1,
        STEP,
    ),
    "kineto/vit_bfloat16.json.gz": (
        {"kernel": 633, "memcpy": 5, "runtime": 1094, "driver": 150, "op": 2048, "annotation": 5, "gpu_annotation": 13}
        | {"window": 1},
        {"GPU 0": 638},
        5,
        "timed region",
    ),
    "kineto/vllm_decode_cudagraph.json.gz": (
        {"kernel": 425, "memcpy": 9, "runtime": 20, "op": 100, "annotation": 1, "python": 984},
        {"GPU 2": 434},
        1,
        STEP,
    ),
    "kineto/vllm_prefilldecode_piecewise.json.gz": (
        {"kernel": 413, "memcpy": 10, "runtime": 381, "op": 642, "annotation": 1, "python": 17038},
        {"GPU 2": 423},
        1,
        STEP,
    ),
}
"""By file: events by kind, events of GPUs, cycles, how the anchor's name begins.

Counted with json: ``Counter(e["cat"] for e in traceEvents if e["ph"] == "X")``, GPU rows by ``args.device``, cycles by the
names of the annotations. Operators that are annotated as ``user_annotation`` (optimizer steps, data loaders) and steps that
are recorded as ``Operator`` change places between op and annotation; their sum was checked. "30 iterations" is that file's
own name.
"""

NSYS: dict[str, tuple[dict[str, int], dict[str, int], int | None, str | None]] = {
    "nsys/h100_2gpu_1s.sqlite": (
        {"kernel": 3442, "memcpy": 904, "memset": 22, "runtime": 5796, "sync": 244, "op": 16782, "overhead": 198},
        {"GPU 0": 2184, "GPU 1": 2184},
        24,
        "repeating kernel sequence",
    ),
    "nsys/mfu_2gpu_after.sqlite": (
        {"kernel": 3587, "memcpy": 904, "memset": 242, "runtime": 5722, "driver": 960, "sync": 334, "op": 16693}
        | {"annotation": 420, "overhead": 6},
        {"GPU 0": 2366, "GPU 1": 2367},
        None,
        None,
    ),
    "nsys/mfu_2gpu_before.sqlite": (
        {"kernel": 4010, "memcpy": 1020, "memset": 269, "runtime": 6392, "driver": 1074, "sync": 366, "op": 18656}
        | {"annotation": 462, "overhead": 6},
        {"GPU 0": 2636, "GPU 1": 2663},
        None,
        None,
    ),
    "nsys/perlmutter-cloverleaf-cuda.sqlite": (
        {"kernel": 1312, "memcpy": 279, "runtime": 3047, "driver": 1, "sync": 1312, "oncpu": 627, "io": 205}
        | {"overhead": 47, "other": 1623},
        {"GPU 0": 1591},
        None,
        None,
    ),
    "parquet": ({"annotation": 28602, "gpu_annotation": 28602}, {"GPU ?": 28602}, None, None),
}
"""As `KINETO`; None where it is not known how many cycles the program ran.

Counted with sqlite3: ``count(*)`` of each CUPTI_ACTIVITY_KIND_* table (runtime and driver together are KIND_RUNTIME's),
NVTX_EVENTS by domain, PROFILER_OVERHEAD and KIND_OVERHEAD together, SCHED_EVENTS' 1,254 as 627 pairs; less 3 of OSRT_API's
1,831, which io and other share. Parquet: 14,305 and 14,299 rows (polars), less the one without a name in each.
"""

OWN: dict[str, tuple[dict[str, int], dict[str, int], int, str]] = {
    "sglang/detailed-noshapes-manualstop.1795221626.8727658-TP-0.trace.json.gz": (
        {"op": 56336, "annotation": 72, "window": 1},
        {},
        12,
        "step[…]",
    ),
    "sglang/merged-1795221630.2129607.trace.json.gz": ({"op": 35153, "annotation": 48, "window": 1}, {}, 8, "step[…]"),
    "sglang/nostack-40steps-idle-gaps.1795221612.848706-TP-0.trace.json.gz": (
        {"op": 176327, "annotation": 7617, "window": 1},
        {},
        40,
        "step[…]",
    ),
    "sglang/overlap-nostack-16steps.1795221756.3274808-TP-0.trace.json.gz": (
        {"op": 91090, "annotation": 114, "window": 1},
        {},
        16,
        "step[…]",
    ),
    "sglang/overlap-stack-4steps.1795222349.1191719-TP-0.trace.json.gz": (
        {"op": 19054, "annotation": 30, "python": 34379, "window": 1},
        {},
        4,
        "step[…]",
    ),
    "sglang/stack-4steps.1795221621.9017775-TP-0.trace.json.gz": (
        {"op": 24010, "annotation": 26, "python": 25096, "window": 1},
        {},
        4,
        "step[…]",
    ),
    "sglang/startstep-8steps.1795221630.2129607-TP-0.trace.json.gz": (
        {"op": 35153, "annotation": 48, "window": 1},
        {},
        8,
        "step[…]",
    ),
    "sglang/tiny-1795221624.4103634-TP-0-DECODE.trace.json.gz": (
        {"op": 15030, "annotation": 30, "window": 1},
        {},
        5,
        "step[…]",
    ),
    "sglang/tiny-1795221624.4103634-TP-0-EXTEND.trace.json.gz": (
        {"op": 3284, "annotation": 6, "window": 1},
        {},
        1,
        "step[…]",
    ),
    "vllm/nostack": ({"op": 28234, "annotation": 60, "window": 2}, {}, 60, STEP),
    "vllm/stack-eager-4steps": ({"op": 7500, "annotation": 4, "python": 80641 + 78399, "window": 2}, {}, 4, STEP),
}
"""As `KINETO`."""

REAL = {f"traces/{name}": value for name, value in (KINETO | NSYS).items()} | {f"own/{n}": v for n, v in OWN.items()}


@pytest.mark.parametrize("name", REAL)
def test_real_traces(shared_data: Path, name: str) -> None:
    by_kind, gpus, cycles, anchor = REAL[name]
    result = inspect(shared_data / name)
    assert result.events.by_kind == dict(sorted(by_kind.items(), key=lambda item: KINDS.index(item[0])))
    assert result.events.total == sum(by_kind.values())
    of_gpus = {device.name: device.events for device in result.devices if device.name != "Host"}
    gpu_annotations = by_kind.get("gpu_annotation", 0)
    assert sum(of_gpus.values()) in (sum(gpus.values()), sum(gpus.values()) + gpu_annotations)
    assert set(of_gpus) == set(gpus)
    if cycles is not None:
        assert result.cycles.count == cycles
        assert (result.cycles.anchor or "").startswith(str(anchor))
    validated(result)


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
        assert lines[start + 14] == "… 14 more (--all)"
        assert lines[-1] == "Nothing wrong was found."
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
        assert json.loads((tmp_path / "out.json").read_text())["cycles"]["count"] == 80

    def test_cycle(self, fixtures: Path, rca) -> None:
        def cycles(text: str) -> tuple[int, str, str]:
            own = json.loads(rca("inspect", fixtures / "normal", "--json", "-", "--cycle", text).out)["cycles"]
            return own["count"], own["anchor"], own["kind"]

        assert cycles("execute_.*_generation") == (80, "execute_.*_generation", "named by the user")
        assert cycles("nvtx:execute_context") == (80, "nvtx:execute_context", "named by the user")
        assert cycles("nvtx:aten::mm") == (0, None, None), "an operator is no annotation"
        exact = rca("inspect", fixtures / "normal", "--cycle", "execute_context_1(256)_generation_3(3)").out
        assert "by execute_context_1(256)_generation_3(3) (named by the user)" in exact or "no span is named" in exact

    def test_cycle_list(self, fixtures: Path, rca) -> None:
        ran = rca("inspect", fixtures / "normal", "--cycle", "list")
        assert ran.code == 0
        title, heading, first, *_ = ran.out.splitlines()
        assert title == str(fixtures / "normal")
        assert heading.split() == ["anchor", "kind", "cycles", "coverage", "median"]
        assert re.split(r"  +", first) == [STEP, "annotation", "80", "100.0%", "34.6 ms"]

    def test_cycle_list_of_both_sides(self, fixtures: Path, tmp_path: Path, rca) -> None:
        sides = (fixtures / "normal", fixtures / "abnormal")
        ran = rca("compare", *sides, "--cycle", "list")
        assert ran.code == 0
        assert ran.out.startswith(f"normal: {sides[0]}\n")
        assert f"\n\nabnormal: {sides[1]}\n" in ran.out
        assert [line.split()[2] for line in ran.out.splitlines() if line.startswith(STEP)] == ["80", "18"]
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

    def test_completion(self) -> None:
        environment = os.environ | {"_RCA_COMPLETE": "bash_complete", "COMP_WORDS": "rca inspect --c", "COMP_CWORD": "2"}
        command = [sys.executable, "-m", "rca.cli"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
        assert "--cycle" in ran.stdout


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

    def test_plain_text(self, side: Path, rca) -> None:
        for arguments in (["--all"], ["--cycle", "list"], []):
            ran = rca("inspect", side, *arguments)
            assert ran.code == 0
            assert all(char.isprintable() or char == "\n" for char in ran.out)
            assert "[red]" in ran.out, "markup is text"
            assert max(map(len, ran.out.splitlines())) < 1000

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
        assert any(HOSTILE.encode(errors="replace").decode()[:40] in anchor["name"] for anchor in document["anchors"])
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


def test_a_pattern_that_is_none(fixtures: Path) -> None:
    with pytest.raises(UsageError):
        inspect(fixtures / "normal", cycle="[")


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


def test_a_pair_is_listed_alike(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    assert [item.name for item in inspect(normal).anchors] == [item.name for item in inspect(abnormal).anchors]
