"""What may go wrong while a server is recorded: each is injected, recorded and said, and none is fatal.

The servers are stand-ins, for real ones cannot be told to misbehave; those are in tests/integration.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from collectors import clocks, engines
from collectors.clocks import read_clocks
from collectors.collect import Options
from collectors.collect import collect as collect_here
from rca.capture.load import load
from rca.capture.manifest import Clocks

FAKE = Path(__file__).with_name("fake_engine.py")


@dataclass
class Fake:
    url: str
    traces: Path
    process: subprocess.Popen

    def is_profiling(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/profiling", timeout=5) as answer:
            return answer.read() == b"True"


@contextmanager
def fake(tmp_path: Path, behaviour: str) -> Iterator[Fake]:
    traces = tmp_path / "served"
    traces.mkdir()
    command = [sys.executable, str(FAKE), "0", str(traces), behaviour]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"MY_SECRET": "from-the-environment"}
    ) as process:
        try:
            port = int(process.stdout.readline())
            yield Fake(f"http://127.0.0.1:{port}", traces, process)
        finally:
            process.kill()


def command(server: Fake, out: Path, *more: str) -> list[str]:
    fixed = ["--url", server.url, "--profile-dir", str(server.traces), "--duration", "3", "--steps", "20"]
    return [sys.executable, "-m", "rca.cli", "collect", "-o", str(out), *fixed, *more]


def collect(server: Fake, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(server, out, *more), capture_output=True, text=True, timeout=60, check=False)


def manifest(out: Path) -> dict:
    return json.loads((out / "capture.json").read_text())


def test_a_server_that_behaves_is_recorded_and_can_be_compared(tmp_path: Path, rca) -> None:
    with fake(tmp_path, "fine") as server:
        for side in ("normal", "abnormal"):
            ran = collect(server, tmp_path / side)
            assert ran.returncode == 0, ran.stderr
            assert ran.stderr == ""
            (server.traces / "rank0.pt.trace.json.gz").unlink(missing_ok=True)
        assert not server.is_profiling()
    assert f"next: rca compare {tmp_path / 'normal'} {tmp_path / 'abnormal'}" in ran.stdout
    facts = manifest(tmp_path / "normal")
    assert facts["status"] == "complete"
    assert facts["events"] == []
    assert [trace["path"] for trace in facts["traces"]] == ["traces/rank0.pt.trace.json.gz"]
    assert abs(facts["profiler"]["throughput"]["before"]["steps_per_s"] - 100) < 20
    assert facts["engine"] == facts["engine"] | {"name": "vllm", "version": "0.32.0", "url": server.url}
    assert [process["pid"] for process in facts["processes"]] == [server.process.pid]
    assert len(facts["clocks"]) == 2
    capture = load(tmp_path / "normal")
    assert {file.format for file in capture.files} == {"capture-json", "counters-parquet", "chrome"}
    assert {"host_cpu_usage", "process_cpu_usage", "vllm:num_requests_running"} <= set(capture.counters["metric"].cast(str))
    assert rca("compare", tmp_path / "normal", tmp_path / "abnormal").code in (0, 4)


def test_nothing_private_is_written_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    with fake(tmp_path, "fine") as server:
        assert collect(server, tmp_path / "out").returncode == 0
    for path in (tmp_path / "out").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        if path.is_file():
            assert b"from-the-environment" not in path.read_bytes()


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("no_profiler", "this vLLM has no profiler: start it with --profiler-config"),
        ("taken", "a profile that somebody else started is running; it was left alone"),
        ("refuses", "/start_profile answered HTTP 500"),
        ("no_trace", "0 of 1 expected traces were written in time"),
        ("endless_trace", "1 of 1 expected traces were written in time, and are still being written"),
    ],
)
def test_a_profiler_that_fails_is_said_and_the_counters_are_kept(tmp_path: Path, behaviour: str, said: str) -> None:
    with fake(tmp_path, behaviour) as server:
        ran = collect(server, tmp_path / "out", "--export-timeout", "2")
    assert ran.returncode == 0
    assert said in ran.stderr
    assert any(said in event["text"] for event in manifest(tmp_path / "out")["events"])
    assert load(tmp_path / "out").counters.height > 100


@pytest.mark.parametrize("behaviour", ["start_hangs", "stop_hangs"])
def test_a_profiler_that_hangs_does_not_hang_the_collector(tmp_path: Path, behaviour: str, monkeypatch) -> None:
    began = time.monotonic()
    with fake(tmp_path, behaviour) as server:
        ran = collect(server, tmp_path / "out", "--export-timeout", "2")
    assert ran.returncode == 0
    assert time.monotonic() - began < 50
    assert any(event["kind"] == "profiler" for event in manifest(tmp_path / "out")["events"])
    assert load(tmp_path / "out").counters.height > 100


def test_a_server_that_dies_ends_the_capture_early_and_is_named(tmp_path: Path) -> None:
    with fake(tmp_path, "dies") as server:
        ran = collect(server, tmp_path / "out", "--duration", "9")
    assert ran.returncode == 0
    kinds = {event["kind"] for event in manifest(tmp_path / "out")["events"]}
    assert {"profiler", "process_ended"} <= kinds
    findings = {finding.code for finding in load(tmp_path / "out").findings}
    assert {"while_recording", "lost_events"} & findings


def running(server: Fake, out: Path, until_profiling: bool) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command(server, out, "--duration", "9", "--steps", "100000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (out / "counters" / "cpu.csv").exists() or (until_profiling and not server.is_profiling()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("until_profiling", [False, True])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals, until_profiling: bool) -> None:
    with fake(tmp_path, "fine") as server:
        process = running(server, tmp_path / "out", until_profiling)
        process.send_signal(number)
        process.communicate(timeout=30)
        assert not server.is_profiling()
    assert process.returncode == 0
    facts = manifest(tmp_path / "out")
    assert facts["status"] == "interrupted"
    assert [event["text"] for event in facts["events"] if event["kind"] == "interrupted"] == [f"{number.name}: ended early"]
    assert bool(facts["traces"]) == until_profiling
    assert not list((tmp_path / "out" / "counters").glob("*.csv"))


def test_killed_it_leaves_a_folder_that_opens_and_no_profiler_running(tmp_path: Path) -> None:
    with fake(tmp_path, "fine") as server:
        process = running(server, tmp_path / "out", until_profiling=True)
        time.sleep(1.5)
        killed_ns = time.time_ns()
        process.kill()
        process.communicate()
        deadline = time.monotonic() + 20
        while server.is_profiling():
            assert time.monotonic() < deadline, "the profiler was left running"
            time.sleep(0.1)
    capture = load(tmp_path / "out")
    assert "unfinished" in {finding.code for finding in capture.findings}
    last_ns = capture.counters.filter(metric="host_cpu_usage")["ts_ns"].max()
    assert killed_ns - last_ns < 1.5e9
    assert manifest(tmp_path / "out")["status"] == "recording"


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as out:
        for _ in range(1000):
            try:
                out.write(b"x" * 4096)
            except OSError:
                return
    raise AssertionError("the disk did not fill")


def test_a_full_disk_is_survived_and_said(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=420k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk to fill")
    try:
        code = "import time; time.sleep(3)"
        arguments = ["-o", str(disk / "out"), "--hz", "100", "--", sys.executable, "-c", code]
        process = subprocess.Popen(
            [sys.executable, "-m", "rca.cli", "collect", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not (disk / "out" / "counters" / "cpu.csv").exists():
            time.sleep(0.05)
        fill(disk / "filler")
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "cannot be written: No space left on device" in err
        facts = manifest(disk / "out")
        assert facts["status"] == "complete"
        assert any(event["kind"] == "disk_full" for event in facts["events"])
        assert load(disk / "out").counters.height > 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_command_is_recorded_until_it_ends(tmp_path: Path) -> None:
    code = "import os, sys; open(os.environ['RCA_TRACES'] + '/t.json', 'w').write('{\"traceEvents\": []}'); sys.exit(3)"
    arguments = ["-o", str(tmp_path / "out"), "--", sys.executable, "-c", code, "--api-key", "hunter2"]
    ran = subprocess.run(
        [sys.executable, "-m", "rca.cli", "collect", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0
    assert "it ended with exit code 3" in ran.stderr
    facts = manifest(tmp_path / "out")
    assert facts["command"][-2:] == ["--api-key", "[redacted]"]
    assert [trace["path"] for trace in facts["traces"]] == ["traces/t.json"]
    assert "hunter2" not in (tmp_path / "out" / "capture.json").read_text()


def test_a_command_that_outlasts_the_recording_is_ended(tmp_path: Path) -> None:
    arguments = ["-o", str(tmp_path / "out"), "--duration", "1", "--", "sleep", "300"]
    ran = subprocess.run(
        [sys.executable, "-m", "rca.cli", "collect", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert "sleep was ended after the recording" in ran.stderr
    [pid] = [process["pid"] for process in manifest(tmp_path / "out")["processes"]]
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "OUT", "--pid", "99999999"], "--pid 99999999: no such process"),
        (["-o", "OUT", "--url", "http://127.0.0.1:9"], "is the server up?"),
        (["-o", "OUT", "--url", "ftp://x"], "expected http://HOST:PORT"),
        (["-o", "OUT", "--url", "http://127.0.0.1:99999"], "--url http://127.0.0.1:99999"),
        (["-o", "OUT", "--", "no-such-program"], "no-such-program: no such program"),
        (["-o", "OUT", "--nsys", "--", "true"], "nsys (Nsight Systems) is not on the PATH"),
        (["-o", "OUT", "--url", "http://127.0.0.1:9", "--", "true"], "give one of them"),
        ([], "-o DIR is missing"),
    ],
)
def test_what_cannot_be_recorded_is_one_line_and_no_folder(
    tmp_path: Path, rca, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    if "--nsys" in arguments:
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
    ran = rca("collect", *(str(tmp_path / "out") if word == "OUT" else word for word in arguments))
    assert ran.code == 2
    assert said in ran.err
    assert not (tmp_path / "out").exists()


def test_a_second_signal_waits_no_longer_for_the_trace(tmp_path: Path) -> None:
    with fake(tmp_path, "stop_hangs") as server:
        process = running(server, tmp_path / "out", until_profiling=True)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(1)
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert "not waited for" in manifest(tmp_path / "out")["events"][-1]["text"]


def test_a_server_on_another_machine_is_not_profiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_is_here", lambda server: False)
    with fake(tmp_path, "fine") as server:
        options = Options(output=tmp_path / "out", url=server.url, duration=1)
        collected = collect_here(options)
    assert collected.manifest.traces == []
    assert "is another machine: run the collector there" in collected.manifest.events[0].text
    assert "process_*" in collected.manifest.unavailable


def test_a_wall_clock_that_is_set_is_said_and_moves_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = time.monotonic()

    def read_and_step() -> Clocks:
        read = read_clocks()
        by_ns = 5_000_000_000 if time.monotonic() - begin > 1 else 0
        return Clocks(read.realtime_ns + by_ns, read.boottime_ns, read.monotonic_ns)

    monkeypatch.setattr(clocks, "read_clocks", read_and_step)
    collect_here(Options(output=tmp_path / "out", duration=3))
    [event] = manifest(tmp_path / "out")["events"]
    assert (event["kind"], event["text"]) == ("clock_step", "the wall clock was set by +5.000 s")
    capture = load(tmp_path / "out")
    assert "clock_jump" in {finding.code for finding in capture.findings}
    times = capture.counters.filter(metric="host_cpu_usage")["ts_ns"]
    assert times.diff().max() < 1_000_000_000
