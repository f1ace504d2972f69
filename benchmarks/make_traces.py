#!/usr/bin/env python3
"""Write a big synthetic trace of a decoding LLM server, with the shape and size of real ones. Same seed, same bytes.

    python benchmarks/make_traces.py kineto 1000000 /tmp/trace.json.gz
    python benchmarks/make_traces.py kineto 1000000 /tmp/slow.json.gz --seed 2 --slow 1.3
    python benchmarks/make_traces.py kunlun 1000000 /tmp/trace.json.gz
    python benchmarks/make_traces.py nsys 1000000 /tmp/trace.sqlite

kineto  what torch.profiler writes: pretty-printed, cpu_op nested in python_function, launches, kernels, ac2g flow pairs,
        ProfilerStep#N; about 290 bytes per event.
kunlun  absolute times, one event per line, correlation inside a JSON string within args, on-CPU and run-queue slices,
        counters.
nsys    an Nsight Systems SQLite export of EVENTS kernels, as many launches, copies and NVTX ranges.

A step makes 1,000 launches in 40 layers; kernels run one after the other in one stream, so that slow ones (--slow, only
matrix multiplications) lengthen the step. Only whole steps are written: the last line tells how many events there are.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from decoding_server import (
    BASE_NS,
    GPU,
    HOST_NAME,
    LAUNCH_NS,
    LAUNCHES,
    LAUNCHES_PER_LAYER,
    LAYERS,
    PID,
    START_NS,
    STREAM,
    Ints,
    Server,
    Step,
    ids,
)
from isal import igzip

_OPS = (("aten::linear", "aten::mm"), ("aten::mul", ""), ("aten::matmul", "aten::bmm"), ("aten::add_", ""))
_LEAVES = (
    "linear.py(125): forward",
    "layernorm.py(78): forward_cuda",
    "rotary.py(164): forward",
    "activation.py(60): forward",
)


def _micros(ns: Ints) -> list[Ints]:
    """Split ns for the format ``%d.%03d``: a double does not hold ns since 1970."""
    return [ns // 1000, ns % 1000]


Row = tuple[list[str], Callable[[Step], list[Ints]]]
"""Templates of some events of a step, and the values of all their placeholders: one array per placeholder."""

T = "%d.%03d"


def _span_frames() -> tuple[list[str], Ints, Ints]:
    """Return the Python functions around the launches: names, starts after the first launch, and lengths."""
    whole = LAUNCHES * LAUNCH_NS
    frames = [("scheduler.py(812): run_batch", -150_000, whole + 150_000), ("model_runner.py(402): forward", -90_000, whole)]
    for layer in range(LAYERS):
        start = layer * LAUNCHES_PER_LAYER * LAUNCH_NS
        frames.append(("qwen3.py(188): forward", start - 1_000, LAUNCHES_PER_LAYER * LAUNCH_NS - 2_000))
    names, starts, lengths = zip(*frames, strict=True)
    return list(names), np.array(starts), np.array(lengths)


def _at(ns: Ints, zero_ns: int) -> list[Ints]:
    return _micros(ns + zero_ns)


def kineto_rows(server: Server, zero_ns: int) -> list[Row]:
    """Return the events of a step as Kineto writes them; ``zero_ns`` is what the times of a `Step` lack."""

    def span(cat: str, name: str, pid: int, tid: int, args: str) -> str:
        return (
            f'  {{\n    "ph": "X", "cat": "{cat}", "name": {json.dumps(name)}, "pid": {pid}, "tid": {tid},\n'
            f'    "ts": {T}, "dur": {T},\n    "args": {{\n      {args}\n    }}\n  }}'
        )

    def arrow(phase: str, pid: int, tid: int, more: str = "") -> str:
        return (
            f'  {{\n    "ph": "{phase}", "id": %d, "pid": {pid}, "tid": {tid}, "ts": {T},\n'
            f'    "cat": "ac2g", "name": "ac2g"{more}\n  }}'
        )

    names, starts, lengths = _span_frames()
    source = "/sgl-workspace/sglang/python/sglang/srt/"
    frame_args = '"Python id": %d, "Python parent id": %d, "Ev Idx": %d'
    leaf_args = '"Python id": %d, "Python parent id": 1, "Python module id": %d'
    op_args = '"External id": %d,"Record function id": 0, "Sequence number": 512, "Fwd thread id": 0, "Ev Idx": %d'
    call_args = '"External id": %d, "cbid": 211, "correlation": %d'
    inner = np.array([i for i in range(LAUNCHES) if _OPS[i % 4][1]])
    marks = [
        span("user_annotation", "ProfilerStep#%d", PID, PID, '"External id": %d, "Record function id": 0'),
        span("gpu_user_annotation", "ProfilerStep#%d", GPU, STREAM, '"External id": %d, "device": 3, "stream": 7'),
    ]
    kernels = [
        span(
            "kernel",
            name.replace("%", "%%"),
            GPU,
            STREAM,
            f'"External id": %d, "queued": 0, "device": {GPU}, "context": 1,\n      "stream": {STREAM}, "correlation": %d,\n'
            f'      "registers per thread": {32 + i % 90}, "shared memory": {1024 * (i % 48)},\n      '
            f'"blocks per SM": 1.939394, "warps per SM": 7.757576,\n      "grid": [{1 + i % 97}, 1, 1],\n      '
            '"block": [128, 1, 1],\n      "est. achieved occupancy %%": 12',
        )
        for i, name in enumerate(server.names)
    ]

    def mark_values(step: Step) -> list[Ints]:
        begin = np.array([step.begin, step.kernel[0]])
        length = np.array([step.length, step.kernel[-1] + step.kernel_dur[-1] - step.kernel[0]])
        number = np.full(2, step.index)
        return [number, *_at(begin, zero_ns), *_micros(length), number]

    def frame_values(step: Step) -> list[Ints]:
        number = step.index * len(names) + np.arange(len(names))
        return [*_at(step.op[0] + starts, zero_ns), *_micros(lengths), number, number - 1, number]

    def launched(start: Callable[[Step], Ints], dur: Callable[[Step], Ints]) -> Callable[[Step], list[Ints]]:
        return lambda step: [*_at(start(step), zero_ns), *_micros(dur(step)), ids(step), ids(step)]

    def inner_values(step: Step) -> list[Ints]:
        number = ids(step)[inner]
        return [*_at(step.op[inner] + 900, zero_ns), *_micros(step.op_dur[inner] - 1_700), number, number]

    return [
        (marks, mark_values),
        ([span("python_function", source + name, PID, PID, frame_args) for name in names], frame_values),
        (
            [span("python_function", source + _LEAVES[i % 4], PID, PID, leaf_args) for i in range(LAUNCHES)],
            launched(lambda s: s.op - 800, lambda s: s.op_dur + 1_500),
        ),
        (
            [span("cpu_op", _OPS[i % 4][0], PID, PID, op_args) for i in range(LAUNCHES)],
            launched(lambda s: s.op, lambda s: s.op_dur),
        ),
        ([span("cpu_op", _OPS[i % 4][1], PID, PID, op_args) for i in inner], inner_values),
        (
            [span("cuda_runtime", "cudaLaunchKernel", PID, PID, call_args)] * LAUNCHES,
            launched(lambda s: s.launch, lambda s: s.launch_dur),
        ),
        (kernels, launched(lambda s: s.kernel, lambda s: s.kernel_dur)),
        ([arrow("s", PID, PID)] * LAUNCHES, lambda s: [ids(s), *_at(s.launch, zero_ns)]),
        ([arrow("f", GPU, STREAM, ', "bp": "e"')] * LAUNCHES, lambda s: [ids(s), *_at(s.kernel, zero_ns)]),
    ]


def kineto_head(base_ns: int | None) -> str:
    facts: dict[str, Any] = {
        "schemaVersion": 1,
        "deviceProperties": [{"id": GPU, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85 * 10**9, "numSms": 132}],
        "cuda_runtime_version": 12080,
        "distributedInfo": {"backend": "nccl", "rank": 0, "world_size": 1},
        "displayTimeUnit": "ms",
    }
    if base_ns is not None:
        facts["baseTimeNanoseconds"] = base_ns
    process = {"name": "process_name", "ph": "M", "ts": 0, "pid": PID, "tid": 0, "args": {"name": "python3"}}
    first = "\n".join("  " + line for line in json.dumps(process, indent=2).splitlines())
    return json.dumps(facts, indent=2).removesuffix("\n}") + ',\n  "traceEvents": [\n' + first + ",\n"


_COUNTERS = (
    ("cpu_frequency", "CAT_CPU", "CAT_CPU", 3_500), ("host_cpu_usage", "CAT_CPU", "CAT_CPU", 25),
    ("gpu_usage", "CAT_XPU", f"CAT_XPU_{GPU}", 97), ("gpu_sm_frequency", "CAT_XPU", f"CAT_XPU_{GPU}", 1_980),
    ("gpu_mem_used", "CAT_XPU", f"CAT_XPU_{GPU}", 60_000_000_000), ("host_mem_usage", "CAT_MEMORY", "CAT_MEMORY", 40),
    ("gpu_pcie_transmit", "CAT_XPU", f"CAT_XPU_{GPU}", 2_000_000_000), ("disk_usage", "CAT_DISK", "CAT_DISK", 40),
    ("gpu_link_transmit", "CAT_XPU", f"CAT_XPU_{GPU}", 100_000_000), ("net_rx_rate", "CAT_NET", "CAT_NET", 1_000_000),
)  # fmt: skip
_SLICES = 700


def kunlun_rows(server: Server, zero_ns: int) -> list[Row]:
    """Return the events of a step in the layout of kunlun captures."""
    pid = f"{HOST_NAME}({PID})"

    def span(cat: str, name: str, tid: str, args: str) -> str:
        shown = json.dumps(name).replace("%", "%%")
        return f'{{"name":{shown},"cat":"{cat}","ph":"X","pid":"{pid}","tid":"{tid}","ts":{T},"dur":{T},"args":{{{args}}}}}'

    names, starts, lengths = _span_frames()
    python = '"filePath":"/sgl-workspace/sglang/python/sglang/srt/managers/scheduler.py","lineno":188'
    call = r'"args":"{\"correlation\":%d,\"cbid\":211}"'
    kernel = (
        r'"args":"{\"correlation\":%d,\"device\":3,\"context\":1,\"stream\":7,\"grid\":[64,1,1],\"block\":[128,1,1],'
        r'\"registers per thread\":80,\"shared memory\":49152}"'
    )
    pick = server.rng.integers(0, LAUNCHES, _SLICES)

    def slices(shift: int, length: int) -> Callable[[Step], list[Ints]]:
        return lambda step: [*_at(step.op[pick] + shift, zero_ns), *_micros(np.full(_SLICES, length) + pick)]

    def counter_values(step: Step) -> list[Ints]:
        values = np.array([value for *_, value in _COUNTERS])
        return [*_at(step.begin + np.arange(len(_COUNTERS)) * 1_000_000, zero_ns), values + step.index % 7]

    def linked(start: Callable[[Step], Ints], dur: Callable[[Step], Ints]) -> Callable[[Step], list[Ints]]:
        return lambda step: [*_at(start(step), zero_ns), *_micros(dur(step)), ids(step)]

    counters = [
        f'{{"name":"{name}","cat":"{cat}","ph":"C","pid":"{pid}","tid":"{tid}","ts":{T},"args":{{"value":%d}}}}'
        for name, cat, tid, _ in _COUNTERS
    ]
    calls = f"cuda runtime {PID}"
    return [
        (
            [span("python", name.split(": ")[1], f"python thread {PID}", python) for name in names],
            lambda s: [*_at(s.op[0] + starts, zero_ns), *_micros(lengths)],
        ),
        (
            [span("python", _LEAVES[i % 4], f"python thread {PID}", python) for i in range(LAUNCHES)],
            lambda s: [*_at(s.op, zero_ns), *_micros(s.op_dur)],
        ),
        (
            [span("cuda_runtime", "cudaLaunchKernel", calls, call)] * LAUNCHES,
            linked(lambda s: s.launch, lambda s: s.launch_dur),
        ),
        (
            [span("Kernel", name, f"device:{GPU} stream:{STREAM}", kernel) for name in server.names],
            linked(lambda s: s.kernel, lambda s: s.kernel_dur),
        ),
        ([span("CAT_CPU", "oncpu", f"CAT_CPU_{i % 96}", f'"cpu":{i % 96}') for i in range(_SLICES)], slices(900, 12_000)),
        ([span("CAT_CPU", "runq", f"CAT_CPU_{i % 96}", f'"cpu":{i % 96}') for i in range(_SLICES)], slices(100, 700)),
        (counters, counter_values),
    ]


def write_text(path: Path, rows: list[Row], steps: Iterator[Step], head: str, tail: str) -> int:
    """Write a trace, compressed where its name ends in .gz; return the number of events."""
    template = ",\n".join(text for texts, _ in rows for text in texts)
    events = 0
    open_gzip: Callable[..., Any] = igzip.open  # ten times as fast as gzip
    with open_gzip(path, "wb", compresslevel=3) if path.suffix == ".gz" else path.open("wb") as stream:
        stream.write(head.encode())
        for step in steps:
            values: list[int] = []
            for _, of in rows:
                values += np.stack(of(step), axis=1).ravel().tolist()
            stream.write((",\n" * (events > 0) + template % tuple(values)).encode())
            events += sum(len(texts) for texts, _ in rows)
        stream.write(tail.encode())
    return events


def kineto(path: Path, events: int, server: Server, clock: str) -> int:
    zero = START_NS - BASE_NS if clock == "base" else START_NS
    rows = kineto_rows(server, zero)
    steps = server.steps(max(1, events // sum(len(texts) for texts, _ in rows)))
    tail = f'\n  ],\n  "traceName": "{path.name}"\n}}\n'
    return 1 + write_text(path, rows, steps, kineto_head(BASE_NS if clock == "base" else None), tail)


def kunlun(path: Path, events: int, server: Server, _clock: str) -> int:
    rows = kunlun_rows(server, START_NS)
    steps = server.steps(max(1, events // sum(len(texts) for texts, _ in rows)))
    return write_text(path, rows, steps, '{"traceEvents":[\n', '\n],"displayTimeUnit":"ms"}\n')


_TABLES = """
CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE TARGET_INFO_GPU (vmId INTEGER NOT NULL, id INTEGER NOT NULL, name TEXT, busLocation TEXT, smCount INTEGER);
CREATE TABLE TARGET_INFO_SESSION_START_TIME (utcEpochNs INTEGER, utcTime TEXT, localTime TEXT);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
  contextId INTEGER NOT NULL, greenContextId INTEGER, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER,
  demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL, mangledName INTEGER, launchType INTEGER, cacheConfig INTEGER,
  registersPerThread INTEGER NOT NULL, gridX INTEGER NOT NULL, gridY INTEGER NOT NULL, gridZ INTEGER NOT NULL,
  blockX INTEGER NOT NULL, blockY INTEGER NOT NULL, blockZ INTEGER NOT NULL, staticSharedMemory INTEGER NOT NULL,
  dynamicSharedMemory INTEGER NOT NULL, localMemoryPerThread INTEGER NOT NULL, localMemoryTotal INTEGER NOT NULL,
  gridId INTEGER NOT NULL, sharedMemoryExecuted INTEGER, graphNodeId INTEGER, sharedMemoryLimitConfig INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL,
  globalTid INTEGER, correlationId INTEGER, nameId INTEGER NOT NULL, returnValue INTEGER NOT NULL, callchainId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
  contextId INTEGER NOT NULL, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, bytes INTEGER NOT NULL,
  copyKind INTEGER NOT NULL, srcKind INTEGER, dstKind INTEGER);
