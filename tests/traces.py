"""Small torch.profiler traces, made to order."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from rca.capture import Reading
from rca.capture.source import Reader, Source

BASE_NS = 1_790_857_026_000_000_000
KERNELS = (
    "void at::native::vectorized_elementwise_kernel<4, Add>(int, Add)",
    "ampere_bf16_gemm_64x64",
    "ncclDevKernel_AllReduce(int)",
)


def span(name: str, cat: str, ts: float, dur: float, **fields: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "pid": 100, "tid": 100, "ts": round(ts, 3), "dur": round(dur, 3), **fields}


def decode_trace(
    cycles: int = 12,
    *,
    slow: float = 1.0,
    gpu_slow: float = 1.0,
    seed: int = 0,
    rank: int = 0,
    anchor: str = "execute_context_0(0)_generation_4(4)",
    device: int = 0,
    spread: float = 0.02,
    **top: Any,
) -> dict[str, Any]:
    """Return a trace of decode steps of about 10 ms: one annotation, three launches and kernels each, on one GPU.

    ``slow`` stretches the host's part of a step, ``gpu_slow`` its kernels.
    """
    rng = np.random.default_rng(seed)
    events: list[dict[str, Any]] = []
    now, correlation = 1000.0, 0
    for _ in range(cycles):
        length = 10_000 * slow * float(np.exp(rng.normal(0, spread)))
        events.append(span(anchor, "user_annotation", now, 0.8 * length))
        for i, kernel in enumerate(KERNELS):
            correlation += 1
            at = now + (0.1 + 0.2 * i) * length
            took = 500 * (i + 1) * gpu_slow * float(np.exp(rng.normal(0, spread)))
            events.append(span("aten::op", "cpu_op", at - 50, 150))
            events.append(span("cudaLaunchKernel", "cuda_runtime", at, 10, args={"correlation": correlation}))
            events.append(
                {
                    **span(kernel, "kernel", at + 20, took),
                    "pid": device,
                    "tid": 7,
                    "args": {"correlation": correlation, "stream": 7, "device": device},
                }
            )
        now += length
    return {
        "schemaVersion": 1,
        "deviceProperties": [{"id": 0, "name": "NVIDIA A100"}],
        "distributedInfo": {"rank": rank, "world_size": 1},
        "baseTimeNanoseconds": BASE_NS,
        "traceEvents": events,
        "traceName": "x.json",
    } | top


def write_trace(path: Path, trace: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(trace).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
    return path


def write_counters(path: Path, values: dict[str, float], seconds: float = 1.0, hz: float = 50, seed: int = 0) -> Path:
    """Write host counters that wobble by 1 % around ``values``."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["timestamp,metric,device,value,unit"]
    for tick in range(int(seconds * hz)):
        for metric, value in values.items():
            device = "GPU 0" if metric.startswith("gpu_") else "Host"
            at = BASE_NS + int(tick / hz * 1e9)
            lines.append(f"{at},{metric},{device},{value * float(np.exp(rng.normal(0, 0.01))):.6g},")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_pair(folder: Path, **abnormal: Any) -> tuple[Path, Path]:
    """Write a normal side and an abnormal side that differs by the given arguments of `decode_trace`."""
    write_trace(folder / "normal" / "rank0.json", decode_trace(seed=1))
    write_trace(folder / "abnormal" / "rank0.json", decode_trace(**({"seed": 2} | abnormal)))
    return folder / "normal", folder / "abnormal"


def read_with(reader: Reader, *paths: Path) -> Reading:
    """Read one source as `rca.capture.load` would."""
    return reader.read(Source(tuple(paths)))
