"""The command line: what it prints where, exit codes, files, help."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from traces import decode_trace, write_pair, write_trace

from rca import cli as command_line

ROOT = Path(__file__).parents[1]


def test_a_pipe_gets_the_report(tmp_path: Path, rca) -> None:
    ran = rca("compare", *write_pair(tmp_path, slow=1.3))
    assert ran.code == 0
    assert ran.out.startswith("# Cross Performance Comparison")
    assert "\x1b[" not in ran.out + ran.err


def test_output_folder_holds_all_reports_and_stdout_says_where(tmp_path: Path, rca) -> None:
    ran = rca("compare", *write_pair(tmp_path, slow=1.3), "-o", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "comparison.csv",
        "cycles.csv",
        "report.html",
        "report.json",
        "report.md",
    ]
    assert ran.out.startswith("SLOWER")
    assert f"written: {tmp_path / 'out' / 'report.md'}" in ran.out


def test_existing_output_folder_is_refused_without_force(tmp_path: Path, rca) -> None:
    pair = write_pair(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    ran = rca("compare", *pair, "-o", out)
    assert ran.code == 2
    assert "--force" in ran.err
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    assert rca("compare", *pair, "-o", out, "--force").code == 0
    assert (out / "mine.txt").read_text() == "keep"
    assert (out / "report.json").is_file()


def test_single_reports_and_stdout(tmp_path: Path, rca) -> None:
    pair = write_pair(tmp_path)
    ran = rca("compare", *pair, "--json", "-", "--csv", tmp_path / "t.csv", "-q")
    assert json.loads(ran.out)["schema"] == "rca.comparison/1"
    assert ran.err == ""
    assert (tmp_path / "t.csv").read_text().startswith("Function Name,")
    assert rca("compare", *pair, "--json", "-", "--md", "-").code == 2


@pytest.mark.parametrize(
    ("abnormal", "gate", "code"),
    [
        ({"slow": 1.3}, False, 0),
        ({"slow": 1.3}, True, 1),
        ({}, True, 0),
        ({"slow": 0.7}, True, 0),
        ({"anchor": "execute_context_4(400)_generation_0(0)"}, False, 3),
        ({"anchor": "execute_context_4(400)_generation_0(0)"}, True, 3),
        ({"cycles": 3}, True, 4),
    ],
)
def test_exit_codes(tmp_path: Path, rca, abnormal: dict, gate: bool, code: int) -> None:
    assert rca("compare", *write_pair(tmp_path, **abnormal), *(["--gate"] if gate else []), "-q").code == code


def test_usage_errors_are_2(tmp_path: Path, rca) -> None:
    assert rca("compare", tmp_path).code == 2
    assert rca("compare", tmp_path, tmp_path, "--for", "fax").code == 2
    assert rca("nonsense").code == 2


def test_internal_errors_are_5_and_one_line(tmp_path: Path, rca, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("rca.api.compare", broken)
    ran = rca("compare", *write_pair(tmp_path))
    assert ran.code == 5
    assert ran.err == "rca: internal error: ZeroDivisionError: oh no (RCA_DEBUG=1 shows where; please report it)\n"


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A limit on file sizes is the part of a full disk that a test can have without being root."""
    normal, abnormal = write_pair(tmp_path)
    out = tmp_path / "out"

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    arguments = [sys.executable, "-m", "rca.cli", "compare", normal, abnormal, "-o", out]
    ran = subprocess.run(arguments, preexec_fn=limit, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 2
    assert ran.stderr.strip().splitlines()[-1].startswith(f"rca: {out}: cannot be written")
    assert not out.exists()
    assert not list(tmp_path.glob(".out.*"))


def test_a_full_stdout_is_one_line(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    with Path("/dev/full").open("w") as full:
        arguments = [sys.executable, "-m", "rca.cli", "compare", normal, abnormal, "-q"]
        ran = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 2
    assert ran.stderr == "rca: stdout: cannot be written: No space left on device\n"


def test_links_are_followed_and_pipes_written_to(tmp_path: Path, rca) -> None:
    normal, abnormal = write_pair(tmp_path)
    target, link, fifo = tmp_path / "target.json", tmp_path / "link.json", tmp_path / "fifo"
    target.write_text("old")
    link.symlink_to(target)
    assert rca("compare", normal, abnormal, "--json", link).code == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["schema"] == "rca.comparison/1"
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE, text=True)
    assert rca("compare", normal, abnormal, "--csv", fifo).code == 0
    assert reader.communicate(timeout=20)[0].startswith("Function Name")
    assert fifo.is_fifo()


def test_inputs_are_never_overwritten(tmp_path: Path, rca) -> None:
    normal, abnormal = write_pair(tmp_path)
    before = (normal / "rank0.json").read_bytes()
    for option, path in (
        ("--json", normal / "rank0.json"),
        ("--md", abnormal / "new.md"),
        ("-o", normal),
        ("-o", abnormal / "x"),
    ):
        ran = rca("compare", normal, abnormal, option, path, "--force")
        assert ran.code == 2
        assert "lies in a capture" in ran.err
    assert (normal / "rank0.json").read_bytes() == before
    assert rca("compare", normal, abnormal, "--md", tmp_path / "a", "--json", tmp_path / "a").code == 2
    assert rca("compare", normal, abnormal, "--cycle", "").code == 2


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    ran = subprocess.run(
        f"{shlex.quote(sys.executable)} -m rca.cli compare {normal} {abnormal} --for full -q | head -c 10",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert ran.stdout == "# Cross Pe"
    assert ran.stderr == ""


def test_version_names_tool_and_schema(rca) -> None:
    assert re.fullmatch(r"rca \d+\.\d+\.\d+ \(rca\.comparison/1\)\n", rca("--version").out)


def test_help_is_fast_because_it_imports_nothing_heavy() -> None:
    code = """import sys, rca.cli
sys.argv = ["rca", "--help"]
try: rca.cli.main()
except SystemExit: pass
print(sorted(sys.modules))"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "Usage: rca" in ran.stdout
    for heavy in ("'numpy'", "'polars'", "'scipy'", "'jinja2'", "'rich'", "'msgspec'"):
        assert heavy not in ran.stdout


def help_examples() -> list[str]:
    examples = []
    runner = CliRunner()
    groups = {name: group for name, group in command_line.cli.commands.items() if isinstance(group, click.Group)}
    within = [f"{name} {command}" for name, group in groups.items() for command in group.commands]
    for command in ["", *command_line.cli.commands, *within]:
        text = runner.invoke(command_line.cli, [*command.split(), "--help"]).output
        assert "Examples:" in text, f"rca {command} --help shows no example"
        examples += re.findall(r"^ +(rca .*)$", text.split("Examples:")[1], flags=re.MULTILINE)
    return list(dict.fromkeys(examples))


@pytest.mark.parametrize("example", help_examples())
def test_examples_in_help_run(tmp_path: Path, example: str, rca, monkeypatch: pytest.MonkeyPatch) -> None:
    os.symlink(ROOT / "fixtures", tmp_path / "fixtures")
    for side in ("normal", "abnormal"):
        os.symlink(ROOT / "fixtures/vllm-cpu-contention" / side, tmp_path / side)
    monkeypatch.chdir(tmp_path)
    ran = rca(*shlex.split(example)[1:])
    assert ran.code == 0
    assert ran.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(rca, shell: str) -> None:
    assert "_RCA_COMPLETE" in rca("completion", shell).out


def test_completion_completes(tmp_path: Path) -> None:
    environment = os.environ | {"_RCA_COMPLETE": "bash_complete", "COMP_WORDS": "rca comp", "COMP_CWORD": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "rca.cli"], capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert "compare" in ran.stdout


def test_odd_file_names_are_survived(tmp_path: Path, rca) -> None:
    normal, abnormal = write_pair(tmp_path)
    write_trace(normal / os.fsdecode(b"bad\xff[red]name.json"), decode_trace(12, rank=1))
    ran = rca("compare", normal, abnormal, "-o", tmp_path / "out")
    assert ran.code == 0
