"""The command lines of Nsight Systems. It cannot be had here: a stand-in on the PATH writes down what it is asked to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

STAND_IN = """#!/usr/bin/env python3
import json, os, subprocess, sys
words = sys.argv[1:]
with open(os.environ["NSYS_LOG"], "a") as log:
    log.write(json.dumps(words) + "\\n")
option = {w.partition("=")[0]: w.partition("=")[2] for w in words}
if words[0] == "profile":
    code = subprocess.run(words[words.index("--") + 1 :]).returncode
    open(option["--output"] + ".nsys-rep", "wb").write(b"\\0report")
    sys.exit(code)
if words[0] == "stop":
    started = [json.loads(line) for line in open(os.environ["NSYS_LOG"]) if '"start"' in line]
    [output] = [w.removeprefix("--output=") for w in started[-1] if w.startswith("--output=")]
    open(output + ".nsys-rep", "wb").write(b"\\0report")
if words[0] == "export":
    if os.environ.get("NSYS_EXPORT_FAILS"):
        sys.exit("FATAL: the report is damaged")
    open(option["--output"], "wb").write(b"exported")
if words[:2] == ["sessions", "list"]:
    print(os.environ.get("NSYS_SESSIONS", ""))
"""


@pytest.fixture
def nsys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of the stand-in, one JSON list of words per call."""
    program = tmp_path / "bin" / "nsys"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NSYS_LOG", str(tmp_path / "nsys.log"))
    return tmp_path / "nsys.log"


def collect(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rca.cli", "collect", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def calls(log: Path) -> list[list[str]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_program_runs_under_the_recorder_and_its_report_is_exported(tmp_path: Path, nsys: Path) -> None:
    ran = collect("-o", tmp_path / "out", "--nsys", "--", "sleep", "0.5")
    assert ran.returncode == 0, ran.stderr
    profile, export = calls(nsys)
    report = tmp_path / "out" / "traces" / "nsys"
    assert profile == [
        "profile",
        "--trace=cuda,nvtx,osrt",
        "--cuda-graph-trace=node",
        "--trace-fork-before-exec=true",
        "--sample=none",
        "--cpuctxsw=process-tree",
        "--force-overwrite=true",
        f"--output={report}",
        "--",
        "sleep",
        "0.5",
    ]
    assert export == ["export", "--type=sqlite", "--force-overwrite=true", f"--output={report}.sqlite", f"{report}.nsys-rep"]
    facts = json.loads((tmp_path / "out" / "capture.json").read_text())
    assert [trace["path"] for trace in facts["traces"]] == ["traces/nsys.nsys-rep", "traces/nsys.sqlite"]


def test_the_export_can_be_parquet(tmp_path: Path, nsys: Path) -> None:
    assert collect("-o", tmp_path / "out", "--nsys", "parquetdir", "--", "true").returncode == 0
    assert calls(nsys)[1][1] == "--type=parquetdir"


def test_a_server_in_a_session_is_recorded_without_being_restarted(tmp_path: Path, nsys: Path, monkeypatch) -> None:
    monkeypatch.setenv("NSYS_SESSIONS", "   ID   TIME  STATE  LAUNCH  NAME\n 3311  00:10  Launched  1  rca\n")
    with subprocess.Popen(["sleep", "60"]) as server:
        ran = collect("-o", tmp_path / "out", "--nsys", "sqlite", "--duration", "1", "--pid", str(server.pid))
        server.kill()
    assert ran.returncode == 0, ran.stderr
    verbs = [call[0] for call in calls(nsys)]
    assert verbs == ["sessions", "start", "stop", "export"]
    assert "--session=rca" in calls(nsys)[1]
    assert "--session=rca" in calls(nsys)[2]


@pytest.mark.parametrize(
    ("sessions", "said"),
    [
        ("", "no nsys session runs: start the server with `nsys launch"),
        (" 1 a b c one\n 2 a b c two", "2 nsys sessions run"),
    ],
)
def test_without_one_session_the_reason_is_said(tmp_path: Path, nsys: Path, monkeypatch, sessions: str, said: str) -> None:
    monkeypatch.setenv("NSYS_SESSIONS", sessions)
    began = time.monotonic()
    ran = collect("-o", tmp_path / "out", "--nsys", "sqlite", "--duration", "1", "--pid", str(os.getpid()))
    assert said in ran.stderr
    assert time.monotonic() - began < 30


def test_an_export_that_fails_is_said_and_the_report_kept(tmp_path: Path, nsys: Path, monkeypatch) -> None:
    monkeypatch.setenv("NSYS_EXPORT_FAILS", "1")
    ran = collect("-o", tmp_path / "out", "--nsys", "--", "true")
    assert ran.returncode == 0
    assert "nsys export failed: FATAL: the report is damaged" in ran.stderr
    assert (tmp_path / "out" / "traces" / "nsys.nsys-rep").exists()
