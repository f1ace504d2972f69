"""What two paths hold, so that `rca compare` compares like with like: captures, start-up logs or model runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from rca.bench import is_bench
from rca.bench.read import RUNS
from rca.capture.discover import is_capture_file
from rca.errors import UsageError
from rca.startup import is_startup_log

Kind = Literal["capture", "startup", "bench"]

_NAMES: dict[Kind, str] = {"capture": "a capture", "startup": "start-up logs", "bench": "model runs"}


def kind_of(normal: Path, abnormal: Path) -> Kind:
    """Return what both paths hold.

    Raises:
        UsageError: they hold different things.
    """
    kinds = [_kind(path) for path in (normal, abnormal) if not _nothing(path)]
    if len(kinds) < 2:  # what is missing or empty is refused, with its reason, by whoever reads the other one
        return kinds[0] if kinds else "capture"
    if kinds[0] != kinds[1]:
        text = f"{normal} holds {_NAMES[kinds[0]]}, {abnormal} holds {_NAMES[kinds[1]]}"
        raise UsageError(f"{text}: give two of a kind")
    return kinds[0]


def _nothing(path: Path) -> bool:
    file = Path(str(path).rpartition("#")[0] or path)
    return not path.exists() and not file.exists() if not path.is_dir() else not any(_files(path))


def _kind(path: Path) -> Kind:
    """Tell by content. A folder with a trace is a capture, whatever logs lie beside it; so is what nobody knows."""
    if path.is_dir() and (path / RUNS).is_file():  # its trace is that of one run, and no capture
        return "bench"
    if any(is_capture_file(file) for file in _files(path)):
        return "capture"
    if any(is_startup_log(file) for file in _files(path)):
        return "startup"
    return "bench" if is_bench(path) else "capture"


def _files(path: Path) -> Iterator[Path]:
    try:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        elif path.is_file():
            yield path
    except OSError:  # what cannot be looked into is refused, with its reason, by whoever reads it
        return
