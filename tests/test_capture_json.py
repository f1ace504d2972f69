"""The collector's manifest as part of a capture: facts, findings, and what two captures differ in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import amd_builder
import msgspec
import pytest
from traces import BASE_NS, decode_trace, read_with, write_counters, write_trace

from rca.capture.findings import CODES, Finding, Severity
from rca.capture.load import load
from rca.capture.manifest import (
    KINDS,
    SCHEMA,
    Clocks,
    Engine,
    Event,
    Gpu,
    Host,
    Manifest,
    ProfilerFacts,
    SamplerFacts,
    boot_to_unix_ns,
)
from rca.capture.readers import counters
from rca.capture.settings import compare_settings

CLOCKS = [Clocks(BASE_NS, 5_000_000_000, 4_000_000_000), Clocks(BASE_NS + 10**9, 6_000_000_000, 5_000_000_000)]


def write_manifest(folder: Path, **fields: Any) -> Path:
    """Write a manifest as the collector does."""
    content = msgspec.json.encode(Manifest(SCHEMA, "rca 1", **({"status": "complete", "clocks": CLOCKS} | fields)))
    path = folder / "capture.json"
    path.write_bytes(msgspec.json.format(content, indent=1) + b"\n")
    return path


def make(folder: Path, **fields: Any) -> Path:
    """Make a capture of a trace, counters, a log and a manifest."""
    write_trace(folder / "traces" / "rank0.json", decode_trace(12))
    write_counters(folder / "counters" / "cpu.csv", {"host_cpu_usage": 30.0})
    (folder / "logs").mkdir()
    (folder / "logs" / "collect.log").write_text("1 rca 1: recording\n")
    return write_manifest(folder, **fields)


def said(folder: Path) -> list[Finding]:
    """Return what is found about the manifest of a capture, and nothing else about it."""
    capture = load(folder)
    assert capture.events.height == 12 * 10
    assert capture.counters.height == 50
    assert {finding.file for finding in capture.findings} <= {"capture.json"}
    return list(capture.findings)


class TestFindings:
    def test_a_capture_without_a_problem_has_none(self, tmp_path: Path) -> None:
        make(tmp_path)
        assert said(tmp_path) == []
        assert [(file.path, file.format) for file in load(tmp_path).files] == [
            ("capture.json", "capture-json"),
            ("counters/cpu.csv", "counters"),
            ("traces/rank0.json", "chrome"),
        ]

    @pytest.mark.parametrize(("status", "codes"), [("recording", ["unfinished"]), ("interrupted", []), ("complete", [])])
    def test_unfinished(self, tmp_path: Path, status: str, codes: list[str]) -> None:
        make(tmp_path, status=status)
        assert [finding.code for finding in said(tmp_path)] == codes

    @pytest.mark.parametrize(
        ("kind", "code", "severity"),
        [
            ("process_started", "while_recording", Severity.INFO),
            ("interrupted", "while_recording", Severity.INFO),
            ("process_ended", "while_recording", Severity.WARNING),
            ("server_silent", "while_recording", Severity.WARNING),
            ("gpu_lost", "while_recording", Severity.WARNING),
            ("gpu_error", "while_recording", Severity.WARNING),
            ("sampler_failed", "while_recording", Severity.WARNING),
            ("profiler", "while_recording", Severity.DAMAGE),
            ("clock_step", "clock_jump", Severity.WARNING),
            ("trace_missing", "lost_events", Severity.DAMAGE),
            ("disk_full", "while_recording", Severity.WARNING),
        ],
    )
    def test_an_event_is_said(self, tmp_path: Path, kind: str, code: str, severity: Severity) -> None:
        make(tmp_path, events=[Event(BASE_NS, kind, "what happened")])
        [finding] = said(tmp_path)
        assert (finding.code, finding.severity, finding.text) == (code, severity, f"{kind}: what happened")

    def test_many_events_of_a_kind_are_one_finding(self, tmp_path: Path) -> None:
        events = [Event(BASE_NS + i, kind, f"no. {i}") for i in range(1500) for kind in ("process_ended", "clock_step")]
        make(tmp_path, events=events)
        assert [finding.text for finding in said(tmp_path)] == [
            "process_ended: no. 0 (and 1,499 more)",
            "clock_step: no. 0 (and 1,499 more)",
        ]

    def test_every_kind_of_event_has_a_code(self, tmp_path: Path) -> None:
        make(tmp_path, events=[Event(BASE_NS, kind, "x") for kind in [*KINDS, "of_a_later_version"]])
        found = said(tmp_path)
        assert len(found) == len(KINDS) + 1
        assert {finding.code for finding in found} <= CODES.keys()

    def test_lost_samples_are_added_up(self, tmp_path: Path) -> None:
        make(tmp_path, samplers=[SamplerFacts("a", 1, lost=1000), SamplerFacts("b", 1), SamplerFacts("c", 1, lost=234)])
        [finding] = said(tmp_path)
        assert (finding.code, finding.severity) == ("lost_events", Severity.DAMAGE)
        assert finding.text == "1,234 samples could not be written"

    def test_what_could_not_be_measured_is_named(self, tmp_path: Path) -> None:
        make(tmp_path, unavailable={"gpu_*": "no driver", "cpu_power": "no RAPL"})
        [finding] = said(tmp_path)
        assert (finding.code, finding.severity) == ("not_measured", Severity.INFO)
        assert finding.text == "not available on that machine: cpu_power, gpu_*"

    def test_the_profilers_cost_is_named(self, tmp_path: Path) -> None:
        make(tmp_path, profiler=ProfilerFacts(overhead_pct=12.34, stall_seconds=2.5))
        [finding] = said(tmp_path)
        assert (finding.code, finding.severity) == ("profiler_overhead", Severity.INFO)
        assert finding.text == (
            "while it was profiled the server did 12.3 % fewer steps per second; writing the trace cost 2.5 s of its work"
        )


class TestFacts:
    def test_facts_are_those_that_comparisons_need(self, tmp_path: Path) -> None:
        make(
            tmp_path,
            host=Host("node1", "6.1.0", "EPYC", 64),
            gpus=[Gpu(0, "H100", driver="550.1"), Gpu(1, "H100", driver="550.1")],
            engine=Engine("vllm", "0.13.0", "http://127.0.0.1:8000", {"max_num_seqs": 256}),
            command=["vllm", "bench"],
            unavailable={"cpu_temp": "no sensor"},
        )
        assert load(tmp_path).meta[0] == {
            "recorded_by": "rca 1",
            "host_name": "node1",
            "linux_version": "6.1.0",
            "cpu": "EPYC",
            "cores": 64,
            "gpus": ["H100", "H100"],
            "driver_version": "550.1",
            "engine": "vllm",
            "engine_settings": {"max_num_seqs": 256},
            "vllm_version": "0.13.0",
            "command": ["vllm", "bench"],
            "unavailable": {"cpu_temp": "no sensor"},
        }

    def test_what_is_not_known_is_left_out(self, tmp_path: Path) -> None:
        make(tmp_path, host=Host("node1"), engine=Engine("vllm"))
        assert load(tmp_path).meta[0] == {
            "recorded_by": "rca 1",
            "host_name": "node1",
            "engine": "vllm",
            "engine_settings": {},
        }


class TestOddManifests:
    def test_logs_are_no_strangers(self, tmp_path: Path) -> None:
        path = make(tmp_path)
        (tmp_path / "logs" / "server.out").write_text("listening\n")
        assert said(tmp_path) == []
        path.unlink()
        assert sorted(finding.file for finding in load(tmp_path).findings) == ["logs/collect.log", "logs/server.out"]

    def test_other_files_stay_strangers(self, tmp_path: Path) -> None:
        make(tmp_path)
        (tmp_path / "notes.txt").write_text("mine\n")
        assert [(f.code, f.file) for f in load(tmp_path).findings] == [("skipped", "notes.txt")]

    @pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
    def test_a_manifest_that_is_cut_off_is_said(self, tmp_path: Path, part: float) -> None:
        path = make(tmp_path, host=Host("node1"), events=[Event(BASE_NS, "process_ended", "x")])
        content = path.read_bytes()
        path.write_bytes(content[: int(part * len(content))])
        capture = load(tmp_path)
        [finding] = [finding for finding in capture.findings if finding.file == "capture.json"]
        assert (finding.code, finding.severity) == ("skipped", Severity.DAMAGE)
        assert finding.text.startswith("is no valid manifest")
        assert capture.events.height > 0
        assert capture.meta[0] == {}

    @pytest.mark.parametrize(
        "damage", [{"events": "none"}, {"clocks": [{"realtime_ns": -1, "boottime_ns": 1}]}, {"samplers": [{"name": 1}]}]
    )
    def test_a_manifest_that_holds_what_it_must_not_is_said(self, tmp_path: Path, damage: dict[str, Any]) -> None:
        path = make(tmp_path)
        path.write_text(json.dumps(json.loads(path.read_text()) | damage))
        assert [(f.code, f.severity) for f in load(tmp_path).findings if f.file == "capture.json"] == [
            ("skipped", Severity.DAMAGE)
        ]

    def test_fields_of_later_versions_are_ignored(self, tmp_path: Path) -> None:
        path = make(tmp_path, host=Host("node1"))
        later = json.loads(path.read_text())
        later |= {"weather": "fine", "host": later["host"] | {"altitude_m": 400}}
        path.write_text(json.dumps(later))
        assert said(tmp_path) == []
        assert load(tmp_path).meta[0]["host_name"] == "node1"

    def test_fields_may_be_missing(self, tmp_path: Path) -> None:
        make(tmp_path).write_text(json.dumps({"schema": SCHEMA, "clocks": msgspec.to_builtins(CLOCKS)}))
        assert said(tmp_path) == []

    def test_a_manifest_of_the_old_style_still_places_times(self, tmp_path: Path) -> None:
        amd_builder.rpd(tmp_path)
        before = load(tmp_path)
        clocks = [{"realtime_ns": BASE_NS, "boottime_ns": amd_builder.BOOT_NS}]
        (tmp_path / "capture.json").write_text(json.dumps({"clocks": clocks}))
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "server.log").write_text("listening\n")
        after = load(tmp_path)
        assert [file.path for file in after.files] == [file.path for file in before.files], "it holds nothing but clocks"
        assert (after.events["start_ns"] - BASE_NS).to_list() == (before.events["start_ns"] - amd_builder.BOOT_NS).to_list()
        assert "no_wall_clock" not in {finding.code for finding in after.findings}
        assert not [finding for finding in after.findings if finding.file.startswith(("logs/", "capture.json"))]

    def test_the_clocks_at_the_start_count(self, tmp_path: Path) -> None:
        """The wall clock was set in between: samples and traces are on the clock of the start."""
        path = write_manifest(tmp_path, clocks=[Clocks(BASE_NS, 5, 5), Clocks(BASE_NS + 3600 * 10**9, 6, 6)])
        assert boot_to_unix_ns(path) == BASE_NS - 5


class TestTwoCaptures:
    def differences(self, folder: Path, normal: dict[str, Any], abnormal: dict[str, Any]) -> list[tuple[str, Severity]]:
        make(folder / "normal", **normal)
        make(folder / "abnormal", **abnormal)
        found = compare_settings(load(folder / "normal"), load(folder / "abnormal"))
        assert {finding.code for finding in found} <= {"engine_settings_differ", "software_differs", "hardware_differs"}
        return [(finding.text, finding.severity) for finding in found]

    @staticmethod
    def engine(version: str = "0.13.0", **settings: Any) -> dict[str, Any]:
        return {"engine": Engine("vllm", version, "http://127.0.0.1:8000", settings)}

    def test_settings_of_the_engine(self, tmp_path: Path) -> None:
        normal = self.engine(max_num_seqs=256, seed=1, port=8000, dtype="auto", log_level="info", model_path="/a")
        abnormal = self.engine(max_num_seqs=8, seed=2, port=8001, dtype="auto", enforce_eager=True, model_path="/b")
        assert self.differences(tmp_path, normal, abnormal) == [
            (
                "the engine was started with other settings: enforce_eager not set → True, max_num_seqs 256 → 8",
                Severity.INFO,
            )
        ]

    def test_many_settings_are_counted(self, tmp_path: Path) -> None:
        normal, abnormal = ({f"option_{i}": value for i in range(9)} for value in (1, 2))
        [(text, _)] = self.differences(tmp_path, self.engine(**normal), self.engine(**abnormal))
        assert text.endswith("option_5 1 → 2, … (9 in all)")
        assert "option_6" not in text

    def test_a_side_that_states_no_settings_says_nothing(self, tmp_path: Path) -> None:
        assert self.differences(tmp_path, self.engine(max_num_seqs=256), {}) == []

    def test_machines_and_versions(self, tmp_path: Path) -> None:
        normal = {"host": Host("a", "6.1.0", "EPYC", 64)} | self.engine("0.13.0")
        abnormal = {"host": Host("b", "6.2.0", "Xeon", 32)} | self.engine("0.14.0")
        found = self.differences(tmp_path, normal, abnormal)
        assert [(text.split(":")[0], severity) for text, severity in found] == [
            ("linux_version is 6.1.0 in the normal capture and 6.2.0 in the abnormal one", Severity.WARNING),
            ("vllm_version is 0.13.0 in the normal capture and 0.14.0 in the abnormal one", Severity.WARNING),
            ("the host's CPU is EPYC in the normal capture and Xeon in the abnormal one", Severity.WARNING),
            ("the host's number of cores is 64 in the normal capture and 32 in the abnormal one", Severity.WARNING),
        ]

    def test_the_same_twice(self, tmp_path: Path) -> None:
        facts = {"host": Host("a", "6.1.0", "EPYC", 64), "unavailable": {"cpu_temp": "x"}} | self.engine(max_num_seqs=256)
        assert self.differences(tmp_path, facts, facts) == []


HEADER = "timestamp,metric,device,value,unit,pid\n"
LINE = f"{BASE_NS},process_cpu_usage,Host,12.5,% of one core,{{pid}}\n"
NAMED = f'{BASE_NS},thread_cpu_usage,"threads a,b",12.5,% of one core,{{pid}}\n'


class TestJournalsOfAKilledCollector:
    def test_a_last_line_that_is_cut_off_is_left_out_and_said(self, tmp_path: Path) -> None:
        make(tmp_path, status="recording")
        journal = tmp_path / "counters" / "threads.csv"
        journal.write_text(HEADER + LINE.format(pid=41) + LINE.format(pid=42)[:40])
        capture = load(tmp_path)
        assert {(finding.code, finding.file) for finding in capture.findings if finding.file} == {
            ("unfinished", "capture.json"),
            ("truncated", "counters/threads.csv"),
        }
        assert capture.counters.filter(metric="process_cpu_usage")["pid"].to_list() == [41]

    @staticmethod
    def read(path: Path, last: str) -> tuple[list[int | None], list[str]]:
        """Read a line of process 41 and a last one; return the processes, and the codes of what was found."""
        path.write_text(HEADER + LINE.format(pid=41) + last)
        reading = read_with(counters, path)
        return reading.counters["pid"].to_list(), [finding.code for finding in reading.findings]

    @pytest.mark.parametrize("cut", range(1, len(LINE.format(pid="")) - 1))
    def test_it_may_be_cut_off_anywhere(self, tmp_path: Path, cut: int) -> None:
        assert self.read(tmp_path / "x.csv", LINE[:cut]) == ([41], ["truncated"])

    def test_a_last_line_that_is_whole_is_read(self, tmp_path: Path) -> None:
        assert self.read(tmp_path / "x.csv", LINE.format(pid=42)) == ([41, 42], [])

    @pytest.mark.parametrize("pid", ["", "1", "123"])
    def test_it_may_be_cut_off_within_the_pid_12345(self, tmp_path: Path, pid: str) -> None:
        assert self.read(tmp_path / "x.csv", LINE.format(pid=pid).removesuffix("\n")) == ([41], ["truncated"])

    @pytest.mark.parametrize("unit", ["", "%", "% of one"])
    def test_it_may_be_cut_off_after_a_name_with_a_comma(self, tmp_path: Path, unit: str) -> None:
        assert self.read(tmp_path / "x.csv", NAMED.partition("%")[0] + unit) == ([41], ["truncated"])

    def test_it_may_be_cut_off_within_a_name_with_commas(self, tmp_path: Path) -> None:
        last = f'{BASE_NS},thread_cpu_usage,"threads a,b,c,d'
        assert self.read(tmp_path / "x.csv", last) == ([41], ["truncated"])