CREATE TABLE NVTX_EVENTS (start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, rangeId INTEGER, category INTEGER,
  color INTEGER, text TEXT, globalTid INTEGER, endGlobalTid INTEGER, textId INTEGER, domainId INTEGER, uint64Value INTEGER,
  int64Value INTEGER, doubleValue REAL, uint32Value INTEGER, int32Value INTEGER, floatValue REAL, jsonTextId INTEGER,
  jsonText TEXT, binaryData TEXT);
"""


def nsys(path: Path, events: int, server: Server, _clock: str) -> int:
    """Write an export with ``events`` kernels; return the number of rows that are events."""
    path.unlink(missing_ok=True)
    distinct = sorted(set(server.names))
    short = [name.removeprefix("void ").split("<")[0].split("::")[-1] for name in distinct]
    layers = [f"layer {layer}" for layer in range(LAYERS)]
    texts = {text: number for number, text in enumerate([*distinct, *short, "cudaLaunchKernel_v7000", *layers])}
    name_id = np.array([texts[name] for name in server.names])
    short_id = np.array([texts[short[distinct.index(name)]] for name in server.names])
    process, thread = PID << 24, PID << 24 | PID
    rows = 0
    with closing(sqlite3.connect(path)) as database:
        database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _TABLES)

        def insert(table: str, values: str, *columns: Ints) -> None:
            nonlocal rows
            sql = f"INSERT INTO {table} VALUES ({values})"
            database.executemany(sql, zip(*(column.tolist() for column in columns), strict=True))
            rows += len(columns[0])

        database.executemany("INSERT INTO StringIds VALUES (?, ?)", [(number, text) for text, number in texts.items()])
        database.execute(f"INSERT INTO TARGET_INFO_GPU VALUES (0, {GPU}, 'NVIDIA H100 80GB HBM3', NULL, 132)")
        database.execute(f"INSERT INTO TARGET_INFO_SESSION_START_TIME VALUES ({START_NS}, NULL, NULL)")
        kernel = f"?, ?, {GPU}, 1, 0, {STREAM}, ?, {process}, ?, ?, 0, 1, 0, 64, 97, 1, 1, 128, 1, 1, 0, 49152" + ", 0" * 6
        nvtx = f"?, ?, 59, NULL, NULL, NULL, ?, {thread}, {thread}, ?, 0" + ", NULL" * 9
        for step in server.steps(max(1, events // LAUNCHES)):
            op, end = step.op, step.kernel + step.kernel_dur
            insert("CUPTI_ACTIVITY_KIND_KERNEL", kernel, step.kernel, end, ids(step), name_id, short_id)
            call = f"?, ?, 0, {thread}, ?, {texts['cudaLaunchKernel_v7000']}, 0, NULL"
            insert("CUPTI_ACTIVITY_KIND_RUNTIME", call, step.launch, step.launch + step.launch_dur, ids(step))
            copies = op[::20] + 100
            copy = f"?, ?, {GPU}, 1, {STREAM}, ?, {process}, 65536, 1, 1, 2"
            insert("CUPTI_ACTIVITY_KIND_MEMCPY", copy, copies, copies + 3_000, ids(step)[::20] + (1 << 30))
            database.execute(f"INSERT INTO NVTX_EVENTS VALUES ({nvtx})", (
                step.begin, step.begin + step.length, f"execute_context_0(0)_generation_{8}(8)", None))  # fmt: skip
            first = op[: LAYERS * LAUNCHES_PER_LAYER : LAUNCHES_PER_LAYER]
            layer = np.array([texts[name] for name in layers])
            insert("NVTX_EVENTS", nvtx.replace("?, " + str(thread), "NULL, " + str(thread)), first, first + 600_000, layer)
            small = op[::12] + 200
            insert("NVTX_EVENTS", nvtx.replace("?, " + str(thread), "NULL, " + str(thread)), small, small + 5_000,
                   np.resize(layer, len(small)))  # fmt: skip
            rows += 1
        database.commit()
    return rows


WRITERS = {"kineto": kineto, "kunlun": kunlun, "nsys": nsys}


def make(kind: str, path: Path, events: int, *, seed: int = 1, slow: float = 1.0, clock: str = "base") -> int:
    """Write a trace of about ``events`` events; return how many it has."""
    return WRITERS[kind](path, events, Server(seed, slow), clock)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=WRITERS)
    parser.add_argument("events", type=int, help="about how many (nsys: how many kernels)")
    parser.add_argument("path", type=Path, help="what to write; compressed if its name ends in .gz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slow", type=float, default=1.0, help="factor on the duration of matrix multiplications")
    parser.add_argument(
        "--clock",
        choices=["base", "absolute"],
        default="base",
        help="kineto: times relative to baseTimeNanoseconds, or absolute µs with decimals (default: %(default)s)",
    )
    args = parser.parse_args()
    count = make(args.kind, args.path, args.events, seed=args.seed, slow=args.slow, clock=args.clock)
    print(json.dumps({"path": str(args.path), "events": count, "bytes": args.path.stat().st_size}))


if __name__ == "__main__":
    main()
