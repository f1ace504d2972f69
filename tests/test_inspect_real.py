"""``rca inspect`` on recordings made by others: how much is in them was counted with other tools."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_inspect import STEP, validated

from rca.api import inspect

Expected = tuple[str, dict[str, int], int | None, str]
"""Events by kind, in the order of `KINDS`; events of each GPU; cycles; how the anchor's name begins."""

KINETO: dict[str, Expected] = {
    "kineto/b200_eager.json.gz": (
        (
            "kernel 768, memcpy 161, runtime 1151, driver 221, op 4809, annotation 3, gpu_annotation 3, "
            "python 15230, overhead 9"
        ),
        {"GPU 0": 929},
        1,
        STEP,
    ),
    "kineto/negative_queue_length_rank0.json.gz": (
        "kernel 6080, memcpy 1390, memset 277, runtime 33924, op 25190, annotation 355, window 1",
        {"GPU 0": 7747},
        5,
        "ProfilerStep#",
    ),
    "kineto/ns_resolution_rank0.json.gz": (
        "kernel 4350, memcpy 1600, memset 145, runtime 15329, op 23920, annotation 60, gpu_annotation 15, window 1",
        {"GPU 0": 6095},
        5,
        "ProfilerStep#",
    ),
    "kineto/resnet50_dataloader_0_workers.abnormal.json.gz": (
        "kernel 8772, memcpy 12, memset 312, runtime 11923, op 23640, annotation 6, window 1",
        {"GPU 0": 9096},
        6,
        "ProfilerStep#",
    ),
    "kineto/resnet50_dataloader_4_workers.normal.json.gz": (
        "kernel 8868, memcpy 12, memset 378, runtime 12085, op 20556, annotation 6, window 1",
        {"GPU 0": 9258},
        6,
        "ProfilerStep#",
    ),
    "kineto/resnet_30_iterations_dataloader_stalls.json.gz": (
        "kernel 9628, memcpy 123, memset 362, runtime 25928, op 39506, window 1",
        {"GPU 0": 10113},
        30,
        "repeating kernel sequence",
    ),
    "kineto/sglang_decode_qwen3_30b_B300.json.gz": (
        (
            "kernel 713, memcpy 4, memset 1, runtime 61, driver 1, op 258, annotation 2, gpu_annotation 3, "
            "python 2142, overhead 1, window 1"
        ),
        {"GPU 0": 718},
        1,
        STEP,
    ),
    "kineto/sglang_decode_qwen3_30b_MI300.json.gz": (
        "kernel 802, memcpy 3, runtime 50, op 198, annotation 2, gpu_annotation 3, python 2132, window 1",
        {"GPU 5": 805},
        1,
        STEP,
    ),
    "kineto/sglang_prefill_qwen3_8b_MI300.json.gz": (
        "kernel 527, memcpy 7, runtime 1069, op 3786, annotation 2, python 53321",
        {"GPU 9": 534},
        1,
        STEP,
    ),
    "kineto/vit_bfloat16.json.gz": (
        "kernel 633, memcpy 5, runtime 1094, driver 150, op 2048, annotation 5, gpu_annotation 13, window 1",
        {"GPU 0": 638},
        5,
        "timed region",
    ),
    "kineto/vllm_decode_cudagraph.json.gz": (
        "kernel 425, memcpy 9, runtime 20, op 100, annotation 1, python 984",
        {"GPU 2": 434},
        1,
        STEP,
    ),
    "kineto/vllm_prefilldecode_piecewise.json.gz": (
        "kernel 413, memcpy 10, runtime 381, op 642, annotation 1, python 17038",
        {"GPU 2": 423},
        1,
        STEP,
    ),
}
"""Counted with json: ``Counter(e["cat"] for e in traceEvents if e["ph"] == "X")``, GPU rows by ``args.device``, cycles by
the names of the annotations. Operators that are annotated as ``user_annotation`` (optimizer steps, data loaders) and steps
that are recorded as ``Operator`` change places between op and annotation; their sum was checked. "30 iterations" is that
file's own name.
"""

