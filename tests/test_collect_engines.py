"""Which process is a server, and where its files are: decided on command lines and name spaces, without a server."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from collectors import engines, profiling
from collectors.engines import expected_traces, from_here, same_files
from collectors.pack import trace_facts
from collectors.profiling import shared_folder, throughput
from collectors.samplers.engine import Progress
from collectors.server import Server
from collectors.targets import settings_of
from rca.capture.manifest import ProfilerFacts
from rca.errors import UsageError


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["vllm", "serve", "m", "--profiler-config", '{"profiler": "torch", "torch_profiler_dir": "/p"}'], "/p"),
        (["vllm", "serve", "m", '--profiler_config={"torch_profiler_dir": "/p"}'], "/p"),
        (["vllm", "serve", "m", "--profiler-config.torch_profiler_dir", "/p"], "/p"),
        (["vllm", "serve", "m", "--profiler-config", "{broken"], None),
        (["vllm", "serve", "m"], None),
    ],
)
def test_the_folder_of_traces_is_on_the_command_line(command: list[str], told: str | None) -> None:
    assert engines._profiler_dir(command) == told


@pytest.mark.parametrize(
    ("command", "is_one"),
    [
        (["python", "-W", "ignore", "-m", "sglang.launch_server", "--port", "1"], True),
        (["/venv/bin/python", "/venv/bin/vllm", "serve", "m"], True),
        (["sglang::scheduler"], True),
        (["VLLM::EngineCore"], True),
        (["python", "-m", "pytest", "-k", "sglang"], False),
        (["bash", "start_vllm.sh"], False),
        ([], False),
    ],
)
def test_a_server_is_told_from_what_speaks_of_one(command: list[str], is_one: bool) -> None:
    assert engines._is_engine(command) == is_one


def test_one_trace_is_expected_per_rank() -> None:
    assert (
        expected_traces("sglang", ["python", "sglang::scheduler_TP0", "sglang::scheduler_TP1", "sglang::detokenizer"]) == 2
    )
    assert expected_traces("vllm", ["vllm", "VLLM::EngineCore", "VLLM::Worker_TP0", "VLLM::Worker_TP1"]) == 2
    assert expected_traces("vllm", ["vllm", "VLLM::EngineCore"]) == 1


def test_settings_are_the_options_without_secrets() -> None:
    command = ["python", "-m", "x", "--model", "m", "--api-key", "a", "b", "--eager", "--hf-token=c", "--tp=2"]
    assert settings_of(command) == {"model": "m", "eager": True, "tp": "2"}


def test_the_files_of_a_container_are_reached_through_its_process() -> None:
    """A process in a mount name space of its own, as in a container."""
    with subprocess.Popen(["unshare", "--mount", "sleep", "60"], stderr=subprocess.DEVNULL) as inside:
        time.sleep(0.5)
        if inside.poll() is not None:
            pytest.skip("only root may make a mount name space")
        try:
            assert not same_files(inside.pid)
            assert from_here(inside.pid, Path("/tmp/x")) == Path(f"/proc/{inside.pid}/root/tmp/x")
            seen, served = shared_folder(Path("/capture/traces"), inside.pid)
            assert served.parts[:2] == ("/", "tmp")
            assert seen == Path(f"/proc/{inside.pid}/root") / served.relative_to("/")
        finally:
            inside.kill()


def test_a_server_of_another_user_cannot_write_into_a_capture(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may start a program as another user")
    with subprocess.Popen(["sleep", "60"], user=65534) as server:
        try:
            seen, served = shared_folder(tmp_path, server.pid)
            assert seen == served
            assert served.name.startswith("rca-profile-")
        finally:
            server.kill()
    assert shared_folder(tmp_path, os.getpid()) == (tmp_path, tmp_path)


def test_only_what_engines_write_is_fetched(tmp_path: Path) -> None:
    for name in ("rank0.1.pt.trace.json.gz", "1-TP-0.trace.json.gz", "profiler_out_0.txt", "server.log", "notes.json"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.trace.json").touch()
    found = {path.name for path in profiling._files(tmp_path)}
    assert found == {"rank0.1.pt.trace.json.gz", "1-TP-0.trace.json.gz", "profiler_out_0.txt"}


@pytest.mark.parametrize("url", ["http://", "ftp://host", "http://host:port"])
def test_a_url_that_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        Server(url)


def test_a_url_may_leave_out_scheme_and_port() -> None:
    assert Server("localhost").url == "http://localhost:80"
    assert Server("[::1]:30000").url == "http://[::1]:30000"
    assert Server("https://host/base/").url == "https://host:443/base"


def test_throughput_needs_two_looks_that_lie_apart() -> None:
    history = [Progress(n * 500_000_000, 10.0 * n, 40.0 * n) for n in range(5)]
    rates = throughput(history, 0, 2_000_000_000)
    assert rates is not None
    assert (rates.seconds, rates.steps_per_s, rates.tokens_per_s) == (2.0, 20.0, 80.0)
    assert throughput(history, 0, 400_000_000) is None
    assert throughput([], 0, 1) is None


def test_a_trace_is_placed_by_what_kineto_writes_at_its_ends(tmp_path: Path) -> None:
    trace = tmp_path / "t.json"
    trace.write_text(
        '{"baseTimeNanoseconds": 1000000000, "traceEvents": ['
        '{"ph": "X", "cat": "Trace", "name": "PyTorch Profiler (0)", "pid": "Spans", "ts": 500.5, "dur": 9},'
        '{"ph": "i", "name": "Record Window End", "ts": 900.25}]}'
    )
    asked = ProfilerFacts(asked_ns=1_000_400_000, started_ns=1_000_600_000, begins_at_once=True, written_ns=1_000_950_000)
    facts = trace_facts(trace, "t.json", asked)
    assert facts.window == (1_000_500_500, 1_000_900_250)
    assert facts.offset == (-49_750, 100_500)
    late = ProfilerFacts(asked_ns=1_000_400_000, started_ns=1_000_600_000, begins_at_once=False, written_ns=1_002_000_000)
    assert trace_facts(trace, "t.json", late).offset == (-1_099_750, 100_500)
