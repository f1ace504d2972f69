"""Faults of the disk and of the network."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psutil

from lab import actions
from lab.faults.model import Fault, FaultError, Parameters, Situation

_HANDLE = "7ca1:"
"""Of our queueing discipline: unlikely to be another's."""

_NETEM_BAND = f"{_HANDLE}3"
_LOOPBACK = ("dev", "lo")


@contextmanager
def _writers(situation: Situation, severity: float) -> Iterator[Parameters]:
    with situation.hog("write", "--writers", str(int(severity)), "--folder", str(situation.folder)):
        yield {"writers": int(severity)}


def _commands(port: int, netem: list[str]) -> list[list[str]]:
    """Return the commands that delay or drop what goes to and from one port of the loopback device, and nothing else."""
    qdisc = ["tc", "qdisc", "add", *_LOOPBACK]
    everything = ["priomap", *["0"] * 16]
    chosen = ["tc", "filter", "add", *_LOOPBACK, "parent", _HANDLE, "protocol", "ip", "u32"]
    return [
        [*qdisc, "root", "handle", _HANDLE, "prio", "bands", "3", *everything],
        [*qdisc, "parent", _NETEM_BAND, "handle", "30:", "netem", *netem],
        *[[*chosen, "match", "ip", side, str(port), "0xffff", "flowid", _NETEM_BAND] for side in ("sport", "dport")],
    ]


def _tc(command: list[str]) -> str | None:
    """Run a command; return what it says where it fails."""
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    return None if ran.returncode == 0 else " ".join(ran.stderr.split()) or f"exit code {ran.returncode}"


@contextmanager
def _netem(kind: str, unit: str, situation: Situation, severity: float) -> Iterator[Parameters]:
    with situation.undo.holding(actions.remove_qdisc(_LOOPBACK[1], _HANDLE), situation.seconds):
        for command in _commands(situation.port, [kind, f"{severity:g}{unit}"]):
            if problem := _tc(command):
                raise FaultError(f"{' '.join(command)}: {problem}")
        yield {kind: f"{severity:g}{unit}", "port": situation.port}


def _no_disk(situation: Situation) -> str | None:
    kind = max(
        (part for part in psutil.disk_partitions(all=True) if situation.folder.resolve().is_relative_to(part.mountpoint)),
        key=lambda part: len(part.mountpoint),
        default=None,
    )
    return f"the cases go to a {kind.fstype}, not to a disk" if kind and kind.fstype in ("tmpfs", "ramfs") else None


def _no_netem(situation: Situation) -> str | None:
    if shutil.which("tc") is None:
        return "there is no program tc (package iproute2)"
    show = ["tc", "qdisc", "show", *_LOOPBACK]
    shown = subprocess.run(show, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    if "noqueue" not in shown.stdout:
        return f"the loopback device has a queueing discipline already: {shown.stdout.strip()}"
    with situation.undo.holding(actions.remove_qdisc(_LOOPBACK[1], _HANDLE)):
        problems = [problem for command in _commands(1, ["delay", "1ms"]) if (problem := _tc(command))]
    return f"tc cannot delay packets here: {problems[0]}" if problems else None


FAULTS = (
    Fault(
        name="disk_io",
        cause="disk_io",
        text="direct writes of 4 MiB to the disk of the cases, each waited for",
        unit="writers",
        severities=(1, 4, 16),
        least=1,
        most=256,
        rest_seconds=5,
        unavailable=_no_disk,
        inject=_writers,
    ),
    Fault(
        name="loopback_latency",
        cause="network",
        text="packets to and from the server's port wait (netem on the loopback device)",
        unit="ms each way",
        severities=(1, 5, 25),
        least=0.01,
        most=1000,
        unavailable=_no_netem,
        inject=partial(_netem, "delay", "ms"),
    ),
    Fault(
        name="loopback_loss",
        cause="network",
        text="packets to and from the server's port are lost (netem on the loopback device)",
        unit="% of packets",
        severities=(0.5, 2, 8),
        least=0.01,
        most=50,
        unavailable=_no_netem,
        inject=partial(_netem, "loss", "%"),
    ),
)
