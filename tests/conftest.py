"""Where the data are."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import parallel
import pytest
from sampling_tools import start  # noqa: F401  (a fixture of several files)

from rca import cli as command_line

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))

SHARED = ROOT.parent / "shared"

os.environ["RCA_NO_CACHE"] = "1"
"""Tests read what they say they read; those of the cache switch it on."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Say what ``-n auto`` means here."""
    return parallel.processes(config.args, config.getini("testpaths"))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> parallel.Scheduling:
    """Say which tests share a process."""
    return parallel.Scheduling(config, log)


@pytest.fixture(scope="session")
def fixtures() -> Path:
    return ROOT / "fixtures" / "vllm-cpu-contention"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip("../shared/data, the captures made by others, is not beside this checkout")
    return data


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def rca(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]):
    """Run the command in this process, as its users would."""

    def run(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["rca", *map(str, arguments)])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        sys.stdout.flush()
        captured = capfdbinary.readouterr()
        return Ran(int(ended.value.code or 0), captured.out.decode(), captured.err.decode())

    return run
