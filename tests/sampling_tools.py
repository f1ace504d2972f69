"""What the tests of samplers share: programs to watch, patience, a page to scrape."""

from __future__ import annotations

import contextlib
import http.server
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors.clocks import CaptureClock
from collectors.process_tree import ProcessTree
from collectors.sampling import Sample, Sampler
from rca.capture.metrics import HOST, METRICS

ROOT = Path(__file__).parents[1]
SECOND = 1_000_000_000
Start = Callable[[str], subprocess.Popen[str]]

WAITING = "import sys; print('ready', flush=True); sys.stdin.readline()"
BUSY = "print('ready', flush=True)\nwhile True: pass"
PARENT = """
import subprocess, sys
print("ready", flush=True)
for line in sys.stdin:
    if line == "start\\n":
        child = subprocess.Popen(["sleep", "60"])
    else:
        child.kill()
        child.wait()
    print(child.pid, flush=True)
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Run Python programs that say when they are ready; at the end they are killed, with all that they started."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=ROOT,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if os.geteuid() == 0:  # other jobs of this machine must not starve it; a session counts as one of them
            os.setpriority(os.PRIO_PROCESS, process.pid, -10)
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/autogroup").write_text("-10")
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with process:
            pass


def tell(process: subprocess.Popen[str], line: str) -> str:
    """Send a line to a program and return its answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def patiently(check: Callable[[], None], attempts: int = 6) -> None:
    """Measure and check again where that fails: other jobs may take all of this machine for a second or two."""
    for _ in range(attempts - 1):
        with contextlib.suppress(AssertionError):
            return check()
    return check()


class Notes(list[tuple[str, str]]):
    def __call__(self, kind: str, text: str) -> None:
        self.append((kind, text))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self]


def tree_of(*roots: int) -> ProcessTree:
    return ProcessTree(roots, CaptureClock(), Notes())


def watched(sampler: Sampler, seconds: float, hz: float = 20) -> list[Sample]:
    """Call a sampler for a time, and close it; return what it said after the first call."""
    clock = CaptureClock()
    samples = []
    with contextlib.closing(sampler):
        sampler.sample(clock.now_ns())
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(1 / hz)
            samples += sampler.sample(clock.now_ns())
    return samples


def values(samples: list[Sample], metric: str, device: str = HOST, pid: int | None = None) -> list[float]:
    return [s.value for s in samples if (s.metric, s.device) == (metric, device) and pid in (None, s.pid)]


def check_samples(samples: list[Sample], unavailable: dict[str, str]) -> None:
    assert samples or unavailable
    for one in samples:
        assert one.unit == METRICS[one.metric].unit
        assert math.isfinite(one.value)
        assert one.value >= 0 or one.metric == "process_nice"
    assert not {one.metric for one in samples} & unavailable.keys()
    assert unavailable.keys() <= METRICS.keys()


class Page:
    """A server with one page, ``/metrics``, on a port of its own; ``stop`` and ``start`` it as often as wanted."""

    def __init__(self, text: str = "", status: int = 200) -> None:
        self.text, self.status = text, status
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = page.text.encode()
                self.send_response(page.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._handler = Handler
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = http.server.HTTPServer(("127.0.0.1", self._port), self._handler)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Now:
    """A clock that is set by hand, in seconds."""

    ns = SECOND

    def __call__(self, seconds: int | None = None) -> int:
        if seconds is not None:
            self.ns = seconds * SECOND
        return self.ns
