"""Faults of a GPU. They need one, and a Python with torch."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pynvml

from lab import actions
from lab.faults.model import Fault, Parameters, Situation

_TORCH_SEES_GPUS = "import torch; print(torch.cuda.device_count())"


@contextmanager
def _hog(kind: str, situation: Situation, severity: float) -> Iterator[Parameters]:
    with situation.gpu_hog(kind, "--duty", str(severity)):
        yield {"kind": kind, "gpu": situation.gpu, "duty_pct": severity}


def _fewer_gpus(wanted: int, situation: Situation) -> str | None:
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return f"there is no GPU here (NVML: {error})"
    if count < wanted:
        return f"needs {wanted} GPUs, there is one"
    command = [situation.python, "-c", _TORCH_SEES_GPUS]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    except OSError as error:
        return f"{situation.python}: {error.strerror}"
    seen = ran.stdout.strip()
    if ran.returncode != 0 or not seen.isdigit() or int(seen) < wanted:
        return f"{situation.python} has no torch that sees {wanted} GPU(s)"
    return None


@contextmanager
def _locked_clock(situation: Situation, severity: float) -> Iterator[Parameters]:
    with situation.undo.holding(actions.unlock_clocks(situation.gpu), situation.seconds):
        pynvml.nvmlInit()
        try:
            gpu: Any = pynvml.nvmlDeviceGetHandleByIndex(situation.gpu)
            highest = pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM)
            clock = round(highest * severity / 100)
            pynvml.nvmlDeviceSetGpuLockedClocks(gpu, clock, clock)
        finally:
            pynvml.nvmlShutdown()
        yield {"gpu": situation.gpu, "mhz": clock, "highest_mhz": highest}


def _may_not_lock(situation: Situation) -> str | None:
    missing = _fewer_gpus(1, situation)
    return missing or (None if "clocks" in situation.allowed else "locks the GPU's clock: allow it with --allow clocks")


FAULTS = (
    Fault(
        name="gpu_contention",
        cause="gpu_contention",
        text="matrix products of another process on the GPU",
        unit="% of the time",
        severities=(25, 50, 100),
        device="GPU 0",
        unavailable=partial(_fewer_gpus, 1),
        inject=partial(_hog, "gemm"),
    ),
    Fault(
        name="gpu_memory",
        cause="gpu_memory_pressure",
        text="another process holds the GPU's memory",
        unit="% of what is free",
        severities=(50, 90, 100),
        device="GPU 0",
        unavailable=partial(_fewer_gpus, 1),
        inject=partial(_hog, "memory"),
    ),
    Fault(
        name="pcie_saturation",
        cause="pcie_contention",
        text="pinned copies of another process to and from the GPU",
        unit="% of the time",
        severities=(25, 50, 100),
        device="GPU 0",
        unavailable=partial(_fewer_gpus, 1),
        inject=partial(_hog, "pcie"),
    ),
    Fault(
        name="nvlink_saturation",
        cause="nvlink_contention",
        text="copies of another process between this GPU and the next",
        unit="% of the time",
        severities=(25, 50, 100),
        device="GPU 0",
        unavailable=partial(_fewer_gpus, 2),
        inject=partial(_hog, "nvlink"),
    ),
    Fault(
        name="gpu_clock",
        cause="gpu_clock",
        text="the GPU's clock is locked lower",
        unit="% of the highest clock",
        severities=(80, 60, 30),
        device="GPU 0",
        unavailable=_may_not_lock,
        inject=_locked_clock,
    ),
)
