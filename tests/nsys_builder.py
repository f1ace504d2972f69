"""Small Nsight Systems exports of several generations (FORMATS.md §4.4): the same recording as SQLite, Parquet or Arrow.

Two processes (pids 100 and 200) that use the same correlation ids; all times in ns from the start of the session.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import polars as pl

from rca.capture.model import Reading
from rca.capture.readers import nsys_folder, nsys_sqlite
from rca.capture.source import HEAD_BYTES, Probe, Source

Tables = dict[str, list[dict[str, Any]]]

EPOCH_NS = 1_700_000_000_000_000_000
SECRET = "token-of-the-environment"


def global_id(pid: int, tid: int = 0) -> int:
    return (1 << 48) | (pid << 24) | tid


STRINGS = {
    1: "void gemm<float>(float*)",
    2: "gemm",
    3: "cudaLaunchKernel_v7000",
    4: "cuLaunchKernelEx",
    5: "cudaDeviceSynchronize_v3020",
    6: "step",
    7: "read",
    8: "poll",
    9: "TLS allocation",
    10: "ncclAllReduce",
    11: "cudaMemcpyAsync_v3020",
    12: "NCCL",
}


def tables(generation: int) -> Tables:
    """Return the tables of an export by nsys of 2022, 2024 or 2026."""
    old = generation < 2024
    meta = "EXPORT_META_DATA" if old else "META_DATA_EXPORT"
    version = {2022: "2022.4.2", 2024: "2024.5.1", 2026: "2026.2.1"}[generation]
    schema = {2022: "3.0.0", 2024: "3.13.2", 2026: "3.25.0"}[generation]
    made: Tables = {
        meta: [
            {"name": "EXPORT_PRODUCT_VERSION", "value": version},
            {"name": "EXPORT_SCHEMA_VERSION", "value": schema},
            {"name": "EXPORT_PARAM_TIME_SHIFT", "value": "0"},
            {"name": "EXPORT_PARAM_TIMES_TO_EXPORT", "value": ""},
        ],
        "StringIds": [{"id": key, "value": value} for key, value in STRINGS.items()],
        "TARGET_INFO_SESSION_START_TIME": [{"utcEpochNs": EPOCH_NS, "utcTime": "2023-11-14T22:13:20"}],
        "TARGET_INFO_SYSTEM_ENV": [{"name": "DeviceEnvironment", "value": SECRET}],
        "TARGET_INFO_GPU": [{"id": 0, "name": "NVIDIA H100", "uuid": "u-0", "busLocation": "0000:01:00.0", "cuDevice": 0}],
        "CUPTI_ACTIVITY_KIND_KERNEL": [
            _gpu(2_000, 3_000, 100, 0, demangledName=1, shortName=2),
            _gpu(2_500, 2_900, 200, 1, demangledName=1, shortName=2),
        ],
        "CUPTI_ACTIVITY_KIND_MEMCPY": [
            _gpu(4_000, 4_200, 100, 0, correlation=2, bytes=4096, copyKind=1, srcKind=1, dstKind=2),
            _gpu(4_300, 4_400, 100, 0, correlation=3, bytes=64, copyKind=10, srcKind=2, dstKind=2),
        ],
        "CUPTI_ACTIVITY_KIND_MEMSET": [_gpu(5_000, 5_010, 100, 0, correlation=4, bytes=128, memKind=2)],
        "CUPTI_ACTIVITY_KIND_RUNTIME": [
            _call(1_000, 1_100, 100, 3, correlation=1),
            _call(1_500, 1_550, 200, 4, correlation=1, event_class=1),
            _call(3_900, 3_950, 100, 11, correlation=2),
            _call(6_000, 7_000, 100, 5, correlation=5),
        ],
        "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": [
            _gpu(6_100, 6_900, 100, 0, correlation=5, stream=2**32 - 1, syncType=1),
        ],
        "NVTX_EVENTS": [
            _range(None, 75, 200, "NCCL" if not old else None, None if not old else 12, domain=1, end=None),
            _range(500, 59, 100, "decode_1", None, end=8_000),
            _range(600, 59, 100, None, 6, end=7_500),
            _range(700, 60, 200, None, 10, domain=1, end=900),
            _range(800, 59, 100, "aten::mul, seq = 7, op_id = 12", None, end=850),
            _range(7_600, 59, 100, "open", None, end=None),
            _range(650, 34, 100, "a mark", None, end=None),
        ],
        "OSRT_API": [
            _os_call(9_000, 9_400, 7, 0),
            _os_call(9_100, 9_200, 8, 1),
            _os_call(9_500, 9_600, 8, 0),
            _os_call(0, 0, 7, None),
        ],
        "SCHED_EVENTS": [
            _sched(100, 1, 101),
            _sched(400, 0, 101),
            _sched(150, 1, 102),
            _sched(500, 1, 101),
            _sched(900, 0, 102),
            _sched(50, 1, 0),
            _sched(60, 0, 0),
        ],
        "PROFILER_OVERHEAD": [{"start": 20, "end": 50, "globalTid": global_id(100, 101), "nameId": 9, "returnValue": 0}],
    }
    if old:
        made["CUDA_UM_CPU_PAGE_FAULT_EVENTS"] = []
        return made
    made["META_DATA_CAPTURE"] = [
        {"name": "CUDA_GRAPH_TRACE_OPTIONS:MODE", "value": "Graph"},
        {"name": "CAPTURE_EVENT_TYPE", "value": "Cuda"},
        {"name": "PROCESS_0:ENVIRONMENT", "value": SECRET},
        {"name": "PROCESS_0:ARGUMENT_1", "value": SECRET},
    ]
    made["DIAGNOSTIC_EVENT"] = [
        _message(1, "Number of CUDA events collected: 9"),
        _message(2, "perf event paranoid\nlevel is 2"),
        _message(3, "Some CUDA events were lost"),
    ]
    if generation < 2026:
        return made
    made["CUPTI_ACTIVITY_KIND_GRAPH_TRACE"] = [_gpu(9_700, 9_900, 100, 0, correlation=9, graphId=4, graphExecId=77)]
    made["CUPTI_ACTIVITY_KIND_OVERHEAD"] = [
        {"start": 30, "end": 40, "globalTid": global_id(100, 101), "nameId": None, "overheadType": 8}
    ]
    made["TARGET_INFO_CUDA_DEVICE"] = [
        {"gpuId": 0, "cudaId": 0, "pid": 100},
        {"gpuId": 5, "cudaId": 1, "pid": 200},
    ]
    made["TARGET_INFO_GPU_METRICS"] = [
        {"typeId": 0x100_0003, "metricId": 1, "metricName": "GPC Clock Frequency [MHz]"},
        {"typeId": 0x100_0003, "metricId": 2, "metricName": "SMs Active [Throughput %]"},
        {"typeId": 0x100_0003, "metricId": 3, "metricName": "PCIe TX Throughput [Throughput %]"},
    ]
    made["GPU_METRICS"] = [
        {"timestamp": stamp, "typeId": 0x100_0003, "metricId": metric, "value": value}
        for stamp, metric, value in [(10, 1, 1_410_000_000), (10, 2, 63), (10, 3, 7), (-5, 2, 1), (20, 2, -1), (20, 9, 1)]
    ]
    made["TARGET_INFO_NETWORK_METRICS"] = [
        {"metricsListId": 0, "metricsIdx": 0, "name": "IB: Bytes sent", "unit": "bytes/ms"},
        {"metricsListId": 0, "metricsIdx": 1, "name": "IPoIB: Bytes sent", "unit": "bytes/ms"},
    ]
    made["NET_NIC_METRIC"] = [
        {"start": 0, "end": 1000, "globalId": 1, "portId": 1, "metricsListId": 0, "metricsIdx": index, "value": 3 + index}
        for index in (0, 1)
    ]
    return made


def _gpu(
    start: int, end: int, pid: int, device: int, *, correlation: int = 1, stream: int = 7, **more: int
) -> dict[str, Any]:
    where = {"deviceId": device, "streamId": stream, "correlationId": correlation, "globalPid": global_id(pid)}
    return {"start": start, "end": end, **where, **more}


def _call(start: int, end: int, pid: int, name: int, correlation: int, event_class: int = 0) -> dict[str, Any]:
    ids = {"globalTid": global_id(pid, pid + 1), "correlationId": correlation, "nameId": name}
    return {"start": start, "end": end, "eventClass": event_class, **ids}


def _range(
    start: int | None, kind: int, pid: int, text: str | None, text_id: int | None, *, end: int | None, domain: int = 0
) -> dict[str, Any]:
    what = {"eventType": kind, "text": text, "globalTid": global_id(pid, pid + 1), "textId": text_id, "domainId": domain}
    return {"start": start, "end": end, **what}


def _os_call(start: int, end: int, name: int, nesting: int | None) -> dict[str, Any]:
    return {"start": start, "end": end, "globalTid": global_id(100, 101), "nameId": name, "nestingLevel": nesting}


def _sched(start: int, is_in: int, tid: int) -> dict[str, Any]:
    return {"start": start, "cpu": 0, "isSchedIn": is_in, "globalTid": global_id(100 if tid else 0, tid)}


def _message(severity: int, text: str) -> dict[str, Any]:
    return {"timestamp": severity, "severity": severity, "text": text, "globalPid": global_id(100)}


_TEXT_COLUMNS = {"name", "value", "text", "uuid", "busLocation", "utcTime", "metricName", "unit"}


def _is_text(table: str, column: str) -> bool:
    return column in _TEXT_COLUMNS and (table, column) not in {("GPU_METRICS", "value"), ("NET_NIC_METRIC", "value")}


def write_sqlite(path: Path, made: Tables) -> Path:
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as database:
        for table, rows in made.items():
            names = list(rows[0]) if rows else ["start", "end"]
            columns = ", ".join(f'"{name}" {"TEXT" if _is_text(table, name) else "INTEGER"}' for name in names)
            database.execute(f'CREATE TABLE "{table}" ({columns})')
            marks = ", ".join("?" for _ in names)
            database.executemany(f'INSERT INTO "{table}" VALUES ({marks})', [tuple(row.values()) for row in rows])
        database.commit()
    return path


def write_folder(folder: Path, made: Tables, suffix: str = ".parquet") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for table, rows in made.items():
        if not rows:
            continue
        frame = pl.DataFrame(rows, schema={name: pl.String if _is_text(table, name) else pl.Int64 for name in rows[0]})
        path = folder / f"{table}{suffix}"
        frame.write_parquet(path) if suffix == ".parquet" else frame.write_ipc(path)
    return folder


def probe(path: Path) -> Probe:
    with path.open("rb") as stream:
        return Probe(path, stream.read(HEAD_BYTES))


def read_sqlite(path: Path) -> Reading:
    return nsys_sqlite.read(Source((path,), workers=2))


def read_folder(folder: Path) -> Reading:
    return nsys_folder.read(Source(tuple(sorted(folder.iterdir())), workers=2))


def codes(reading: Reading) -> list[str]:
    return [finding.code for finding in reading.findings]


def rows(reading: Reading, kind: str, *columns: str) -> list[tuple[object, ...]]:
    return reading.events.filter(pl.col("kind") == kind).select(columns).rows()


def kinds(reading: Reading) -> dict[str, int]:
    return dict(reading.events["kind"].cast(pl.String).value_counts().rows())
