"""One generated serving run, and writers that store it in every trace format: the same facts in different clothes.

All times are whole microseconds, so that every format can hold them exactly. Twelve decode steps of one process on one GPU.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nsys_builder import Tables, global_id, write_folder
from nsys_builder import write_sqlite as write_nsys

BASE_NS = 227 * 7_889_238 * 10**9
"""Kineto's base of that month (FORMATS.md §1.3); the other formats' session start."""
BASE_US = BASE_NS // 1000
Row = dict[str, Any]

PID, TID, STREAM = 4242, 4243, 7
CYCLES, LAUNCHES = 12, 20
ANCHOR = "execute_context_0(0)_generation_4(4)"
GPU_NAME = "NVIDIA A100-SXM4-80GB"
KERNELS = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>, std::array<char*, 3ul> >(int, float)",
    "ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x4_tn",
    "void flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<128, 64, 128, 4, false> >(Flash_fwd_params)",
    "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
    "void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16, (vllm::Fp8KVCacheDataType)0>(__nv_bfloat16 const*, long*)",
)


@dataclass(frozen=True)
class Span:
    """``kind``: annotation, call, kernel, HtoD, DtoH or memset. Times in µs since the base; ``size`` in bytes."""

    kind: str
    name: str
    start: int
    dur: int
    correlation: int = 0
    size: int = 0

    @property
    def end(self) -> int:
        return self.start + self.dur

    @property
    def on_gpu(self) -> bool:
        return self.kind in ("kernel", "HtoD", "DtoH", "memset")


@dataclass(frozen=True)
class Run:
    """``counters``: (µs since the base, metric, device, value)."""

    spans: tuple[Span, ...]
    counters: tuple[tuple[int, str, str, float], ...]

    def of(self, *kinds: str) -> list[Span]:
        return [span for span in self.spans if span.kind in kinds]


def serving_run(seed: int = 7) -> Run:
    """Each step: a copy in, 20 launches, a memset, a copy out, a synchronisation, and one launch that runs on after it."""
    rng = np.random.default_rng(seed)
    spans: list[Span] = []
    now, gpu_free, correlation = 1_000, 0, 0

    def launch(call: str, kind: str, name: str, at: int, dur: int, size: int = 0) -> int:
        nonlocal correlation, gpu_free
        correlation += 1
        took = int(rng.integers(4, 9))
        begin = max(gpu_free, at + took + 3)
        gpu_free = begin + dur
        spans.append(Span("call", call, at, took, correlation))
        spans.append(Span(kind, name, begin, dur, correlation, size))
        return at + took + int(rng.integers(20, 60))

    for _ in range(CYCLES):
        began = now
        now = launch("cudaMemcpyAsync", "HtoD", "", now + 100, int(rng.integers(10, 20)), 4096)
        for i in range(LAUNCHES):
            now = launch("cudaLaunchKernel", "kernel", KERNELS[i % len(KERNELS)], now, int(rng.integers(50, 400)))
        now = launch("cudaMemsetAsync", "memset", "", now, 3, 1024)
        now = launch("cudaMemcpyAsync", "DtoH", "", now, int(rng.integers(10, 20)), 16)
        correlation += 1
        spans.append(Span("call", "cudaStreamSynchronize", now, gpu_free + 5 - now, correlation))
        now = launch("cudaLaunchKernel", "kernel", KERNELS[0], gpu_free + 10, 900)
        spans.append(Span("annotation", ANCHOR, began, now - began))
        now += int(rng.integers(200, 400))
    counters = [
        (at, metric, device, round(float(rng.normal(mean, spread)), 3))
        for at in range(0, now + 20_000, 10_000)
        for metric, device, mean, spread in (
            ("gpu_sm_frequency", "GPU 0", 1400.0, 5.0),
            ("host_cpu_usage", "Host", 30.0, 2.0),
        )
    ]
    return Run(tuple(sorted(spans, key=lambda span: span.start)), tuple(counters))


# -- Chrome-trace JSON -------------------------------------------------------------------------------------------------

_KINETO = {"annotation": "user_annotation", "call": "cuda_runtime", "kernel": "kernel", "memset": "gpu_memset"}
_KINETO |= {"HtoD": "gpu_memcpy", "DtoH": "gpu_memcpy"}
_LEGACY = {"annotation": "user_annotation", "call": "Runtime", "kernel": "Kernel", "memset": "Memset"}
_LEGACY |= {"HtoD": "Memcpy", "DtoH": "Memcpy"}
_GPU_NAMES = {"HtoD": "Memcpy HtoD (Pinned -> Device)", "DtoH": "Memcpy DtoH (Device -> Pinned)"}
_GPU_NAMES |= {"memset": "Memset (Device)"}


def _args(span: Span) -> dict[str, Any]:
    args: dict[str, Any] = {"correlation": span.correlation} if span.correlation else {}
    if span.on_gpu:
        args |= {"device": 0, "stream": STREAM, "context": 1}
    return args | ({"bytes": span.size} if span.size else {})


def _gpu_or(span: Span, host: Any, gpu: Any) -> Any:
    return gpu if span.on_gpu else host


def _chrome(spans: Iterable[Span], categories: dict[str, str], offset: int, number: Callable[[int], Any]) -> list[Row]:
    return [
        {"ph": "X", "cat": categories[s.kind], "name": _GPU_NAMES.get(s.kind, s.name), "pid": _gpu_or(s, PID, 0),
         "tid": _gpu_or(s, TID, STREAM), "ts": number(s.start + offset), "dur": number(s.dur), "args": _args(s)}
        for s in spans
    ]  # fmt: skip


def kineto(run: Run, folder: Path) -> None:
    """Today's: decimals relative to a base that is in the head."""
    head = {"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": GPU_NAME}], "displayTimeUnit": "ms",
            "distributedInfo": {"rank": 0, "world_size": 1, "backend": "nccl"}, "baseTimeNanoseconds": BASE_NS}  # fmt: skip
    events = _chrome(run.spans, _KINETO, 0, lambda us: us + 0.0)
    _write_json(folder / "rank0.pt.trace.json", head | {"traceEvents": events, "traceName": "x"})
    write_counters(run, folder)


