"""Programs that use one resource of a GPU up, run by path with a Python that has torch.

``gpu_hogs.py gemm --gpu 0 --duty 50 --seconds 60 --ready FILE``. Each ends when its stdin does, or after ``--seconds``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    del sys.path[0]  # run by path: what lies beside this file is no library, whatever its name

try:
    import torch
except ImportError:
    sys.exit(f"{sys.executable}: this Python has no torch")

_GEMM = 8192
_COPY_BYTES = 256 << 20
_LEAVE_BYTES = 256 << 20


def gemm(device: Any) -> Callable[[], None]:
    """Matrix products: they take SMs, and time slices, from the other process."""
    one = torch.randn(_GEMM, _GEMM, device=device, dtype=torch.bfloat16)
    out = torch.empty_like(one)

    def work() -> None:
        torch.mm(one, one, out=out)
        torch.cuda.synchronize(device)

    return work


def memory(device: Any, share: float) -> Callable[[], None]:
    """Hold ``share`` % of the memory that is free."""
    free, _ = torch.cuda.mem_get_info(device)
    wanted = max(0, min(int(free * share / 100), free - _LEAVE_BYTES))
    held = torch.ones(wanted, dtype=torch.uint8, device=device)

    def work() -> None:
        held[:1].add_(0)  # it is in use, so that no driver moves it away
        time.sleep(0.1)

    return work


def pcie(device: Any) -> Callable[[], None]:
    """Copy between pinned host memory and the GPU, both ways at once."""
    host = [torch.empty(_COPY_BYTES, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
    there = [torch.empty(_COPY_BYTES, dtype=torch.uint8, device=device) for _ in range(2)]
    streams = [torch.cuda.Stream(device) for _ in range(2)]

    def work() -> None:
        with torch.cuda.stream(streams[0]):
            there[0].copy_(host[0], non_blocking=True)
        with torch.cuda.stream(streams[1]):
            host[1].copy_(there[1], non_blocking=True)
        torch.cuda.synchronize(device)

    return work


def nvlink(device: Any) -> Callable[[], None]:
    """Copy between this GPU and the next one, both ways at once."""
    count = torch.cuda.device_count()
    if count < 2:
        sys.exit("there is one GPU only: nothing to copy to")
    peer = torch.device("cuda", (device.index + 1) % count)
    here = [torch.empty(_COPY_BYTES, dtype=torch.uint8, device=device) for _ in range(2)]
    there = [torch.empty(_COPY_BYTES, dtype=torch.uint8, device=peer) for _ in range(2)]
    ways = [(torch.cuda.Stream(device), torch.cuda.Stream(peer)) for _ in range(2)]

    def work() -> None:
        for (ours, theirs), target, source in zip(ways, (there[0], here[1]), (here[0], there[1]), strict=True):
            with torch.cuda.stream(ours), torch.cuda.stream(theirs):  # a copy waits for the streams of both its ends
                target.copy_(source, non_blocking=True)
        torch.cuda.synchronize(device)
        torch.cuda.synchronize(peer)

    return work


def _end_with_stdin() -> None:
    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Parse the command line and be a hog."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["gemm", "memory", "pcie", "nvlink"])
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--duty", type=float, default=100.0, help="%% of the time; of memory: of what is free")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--ready", type=Path)
    arguments = parser.parse_args()
    signal.alarm(arguments.seconds)
    _end_with_stdin()
    device = torch.device("cuda", arguments.gpu)
    torch.cuda.set_device(device)
    kinds: dict[str, Callable[[], Callable[[], None]]] = {
        "gemm": lambda: gemm(device),
        "memory": lambda: memory(device, arguments.duty),
        "pcie": lambda: pcie(device),
        "nvlink": lambda: nvlink(device),
    }
    work = kinds[arguments.kind]()
    work()
    if arguments.ready:
        arguments.ready.touch()
    while True:
        began = time.monotonic()
        work()
        busy = time.monotonic() - began
        if arguments.duty < 100 and arguments.kind != "memory":
            time.sleep(busy * (100 - arguments.duty) / max(arguments.duty, 1.0))


if __name__ == "__main__":
    main()
