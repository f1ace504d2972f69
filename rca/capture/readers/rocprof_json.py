"""JSON files of rocprofv3: ``rocprofiler-sdk-tool``, one document per process (FORMATS.md §6.1).

Agents, kernels, operations and streams are numbers in the records; their names stand before them in the same document.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import polars as pl

from rca.capture.bytes_in import read_chunks
from rca.capture.findings import Finding
from rca.capture.model import Clock, Reading
from rca.capture.readers.amd_spans import as_events, call_kind, call_names, copy_names, kernel_names
from rca.capture.source import Probe, Source, alone
from rca.capture.tables import EVENTS, HOST, empty
from rca.errors import InputError

NAME = "rocprof-json"
group = alone

_CHUNK_BYTES = 16 << 20
_GPU = 2
"""Type of an agent that is a GPU; 1 is a CPU."""


class _Handle(msgspec.Struct, frozen=True, gc=False):
    handle: int = 0


class _Correlation(msgspec.Struct, frozen=True, gc=False):
    internal: int = 0


class _Dispatch(msgspec.Struct, frozen=True, gc=False):
    agent_id: _Handle | int | None = None
    queue_id: _Handle | int | None = None
    kernel_id: int | None = None


class _Record(msgspec.Struct, gc=False):
    """Any record: no kind has all of these."""

    kind: int | None = None
    operation: int | None = None
    thread_id: int | None = None
    correlation_id: _Correlation = _Correlation()
    start_timestamp: int | None = None
    end_timestamp: int | None = None
    dispatch_info: _Dispatch = _Dispatch()
    stream_id: _Handle | int | None = None
    src_agent_id: _Handle | int | None = None
    dst_agent_id: _Handle | int | None = None
    bytes: int | None = None
    allocation_size: int | None = None


class _Records(msgspec.Struct, frozen=True):
    kernel_dispatch: list[_Record] = []
    memory_copy: list[_Record] = []
    memory_allocation: list[_Record] = []
    scratch_memory: list[_Record] = []
    hip_api: list[_Record] = []
    hsa_api: list[_Record] = []
    rccl_api: list[_Record] = []
    marker_api: list[_Record] = []


class _Agent(msgspec.Struct):
    id: _Handle | int | None = None
    type: int = 0
    node_id: int = 0
    product_name: str = ""


class _Kernel(msgspec.Struct):
    kernel_id: int = 0
    formatted_kernel_name: str = ""
    truncated_kernel_name: str = ""
    kernel_name: str = ""


class _Kind(msgspec.Struct):
    kind: str = ""
    operations: list[str] = []


class _Message(msgspec.Struct):
    key: int
    value: str = ""


class _Strings(msgspec.Struct, frozen=True):
    buffer_records: list[_Kind] = []
    marker_api: list[_Message] = []


class _Node(msgspec.Struct, frozen=True):
    hostname: str = ""


class _Metadata(msgspec.Struct, frozen=True):
    pid: int | None = None
    node: _Node = _Node()


class _Process(msgspec.Struct):
    metadata: _Metadata = _Metadata()
    agents: list[_Agent] = []
    strings: _Strings = _Strings()
    kernel_symbols: list[_Kernel] = []
    buffer_records: _Records = _Records()


class _Document(msgspec.Struct):
    processes: list[_Process] = msgspec.field(name="rocprofiler-sdk-tool")


def matches(probe: Probe) -> bool:
    """Tell by the first key."""
    return probe.head.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] == b"{" and b'"rocprofiler-sdk-tool"' in probe.head[:4096]


def read(source: Source) -> Reading:
    """Read one file.

    Raises:
        InputError: it is cut off or no such document.
    """
    content = b"".join(read_chunks(source.path, _CHUNK_BYTES)).removeprefix(b"\xef\xbb\xbf")
    source.advance_whole(source.path)
    try:
        processes = msgspec.json.decode(content, type=_Document).processes
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = f"is cut off, or no JSON of rocprofv3: {' '.join(str(error).split())[:200]}"
        raise InputError(source.path, problem, "record again, and wait until the profiled program has ended") from None
    findings: list[Finding] = []
    parts = [part for process in processes for part in _events(process, findings)]
    agents = [agent for process in processes for agent in process.agents]
    meta: dict[str, object] = {"profiler": "rocprofv3"}
    if names := sorted({agent.product_name for agent in agents if agent.type == _GPU and agent.product_name}):
        meta["gpu_names"] = names
    if hosts := sorted({process.metadata.node.hostname for process in processes} - {""}):
        meta["host_name"] = ", ".join(hosts)
    return Reading(pl.concat(parts) if parts else empty(EVENTS), meta=meta, findings=tuple(findings), clock=Clock.BOOT)


def _events(process: _Process, findings: list[Finding]) -> Iterable[pl.DataFrame]:
    gpus = sorted((agent for agent in process.agents if agent.type == _GPU), key=lambda agent: agent.node_id)
    devices = {_number(agent.id): HOST for agent in process.agents}
    devices |= {_number(agent.id): f"GPU {index}" for index, agent in enumerate(gpus)}
    records = process.buffer_records
    tables = {
        "kernel_dispatch": _kernels(records.kernel_dispatch, process.kernel_symbols, devices),
        "memory_copy": _copies(records.memory_copy, process.strings.buffer_records, devices),
        "marker_api": _markers(records.marker_api, process.strings),
    }
    for name in ("memory_allocation", "scratch_memory"):
        own = getattr(records, name)
        sizes = _integers(record.allocation_size for record in own)
        allocations = _spans(own, process.strings.buffer_records).with_columns(sizes.alias("bytes"), kind=pl.lit("other"))
        tables[name] = allocations.with_columns(name=pl.col("operation"))
    for name in ("hip_api", "hsa_api", "rccl_api"):
        calls = _spans(getattr(records, name), process.strings.buffer_records)
        kind, called = call_kind(calls["domain"].fill_null(name)), call_names(calls["operation"])
        tables[name] = calls.with_columns(kind.alias("kind"), called.alias("name"))
    pid = _integers([process.metadata.pid])[0]
    for name, table in tables.items():
        if table.height:
            yield as_events(table.with_columns(pid=pl.lit(pid, pl.Int64)), name, findings)


def _spans(records: list[_Record], kinds: list[_Kind]) -> pl.DataFrame:
    """Return what all records have, with the names of their domain and operation."""
    pairs = [(record.kind, record.operation) for record in records]
    domains, operations = {}, {}
    for kind, operation in set(pairs):
        known = kinds[kind] if kind is not None and 0 <= kind < len(kinds) else _Kind()
        domains[kind, operation] = known.kind or None
        named = operation is not None and 0 <= operation < len(known.operations)
        operations[kind, operation] = known.operations[operation or 0] if named else None
    return pl.DataFrame(
        {
            "start_ns": _integers(record.start_timestamp for record in records),
            "end_ns": _integers(record.end_timestamp for record in records),
            "tid": _integers(record.thread_id for record in records),
            "correlation": _integers(record.correlation_id.internal for record in records),
            "domain": pl.Series([domains[pair] for pair in pairs], dtype=pl.String),
            "operation": pl.Series([operations[pair] for pair in pairs], dtype=pl.String),
        }
    )


def _kernels(records: list[_Record], symbols: list[_Kernel], devices: dict[int | None, str]) -> pl.DataFrame:
    names = {
        symbol.kernel_id: symbol.formatted_kernel_name or symbol.truncated_kernel_name or symbol.kernel_name
        for symbol in symbols
    }
    called = [names.get(-1 if (known := record.dispatch_info.kernel_id) is None else known) for record in records]
    stream = [_number(record.dispatch_info.queue_id if (own := record.stream_id) is None else own) for record in records]
    agents = (_number(record.dispatch_info.agent_id) for record in records)
    return _spans(records, []).with_columns(
        kernel_names(pl.Series(called, dtype=pl.String)).alias("name"),
        pl.Series("device", [devices.get(agent, f"GPU {agent}") for agent in agents], dtype=pl.String),
        _integers(stream).alias("stream"),
        _integers(stream).alias("tid"),
        kind=pl.lit("kernel"),
    )


def _copies(records: list[_Record], kinds: list[_Kind], devices: dict[int | None, str]) -> pl.DataFrame:
    """Place a copy on the GPU that takes part in it; of two, on the one that it is read from."""
    ends = [
        tuple(devices.get(_number(agent), HOST) for agent in (record.src_agent_id, record.dst_agent_id))
        for record in records
    ]
    peers = pl.Series([HOST not in pair and pair[0] != pair[1] for pair in ends], dtype=pl.Boolean)
    frame = _spans(records, kinds)
    directions = frame.select(pl.when(peers).then(pl.lit("PEER_TO_PEER")).otherwise("operation").alias("direction"))
    stream = _integers(_number(record.stream_id) for record in records)
    return frame.with_columns(
        copy_names(directions["direction"]).alias("name"),
        pl.Series("device", [next((end for end in pair if end != HOST), HOST) for pair in ends], dtype=pl.String),
        _integers(record.bytes for record in records).alias("bytes"),
        stream.alias("stream"),
        stream.alias("tid"),
        kind=pl.lit("memcpy"),
    )


def _markers(records: list[_Record], strings: _Strings) -> pl.DataFrame:
    messages = {message.key: message.value for message in strings.marker_api}
    frame = _spans(records, strings.buffer_records)
    own = pl.Series([messages.get(record.correlation_id.internal) or None for record in records], dtype=pl.String)
    return frame.with_columns(own.fill_null(frame["operation"]).alias("name"), kind=pl.lit("annotation")).drop("correlation")


def _number(value: _Handle | int | None) -> int | None:
    return value.handle if isinstance(value, _Handle) else value


def _integers(values: Iterable[int | None]) -> pl.Series:
    """Return a column of int64; what does not fit is null."""
    return pl.Series([None if value is None or not -(2**63) <= value < 2**63 else value for value in values], dtype=pl.Int64)