def kineto_legacy(run: Run, folder: Path) -> None:
    """That of 2021: other categories, whole µs since 1970 (FORMATS.md §1.3, §1.5)."""
    events = _chrome(run.spans, _LEGACY, BASE_US, int)
    _write_json(folder / "worker0.pt.trace.json", {"schemaVersion": 1, "traceEvents": events})
    write_counters(run, folder)


def kunlun(run: Run, folder: Path) -> None:
    """The seed system's raw trace (FORMATS.md §7.1): pid as text, args in a JSON string, counters among the events."""
    events: list[dict[str, Any]] = []
    for event in _chrome(run.spans, _LEGACY | {"annotation": "user_annotation", "call": "cuda_runtime"}, BASE_US, float):
        on_gpu = event["cat"] in ("Kernel", "Memcpy", "Memset")
        args = {"args": json.dumps(event["args"])}
        events.append(event | {"pid": f"node1({PID})", "tid": f"stream {STREAM}" if on_gpu else TID, "args": args})
    for at, metric, device, value in run.counters:
        tid, category = ("CAT_XPU_0", "CAT_XPU") if device != "Host" else ("CAT_CPU", "CAT_CPU")
        events.append({"ph": "C", "cat": category, "name": metric, "pid": "node1(0)", "tid": tid,
                       "ts": float(at + BASE_US), "args": {"value": value}})  # fmt: skip
    _write_json(folder / "kunlun_trace.json", {"traceEvents": events})


def chrome_pairs(run: Run, folder: Path) -> None:
    """Spans as begin and end, as plain Chrome writers do; in order of time, inner spans end first."""
    events: list[tuple[tuple[int, ...], dict[str, Any]]] = []
    for span, event in zip(run.spans, _chrome(run.spans, _KINETO, BASE_US, int), strict=True):
        end = {key: event[key] for key in ("pid", "tid", "cat", "name")} | {"ph": "E", "ts": span.end + BASE_US}
        del event["dur"]
        events.append(((span.start, 1, -span.dur), event | {"ph": "B"}))
        events.append(((span.end, 0, span.dur), end))
    ordered = [event for _, event in sorted(events, key=lambda item: item[0])]
    _write_json(folder / "trace.json", {"traceEvents": ordered})
    write_counters(run, folder)


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document))


def write_counters(run: Run, folder: Path) -> None:
    rows = [(BASE_NS + at * 1000, metric, device, value) for at, metric, device, value in run.counters]
    write_csv(folder / "counters.csv", ["timestamp", "metric", "device", "value"], rows)


def write_csv(path: Path, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC).writerows([header, *rows])


# -- Nsight Systems (FORMATS.md §4) ------------------------------------------------------------------------------------

_SUFFIX = {"cudaLaunchKernel": "_v7000"}
_COPY_KIND = {"HtoD": {"copyKind": 1, "srcKind": 1, "dstKind": 2}, "DtoH": {"copyKind": 2, "srcKind": 2, "dstKind": 1}}


