"""`rca sweep run` with a Python that only pretends to measure: plans, what dies on the way, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from collectors.sweep import Outcome, Plan, Progress, Sweep, cells, size
from rca.cli_sweep import sweep as command
from rca.errors import OutputError, UsageError
from rca.sweep import sweep

ROOT = Path(__file__).parents[1]
PRETENDS = f"""#!{sys.executable}
import json, os, signal, sys, time
plan = json.load(sys.stdin)
def say(**content): print(json.dumps(content), flush=True)
print("a library says hello")
say(environment={{"torch": "0", "device": "cpu", "device_name": "none"}})
for index, cell in plan["cells"]:
    say(begin=index)
    how = cell["model_size"]
    if how == "memory":
        say(cell=index, error="out of memory")
        continue
    for trial in range(plan["trials"]):
        say(cell=index, trial=trial, time_ms=1.5 + trial)
        if how == "killed" and trial == 1: os.kill(os.getpid(), signal.SIGKILL)
        if how == "exits" and trial == 1: sys.exit("the driver is gone")
        if how == "hangs" and trial == 1: time.sleep(600)
"""


@pytest.fixture
def pretender(tmp_path: Path) -> str:
    path = tmp_path / "python"
    path.write_text(PRETENDS)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def run(python: str, folder: Path, *sizes: str, warmups: tuple[int, ...] = (0, 1)) -> tuple[Outcome, list[Progress]]:
    planned = cells([f"{name}=8/1/1" for name in sizes], [4], list(warmups))
    seen: list[Progress] = []
    plan = Plan(planned, 3, 1, 10, "cpu", "float32", python)
    return Sweep(plan, folder, False, seen.append).run(), seen


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def test_every_trial_is_kept_and_progress_only_grows(tmp_path: Path, pretender: str) -> None:
    outcome, seen = run(pretender, tmp_path / "out", "a", "b")
    assert (outcome.trials, outcome.failed, outcome.interrupted) == (24, [], False)
    assert len(lines(tmp_path / "out")) == 24
    assert [at.done for at in seen] == sorted(at.done for at in seen)
    assert (seen[-1].done, seen[-1].of) == (24, 24)
    result = sweep(tmp_path / "out")
    assert result.sweep.cells["num_trials"].to_list() == [3] * 8
    assert result.sweep.cells["mean_time_ms"].to_list() == [2.5] * 8
    assert result.sweep.environment["torch"] == "0"


def test_cells_that_fail_are_recorded_and_the_rest_goes_on(tmp_path: Path, pretender: str) -> None:
    outcome, _ = run(pretender, tmp_path / "out", "memory", "killed", "exits", "good")
    assert len(outcome.failed) == 12
    errors = {line["model_size"]: line["error"] for line in lines(tmp_path / "out") if "error" in line}
    assert errors == {
        "memory": "out of memory",
        "killed": "its process ended by signal 9",
        "exits": "its process ended with exit code 1: the driver is gone",
    }
    result = sweep(tmp_path / "out")
    assert result.sweep.cells.filter(model_size="good")["num_trials"].to_list() == [3] * 4
    assert sum("not measured to the end" in warning for warning in result.sweep.warnings) == 12


def test_a_python_that_cannot_measure_is_one_line_and_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this Python has no torch"):
        run(sys.executable, tmp_path / "out", "a")
    with pytest.raises(UsageError, match="ended with exit code 1 before its first cell"):
        run("/bin/false", tmp_path / "out", "a")
    with pytest.raises(UsageError, match="no such program"):
        run("/no/python", tmp_path / "out", "a")
    assert not (tmp_path / "out").exists()


def test_folders_with_something_in_them_are_refused(tmp_path: Path, pretender: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("keep")
    with pytest.raises(OutputError, match="--force"):
        run(pretender, tmp_path / "out", "a")
    with pytest.raises(OutputError, match="cannot be written"):
        run(pretender, tmp_path / "out/mine", "a")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize("text", ["huge", "a=1/2", "a=10/2/3", "a=0/1/1", "=8/1/1", ""])
def test_sizes_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="--sizes"):
        size(text)


def test_a_grid_is_planned_in_the_seeds_order() -> None:
    planned = cells(["small", "2.7B"], [128, 256], [0, 1])
    assert len(planned) == 16
    assert (planned[0]["d_model"], planned[0]["num_layers"], planned[-1]["num_heads"]) == (768, 12, 32)
    assert [cell["forward_only"] for cell in planned[:4]] == [False, True, False, True]
    with pytest.raises(UsageError, match="twice"):
        cells(["small", "small"], [128], [0])


@pytest.mark.parametrize("option", [["--contexts", "a"], ["--contexts", "0"], ["--warmups", "-1"], ["--trials", "0"]])
def test_options_that_cannot_be(tmp_path: Path, option: list[str]) -> None:
    assert CliRunner().invoke(command, ["run", "-o", str(tmp_path / "out"), *option]).exit_code == 2


def test_the_command_says_what_came_of_it(tmp_path: Path, pretender: str) -> None:
    out = tmp_path / "out"
    given = [
        "run",
        "-o",
        str(out),
        "--sizes",
        "a=8/1/1,memory=8/1/1",
        "--contexts",
        "4",
        "--trials",
        "3",
        "--python",
        pretender,
    ]
    done = CliRunner().invoke(command, given, catch_exceptions=False)
    assert done.exit_code == 4
    assert "18 trials" in done.stdout
    assert "failed: memory, context 4, forward+backward, 0 warm-up(s): out of memory" in done.stdout
    assert "next: rca sweep report" in done.stdout
    assert "a, context 4, forward, 5 warm-up(s)" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_is_done_and_ends_the_child(tmp_path: Path, pretender: str, number: signal.Signals) -> None:
    out = tmp_path / "out"
    code = "import sys; from rca.cli_sweep import sweep; sweep(sys.argv[1:])"
    given = ["run", "-o", out, "--sizes", "a=8/1/1,hangs=8/1/1", "--contexts", "4", "--warmups", "1", "--python", pretender]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *given, "--trials", "3"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 60
    while not (out / "trials.jsonl").exists() or len(lines(out)) < 8:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted: what was measured is kept" in stdout
    assert "Traceback" not in stderr
    assert len(lines(out)) == 8
    assert sweep(out).sweep.cells["num_trials"].to_list() == [3, 3, 2]
    assert not [p for p in psutil.process_iter(["cmdline"]) if pretender in (p.info["cmdline"] or [])]
