"""Stops a server's profiler when the collector that started it is gone: killed, or its machine out of memory.

A process of its own, in a session of its own. It reads one JSON line from stdin, the request to send, and waits for the end
of stdin: the line ``done`` before it means that there is nothing left to stop.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from types import TracebackType

from collectors.server import Server, ServerError

STOP_PATH = "/stop_profile"
_TIMEOUT_SECONDS = 600.0
"""Servers answer when the trace is written."""


class Watchdog:
    """Watches over this process while a profiler runs. Use it as a context manager."""

    def __init__(self, server: Server) -> None:
        self._request = json.dumps({"url": server.url}) + "\n"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Watchdog:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "collectors.watchdog"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._say(self._request)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._say("done\n")
        if self._process and self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait()

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it was killed: nothing is left that could be told
            if self._process and self._process.stdin:
                self._process.stdin.write(line.encode())
                self._process.stdin.flush()


def main() -> None:
    """Wait for the end of stdin; then send the request, unless it was called off."""
    request = json.loads(sys.stdin.readline() or "null")
    rest = sys.stdin.read().split()
    if request and "done" not in rest:
        with contextlib.suppress(ServerError):
            Server(request["url"]).post(STOP_PATH, timeout=_TIMEOUT_SECONDS)


if __name__ == "__main__":
    main()
