"""Real servers, installed before by ``.ci/run`` (or by hand): ``RCA_SERVERS`` names the folder with their environments."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[3] / "shared" / "serve"
START_SECONDS = 240
KEY = "hunter2"


@dataclass
class RealServer:
    name: str
    url: str
    process: subprocess.Popen


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A real server on the CPU. SGLang has a key on its command line, which must not be recorded; the collector knows it."""
    os.environ["RCA_API_KEY"] = KEY
    name = request.param
    servers = Path(os.environ.get("RCA_SERVERS", "/nonexistent"))
    if not (servers / name / "bin" / "python").exists():
        pytest.skip(f"no {name} in RCA_SERVERS: install it with the recipe {name}_cpu.sh")
    if not RECIPES.is_dir():
        pytest.skip("the recipes that start real servers are not beside this checkout")
    folder = tmp_path_factory.mktemp(name)
    port = free_port()
    more = ["--enforce-eager"] if name == "vllm" else ["--admin-api-key", KEY]
    command = ["bash", str(RECIPES / f"{name}_cpu.sh"), str(servers / name), str(port), *more]
    with (folder / "server.log").open("w") as log:
        environment = os.environ | {"PROFILE_DIR": str(folder / "served"), "A_SECRET": "from-the-environment"}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_up(url):
            log_end = (folder / "server.log").read_text()[-2000:]
            assert process.poll() is None, f"{name} did not start:\n{log_end}"
            assert time.monotonic() < deadline, f"{name} is not up after {START_SECONDS} s:\n{log_end}"
            time.sleep(0.5)
        yield RealServer(name, url, process)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)
