"""A stand-in for a vLLM server that misbehaves on demand: what no real server does when it is asked to.

    fake_engine.py PORT TRACE_DIR BEHAVIOUR

Behaviours: fine, no_profiler (404), taken (409), refuses (500), start_hangs, stop_hangs, no_trace, endless_trace (never
done), dies (as the profiler starts). ``GET /profiling`` tells whether its profiler runs. It serves completions, and says
that it is healthy.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HANG_SECONDS = 60
STEP_SECONDS = 0.01


class Engine:
    def __init__(self, traces: Path, behaviour: str) -> None:
        self.traces = traces
        traces.mkdir(parents=True, exist_ok=True)
        self.behaviour = behaviour
        self.began = time.monotonic()
        self.profiling = False

    def start(self) -> int:
        if self.behaviour in ("no_profiler", "taken", "refuses"):
            return {"no_profiler": 404, "taken": 409, "refuses": 500}[self.behaviour]
        self.profiling = True
        if self.behaviour == "dies":
            os._exit(1)
        if self.behaviour == "start_hangs":
            time.sleep(HANG_SECONDS)
        return 200

    def stop(self) -> int:
        if self.behaviour == "stop_hangs":
            time.sleep(HANG_SECONDS)
        if self.profiling and self.behaviour == "endless_trace":
            threading.Thread(target=self.write_forever, daemon=True).start()
        elif self.profiling and self.behaviour != "no_trace":
            self.write()
        self.profiling = False
        return 200

    def write(self) -> None:
        ts = time.time() * 1e6
        step = {"ph": "X", "cat": "user_annotation", "name": "execute_context_0(0)_generation_2(2)", "pid": 1, "tid": 1}
        events = [step | {"ts": ts - 1e4 * (40 - n), "dur": 9e3} for n in range(40)]
        with gzip.open(self.traces / "rank0.pt.trace.json.gz", "wt") as out:
            json.dump({"distributedInfo": {"rank": 0}, "traceEvents": events}, out)

    def write_forever(self) -> None:
        with (self.traces / "rank0.pt.trace.json").open("w") as out:
            while True:
                out.write("[" * 1000)
                out.flush()
                time.sleep(0.05)

    def metrics(self) -> str:
        steps = int((time.monotonic() - self.began) / STEP_SECONDS)
        lines = [f'vllm:iteration_tokens_total_count{{engine="0"}} {steps}', f"vllm:generation_tokens_total {2 * steps}"]
        return "\n".join([*lines, 'vllm:num_requests_running{engine="0"} 2'])


def handler(engine: Engine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages = {"/version": '{"version": "0.32.0"}', "/metrics": engine.metrics(), "/profiling": str(engine.profiling)}
            pages |= {"/health": "", "/v1/models": '{"data": [{"id": "fake"}]}'}
            self.answer(200 if self.path in pages else 404, pages.get(self.path, ""))

        def do_POST(self) -> None:
            if self.path == "/v1/completions":
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(asked["max_tokens"] * STEP_SECONDS / 10)
                self.answer(200, '{"choices": []}')
                return
            self.answer(engine.start() if self.path == "/start_profile" else engine.stop(), "")

        def answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    return Handler


if __name__ == "__main__":
    port, traces, behaviour = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    ThreadingHTTPServer.request_queue_size = 128  # of 5, as by default, some are reset where cores are busy
    server = ThreadingHTTPServer(("127.0.0.1", port), handler(Engine(traces, behaviour)))
    print(server.server_port, flush=True)
    server.serve_forever()
