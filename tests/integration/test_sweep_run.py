"""`rca sweep run` with a real torch on the CPU."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from rca.cli_sweep import sweep as command
from rca.sweep import sweep


@pytest.fixture(scope="module")
def torch_python() -> str:
    path = Path(os.environ.get("RCA_SERVERS", "/nonexistent")) / "vllm/bin/python"
    if not path.exists():
        pytest.skip("no vllm in RCA_SERVERS, whose Python has torch")
    return str(path)


def test_a_grid_is_measured(tmp_path: Path, torch_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "out"
    given = ["run", "-o", str(out), "--sizes", "a=32/1/2,b=64/2/2", "--contexts", "16", "--warmups", "1,2", "--trials", "4"]
    given += ["--batch", "1", "--vocab", "100", "--device", "cpu", "--python", torch_python]
    ran = CliRunner().invoke(command, given, catch_exceptions=False)
    assert ran.exit_code == 0
    assert "Forward and backward together take" in ran.stdout
    environment = json.loads((out / "environment.json").read_text())
    assert environment["device"] == "cpu"
    assert environment["threads"] == 1
    result = sweep(out)
    assert result.sweep.cells["num_trials"].to_list() == [4] * 8
    assert result.sweep.warnings == ()
    assert result.meaning.backward[-1].estimate > 1


def test_a_cell_without_warm_up_has_a_process_of_its_own(
    tmp_path: Path, torch_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "out"
    given = ["run", "-o", str(out), "--sizes", "a=32/1/2", "--contexts", "16", "--warmups", "0,3", "--trials", "5"]
    given += ["--batch", "1", "--vocab", "100", "--device", "cpu", "--dtype", "bfloat16", "--python", torch_python, "-q"]
    assert CliRunner().invoke(command, given, catch_exceptions=False).exit_code == 0
    calls = sweep(out).meaning.first_calls
    assert calls.from_trials
    assert calls.cells.height == 2
    assert (calls.cells["cost_ms"] > 0).all(), "the first call in a process costs more than later ones"


def test_a_cell_that_does_not_fit_is_said_and_the_rest_goes_on(tmp_path: Path, torch_python: str) -> None:
    out = tmp_path / "out"
    given = [
        "run",
        "-o",
        str(out),
        "--sizes",
        "huge=4000000/1/1,a=32/1/2",
        "--contexts",
        "16",
        "--warmups",
        "1",
        "--trials",
        "2",
    ]
    given += ["--forward-only", "--batch", "1", "--vocab", "100", "--device", "cpu", "--python", torch_python, "-q"]
    ran = CliRunner().invoke(command, given, catch_exceptions=False)
    assert ran.exit_code == 4
    assert "failed: huge, context 16, forward, 1 warm-up(s): out of memory" in ran.stdout
    assert sweep(out).sweep.cells["model_size"].to_list() == ["a"]


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path, torch_python: str) -> None:
    given = ["run", "-o", str(tmp_path / "out"), "--device", "cuda", "--python", torch_python]
    ran = CliRunner().invoke(command, given)
    assert "torch sees no CUDA device here" in str(ran.exception)
