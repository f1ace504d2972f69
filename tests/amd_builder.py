"""One small run on two GPUs, as each of AMD's recorders would have stored it (FORMATS.md §6.1).

Two processes of a node with one CPU (agent 0) and two GPUs (agents 1 and 2): process 4100 + r launches ``STEPS`` times, on
GPU r, a copy to the GPU, ``KERNELS`` and a copy back, inside a marker.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOOT_NS = 1_550_151_853_000_000
PIDS = (4100, 4101)
STEPS = 5
KERNELS = ("void gemm<float>(float*, int)", 'fused, "odd" kernel', "ncclDevKernel_Generic(ncclDevComm*)")
COPY_BYTES = 4096
STEP_NS = 1_000_000
KERNEL_NS = 40_000
COPY_NS = 7_000
GPU_NAME = "AMD Instinct MI300X"


@dataclass(frozen=True)
class Call:
    """A call of HIP, and the work that it starts on the GPU: a kernel, a copy or none."""

    correlation: int
    name: str
    start: int
    end: int
    work: str = ""
    work_start: int = 0
    work_end: int = 0


def steps(rank: int) -> list[tuple[int, int]]:
    """Start and end of the steps of one process."""
    first = BOOT_NS + rank * 1_000
    return [(first + i * STEP_NS, first + i * STEP_NS + 900_000) for i in range(STEPS)]


def calls(rank: int) -> list[Call]:
    """All calls of one process, in order; ids count from 1 in each process."""
    made: list[Call] = []
    for start, _ in steps(rank):
        work = [("hipMemcpyAsync", "HtoD"), *(("hipLaunchKernel", name) for name in KERNELS), ("hipMemcpyAsync", "DtoH")]
        for i, (name, what) in enumerate(work):
            begin = start + 10_000 + i * 100_000
            length = COPY_NS if what in ("HtoD", "DtoH") else KERNEL_NS
            made.append(Call(len(made) + 1, name, begin, begin + 5_000, what, begin + 20_000, begin + 20_000 + length))
        made.append(Call(len(made) + 1, "hipStreamSynchronize", start + 600_000, start + 800_000))
    return made


_DIRECTION = {"HtoD": "MEMORY_COPY_HOST_TO_DEVICE", "DtoH": "MEMORY_COPY_DEVICE_TO_HOST"}
_API = ["Domain", "Function", "Process_Id", "Thread_Id", "Correlation_Id", "Start_Timestamp", "End_Timestamp"]
_GRID = [f"{what}_Size_{axis}" for what in ("Workgroup", "Grid") for axis in "XYZ"]


def write_csv(path: Path, header: list[str], rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows([header, *rows])


def csv_2024(folder: Path, rank: int = 0) -> None:
    """Agents are numbers, there are no streams."""
    _csv(folder, rank, 2024)


def csv_2025(folder: Path, rank: int = 0) -> None:
    """Agents are texts; streams."""
    _csv(folder, rank, 2025)


def _csv(folder: Path, rank: int, year: int) -> None:
    new, pid, gpu = year == 2025, PIDS[rank], 1 + rank
    host, device = ("Agent 0", f"Agent {gpu}") if new else (0, gpu)
    stream = (3,) if new else ()
    domain = "HIP_RUNTIME_API_EXT" if new else "HIP_RUNTIME_API"
    api, kernels, copies = [], [], []
    for call in calls(rank):
        api.append((domain, call.name, pid, pid, call.correlation, call.start, call.end))
        times = (call.correlation, call.work_start, call.work_end)
        if call.work in KERNELS:
            sizes = (0,) * (5 if new else 2) + (64, 1, 1, 1024, 1, 1)
            number = len(kernels) + 1
            kernels.append(("KERNEL_DISPATCH", device, 9, *stream, pid, number, 1, call.work, *times, *sizes))
        elif call.work:
            ends = (host, device) if call.work == "HtoD" else (device, host)
            copies.append(("MEMORY_COPY", _DIRECTION[call.work], *stream, *ends, *times))
    sizes_header = (
        ["LDS_Block_Size", "Scratch_Size", "VGPR_Count", "Accum_VGPR_Count", "SGPR_Count"]
        if new
        else ["Private_Segment_Size", "Group_Segment_Size"]
    )
    own = ["Stream_Id"] if new else []
    times_header = ["Correlation_Id", "Start_Timestamp", "End_Timestamp"]
    dispatch = ["Kind", "Agent_Id", "Queue_Id", *own, "Thread_Id", "Dispatch_Id", "Kernel_Id", "Kernel_Name", *times_header]
    write_csv(folder / f"{pid}_kernel_trace.csv", [*dispatch, *sizes_header, *_GRID], kernels)
    copy_header = ["Kind", "Direction", *own, "Source_Agent_Id", "Destination_Agent_Id", *times_header]
    write_csv(folder / f"{pid}_memory_copy_trace.csv", copy_header, copies)
    write_csv(folder / f"{pid}_{'hip_api' if new else 'hip_runtime'}_trace.csv", _API, api)
    markers = [("MARKER_CORE_API", f"step {i}", pid, pid, 900 + i, *span) for i, span in enumerate(steps(rank))]
    write_csv(folder / f"{pid}_marker_api_trace.csv", _API, markers)
    agents = [(0, 0, "CPU", ""), (1, 1, "GPU", GPU_NAME), (2, 2, "GPU", GPU_NAME)]
    write_csv(folder / f"{pid}_agent_info.csv", ["Node_Id", "Logical_Node_Id", "Agent_Type", "Product_Name"], agents)


def json_document() -> dict[str, Any]:
    """Both processes in one document, laid out as FORMATS.md §6.1 has it."""
    return {"rocprofiler-sdk-tool": [_json_process(rank) for rank in (0, 1)]}


def rocprof_json(folder: Path) -> None:
    (folder / "results.json").write_text(json.dumps(json_document(), indent=1))


def _json_process(rank: int) -> dict[str, Any]:
    names = ["hipNone", "hipMemcpyAsync", "hipLaunchKernel", "hipStreamSynchronize"]
    kinds = [
        {"kind": "NONE", "operations": []},
        {"kind": "HIP_RUNTIME_API_EXT", "operations": names},
        {"kind": "MEMORY_COPY", "operations": ["MEMORY_COPY_NONE", *_DIRECTION.values()]},
        {"kind": "KERNEL_DISPATCH", "operations": ["KERNEL_DISPATCH_NONE", "KERNEL_DISPATCH_COMPLETE"]},
        {"kind": "MARKER_CORE_API", "operations": ["roctxMarkA", "roctxRangePushA"]},
    ]

    def record(kind: int, operation: int, ids: int, start: int, end: int, **more: Any) -> dict[str, Any]:
        own = {"size": 1, "kind": kind, "operation": operation, "thread_id": PIDS[rank]}
        times = {"start_timestamp": start, "end_timestamp": end}
        return own | {"correlation_id": {"internal": ids, "external": 0}} | times | more

    gpu, cpu = {"handle": 70 - rank}, {"handle": 99}  # handles are in no order
    api, kernels, copies = [], [], []
    for call in calls(rank):
        api.append(record(1, names.index(call.name), call.correlation, call.start, call.end, stream_id={"handle": 3}))
        times = (call.correlation, call.work_start, call.work_end)
        if call.work in KERNELS:
            info = {"agent_id": gpu, "queue_id": {"handle": 9}, "kernel_id": 1 + KERNELS.index(call.work), "dispatch_id": 1}
            kernels.append(record(3, 1, *times, dispatch_info=info, stream_id={"handle": 3}))
        elif call.work:
            source, target = (cpu, gpu) if call.work == "HtoD" else (gpu, cpu)
            ends = {"src_agent_id": source, "dst_agent_id": target, "bytes": COPY_BYTES, "stream_id": {"handle": 3}}
            copies.append(record(2, 1 + (call.work == "DtoH"), *times, **ends))
    markers = [record(4, 1, 900 + i, *span) for i, span in enumerate(steps(rank))]
    return {
        "metadata": {
            "node": {"hostname": "node7"},
            "pid": PIDS[rank],
            "init_time": BOOT_NS,
            "fini_time": BOOT_NS + 10**9,
            "command": ["python", "--api-key=SECRET"],
            "config": {},
        },
        "agents": [
            {"id": {"handle": 99}, "type": 1, "node_id": 0, "logical_node_id": 0, "product_name": "EPYC"},
            {"id": {"handle": 70}, "type": 2, "node_id": 1, "logical_node_id": 1, "product_name": GPU_NAME},
            {"id": {"handle": 69}, "type": 2, "node_id": 2, "logical_node_id": 2, "product_name": GPU_NAME},
        ],
        "counters": [],
        "strings": {
            "callback_records": [],
            "buffer_records": kinds,
            "marker_api": [{"key": 900 + i, "value": f"step {i}"} for i in range(STEPS)],
        },
        "code_objects": [],
        "kernel_symbols": [
            {"kernel_id": 0},
            *({"kernel_id": i, "kernel_name": f"_Z{i}.kd", "formatted_kernel_name": k} for i, k in enumerate(KERNELS, 1)),
        ],
        "callback_records": {"counter_collection": []},
        "buffer_records": {
            "kernel_dispatch": kernels,
            "hip_api": api,
            "hsa_api": [],
            "marker_api": markers,
            "memory_copy": copies,
            "memory_allocation": [],
        },
    }


_TEXT_DEFAULT = "guid TEXT DEFAULT 'g' NOT NULL"
_ROCPD = """
CREATE TABLE rocpd_string{s} (id INTEGER PRIMARY KEY, {g}, string TEXT NOT NULL);
CREATE TABLE rocpd_info_node{s} (id INTEGER PRIMARY KEY, {g}, hostname TEXT);
CREATE TABLE rocpd_info_process{s} (id INTEGER PRIMARY KEY, {g}, pid INTEGER, command TEXT, environment JSONB);
CREATE TABLE rocpd_info_thread{s} (id INTEGER PRIMARY KEY, {g}, pid INTEGER, tid INTEGER);
CREATE TABLE rocpd_info_agent{s} (id INTEGER PRIMARY KEY, {g}, type TEXT, absolute_index INTEGER, product_name TEXT);
CREATE TABLE rocpd_info_kernel_symbol{s} (id INTEGER PRIMARY KEY, {g}, kernel_name TEXT, display_name TEXT);
CREATE TABLE rocpd_event{s} (id INTEGER PRIMARY KEY, {g}, category_id INTEGER, stack_id INTEGER,
    correlation_id INTEGER, extdata JSONB DEFAULT '{{}}' NOT NULL);
