"""A small decode loop, for machines without an engine: a transformer decoder with random weights that never stops writing.

Run by path, with a Python that has torch: ``python lab/decode_loop.py --port 8001``. It needs nothing else of this project,
and so it is one file.
One step writes one token for each sequence of the batch; sequences that are full start again from a prompt. It answers on
127.0.0.1:

    GET  /health   200 once the first step is done, 503 before
    GET  /steps    ?since=T&until=T&profiled=1: how long the decode steps took, by `time.monotonic`
    POST /profile  {"folder", "steps", "with_stack", "record_shapes"}: torch.profiler over so many steps; answered when the
                   trace is written
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import math
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

if __name__ == "__main__" and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    del sys.path[0]  # run by path: what lies beside this file is no library, whatever its name

try:
    import torch
    from torch.nn import functional
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.profiler import ProfilerActivity, record_function

    _no_torch = ""
except (ImportError, OSError) as error:  # a torch without its CUDA libraries ends in an OSError
    _no_torch = f"this Python has no torch: {sys.executable}: {error}"

_KEPT_STEPS = 100_000
_MOST_PROFILED_STEPS = 10_000
_MOST_BYTES = 1 << 16
_LOOK_STEPS = 32
"""So often it is looked whether a client still waits: a look takes time between two steps."""

_REQUEST_SECONDS = 30.0
_WARM_UP_STEPS = 3
_HUNG_SECONDS = 120
"""So long after its time a loop is taken for one that hangs in a driver, and killed."""

Tensor = Any
Answer = tuple[int, dict[str, Any]]


class RefusedError(Exception):
    """What was asked for cannot be done here: why."""


@dataclass(frozen=True)
class Shape:
    """What is computed.

    Attributes:
        batch: sequences that are written at a time.
        layers, hidden, heads, vocab: the decoder's size.
        prompt: tokens of a sequence when it starts.
        context: and when it is full.
        seed: of weights and prompts.
        graph: replay a CUDA graph instead of launching kernel by kernel.
        sync: added calls of ``torch.cuda.synchronize`` in a step.
        copies: times that each layer's hidden state and cache are copied in a step, for nothing.
    """

    batch: int
    layers: int
    hidden: int
    heads: int
    vocab: int
    prompt: int
    context: int
    seed: int
    graph: bool
    sync: int
    copies: int


class _Layer(NamedTuple):
    """Weights of a layer, and its part of the cache."""

    attention_norm: Tensor
    query_key_value: Tensor
    attention_out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor
    keys: Tensor
    values: Tensor


class Decoder:
    """The model and the sequences that it writes. All tensors keep their place, as a CUDA graph wants it."""

    def __init__(self, shape: Shape, device: str) -> None:
        """Make weights and sequences; with a graph, capture it."""
        torch.manual_seed(shape.seed)
        self.shape = shape
        self.on_gpu = device == "cuda"
        self._kind = {"device": device, "dtype": torch.bfloat16 if self.on_gpu else torch.float32}
        self._head = shape.hidden // shape.heads
        self._embedding = self._weights(shape.vocab, shape.hidden)
        self._layers = [self._layer() for _ in range(shape.layers)]
        self._norm = torch.ones(shape.hidden, **self._kind)
        self._lm_head = self._weights(shape.vocab, shape.hidden)
        self._slots = torch.arange(shape.context, device=device)
        angles = self._slots[:, None] / 10_000 ** (torch.arange(0, self._head, 2, device=device) / self._head)
        self._cos, self._sin = angles.cos().to(self._kind["dtype"]), angles.sin().to(self._kind["dtype"])
        self._prompts = torch.randint(shape.vocab, (shape.batch, shape.prompt), device=device)
        self._tokens = torch.zeros(shape.batch, 1, dtype=torch.int64, device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._length = shape.context
        self._graph = self._captured() if shape.graph else None

    @property
    def is_full(self) -> bool:
        """Tell whether the sequences have to start again before the next step."""
        return self._length >= self.shape.context

    def prefill(self) -> None:
        """Start the sequences again: compute their prompts' tokens."""
        positions = self._slots[: self.shape.prompt]
        self._tokens.copy_(self._forward(self._prompts, positions, sync=False))
        self._position.fill_(self.shape.prompt)
        self._length = self.shape.prompt
        self._tokens.cpu()

    def step(self) -> None:
        """Write the next token of every sequence, and wait for it, as an engine does that sends it to its clients."""
        if self._graph:
            self._graph.replay()
            for _ in range(self.shape.sync):
                torch.cuda.synchronize()
        else:
            self._next_tokens()
        self._length += 1
        self._tokens.cpu()

    def _next_tokens(self) -> None:
        self._tokens.copy_(self._forward(self._tokens, self._position, sync=True))
        self._position.add_(1)

    def _forward(self, tokens: Tensor, positions: Tensor, sync: bool) -> Tensor:
        """Return the likeliest token after each sequence of ``tokens``, which stand at ``positions``."""
        shape = self.shape
        mask = self._slots <= positions[:, None]
        rotation = self._cos[positions], self._sin[positions]
        hidden = functional.embedding(tokens, self._embedding)
        for i, layer in enumerate(self._layers):
            hidden = hidden + self._attention(layer, self._normed(hidden, layer.attention_norm), positions, mask, rotation)
            gate, up = functional.linear(self._normed(hidden, layer.mlp_norm), layer.gate_up).chunk(2, -1)
            hidden = hidden + functional.linear(functional.silu(gate) * up, layer.down)
            for _ in range(shape.copies):
                hidden.clone(), layer.keys.clone(), layer.values.clone()
            if sync and not shape.graph:  # spread over the layers; a graph cannot be interrupted
                for _ in range(shape.sync * (i + 1) // shape.layers - shape.sync * i // shape.layers):
                    torch.cuda.synchronize()
        return functional.linear(self._normed(hidden[:, -1:], self._norm), self._lm_head).argmax(-1)

    def _attention(
        self, layer: _Layer, hidden: Tensor, positions: Tensor, mask: Tensor, rotation: tuple[Tensor, Tensor]
    ) -> Tensor:
        batch, length, width = hidden.shape
        heads = functional.linear(hidden, layer.query_key_value).view(batch, length, 3, self.shape.heads, self._head)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        layer.keys.index_copy_(2, positions, _rotated(key, *rotation))
        layer.values.index_copy_(2, positions, value)
        query = _rotated(query, *rotation)
        mixed = functional.scaled_dot_product_attention(query, layer.keys, layer.values, attn_mask=mask)
        return functional.linear(mixed.transpose(1, 2).reshape(batch, length, width), layer.attention_out)

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(hidden, (self.shape.hidden,), weight)

    def _weights(self, rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, **self._kind) / math.sqrt(columns)

    def _layer(self) -> _Layer:
        shape, hidden = self.shape, self.shape.hidden
        inner = 64 * math.ceil(hidden * 8 / 3 / 64)  # as in Llama
        cache = (shape.batch, shape.heads, shape.context, self._head)
        return _Layer(
            attention_norm=torch.ones(hidden, **self._kind),
            query_key_value=self._weights(3 * hidden, hidden),
            attention_out=self._weights(hidden, hidden),
            mlp_norm=torch.ones(hidden, **self._kind),
            gate_up=self._weights(2 * inner, hidden),
            down=self._weights(hidden, inner),
            keys=torch.zeros(cache, **self._kind),
            values=torch.zeros(cache, **self._kind),
        )

    def _captured(self) -> Any:
        """Return a CUDA graph of one step. What this does to the sequences is forgotten: they are full, and start again."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_STEPS):
                self._position.fill_(self.shape.prompt)
                self._next_tokens()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._next_tokens()
        return graph


def _rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn queries or keys by their positions."""
    one, two = heads.chunk(2, -1)
    return torch.cat((one * cos - two * sin, two * cos + one * sin), -1)


@dataclass
class Wish:
    """A profile that a client wants, and what it is told. ``is_wanted``: whether it still waits."""

    folder: Path
    steps: int
    with_stack: bool
    record_shapes: bool
    is_wanted: Callable[[], bool]
    answer: Answer = (503, {"error": "the loop has ended"})
    answered: threading.Event = field(default_factory=threading.Event)


class _Step(NamedTuple):
    """A decode step that was done; ``began`` by the monotonic clock, in s."""

    began: float
    seconds: float
    profiled: bool


class Loop:
    """Steps of a decoder, one after the other, in the thread that calls `run`. The rest may be called from any thread."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.total = 0
        self._steps: deque[_Step] = deque(maxlen=_KEPT_STEPS)
        self._wish: Wish | None = None
        self._over = False
        self._lock = threading.Lock()

    def end(self, *_: object) -> None:
        """End it after the step that it is at."""
        self._over = True  # no lock: a signal may come while it is held

    def run(self, decoder: Decoder, ends: float) -> None:
        """Step until `end` is called, or the monotonic clock says ``ends``."""
        try:
            while not self._is_over(ends):
                self._step(decoder, profiled=False)
                if wish := self._wish:
                    wish.answer = self._profile(decoder, wish, ends)
                    with self._lock:
                        self._wish = None
                    wish.answered.set()
        finally:
            with self._lock:
                self._over = True
                if self._wish:
                    self._wish.answered.set()

    def profile(self, wish: Wish) -> Answer:
        """Wait for a profile; return status and content of the answer."""
        with self._lock:
            if self._over:
                return wish.answer
            if self._wish:
                return 409, {"error": "a profile is running"}
            self._wish = wish
        wish.answered.wait()
        return wish.answer

    def steps(self, since: float, until: float, profiled: bool) -> dict[str, Any]:
        """Return how long the steps took that lie within a time; with ``profiled``, those of them that were profiled."""
        with self._lock:
            steps, total = list(self._steps), self.total
        within = [s for s in steps if s.began >= since and s.began + s.seconds <= until and (s.profiled or not profiled)]
        return {
            "now": time.monotonic(),
            "pid": os.getpid(),
            "batch": self.shape.batch,
            "steps": total,
            "profiling": self._wish is not None,
            "durations_us": [round(1e6 * step.seconds, 1) for step in within],
        }

    def _is_over(self, ends: float) -> bool:
        return self._over or time.monotonic() >= ends

    def _step(self, decoder: Decoder, profiled: bool) -> None:
        batch = self.shape.batch
        if decoder.is_full:
            with _span(f"step[EXTEND bs={batch} toks={batch * self.shape.prompt}]", decoder.on_gpu):
                decoder.prefill()
        began = time.monotonic()
        with _span(f"step[DECODE bs={batch}]", decoder.on_gpu):
            decoder.step()
            with self._lock:  # within the span: cycles that follow each other without a gap are cut best
                self._steps.append(_Step(began, time.monotonic() - began, profiled))
                self.total += 1

    def _profile(self, decoder: Decoder, wish: Wish, ends: float) -> Answer:
        """Do the steps that a client wants to see, and write their trace."""
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if decoder.on_gpu else [])
        name = f"loop.{os.getpid()}.{time.time_ns()}.pt.trace.json.gz"
        trace, unfinished = wish.folder / name, wish.folder / f".{name}"
        try:
            with torch.profiler.profile(
                activities=activities, with_stack=wish.with_stack, record_shapes=wish.record_shapes
            ) as profiler:
                for i in range(wish.steps):
                    self._step(decoder, profiled=True)
                    if self._is_over(ends):
                        return wish.answer
                    if i % _LOOK_STEPS == 0 and not wish.is_wanted():
                        break
            if wish.is_wanted():
                profiler.export_chrome_trace(str(unfinished))
            if not wish.is_wanted():  # its folder may be a finished capture by now
                return 503, {"error": "the client has gone"}
            unfinished.rename(trace)
        except (OSError, RuntimeError) as error:
            return 500, {"error": f"no trace: {' '.join(str(error).split())}"}
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
        return 200, {"trace": str(trace), "steps": wish.steps}


@contextlib.contextmanager
def _span(name: str, on_gpu: bool) -> Iterator[None]:
    """Name what is done, for torch.profiler and for Nsight Systems. Names are those of SGLang (`rca.cycles.grammar`)."""
    with record_function(name):
        if not on_gpu:
            yield
            return
        torch.cuda.nvtx.range_push(name)
        try:
            yield
        finally:
            torch.cuda.nvtx.range_pop()


class Server(http.server.ThreadingHTTPServer):
    """HTTP to a loop, of this machine only."""

    request_queue_size = 128
    """Of 5 waiting connections, the default, some are reset where a fault keeps the cores busy."""

    def __init__(self, port: int, loop: Loop) -> None:
        """Listen. Raises `OSError` where the port is taken."""
        self.loop = loop
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/health":
            self._answer(200 if self.server.loop.total else 503, {"steps": self.server.loop.total})
        elif url.path == "/steps":
            query = dict(parse_qs(url.query))
            try:
                since, until = (float(query.get(key, [value])[0]) for key, value in (("since", "-inf"), ("until", "inf")))
            except ValueError:
                self._answer(400, {"error": "since and until are seconds of the monotonic clock"})
                return
            self._answer(200, self.server.loop.steps(since, until, query.get("profiled") == ["1"]))
        else:
            self._answer(404, {"error": "there is /health, /steps and /profile"})

    def do_POST(self) -> None:
        if urlsplit(self.path).path != "/profile":
            self._answer(404, {"error": "there is /health, /steps and /profile"})
            return
        try:
            wish = self._wish()
        except (ValueError, TypeError) as error:
            self._answer(400, {"error": str(error)})
            return
        self._answer(*self.server.loop.profile(wish))

    def _wish(self) -> Wish:
        """Read what is asked for. Raises `ValueError` or `TypeError`: what is wrong with it."""
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= _MOST_BYTES:
            raise ValueError("a request has a JSON body")
        asked = json.loads(self.rfile.read(length))
        if not isinstance(asked, dict) or asked.keys() - {"folder", "steps", "with_stack", "record_shapes"}:
            raise TypeError("expected an object with folder, steps, with_stack and record_shapes")
        folder, steps = asked.get("folder"), asked.get("steps")
        with_stack, record_shapes = asked.get("with_stack", False), asked.get("record_shapes", False)
        if not isinstance(folder, str) or not os.path.isabs(folder) or not os.path.isdir(folder):
            raise ValueError("folder: expected the absolute path of a folder that exists")
        if type(steps) is not int or not 1 <= steps <= _MOST_PROFILED_STEPS:
            raise ValueError(f"steps: expected a number from 1 to {_MOST_PROFILED_STEPS}")
        if type(with_stack) is not bool or type(record_shapes) is not bool:
            raise TypeError("with_stack and record_shapes: expected true or false")
        return Wish(Path(folder), steps, with_stack, record_shapes, self._client_waits)

    def _client_waits(self) -> bool:
        try:
            readable = select.select([self.connection], [], [], 0)[0]
            return not readable or bool(self.connection.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        with contextlib.suppress(OSError):  # it is gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Parse the command line, serve, and step."""
    arguments = _parser().parse_args()
    loop: Loop | None = None
    try:
        device = _device(arguments)
        shape = _shape(arguments, device)
        loop = Loop(shape)
        server = Server(arguments.port, loop)
    except RefusedError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"port {arguments.port}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, loop.end)
    ends = time.monotonic() + arguments.seconds
    signal.alarm(math.ceil(arguments.seconds) + _HUNG_SECONDS)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    torch.set_num_threads(arguments.threads)
    attention = sdpa_kernel(SDPBackend.MATH) if arguments.attention == "math" else contextlib.nullcontext()
    with torch.inference_mode(), attention:
        loop.run(Decoder(shape, device), ends)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--batch", type=_positive, default=4, help="sequences that are written at a time")
    parser.add_argument("--layers", type=_positive, default=4)
    parser.add_argument("--hidden", type=_positive, default=512)
    parser.add_argument("--heads", type=_positive, default=8)
    parser.add_argument("--vocab", type=_positive, default=8000)
    parser.add_argument("--prompt", type=_positive, default=64, help="tokens of a sequence when it starts")
    parser.add_argument("--context", type=_positive, default=512, help="and when it is full")
    parser.add_argument("--threads", type=_positive, default=1, help="of torch, on the CPU")
    parser.add_argument("--seed", type=int, default=1, help="of weights and prompts")
    parser.add_argument("--eager", action="store_true", help="no CUDA graph: launch kernel by kernel")
    parser.add_argument("--sync", type=_count, default=0, help="added synchronizations of the GPU in a step")
    parser.add_argument("--attention", choices=["auto", "math"], default="auto", help="math: not the fused kernels")
    parser.add_argument("--copies", type=_count, default=0, help="useless copies of each layer's state and cache in a step")
    parser.add_argument("--seconds", type=_positive, default=7200, help="it ends by itself after so long")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("is at least 1")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("is at least 0")
    return number


def _device(arguments: argparse.Namespace) -> str:
    if _no_torch:
        raise RefusedError(_no_torch)
    has_gpu = torch.cuda.is_available()
    if arguments.device == "cuda" and not has_gpu:
        raise RefusedError("--device cuda: this torch sees no GPU")
    return str(arguments.device) if arguments.device != "auto" else "cuda" if has_gpu else "cpu"


def _shape(arguments: argparse.Namespace, device: str) -> Shape:
    if device == "cpu" and (arguments.sync or arguments.eager):
        option = "--sync" if arguments.sync else "--eager"
        raise RefusedError(f"{option} is for GPUs: on the CPU it changes nothing")
    if arguments.hidden % (2 * arguments.heads):
        raise RefusedError("--hidden is no multiple of twice --heads")
    if arguments.context <= arguments.prompt:
        raise RefusedError("--context is not longer than --prompt")
    return Shape(
        batch=arguments.batch,
        layers=arguments.layers,
        hidden=arguments.hidden,
        heads=arguments.heads,
        vocab=arguments.vocab,
        prompt=arguments.prompt,
        context=arguments.context,
        seed=arguments.seed,
        graph=device == "cuda" and not arguments.eager,
        sync=arguments.sync,
        copies=arguments.copies,
    )


if __name__ == "__main__":
    main()
