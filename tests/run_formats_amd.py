"""The run of `run_formats` as ROCm's tools would have stored it (FORMATS.md §6).

HIP has its own names for the same calls; a memset is a kernel there, so the run is taken without it. Times count from the
machine's start.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from run_formats import KERNELS, PID, STREAM, TID, Run, Span, write_csv

BOOT_NS = 4_321_000_000_000


def on_amd(run: Run) -> Run:
    """The same run as HIP would have done it: ``cudaX`` is ``hipX``, and no memset."""
    memsets = {span.correlation for span in run.of("memset")}
    kept = [span for span in run.spans if span.correlation not in memsets]
    return Run(tuple(replace(s, name=s.name.replace("cuda", "hip") if s.kind == "call" else s.name) for s in kept), ())


def _boot(us: int) -> int:
    return BOOT_NS + us * 1000


_API = "Domain,Function,Process_Id,Thread_Id,Correlation_Id,Start_Timestamp,End_Timestamp"
_DISPATCH = {
    2024: "Kind,Agent_Id,Queue_Id,Thread_Id,Dispatch_Id,Kernel_Id,Kernel_Name,Correlation_Id,Start_Timestamp,End_Timestamp,"
    "Private_Segment_Size,Group_Segment_Size",
    2025: "Kind,Agent_Id,Queue_Id,Stream_Id,Thread_Id,Dispatch_Id,Kernel_Id,Kernel_Name,Correlation_Id,Start_Timestamp,"
    "End_Timestamp,LDS_Block_Size,Scratch_Size,VGPR_Count,Accum_VGPR_Count,SGPR_Count",
}
_GRID = [f"{what}_Size_{axis}" for what in ("Workgroup", "Grid") for axis in "XYZ"]
_COPY = {
    2024: "Kind,Direction,Source_Agent_Id,Destination_Agent_Id,Correlation_Id,Start_Timestamp,End_Timestamp",
    2025: "Kind,Direction,Stream_Id,Source_Agent_Id,Destination_Agent_Id,Correlation_Id,Start_Timestamp,End_Timestamp",
}
_DIRECTION = {"HtoD": "MEMORY_COPY_HOST_TO_DEVICE", "DtoH": "MEMORY_COPY_DEVICE_TO_HOST"}


def _rocprof_csv(run: Run, folder: Path, year: int) -> None:
    run = on_amd(run)
    cpu, gpu = ("Agent 0", "Agent 4") if year == 2025 else (0, 1)
    stream = (STREAM,) if year == 2025 else ()
    kernels, copies = [], []
    for i, s in enumerate(run.of("kernel"), start=1):
        sizes = [0] * (5 if year == 2025 else 2) + [64, 1, 1, 1024, 1, 1]
        which = (TID, i, 1 + KERNELS.index(s.name), s.name, s.correlation, _boot(s.start), _boot(s.end))
        kernels.append(("KERNEL_DISPATCH", gpu, 1, *stream, *which, *sizes))
    for s in run.of("HtoD", "DtoH"):
        ends = (cpu, gpu) if s.kind == "HtoD" else (gpu, cpu)
        copies.append(("MEMORY_COPY", _DIRECTION[s.kind], *stream, *ends, s.correlation, _boot(s.start), _boot(s.end)))

    def api(kind: str, domain: str) -> list[tuple[Any, ...]]:
        return [(domain, s.name, PID, TID, s.correlation, _boot(s.start), _boot(s.end)) for s in run.of(kind)]

    agents = [(0, "CPU", 0, 0, "EPYC"), (4 if year == 2025 else 1, "GPU", 4 if year == 2025 else 1, 0, "gfx942")]
    write_csv(folder / f"{PID}_kernel_trace.csv", [*_DISPATCH[year].split(","), *_GRID], kernels)
    write_csv(folder / f"{PID}_memory_copy_trace.csv", _COPY[year].split(","), copies)
    write_csv(folder / f"{PID}_hip_api_trace.csv", _API.split(","), api("call", "HIP_RUNTIME_API"))
    write_csv(folder / f"{PID}_marker_api_trace.csv", _API.split(","), api("annotation", "MARKER_CORE_API"))
    header = ["Node_Id", "Agent_Type", "Logical_Node_Id", "Logical_Node_Type_Id", "Name"]
    write_csv(folder / f"{PID}_agent_info.csv", header, agents)


def rocprof_csv_2024(run: Run, folder: Path) -> None:
    _rocprof_csv(run, folder, 2024)


def rocprof_csv_2025(run: Run, folder: Path) -> None:
    _rocprof_csv(run, folder, 2025)


_COPY_OPERATIONS = ["MEMORY_COPY_NONE", "MEMORY_COPY_HOST_TO_HOST", *_DIRECTION.values(), "MEMORY_COPY_DEVICE_TO_DEVICE"]
_CPU, _GPU = {"handle": 101}, {"handle": 202}


def rocprof_json(run: Run, folder: Path) -> None:
    """rocprofv3's JSON: kinds and operations by number, texts of ranges by correlation id, kernels by their symbol."""
    run = on_amd(run)
    calls = sorted({span.name for span in run.of("call")})
    strings = [
        {"kind": "KERNEL_DISPATCH", "operations": ["KERNEL_DISPATCH_NONE", "KERNEL_DISPATCH_COMPLETE"]},
        {"kind": "HIP_RUNTIME_API", "operations": calls},
        {"kind": "MARKER_CORE_RANGE_API", "operations": ["roctxMarkA", "roctxThreadRangeA"]},
        {"kind": "MEMORY_COPY", "operations": _COPY_OPERATIONS},
    ]
    ranges = {span: 10**6 + i for i, span in enumerate(run.of("annotation"))}

    def record(kind: int, operation: int, span: Span, **more: Any) -> dict[str, Any]:
        ids = {"internal": ranges.get(span, span.correlation), "external": 0}
        times = {"start_timestamp": _boot(span.start), "end_timestamp": _boot(span.end)}
        return {"size": 64, "kind": kind, "operation": operation, "thread_id": TID, "correlation_id": ids} | times | more

    def dispatch(span: Span) -> dict[str, Any]:
        return {"agent_id": _GPU, "queue_id": {"handle": 1}, "kernel_id": 1 + KERNELS.index(span.name), "dispatch_id": 1}

    def ends(span: Span) -> dict[str, Any]:
        source, target = (_CPU, _GPU) if span.kind == "HtoD" else (_GPU, _CPU)
        return {"src_agent_id": source, "dst_agent_id": target, "bytes": span.size}

    symbols = [
        {"kernel_id": i, "kernel_name": name, "formatted_kernel_name": name, "demangled_kernel_name": name}
        for i, name in enumerate(KERNELS, start=1)
    ]
    tool = {
        "metadata": {"pid": PID, "init_time": BOOT_NS, "fini_time": _boot(max(span.end for span in run.spans))},
        "agents": [
            {"id": _CPU, "type": 1, "node_id": 0, "logical_node_id": 0, "logical_node_type_id": 0, "product_name": "EPYC"},
            {"id": _GPU, "type": 2, "node_id": 1, "logical_node_id": 1, "logical_node_type_id": 0, "product_name": "MI300X"},
        ],
        "strings": {
            "callback_records": [],
            "buffer_records": strings,
            "marker_api": [{"key": key, "value": span.name} for span, key in ranges.items()],
        },
        "kernel_symbols": symbols,
        "buffer_records": {
            "kernel_dispatch": [
                record(0, 1, s, dispatch_info=dispatch(s), stream_id={"handle": STREAM}) for s in run.of("kernel")
            ],
            "hip_api": [record(1, calls.index(s.name), s) for s in run.of("call")],
            "marker_api": [record(2, 1, s) for s in ranges],
            "memory_copy": [
                record(3, _COPY_OPERATIONS.index(_DIRECTION[s.kind]), s, **ends(s)) for s in run.of("HtoD", "DtoH")
            ],
        },
    }
    (folder / f"{PID}_results.json").write_text(json.dumps({"rocprofiler-sdk-tool": [tool]}))