CREATE TABLE rocpd_track{s} (id INTEGER PRIMARY KEY, {g}, pid INTEGER, tid INTEGER, agent_id INTEGER, queue_id INTEGER,
    stream_id INTEGER);
"""
_WHO = "pid INTEGER, tid INTEGER"
_SPANS = {
    3: f"""
CREATE TABLE rocpd_region{{s}} (id INTEGER PRIMARY KEY, {_WHO}, start BIGINT, end BIGINT, name_id INTEGER, event_id INTEGER);
CREATE TABLE rocpd_kernel_dispatch{{s}} (id INTEGER PRIMARY KEY, {_WHO}, agent_id INTEGER, queue_id INTEGER,
    stream_id INTEGER, start BIGINT, end BIGINT, kernel_id INTEGER, event_id INTEGER);
CREATE TABLE rocpd_memory_copy{{s}} (id INTEGER PRIMARY KEY, {_WHO}, queue_id INTEGER, stream_id INTEGER, start BIGINT,
    end BIGINT, name_id INTEGER, src_agent_id INTEGER, dst_agent_id INTEGER, size INTEGER, event_id INTEGER);
""",
    4: """
CREATE TABLE rocpd_info_category{s} (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE rocpd_region{s} (id INTEGER PRIMARY KEY, track_id INTEGER, start BIGINT, end BIGINT, name_id INTEGER,
    event_id INTEGER);
CREATE TABLE rocpd_kernel_dispatch{s} (id INTEGER PRIMARY KEY, track_id INTEGER, start BIGINT, end BIGINT, kernel_id INTEGER,
    event_id INTEGER);
CREATE TABLE rocpd_memory_copy{s} (id INTEGER PRIMARY KEY, track_id INTEGER, start BIGINT, end BIGINT, name_id INTEGER,
    src_agent_id INTEGER, dst_agent_id INTEGER, size INTEGER, event_id INTEGER);
""",
}


def rocpd(folder: Path, schema: int = 3) -> None:
    """Both processes in one file, each with tables of its own; ids of processes and threads are not the system's."""
    with closing(sqlite3.connect(folder / "out_results.db")) as database:
        for rank in (0, 1):
            _rocpd_process(database, rank, schema)
        for view in ("kernel_dispatch", "region"):
            database.execute(
                f"CREATE VIEW rocpd_{view} AS SELECT * FROM rocpd_{view}{_suffix(0)} "
                f"UNION ALL SELECT * FROM rocpd_{view}{_suffix(1)}"
            )
        database.commit()


def _suffix(rank: int) -> str:
    return f"_0000ddb5_8903_7903_b269_cd8d3745bb8{'ab'[rank]}"


def _rocpd_process(database: sqlite3.Connection, rank: int, schema: int) -> None:
    suffix, pid = _suffix(rank), PIDS[rank]
    database.executescript((_ROCPD + _SPANS[schema]).format(s=suffix, g=_TEXT_DEFAULT))
    texts = ["HIP_RUNTIME_API_EXT", "MARKER_CORE_API", "KERNEL_DISPATCH", "MEMORY_COPY", *_DIRECTION.values()]
    texts += ["hipMemcpyAsync", "hipLaunchKernel", "hipStreamSynchronize", "roctxRangePushA"]

    def insert(table: str, **values: Any) -> int:
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        row = database.execute(f"INSERT INTO rocpd_{table}{suffix} ({columns}) VALUES ({marks})", tuple(values.values()))
        return row.lastrowid or 0

    ids = {text: insert("string", string=text) for text in texts}
    category = {text: insert("info_category", name=text) for text in reversed(texts[:4])} if schema == 4 else ids
    insert("info_node", hostname="node7")
    insert("info_process", id=1, pid=pid, command="python --api-key=SECRET", environment='{"TOKEN": "SECRET"}')
    insert("info_thread", id=1, pid=1, tid=pid)
    for agent, kind in ((10, "CPU"), (11, "GPU"), (12, "GPU")):
        insert("info_agent", id=agent, type=kind, absolute_index=agent - 10, product_name=GPU_NAME if kind == "GPU" else "")
    for i, name in enumerate(KERNELS, start=1):
        insert("info_kernel_symbol", id=i, kernel_name=f"_Z{i}.kd", display_name=name)
    gpu = 11 + rank
    host, device = {"pid": 1, "tid": 1}, {"pid": 1, "tid": 1, "stream_id": 3, "queue_id": 9}
    if schema == 4:
        host, device = (
            {"track_id": insert("track", **host)},
            {"track_id": insert("track", **device, agent_id=gpu)},
        )
    agent = {"agent_id": gpu} if schema == 3 else {}

    def event(what: str, stack: int, **more: str) -> int:
        return insert("event", category_id=category[what], stack_id=stack, correlation_id=0, **more)

    for call in calls(rank):
        own = event("HIP_RUNTIME_API_EXT", call.correlation)
        insert("region", **host, start=call.start, end=call.end, name_id=ids[call.name], event_id=own)
        if not call.work:
            continue
        times = {"start": call.work_start, "end": call.work_end}
        if call.work in KERNELS:
            own = event("KERNEL_DISPATCH", call.correlation)
            number = 1 + KERNELS.index(call.work)
            insert("kernel_dispatch", **device, **agent, **times, kernel_id=number, event_id=own)
            continue
        source, target = (10, gpu) if call.work == "HtoD" else (gpu, 10)
        ends = {"src_agent_id": source, "dst_agent_id": target, "size": COPY_BYTES}
        own = event("MEMORY_COPY", call.correlation)
        insert("memory_copy", **device, **times, **ends, name_id=ids[_DIRECTION[call.work]], event_id=own)
    for i, (start, end) in enumerate(steps(rank)):
        own = event("MARKER_CORE_API", 900 + i, extdata=json.dumps({"message": f"step {i}"}))
        insert("region", **host, start=start, end=end, name_id=ids["roctxRangePushA"], event_id=own)


_RPD = """
CREATE TABLE rocpd_metadata (id integer PRIMARY KEY, tag varchar(4096), value varchar(4096));
CREATE TABLE rocpd_string (id integer PRIMARY KEY, string varchar(4096));
CREATE TABLE rocpd_api (id integer PRIMARY KEY, pid integer, tid integer, start integer, end integer,
    apiName_id integer, args_id integer);
CREATE TABLE rocpd_op (id integer PRIMARY KEY, gpuId integer, queueId integer, sequenceId integer,
    completionSignal varchar(18), start integer, end integer, description_id integer, opType_id integer);
CREATE TABLE rocpd_api_ops (id integer PRIMARY KEY, api_id integer, op_id integer);
CREATE TABLE rocpd_copyapi (api_ptr_id integer PRIMARY KEY, stream varchar(18), size integer, kind integer);
CREATE TABLE rocpd_monitor (id integer PRIMARY KEY, deviceType varchar(16), deviceId integer, monitorType varchar(16),
    start integer, end integer, value varchar(255));
"""


def rpd(folder: Path, schema: int = 2) -> None:
    """Both processes; GPUs are counted with the CPU, as roctracer does; arguments in a table of their own in schema 3."""
    tables: dict[str, dict[str, int]] = {"rocpd_string": {}, "rocpd_ustring": {}}

    def text(value: str, table: str = "rocpd_string") -> int:
        return tables[table].setdefault(value, len(tables[table]) + 4294967297)

    arguments = "rocpd_ustring" if schema == 3 else "rocpd_string"
    api, ops, links, copies = [], [], [], []
    operation = {"HtoD": "CopyHostToDevice", "DtoH": "CopyDeviceToHost"}
    for rank, pid in enumerate(PIDS):
        for call in calls(rank):
            number = call.correlation + 10**7 * (rank + 1)
            api.append((number, pid, pid, call.start, call.end, text(call.name), text("", arguments)))
            if not call.work:
                continue
            name = call.work if call.work in KERNELS else ""
            kind = operation.get(call.work, "KernelExecution")
            op = (len(ops) + 1, 1 + rank, 9, 0, "", call.work_start, call.work_end, text(name), text(kind))
            ops.append(op)
            links.append((len(links) + 1, number, op[0]))
            if not name:
                copies.append((number, "0x0", COPY_BYTES, 1 if call.work == "HtoD" else 2))
        for i, span in enumerate(steps(rank)):
            api.append((10**8 * (rank + 1) + i, pid, pid, *span, text("UserMarker"), text(f"step {i}", arguments)))
    monitor = [
        (1, "gpu", 0, "sclk", BOOT_NS, BOOT_NS + 25_000_000, "2100"),
        (2, "gpu", 1, "sclk", BOOT_NS, BOOT_NS + 5_000_000, "132"),
        (3, "gpu", 1, "power", BOOT_NS, 0, "750.5"),
    ]
    rows: dict[str, list[tuple[Any, ...]]] = {
        "rocpd_metadata": [(1, "schema_version", str(schema))],
        "rocpd_api": api,
        "rocpd_op": ops,
        "rocpd_api_ops": links,
        "rocpd_copyapi": copies,
        "rocpd_monitor": monitor,
        "rocpd_string": [(number, value) for value, number in tables["rocpd_string"].items()],
    }
    with closing(sqlite3.connect(folder / "trace.rpd")) as database:
        database.executescript(_RPD)
        if schema == 3:
            database.execute("CREATE TABLE rocpd_ustring (id integer PRIMARY KEY, string varchar(4096))")
            rows["rocpd_ustring"] = [(number, value) for value, number in tables["rocpd_ustring"].items()]
        for table, own in rows.items():
            database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(own[0]))})", own)
        database.commit()