def nsys_tables(run: Run, year: int) -> Tables:
    """The tables of an export. Since 2024 texts of ranges are registered strings here, and columns are added."""
    new = year >= 2024
    calls = [span.name + _SUFFIX.get(span.name, "_v3020") for span in run.of("call")]
    strings = {text: number for number, text in enumerate(dict.fromkeys([*KERNELS, *calls, ANCHOR]), start=1)}
    thread = {"globalTid": global_id(PID, TID)}

    def gpu(span: Span, **more: Any) -> Row:
        where = {"deviceId": 0, "contextId": 1, "streamId": STREAM, "correlationId": span.correlation}
        row = times(span) | where | {"globalPid": global_id(PID)} | more
        return row | ({"greenContextId": None} if new else {})

    def times(span: Span) -> Row:
        return {"start": span.start * 1000, "end": span.end * 1000}

    versions = {"EXPORT_PRODUCT_VERSION": "2025.3.2", "EXPORT_SCHEMA_VERSION": "3.20.3"}
    if not new:
        versions = {"EXPORT_PRODUCT_VERSION": "2022.2.1", "EXPORT_SCHEMA_VERSION": "2.9.1"}
    label = {"text": None, "textId": strings[ANCHOR]} if new else {"text": ANCHOR, "textId": None}
    return {
        "META_DATA_EXPORT" if new else "EXPORT_META_DATA": [{"name": k, "value": v} for k, v in versions.items()],
        "StringIds": [{"id": number, "value": text} for text, number in strings.items()],
        "TARGET_INFO_SESSION_START_TIME": [{"utcEpochNs": BASE_NS, "utcTime": "2026-10-01"}],
        "TARGET_INFO_GPU": [{"id": 0, "name": GPU_NAME, "busLocation": "0000:c1:00.0", "cuDevice": 0}],
        "CUPTI_ACTIVITY_KIND_KERNEL": [
            gpu(s, demangledName=strings[s.name], shortName=strings[s.name]) for s in run.of("kernel")
        ],
        "CUPTI_ACTIVITY_KIND_MEMCPY": [gpu(s, bytes=s.size, **_COPY_KIND[s.kind]) for s in run.of("HtoD", "DtoH")],
        "CUPTI_ACTIVITY_KIND_MEMSET": [gpu(s, bytes=s.size, memKind=2) for s in run.of("memset")],
        "CUPTI_ACTIVITY_KIND_RUNTIME": [
            times(s) | thread | {"eventClass": 0, "correlationId": s.correlation, "nameId": strings[text], "returnValue": 0}
            for s, text in zip(run.of("call"), calls, strict=True)
        ],
        "NVTX_EVENTS": [times(s) | thread | label | {"eventType": 59, "domainId": 0} for s in run.of("annotation")],
    }


def nsys_2022(run: Run, folder: Path) -> None:
    write_nsys(folder / "report1.sqlite", nsys_tables(run, 2022))
    write_counters(run, folder)


def nsys_2025(run: Run, folder: Path) -> None:
    write_nsys(folder / "report1.sqlite", nsys_tables(run, 2025))
    write_counters(run, folder)


def nsys_parquet(run: Run, folder: Path) -> None:
    write_folder(folder / "report1_pqtdir", nsys_tables(run, 2025))
    write_counters(run, folder)


_GPU_TRACE = (
    "Start (ns),Duration (ns),CorrId,GrdX,GrdY,GrdZ,BlkX,BlkY,BlkZ,Reg/Trd,StcSMem (MB),DymSMem (MB),Bytes (MB),"
    "Throughput (MB/s),SrcMemKd,DstMemKd,Device,Ctx,Strm,Name"
)
_API_TRACE = "Start (ns),Duration (ns),Name,Result,CorrID,Pid,Tid,T-Pri,Thread Name"
_RANGE_TRACE = (
    "Start (ns),End (ns),Duration (ns),DurChild (ns),DurNonChild (ns),Name,PID,TID,Lvl,NumChild,RangeId,ParentId,"
    "RangeStack,NameTree"
)
_STATS_NAMES = {"HtoD": "[CUDA memcpy Host-to-Device]", "DtoH": "[CUDA memcpy Device-to-Host]", "memset": "[CUDA memset]"}
_MEMORY = {"HtoD": ("Pinned", "Device"), "DtoH": ("Device", "Pinned"), "memset": ("Device", "")}


def nsys_stats(run: Run, folder: Path) -> None:
    """Times from the session's start, without its date: no place for the counters on this clock."""

    def begin(span: Span) -> tuple[int, int]:
        return span.start * 1000, span.dur * 1000

    gpu: list[Any] = []
    for s in run.of("kernel", "HtoD", "DtoH", "memset"):
        size = f"{s.size / 1e6:.6f}" if s.size else ""
        name = _STATS_NAMES.get(s.kind, s.name)
        memory = _MEMORY.get(s.kind, ("", ""))
        gpu.append((*begin(s), s.correlation, *[""] * 9, size, "", *memory, f"{GPU_NAME} (0)", 1, STREAM, name))
    calls = [(*begin(s), s.name, 0, s.correlation, PID, TID, 20, "python") for s in run.of("call")]
    ranges = [
        (s.start * 1000, s.end * 1000, s.dur * 1000, 0, s.dur * 1000, s.name, PID, TID, 0, 0, i, "", f":{i}", s.name)
        for i, s in enumerate(run.of("annotation"), start=1)
    ]
    write_csv(folder / "report1_cuda_gpu_trace.csv", _GPU_TRACE.split(","), gpu)
    write_csv(folder / "report1_cuda_api_trace.csv", _API_TRACE.split(","), calls)
    write_csv(folder / "report1_nvtx_pushpop_trace.csv", _RANGE_TRACE.split(","), ranges)


NVIDIA: dict[str, Callable[[Run, Path], None]] = {
    "kineto": kineto,
    "kineto-legacy": kineto_legacy,
    "kunlun": kunlun,
    "chrome-pairs": chrome_pairs,
    "nsys-2022": nsys_2022,
    "nsys-2025": nsys_2025,
    "nsys-parquet": nsys_parquet,
    "nsys-stats": nsys_stats,
}
