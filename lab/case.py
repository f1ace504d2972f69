"""A case on disk: a folder with ``normal/``, ``abnormal/`` and ``truth.json``, the label that nobody has to guess."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from rca.errors import InputError

SCHEMA = "rca.lab.case/1"
TRUTH = "truth.json"


class Effect(msgspec.Struct):
    """What the fault did to the workload, as its clients saw it: not what `rca` makes of the capture.

    ``normal_us`` and ``abnormal_us`` are medians over requests of the time per output token (of the built-in loop: over its
    steps), ``n_*`` how many those were. Where neither side completed a request they are None.
    """

    unit: str
    normal_us: float | None
    abnormal_us: float | None
    n_normal: int
    n_abnormal: int

    @property
    def ratio(self) -> float | None:
        """How many times longer a token takes on the abnormal side."""
        return self.abnormal_us / self.normal_us if self.abnormal_us and self.normal_us else None


class Truth(msgspec.Struct):
    """The label of a case.

    Attributes:
        case: its name, that of its folder.
        suite: the suite that it is of.
        workload: name of the workload in the suite.
        engine: ``vllm``, ``sglang`` or ``loop``.
        fault: name of the fault (`lab.faults`); None of an A/A pair, where nothing differs.
        cause: id of the catalogue in DESIGN.md; None of an A/A pair.
        severity: the dial, in ``severity_unit``; None of an A/A pair.
        device: where the fault is: Host, or GPU 0.
        parameters: how it was injected, in numbers.
        effect: measured by the load's own clients.
        first: the side that was recorded first.
        repeat: number of the repeat, from 1.
        host: the machine, in words.
    """

    case: str
    suite: str
    workload: str
    engine: str
    fault: str | None
    cause: str | None
    severity: float | None
    severity_unit: str
    device: str
    parameters: dict[str, Any]
    effect: Effect
    first: str
    repeat: int
    host: str
    schema: str = SCHEMA


def write_truth(folder: Path, truth: Truth) -> None:
    """Write the label; a case without it is not finished."""
    text = msgspec.json.format(msgspec.json.encode(truth), indent=2)
    temporary = folder / f".{TRUTH}"
    with temporary.open("wb") as out:
        out.write(text + b"\n")
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(folder / TRUTH)


def read_truth(folder: Path) -> Truth:
    """Return the label of a case. Raises `InputError`."""
    file = folder / TRUTH
    try:
        truth = msgspec.json.decode(file.read_bytes(), type=Truth)
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(file, f"is no label of a case: {error}", "run the case again") from None
    if truth.schema != SCHEMA:
        raise InputError(file, f"has schema {truth.schema!r}", f"this version reads {SCHEMA}")
    return truth


def cases_in(folder: Path) -> Iterator[Path]:
    """Yield the folders of finished cases at or below a folder, in the order of their paths. Raises `InputError`."""
    if not folder.is_dir():
        raise InputError(folder, "is no folder", "give what `rca lab run -o` wrote")
    yield from sorted(file.parent for file in folder.rglob(TRUTH))
