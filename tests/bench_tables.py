"""Model runs for tests: operator tables as `_build_table` of torch/autograd/profiler_util.py prints them, made of rows."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
FIXTURES = ROOT / "fixtures" / "bench"
SEED = SHARED / "seeds" / "rocm_qwen3_4b_quantization_runs.md"
OP_TABLE = SHARED / "data" / "traces" / "op-tables" / "vllm_gpt_oss_20b_key_averages.txt"

RULE = "-"


class Row(NamedTuple):
    name: str
    self_cpu_us: float
    cpu_total_us: float
    self_device_us: float
    device_total_us: float
    calls: int


MODEL = [
    Row("model_inference", 0, 0, 4_121_000, 4_121_000, 1),
    Row("model_inference", 1_291_000, 4_122_000, 0, 2_000_000, 1),
    Row("aten::mm", 400_000, 500_000, 1_500_000, 1_500_000, 25_300),
    Row("Cijk_Alik_Bljk_HHS_BH_MT64x64x32_MI16x16x16x1_SN_1LDSB0_APM1", 0, 0, 1_500_000, 1_500_000, 25_300),
    Row("aten::mul", 200_000, 300_000, 500_000, 500_000, 47_400),
]


def the_seed() -> Path:
    """The project's example, or a skip where it is not."""
    if not SEED.is_file():
        pytest.skip("../shared/seeds, the examples that people made by hand, is not beside this checkout")
    return SEED


def duration(us: float) -> str:
    if us >= 1e6:
        return f"{us / 1e6:.3f}s"
    return f"{us / 1e3:.3f}ms" if us >= 1e3 else f"{us:.3f}us"


def share(us: float, total: float) -> str:
    return "NaN" if total == 0 else f"{100 * us / total:.2f}%"


def table(
    rows: list[Row],
    *,
    device: str = "CUDA",
    row_limit: int | None = None,
    cpu_total: float | None = None,
    device_total: float | None = None,
    memory: bool = False,
    shapes: bool = False,
    stack: bool = False,
    unit: str = "",
) -> str:
    def written(us: float) -> str:
        size = {"us": 1, "ms": 1e3, "s": 1e6}.get(unit)
        return f"{us / size:.3f}{unit}" if size else duration(us)

    width = min(max(len(row.name) for row in rows) + 4, 55)
    cpu = sum(row.self_cpu_us for row in rows) if cpu_total is None else cpu_total
    on_device = sum(row.self_device_us for row in rows if row.self_cpu_us) if device_total is None else device_total
    headers = ["Name", "Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg"]
    if device:
        headers += [f"Self {device}", f"Self {device} %", f"{device} total", f"{device} time avg"]
    headers += ["CPU Mem", "Self CPU Mem"] if memory else []
    headers += ["# of Calls"]
    widths = [width] + [12] * (len(headers) - 1)
    headers += ["Input Shapes"] if shapes else []
    widths += [30] if shapes else []
    headers += ["Source Location"] if stack else []
    widths += [40] if stack else []

    def line(cells: list[str]) -> str:
        last = "<" if stack else ">"
        sides = [">"] * (len(cells) - 1) + [last]
        return "".join(f"{cell:{side}{w}}  " for cell, side, w in zip(cells, sides, widths, strict=True))

    rule = "".join(RULE * w + "  " for w in widths)
    out = [rule, line(headers), rule]
    for row in rows[:row_limit]:
        name = row.name if len(row.name) < width - 3 or len(row.name) < 52 else row.name[:52] + "..."
        cells = [name, share(row.self_cpu_us, cpu), written(row.self_cpu_us), share(row.cpu_total_us, cpu)]
        cells += [written(row.cpu_total_us), written(row.cpu_total_us / row.calls)]
        if device:
            cells += [written(row.self_device_us), share(row.self_device_us, on_device), written(row.device_total_us)]
            cells += [written(row.device_total_us / row.calls)]
        cells += ["244.21 MB", "-56 B"] if memory else []
        cells += [str(row.calls)]
        cells += ["[[1, 2560], [2560, 2560], []]"] if shapes else []
        cells += ["model.py(12): forward"] if stack else []
        out.append(line(cells))
        if stack:
            out.append(line([""] * (len(cells) - 1) + ["run.py(3): main"]))
            out.append(line([""] * len(cells)))
    out += [rule, f"Self CPU time total: {written(cpu)}"]
    out += [f"Self {device} time total: {written(on_device)}"] if device else []
    return "\n".join(out) + "\n"


def run_lines(latencies: list[float], prompt: int = 3, new: int = 50, memory: str = "7.59GB") -> str:
    """Lines of runs as the project's example has them."""
    out = [f"--- 测试配置: M_输入长度_{prompt}_生成_{new} ---"]
    for i, seconds in enumerate(latencies, start=1):
        speed = new / seconds if seconds else 0.0
        out.append(
            f"  运行 {i}/{len(latencies)}: 延迟={seconds:.4f}s, 生成{new} tokens, 吞吐量={speed:.2f} t/s, 显存={memory}"
        )
    return "\n".join(out) + "\n"
