"""`rca collect` on real vLLM and SGLang servers on the CPU, and `rca compare` on what it recorded.

The tests of one server run in their order: the last one kills it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from conftest import KEY

from fixtures.make_serving_pair import rivals, steady_load
from rca import api
from rca.capture.load import load

CORES = sorted(os.sched_getaffinity(0))
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}


def collect(url: str, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rca.cli", "collect", "-o", str(out), "--url", url, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def manifest(out: Path) -> dict:
    return json.loads((out / "capture.json").read_text())


def can_start_a_profile(server) -> bool:
    """Tell whether the server's profiler is off, by switching it on and off."""
    answers = []
    for verb in ("start", "stop"):
        request = urllib.request.Request(f"{server.url}/{verb}_profile", b"", AUTHORIZED, method="POST")
        with urllib.request.urlopen(request, timeout=120) as answer:
            answers.append(answer.status)
    return answers == [200, 200]


def watchdogs() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "collectors.watchdog" in (p.info["cmdline"] or ())]


def wait_until(condition, seconds: float, why: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.1)


@pytest.fixture(scope="module")
def pair(server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One capture undisturbed, one under a rival load on all cores."""
    out = tmp_path_factory.mktemp("pair")
    with steady_load(server.url, 4):
        time.sleep(3)
        for side, cores in (("normal", []), ("abnormal", CORES)):
            with rivals(cores):
                time.sleep(1 if cores else 0)
                ran = collect(server.url, out / side, "--duration", "12", "--steps", "40")
            assert ran.returncode == 0, ran.stderr
            assert ran.stderr == "", "nothing happened that had to be said"
    assert f"rca compare {out / 'normal'} {out / 'abnormal'}" in ran.stdout
    return out


def test_the_capture_says_what_was_recorded(server, pair: Path) -> None:
    facts = manifest(pair / "normal")
    assert facts["status"] == "complete"
    assert facts["engine"]["name"] == server.name
    assert facts["engine"]["version"]
    assert facts["engine"]["settings"]
    names = {process["name"] for process in facts["processes"]}
    assert names & {"VLLM::Worker", "VLLM::EngineCore", "sglang::scheduler"}
    assert len(facts["traces"]) >= 1
    window, (least, most) = next((trace["window"], trace["offset"]) for trace in facts["traces"] if trace["window"])
    assert least <= 0 <= most, "the trace's clock can be the wall clock"
    assert facts["clocks"][0]["realtime_ns"] < window[0] < window[1] < facts["clocks"][1]["realtime_ns"]
    assert facts["profiler"]["throughput"]["before"]["steps_per_s"] > 1
    assert facts["profiler"]["overhead_pct"] is not None
    achieved = {sampler["name"]: sampler["hz_achieved"] for sampler in facts["samplers"]}
    assert achieved["cpu"] > 7
    for path in pair.rglob("*.json"):
        assert KEY not in path.read_text()
        assert "from-the-environment" not in path.read_text()


def test_traces_and_counters_are_of_one_time(server, pair: Path) -> None:
    inspection = api.inspect(pair / "normal")
    assert inspection.cycles.count >= 25
    capture = load(pair / "normal")
    begins, ends = capture.events["start_ns"].min(), capture.events["start_ns"].max()
    inside = capture.counters.filter(capture.counters["ts_ns"].is_between(begins, ends))
    metrics = set(inside["metric"].cast(str))
    assert {"host_cpu_usage", "process_cpu_usage", "process_runq_wait", "thread_cpu_usage"} <= metrics
    assert any(metric.startswith(f"{server.name}:") for metric in metrics)
    assert not [finding for finding in capture.findings if finding.code in ("counter_hole", "clock_jump", "while_recording")]


def test_comparing_shows_what_the_rival_did(pair: Path) -> None:
    """On a machine that others share a profile of a second may miss that the steps are slower; the rival it cannot miss."""
    usual, slowed = (manifest(pair / side)["profiler"]["throughput"]["before"] for side in ("normal", "abnormal"))
    assert slowed["steps_per_s"] < 0.9 * usual["steps_per_s"]
    result = api.compare(pair / "normal", pair / "abnormal", cached=False)
    assert result.verdict.status in ("slower", "no_difference"), result.verdict.headline
    assert {"oncpu", "runq"} <= set(result.ranks[0].functions["function"])
    runq = result.ranks[0].functions.filter(function="runq").row(0, named=True)
    assert runq["abnormal_mean_us"] > 1.3 * runq["normal_mean_us"]


def test_killed_in_mid_profile_it_leaves_no_profiler_running(server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "rca.cli", "collect", "-o", str(out), "--url", server.url, "--duration", "6"]
    with steady_load(server.url, 2):
        process = subprocess.Popen([*command, "--steps", "100000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(watchdogs, 30, "the profiler was not started")
        time.sleep(0.5)
        process.kill()
        process.wait()
        wait_until(lambda: not watchdogs(), 120, "the server does not answer that its profiler stopped")
    assert "unfinished" in {finding.code for finding in load(out).findings}
    assert can_start_a_profile(server)


def test_a_server_that_is_killed_is_named_and_the_rest_is_kept(server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "rca.cli", "collect", "-o", str(out), "--url", server.url, "--duration", "30"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(6)
    tree = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    for member in tree:
        member.send_signal(signal.SIGKILL)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert time.monotonic() - began < 15, "there is nothing left to record"
    assert "process_ended" in err
    kinds = {event["kind"] for event in manifest(out)["events"]}
    assert {"process_ended"} <= kinds
    assert load(out).counters.height > 100
