"""The pages that are opened: of every pair in ``fixtures/`` and ``../shared/data`` that stands for something else."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from rca import api
from rca import cli as command_line
from reports import machine
from reports.page.render import page

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
SHARED = ROOT.parent / "shared" / "data"

VLLM = FIXTURES / "vllm-cpu-contention"
LAB = FIXTURES / "lab"
FEW_OF_LAB = ("vllm.cpu_quota.30.r1", "vllm.software_change.eager.1.r1", "loop.aa.r1", "loop.profiler.2.r1")
"""Slower, not comparable, no difference, the profiler's own doing."""

PAIRS: dict[str, tuple[Path, Path]] = {
    "contention": (VLLM / "normal", VLLM / "abnormal"),
    "no_difference": (VLLM / "normal", VLLM / "again"),
    "again": (VLLM / "again", VLLM / "abnormal"),
    **{path.name: (path / "normal", path / "abnormal") for path in sorted(LAB.iterdir())},
    **{
        f"a100_{name}": (SHARED / "sglang-a100" / name / "normal", SHARED / "sglang-a100" / name / "abnormal")
        for name in (
            "cpu_compute_squeeze_out",
            "cpu_frequency_reduction",
            "gpu_instability",
            "gpu_memory_squeeze_out_NVLink",
            "gpu_memory_squeeze_out_PCIe",
        )
    },
    "dataloader": (
        SHARED / "traces" / "kineto" / "resnet50_dataloader_4_workers.normal.json.gz",
        SHARED / "traces" / "kineto" / "resnet50_dataloader_0_workers.abnormal.json.gz",
    ),
    "mfu": (SHARED / "traces" / "nsys" / "mfu_2gpu_before.sqlite", SHARED / "traces" / "nsys" / "mfu_2gpu_after.sqlite"),
}
"""Captures of serving and training, by what the tests call them."""

TESTED = [name for name in PAIRS if name in FEW_OF_LAB or not (LAB / name).exists()]

CYCLES = {"mfu": "ncclDevKernel_SendRecv"}
"""What marks a cycle where nothing that is known does."""

STARTS = SHARED / "vllm-startup"
COLD, NULL = STARTS / "weights_page_cache_cold__qwen-4b", STARTS / "null_no_change__qwen-4b"
DOCUMENTS: dict[str, tuple[str | Path, ...]] = {
    "startup": ("compare", FIXTURES / "startup" / "normal", FIXTURES / "startup" / "abnormal"),
    "starts": ("startup", FIXTURES / "startup"),
    "starts_cold": ("compare", COLD / "normal", COLD / "abnormal"),
    "starts_null": ("compare", NULL / "normal", NULL / "abnormal"),
    "starts_utilization": ("startup", STARTS / "gpu_memory_utilization"),
    "bench": ("compare", FIXTURES / "bench" / "float32", FIXTURES / "bench" / "bfloat16"),
    "bench_run": ("bench", "report", FIXTURES / "bench" / "float32"),
    "sweep": ("sweep", "report", FIXTURES / "sweep"),
}
"""Start-ups, model runs and grids, as the commands that write their pages."""


@dataclass(frozen=True)
class Made:
    """A page on disk; of captures, also what it was made of and the JSON that its figures must be those of."""

    path: Path
    result: api.Comparison | None = None
    json: dict[str, Any] | None = None


def absent(name: str) -> list[Path]:
    """Return what a page would be made of, but is not there."""
    return [one for one in PAIRS.get(name) or DOCUMENTS[name] if isinstance(one, Path) and not one.exists()]


def make(name: str, folder: Path) -> Made:
    """Write the page of a pair or a document into a folder."""
    for path in absent(name):
        pytest.skip(f"{path.relative_to(ROOT.parent)} is not beside this checkout")
    path = folder / f"{name}.html"
    if name in PAIRS:
        result = api.compare(*PAIRS[name], cycle=CYCLES.get(name), pictures=True)
        path.write_text(page(result), encoding="utf-8")
        return Made(path, result, machine.as_dict(result))
    arguments = ["rca", *map(str, DOCUMENTS[name]), "--html", str(path)]
    with (
        mock.patch.object(sys, "argv", arguments),
        contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())),
        pytest.raises(SystemExit) as ended,
    ):
        command_line.main()
    assert not ended.value.code, arguments
    return Made(path)