NSYS: dict[str, Expected] = {
    "nsys/h100_2gpu_1s.sqlite": (
        "kernel 3442, memcpy 904, memset 22, runtime 5796, sync 244, op 16782, overhead 198",
        {"GPU 0": 2184, "GPU 1": 2184},
        0,  # blocks of a T5 encoder, as its NVTX ranges say: they repeat, and are no cycles
        "",
    ),
    "nsys/mfu_2gpu_after.sqlite": (
        "kernel 3587, memcpy 904, memset 242, runtime 5722, driver 960, sync 334, op 16693, annotation 420, overhead 6",
        {"GPU 0": 2366, "GPU 1": 2367},
        None,
        "",
    ),
    "nsys/mfu_2gpu_before.sqlite": (
        "kernel 4010, memcpy 1020, memset 269, runtime 6392, driver 1074, sync 366, op 18656, annotation 462, overhead 6",
        {"GPU 0": 2636, "GPU 1": 2663},
        None,
        "",
    ),
    "nsys/perlmutter-cloverleaf-cuda.sqlite": (
        "kernel 1312, memcpy 279, runtime 3047, driver 1, sync 1312, oncpu 627, io 205, overhead 47, other 1623",
        {"GPU 0": 1591},
        None,
        "",
    ),
    "parquet": ("annotation 28602, gpu_annotation 28602", {"GPU ?": 28602}, None, ""),
}
"""As `KINETO`; None where it is not known how many cycles the program ran.

Counted with sqlite3: ``count(*)`` of each CUPTI_ACTIVITY_KIND_* table (runtime and driver together are KIND_RUNTIME's),
NVTX_EVENTS by domain, PROFILER_OVERHEAD and KIND_OVERHEAD together, SCHED_EVENTS' 1,254 as 627 pairs, io and other the
1,828 rows of OSRT_API with nestingLevel 0. Parquet: 14,305 and 14,299 rows (polars), less the one without a name in each.
"""

ROCM: dict[str, Expected] = {
    "rocm/rocprofv3_csv_a": ("kernel 9, memcpy 4, runtime 51, driver 32, other 4", {"GPU 4": 13}, 0, ""),
    "rocm/rocprofv3_csv_b": ("kernel 7, memcpy 2, runtime 12, driver 10, annotation 5", {"GPU 1": 9}, 0, ""),
}
"""As `KINETO`. Counted with csv.DictReader, line by line: HIP (17, 13; 12) and RCCL (21) calls are runtime, HSA driver."""

OWN: dict[str, Expected] = {
    "sglang/detailed-noshapes-manualstop.1795221626.8727658-TP-0.trace.json.gz": (
        "op 56336, annotation 72, window 1",
        {},
        12,
        "step[…]",
    ),
    "sglang/merged-1795221630.2129607.trace.json.gz": ("op 35153, annotation 48, window 1", {}, 8, "step[…]"),
    "sglang/nostack-40steps-idle-gaps.1795221612.848706-TP-0.trace.json.gz": (
        "op 176327, annotation 7617, window 1",
        {},
        40,
        "step[…]",
    ),
    "sglang/overlap-nostack-16steps.1795221756.3274808-TP-0.trace.json.gz": (
        "op 91090, annotation 114, window 1",
        {},
        16,
        "step[…]",
    ),
    "sglang/overlap-stack-4steps.1795222349.1191719-TP-0.trace.json.gz": (
        "op 19054, annotation 30, python 34379, window 1",
        {},
        4,
        "step[…]",
    ),
    "sglang/stack-4steps.1795221621.9017775-TP-0.trace.json.gz": (
        "op 24010, annotation 26, python 25096, window 1",
        {},
        4,
        "step[…]",
    ),
    "sglang/startstep-8steps.1795221630.2129607-TP-0.trace.json.gz": ("op 35153, annotation 48, window 1", {}, 8, "step[…]"),
    "sglang/tiny-1795221624.4103634-TP-0-DECODE.trace.json.gz": ("op 15030, annotation 30, window 1", {}, 5, "step[…]"),
    "sglang/tiny-1795221624.4103634-TP-0-EXTEND.trace.json.gz": ("op 3284, annotation 6, window 1", {}, 1, "step[…]"),
    "vllm/nostack": ("op 28234, annotation 60, window 2", {}, 60, STEP),
    "vllm/stack-eager-4steps": ("op 7500, annotation 4, python 159040, window 2", {}, 4, STEP),
}
"""As `KINETO`."""

REAL = {f"traces/{name}": value for name, value in (KINETO | NSYS | ROCM).items()} | {f"own/{n}": v for n, v in OWN.items()}


@pytest.mark.parametrize("name", REAL)
def test_real_traces(shared_data: Path, name: str) -> None:
    by_kind, gpus, cycles, anchor = REAL[name]
    result = inspect(shared_data / name)
    assert ", ".join(f"{kind} {count}" for kind, count in result.events.by_kind.items()) == by_kind
    assert result.events.total == sum(result.events.by_kind.values())
    of_gpus = {device.name: device.events for device in result.devices if device.name != "Host"}
    assert of_gpus == gpus
    if cycles is not None:
        assert result.cycles.count == cycles
        assert (result.cycles.anchor or "").startswith(anchor)
    validated(result)
