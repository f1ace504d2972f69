"""Faults of the GPU that the server uses. They need one of NVIDIA's, and a Python with torch."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pynvml

from lab import actions
from lab.faults.model import Fault, FaultError, Parameters, Situation

_TORCH_SEES_GPUS = "import torch; print(torch.cuda.device_count())"


@contextmanager
def _nvml() -> Iterator[None]:
    """Open NVML. What it refuses becomes a `FaultError`."""
    try:
        pynvml.nvmlInit()
        try:
            yield
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise FaultError(f"NVML: {error}") from None


@contextmanager
def _hog(kind: str, situation: Situation, severity: float) -> Iterator[Parameters]:
    with situation.gpu_hog(kind, "--duty", str(severity)):
        yield {"kind": kind, "gpu": situation.gpu and situation.gpu.uuid, "duty_pct": severity}


@contextmanager
def _peer_hog(situation: Situation, severity: float) -> Iterator[Parameters]:
    with _nvml():
        peer = _linked_peer(situation)
    assert peer is not None  # noqa: S101  (`_no_link` has seen to it)
    with situation.gpu_hog("nvlink", "--duty", str(severity), others=[peer]):
        yield {"gpu": situation.gpu and situation.gpu.uuid, "peer": peer, "duty_pct": severity}


def _linked_peer(situation: Situation) -> str | None:
    """Return the uuid of another GPU, if both it and the server's have an NVLink that is up."""
    assert situation.gpu is not None  # noqa: S101
    uuids: list[str] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        gpu: Any = pynvml.nvmlDeviceGetHandleByIndex(index)
        if _has_link(gpu):
            uuids.append(pynvml.nvmlDeviceGetUUID(gpu))
    others = [uuid for uuid in uuids if uuid != situation.gpu.uuid]
    return others[0] if others and situation.gpu.uuid in uuids else None


def _has_link(gpu: Any) -> bool:
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            if pynvml.nvmlDeviceGetNvLinkState(gpu, link):
                return True
        except pynvml.NVMLError:
            return False
    return False


def _no_gpu(situation: Situation) -> str | None:
    if situation.gpu is None:
        return "there is no GPU here that the server uses"
    command = [situation.python, "-c", _TORCH_SEES_GPUS]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        return f"{situation.python}: {error}"
    seen = ran.stdout.strip()
    if ran.returncode != 0 or not seen.isdigit() or int(seen) == 0:
        return f"{situation.python} has no torch that sees a GPU"
    return None


def _no_link(situation: Situation) -> str | None:
    if missing := _no_gpu(situation):
        return missing
    try:
        with _nvml():
            return None if _linked_peer(situation) else "the server's GPU has no NVLink to another"
    except FaultError as error:
        return str(error)


@contextmanager
def _locked_clock(situation: Situation, severity: float) -> Iterator[Parameters]:
    assert situation.gpu is not None  # noqa: S101  (`_may_not_lock` has seen to it)
    uuid = situation.gpu.uuid
    with situation.undo.holding(actions.unlock_clocks(uuid), situation.seconds):
        with _nvml():
            gpu: Any = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            highest = pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM)
            clock = round(highest * severity / 100)
            pynvml.nvmlDeviceSetGpuLockedClocks(gpu, clock, clock)
        yield {"gpu": uuid, "mhz": clock, "highest_mhz": highest}


def _may_not_lock(situation: Situation) -> str | None:
    missing = _no_gpu(situation)
    return missing or (None if "clocks" in situation.allowed else "locks the GPU's clock: allow it with --allow clocks")


FAULTS = (
    Fault(
        name="gpu_contention",
        cause="gpu_contention",
        text="matrix products of another process on the GPU",
        unit="% of the time",
        severities=(25, 50, 100),
        least=1,
        most=100,
        device="GPU",
        unavailable=_no_gpu,
        inject=partial(_hog, "gemm"),
    ),
    Fault(
        name="gpu_memory",
        cause="gpu_memory_pressure",
        text="another process holds the GPU's memory",
        unit="% of what is free",
        severities=(50, 90, 100),
        least=1,
        most=100,
        device="GPU",
        unavailable=_no_gpu,
        inject=partial(_hog, "memory"),
    ),
    Fault(
        name="pcie_saturation",
        cause="pcie_contention",
        text="pinned copies of another process to and from the GPU",
        unit="% of the time",
        severities=(25, 50, 100),
        least=1,
        most=100,
        device="GPU",
        unavailable=_no_gpu,
        inject=partial(_hog, "pcie"),
    ),
    Fault(
        name="nvlink_saturation",
        cause="nvlink_contention",
        text="copies of another process between this GPU and the next",
        unit="% of the time",
        severities=(25, 50, 100),
        least=1,
        most=100,
        device="GPU",
        unavailable=_no_link,
        inject=_peer_hog,
    ),
    Fault(
        name="gpu_clock",
        cause="gpu_clock",
        text="the GPU's clock is locked lower (a lock of somebody else is not restored: NVML cannot tell it)",
        unit="% of the highest clock",
        severities=(80, 60, 30),
        least=1,
        most=100,
        device="GPU",
        unavailable=_may_not_lock,
        inject=_locked_clock,
    ),
)
