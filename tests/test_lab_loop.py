"""The decode loop for machines without an engine: run for real, with a Python that has torch."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from collectors.server import Server, ServerError
from lab import decode_loop
from rca.api import inspect
from rca.capture.load import load
from rca.cycles import cut
from rca.cycles.grammar import GRAMMAR

SCRIPT = Path(decode_loop.__file__)
SMALL = ["--device", "cpu", "--layers", "2", "--hidden", "128", "--vocab", "500", "--prompt", "8", "--context", "40"]
START_SECONDS = 120
STEP = next(anchor for anchor in GRAMMAR if anchor.name == "step[…]")


@pytest.fixture(scope="module")
def torch_python() -> str:
    candidates = [os.environ.get("RCA_TORCH_PYTHON", ""), f"{os.environ.get('RCA_SERVERS', '/nonexistent')}/vllm/bin/python"]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return candidate
    if importlib.util.find_spec("torch"):
        return sys.executable
    pytest.skip("no Python with torch: name one in RCA_TORCH_PYTHON, or a folder with vllm/bin/python in RCA_SERVERS")


@dataclass
class Running:
    process: subprocess.Popen
    server: Server
    took: float

    def steps(self, query: str = "") -> dict[str, Any]:
        return self.server.get(f"/steps{query}").json()

    def profile(self, folder: Path, steps: int, **more: bool) -> Path:
        reply = self.server.post("/profile", {"folder": str(folder), "steps": steps, **more})
        assert reply.status == 200, reply.body
        assert reply.json()["steps"] == steps
        return Path(reply.json()["trace"])


@contextlib.contextmanager
def running(python: str, *arguments: str) -> Iterator[Running]:
    port = free_port()
    began = time.monotonic()
    command = [python, str(SCRIPT), "--port", str(port), "--seconds", "300", *SMALL, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            server = Server(f"http://127.0.0.1:{port}")
            while status(server) != 200:
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < began + START_SECONDS
                time.sleep(0.1)
            yield Running(process, server, time.monotonic() - began)
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status(server: Server) -> int | None:
    """What /health says; None while there is nobody to say anything."""
    try:
        answer = server.get("/health").status
    except ServerError:
        return None
    assert answer in (200, 503)
    return answer


@pytest.fixture(scope="module")
def loop(torch_python: str) -> Iterator[Running]:
    with running(torch_python) as one:
        yield one


def operators(trace: Path) -> Counter[str]:
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    return Counter(event["name"] for event in events if event.get("cat") == "cpu_op")


def refusal(python: str, *arguments: str) -> str:
    command = [python, str(SCRIPT), "--port", str(free_port()), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    return line


class TestSteps:
    def test_are_counted_and_timed(self, loop: Running) -> None:
        before = loop.steps()
        time.sleep(0.3)
        after = loop.steps(f"?since={before['now']}")
        assert (after["pid"], after["batch"]) == (loop.process.pid, 4)
        done = len(after["durations_us"])
        assert 0 < done <= after["steps"] - before["steps"]
        assert 0 < sum(after["durations_us"]) / 1e6 < after["now"] - before["now"]
        assert before["now"] < time.monotonic(), "it is the clock of all processes"

    def test_lie_within_a_time(self, loop: Running) -> None:
        now = loop.steps()["now"]
        assert loop.steps(f"?since={now + 60}")["durations_us"] == []
        assert loop.steps(f"?until={now - 60 - loop.took}")["durations_us"] == []
        assert loop.steps(f"?until={now}")["durations_us"]

    def test_that_were_profiled_are_told_from_others(self, loop: Running, tmp_path: Path) -> None:
        since = loop.steps()["now"]
        assert loop.steps(f"?since={since}&profiled=1")["durations_us"] == []
        loop.profile(tmp_path, 5)
        assert len(loop.steps(f"?since={since}&profiled=1")["durations_us"]) == 5
        assert len(loop.steps(f"?since={since}")["durations_us"]) > 5

    @pytest.mark.parametrize("path", ["/steps?since=yesterday", "/steps?until=x"])
    def test_of_an_odd_time(self, loop: Running, path: str) -> None:
        assert loop.server.get(path).status == 400


class TestProfile:
    def test_is_cut_into_its_steps(self, loop: Running, tmp_path: Path) -> None:
        trace = loop.profile(tmp_path, 48)  # more than fit into the context: sequences start again in between
        assert list(tmp_path.iterdir()) == [trace]
        assert trace.name.startswith(f"loop.{loop.process.pid}.")
        found = inspect(tmp_path)
        assert found.cycles.anchor == STEP.name
        assert found.cycles.phases["decode"] in (47, 48), "where the last one ends is known only if they are back to back"
        assert found.cycles.phases["prefill"] in (1, 2)
        assert [str(finding) for finding in found.findings] == []
        (rank,) = cut(load(tmp_path), STEP)
        cycles = rank.cycles
        assert rank.pid == loop.process.pid
        assert cycles["phase"].to_list().count("decode") == 48
        assert set(cycles.select("phase", "batch", "tokens").iter_rows()) == {("decode", 4, 4), ("prefill", 4, 32)}

    def test_with_frames_and_shapes(self, loop: Running, tmp_path: Path) -> None:
        text = gzip.decompress(loop.profile(tmp_path, 2, with_stack=True, record_shapes=True).read_bytes()).decode()
        assert "decode_loop.py(" in text
        assert '"Input Dims"' in text
        plain = gzip.decompress(loop.profile(tmp_path, 2).read_bytes()).decode()
        assert "decode_loop.py(" not in plain
        assert '"Input Dims"' not in plain

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"steps": 0}, "steps"),
            ({"steps": 1_000_000}, "steps"),
            ({"steps": True}, "steps"),
            ({"steps": "2"}, "steps"),
            ({"folder": None}, "folder"),
            ({"folder": "relative"}, "folder"),
            ({"folder": "/no/such/folder"}, "folder"),
            ({"with_stack": 1}, "with_stack"),
            ({"with_stacks": True}, "expected an object"),
        ],
    )
    def test_of_something_odd(self, loop: Running, tmp_path: Path, change: dict[str, Any], text: str) -> None:
        reply = loop.server.post("/profile", {"folder": str(tmp_path), "steps": 2} | change)
        assert reply.status == 400
        assert text in reply.json()["error"]

    def test_of_nothing(self, loop: Running) -> None:
        assert loop.server.post("/profile").status == 400
        assert loop.server.post("/else", {}).status == 404
        assert loop.server.get("/profile").status == 404

    @pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"7"])
    def test_of_no_json(self, loop: Running, body: bytes) -> None:
        with asking(loop, body) as client:
            assert b" 400 " in client.recv(100)

    def test_one_at_a_time_and_not_for_a_client_that_has_gone(self, loop: Running, tmp_path: Path) -> None:
        gone, there = tmp_path / "gone", tmp_path / "there"
        gone.mkdir()
        there.mkdir()
        with asking(loop, json.dumps({"folder": str(gone), "steps": 5000}).encode()):
            eventually(loop, profiling=True)
            reply = loop.server.post("/profile", {"folder": str(there), "steps": 2})
            assert (reply.status, reply.json()) == (409, {"error": "a profile is running"})
        eventually(loop, profiling=False)
        loop.profile(there, 2)
        assert len(list(there.iterdir())) == 1
        assert list(gone.iterdir()) == []


@contextlib.contextmanager
def asking(loop: Running, body: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", loop.server.port), timeout=30) as client:
        client.sendall(b"POST /profile HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        yield client


def eventually(loop: Running, profiling: bool) -> None:
    deadline = time.monotonic() + 60
    while loop.steps()["profiling"] != profiling:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_changes_of_the_software_change_the_operators(loop: Running, torch_python: str, tmp_path: Path) -> None:
    usual = operators(loop.profile(tmp_path, 4))
    with running(torch_python, "--copies", "2", "--attention", "math") as changed:
        other = operators(changed.profile(tmp_path, 4))
    per_step = 2 * 2 * 3  # twice, in two layers: state, keys, values
    more = other["aten::clone"] - usual["aten::clone"]
    assert more >= 4 * per_step
    fused, plain = "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_scaled_dot_product_attention_math"
    assert usual[fused] >= 8
    assert other[fused] == 0
    assert usual[plain] == 0
    assert other[plain] >= 8


def test_recorded_by_collect(loop: Running, tmp_path: Path) -> None:
    out = tmp_path / "capture"
    profile = ["-m", "lab.profile_loop", str(loop.server.port), "--steps", "20", "--after", "0.5", "--for", "2.5"]
    collect = ["-m", "rca.cli", "collect", "-q", "-o", str(out), "--pid", str(loop.process.pid), "--duration", "20"]
    command = [sys.executable, "-P", *collect, "--", sys.executable, "-P", *profile]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    command = [sys.executable, "-P", "-m", "rca.cli", "inspect", "-q", "--json", "-", str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["cycles"]["anchor"] == STEP.name
    assert found["cycles"]["phases"]["decode"] in (19, 20)
    assert [rank["pid"] for rank in found["ranks"]] == [loop.process.pid]
    of_the_loop = {counter["metric"] for counter in found["counters"] if counter["pid"] == loop.process.pid}
    assert len(of_the_loop) > 3
    assert "damage" not in {finding["severity"] for finding in found["findings"]}


def test_ends_cleanly_on_ctrl_c(torch_python: str) -> None:
    with running(torch_python) as one:
        one.process.send_signal(signal.SIGINT)
        said, _ = one.process.communicate(timeout=20)
        assert (one.process.returncode, said) == (0, "")


def test_ends_cleanly_within_a_profile(torch_python: str, tmp_path: Path) -> None:
    with running(torch_python) as one, asking(one, json.dumps({"folder": str(tmp_path), "steps": 5000}).encode()):
        eventually(one, profiling=True)
        one.process.terminate()
        assert one.process.wait(20) == 0
    assert list(tmp_path.iterdir()) == []


def test_ends_by_itself(torch_python: str) -> None:
    began = time.monotonic()
    command = [torch_python, str(SCRIPT), "--port", str(free_port()), *SMALL, "--seconds", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert time.monotonic() - began > 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--device", "cpu", "--sync", "1"], "--sync is for GPUs: on the CPU it changes nothing"),
        (["--device", "cpu", "--eager"], "--eager is for GPUs: on the CPU it changes nothing"),
        (["--context", "8", "--prompt", "8"], "--context is not longer than --prompt"),
    ],
)
def test_refuses_what_cannot_be(torch_python: str, arguments: list[str], text: str) -> None:
    assert refusal(torch_python, *arguments) == text


def test_a_port_that_is_taken(loop: Running, torch_python: str) -> None:
    port = str(loop.server.port)
    assert refusal(torch_python, "--device", "cpu", "--port", port) == f"port {port}: Address already in use"


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="this Python has torch")
def test_without_torch() -> None:
    assert refusal(sys.executable).startswith(f"this Python has no torch: {sys.executable}: ")


class TestProfileLoop:
    def run(self, *arguments: str, traces: str | None = "/tmp") -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "RCA_TRACES"}
        environment |= {"RCA_TRACES": traces} if traces else {}
        command = [sys.executable, "-P", "-m", "lab.profile_loop", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)

    def test_says_that_no_loop_answers(self) -> None:
        ran = self.run(str(free_port()), "--after", "0")
        assert ran.returncode == 1
        (line,) = ran.stderr.splitlines()
        assert line.startswith("the loop does not answer: http://127.0.0.1:")

    def test_says_what_the_loop_says(self, loop: Running) -> None:
        ran = self.run(str(loop.server.port), "--after", "0", traces="/no/such/folder")
        assert ran.returncode == 1
        (line,) = ran.stderr.splitlines()
        assert "wrote no profile: HTTP 400:" in line

    def test_is_for_collect(self) -> None:
        ran = self.run("1", traces=None)
        assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