def rpd(run: Run, folder: Path) -> None:
    """rocmProfileData: texts by id, calls and GPU work linked by a table of pairs; ranges are calls named UserMarker."""
    run = on_amd(run)
    texts: dict[str, int] = {}

    def text(value: str) -> int:
        return texts.setdefault(value, len(texts) + 1)

    host = run.of("call", "annotation")
    gpu = run.of("kernel", "HtoD", "DtoH")
    api_of = {span.correlation: i for i, span in enumerate(host, start=1) if span.correlation}
    kind = {"kernel": "KernelExecution", "HtoD": "CopyHostToDevice", "DtoH": "CopyDeviceToHost"}
    apis, copies = [], []
    for i, s in enumerate(host, start=1):
        name, args = ("UserMarker", s.name) if s.kind == "annotation" else (s.name, "")
        apis.append((i, PID, TID, _boot(s.start), _boot(s.end), text(name), text(args)))
    ops = [
        (i, 0, STREAM, i, _boot(s.start), _boot(s.end), text(s.name if s.kind == "kernel" else ""), text(kind[s.kind]))
        for i, s in enumerate(gpu, start=1)
    ]
    links = [(i, api_of[s.correlation], i) for i, s in enumerate(gpu, start=1)]
    copies = [(api_of[s.correlation], str(STREAM), s.size, "0x1", "0x2", 1, 0) for s in run.of("HtoD", "DtoH")]
    with closing(sqlite3.connect(folder / "trace.rpd")) as database:
        database.executescript(_RPD)
        for table, rows in (
            ("rocpd_string", [(number, value) for value, number in texts.items()]),
            ("rocpd_api", apis),
            ("rocpd_op", ops),
            ("rocpd_api_ops", links),
            ("rocpd_copyapi", copies),
            ("rocpd_metadata", [(1, "schema_version", "2")]),
        ):
            database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        database.commit()


_RPD = """
CREATE TABLE rocpd_string (id integer PRIMARY KEY, string varchar(4096));
CREATE TABLE rocpd_api (id integer PRIMARY KEY, pid integer, tid integer, start integer, end integer,
    apiName_id integer, args_id integer);
CREATE TABLE rocpd_op (id integer PRIMARY KEY, gpuId integer, queueId integer, sequenceId integer, start integer,
    end integer, description_id integer, opType_id integer);
CREATE TABLE rocpd_api_ops (id integer PRIMARY KEY, api_id integer, op_id integer);
CREATE TABLE rocpd_copyapi (api_ptr_id integer PRIMARY KEY, stream varchar(18), size integer, dst varchar(18),
    src varchar(18), kind integer, sync integer);
CREATE TABLE rocpd_kernelapi (api_ptr_id integer PRIMARY KEY, stream varchar(18), gridX integer, kernelName_id integer);
CREATE TABLE rocpd_metadata (id integer PRIMARY KEY, tag varchar(4096), value varchar(4096));
"""


AMD: dict[str, Callable[[Run, Path], None]] = {
    "rocprof-csv-2024": rocprof_csv_2024,
    "rocprof-csv-2025": rocprof_csv_2025,
    "rocprof-json": rocprof_json,
    "rpd": rpd,
}
