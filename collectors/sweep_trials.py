"""Times forward and forward+backward of a decoder with random weights: a part of a grid, trial by trial.

Run by path, with a Python that has torch: ``python collectors/sweep_trials.py < plan.json``. It needs nothing else of this
project, and so it is one file. The plan is one JSON object, ``{"cells": [...], "device", "dtype", "batch_size",
"vocab_size", "trials"}``; on stdout comes one JSON object per line:

    {"environment": {...}}                        once
    {"begin": i}                                  before the cell i
    {"cell": i, "trial": k, "time_ms": 1.23}      for each trial
    {"cell": i, "error": "out of memory"}         where a cell cannot be measured; the next one begins

The model is a pre-norm decoder as GPT-2's: learned positions, causal attention, an inner width of 4 × d_model, GELU. Both
passes compute the forward with gradients recorded, as training does.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__" and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    del sys.path[0]  # run by path: what lies beside this file is no library, whatever its name

try:
    import torch
    from torch.nn import functional

    _no_torch = ""
except (ImportError, OSError) as error:  # a torch without its CUDA libraries ends in an OSError
    _no_torch = f"this Python has no torch: {sys.executable}: {error}"

Tensor = Any
_SEED = 20_261_126
_SPREAD = 0.02


class Decoder:
    """Weights of a decoder, and the passes over one batch of random tokens."""

    def __init__(self, cell: dict[str, Any], batch: int, vocab: int, device: str, dtype: Any) -> None:
        """Make weights, tokens and targets on the device."""
        torch.manual_seed(_SEED)
        self._kind = {"device": device, "dtype": dtype}
        self._heads = cell["num_heads"]
        width, context = cell["d_model"], cell["context_length"]
        self.weights: list[Tensor] = []
        self._embedding = self._weight(vocab, width)
        self._positions = self._weight(context, width)
        self._layers = [
            (
                self._norm_weight(width),
                self._weight(3 * width, width),
                self._weight(width, width),
                self._norm_weight(width),
                self._weight(4 * width, width),
                self._weight(width, 4 * width),
            )
            for _ in range(cell["num_layers"])
        ]
        self._norm = self._norm_weight(width)
        self._head = self._weight(vocab, width)
        self._tokens = torch.randint(vocab, (batch, context), device=device)
        self._targets = torch.randint(vocab, (batch, context), device=device)

    def forward(self) -> Tensor:
        """Return the logits, (batch, context, vocab)."""
        hidden = functional.embedding(self._tokens, self._embedding) + self._positions
        for norm_in, query_key_value, out, norm_out, up, down in self._layers:
            mixed = self._attention(self._normed(hidden, norm_in), query_key_value)
            hidden = hidden + functional.linear(mixed, out)
            inner = functional.gelu(functional.linear(self._normed(hidden, norm_out), up))
            hidden = hidden + functional.linear(inner, down)
        return functional.linear(self._normed(hidden, self._norm), self._head)

    def forward_backward(self) -> None:
        """Compute the loss and its gradients."""
        logits = self.forward()
        functional.cross_entropy(logits.flatten(0, 1).float(), self._targets.flatten()).backward()

    def forget_gradients(self) -> None:
        """Free the gradients, so that each trial makes its own."""
        for weight in self.weights:
            weight.grad = None

    def _attention(self, hidden: Tensor, query_key_value: Tensor) -> Tensor:
        batch, context, width = hidden.shape
        heads = functional.linear(hidden, query_key_value).view(batch, context, 3, self._heads, width // self._heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed.transpose(1, 2).reshape(batch, context, width)

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return functional.layer_norm(hidden, (hidden.shape[-1],), weight)

    def _weight(self, rows: int, columns: int) -> Tensor:
        return self._kept(torch.randn(rows, columns, **self._kind) * _SPREAD)

    def _norm_weight(self, width: int) -> Tensor:
        return self._kept(torch.ones(width, **self._kind))

    def _kept(self, weight: Tensor) -> Tensor:
        self.weights.append(weight.requires_grad_())
        return weight


def say(**content: Any) -> None:
    """Write one line."""
    print(json.dumps(content), flush=True)


def waiter(device: str) -> Callable[[], None]:
    """Return what waits until the device has done all that it was given."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def environment(device: str, dtype: str) -> dict[str, Any]:
    """Return what the times depend on."""
    facts = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else _cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "dtype": dtype,
    }
    if device == "cuda":
        facts |= {"cuda": torch.version.cuda, "matmul_precision": torch.get_float32_matmul_precision()}
    return facts


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measure(index: int, cell: dict[str, Any], plan: dict[str, Any], device: str) -> None:
    """Make the model of a cell, warm up, and time its trials. The model goes when this returns."""
    dtype = getattr(torch, plan["dtype"])
    decoder = Decoder(cell, plan["batch_size"], plan["vocab_size"], device, dtype)
    run = decoder.forward if cell["forward_only"] else decoder.forward_backward
    wait = waiter(device)
    for _ in range(cell["num_warmups"]):
        run()
        decoder.forget_gradients()
    for trial in range(plan["trials"]):
        wait()
        began = time.perf_counter_ns()
        kept = run()
        wait()
        elapsed = time.perf_counter_ns() - began
        del kept
        decoder.forget_gradients()
        say(cell=index, trial=trial, time_ms=elapsed / 1e6)


def measured(index: int, cell: dict[str, Any], plan: dict[str, Any], device: str) -> None:
    """Measure a cell, or say why that is not possible."""
    problem = ""
    try:
        measure(index, cell, plan, device)
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is one of the first
        text = " ".join(str(error).split())
        no_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text
        problem = "out of memory" if no_memory else text[:300] or type(error).__name__
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    if problem:
        say(cell=index, error=problem)


def main() -> None:
    """Read the plan from stdin and measure its cells."""
    if _no_torch:
        sys.exit(_no_torch)
    plan = json.load(sys.stdin)
    device = plan["device"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device here; --device cpu measures on the CPU")
    say(environment=environment(device, plan["dtype"]))
    gc.disable()  # as timeit does: a collection within a trial would be counted as its own
    for index, cell in plan["cells"]:
        say(begin=index)
        measured(index, cell, plan, device)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
