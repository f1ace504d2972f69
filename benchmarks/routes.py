#!/usr/bin/env python3
"""Read one file in one way, as a process of its own, and print how many events it held: what `readers.py` measures.

python benchmarks/routes.py rca-1 trace.json.gz
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from unittest import mock

import msgspec
from isal import isal_zlib


class Args(msgspec.Struct, gc=False):
    device: int | str | None = None
    stream: float | None = None
    correlation: float | None = None
    bytes: float | None = None
    args: str | None = None


class Event(msgspec.Struct, gc=False):
    """The fields of an event that a table of events needs."""

    ph: str
    ts: float = 0.0
    dur: float = 0.0
    name: str = ""
    cat: str = ""
    pid: int | str | None = None
    tid: int | str | None = None
    args: Args | None = None


class Trace(msgspec.Struct, gc=False):
    traceEvents: list[Event]  # noqa: N815  (the file's own word)


def inflated(path: Path) -> bytes:
    """Return the whole content; a gzip file's last four bytes tell its length (modulo 4 GiB)."""
    packed = path.read_bytes()
    if path.suffix != ".gz":
        return packed
    return bytes(isal_zlib.decompress(packed, 31, int.from_bytes(packed[-4:], "little") + 1))


def inflate_isal(path: Path) -> int:
    inflated(path)
    return 0


def inflate_gzip(path: Path) -> int:
    with gzip.open(path) as stream:
        stream.read()
    return 0


def floor_whole(path: Path) -> int:
    return len(msgspec.json.decode(inflated(path), type=Trace).traceEvents)


def windows(path: Path, size: int) -> Iterator[bytes]:
    """Cut a trace of `make_traces.py` between events; it has no such text within one."""
    border, keep = (b"\n  },\n  {", 4) if "kineto" in path.name else (b"},\n{", 1)
    rest, started = b"", False
    inflate = isal_zlib.decompressobj(31)
    with path.open("rb") as stream:
        while packed := stream.read(size // 16):
            rest += inflate.decompress(packed) if path.suffix == ".gz" else packed
            if not started:
                match = re.search(rb'"traceEvents"\s*:\s*\[', rest)
                assert match
                rest, started = rest[match.end() :], True
            at = rest.rfind(border)
            if at >= 0:
                yield rest[: at + keep]
                rest = rest[at + keep + 1 :]
    yield rest[: rest.rfind(b"]")]


def floor_windows(path: Path) -> int:
    decoder = msgspec.json.Decoder(list[Event])
    return sum(len(decoder.decode(b"[" + window + b"]")) for window in windows(path, 1 << 20))


def reader(workers: int) -> Callable[[Path], int]:
    def route(path: Path) -> int:
        from rca.capture.source import Source  # noqa: PLC0415  (polars is no part of the floors)

        name = "nsys_sqlite" if path.suffix == ".sqlite" else "chrome"
        read = import_module(f"rca.capture.readers.{name}").read
        return int(read(Source((path,), workers=workers)).events.height)

    return route


def load(workers: int) -> Callable[[Path], int]:
    def route(path: Path) -> int:
        from rca.capture.load import load as load_capture  # noqa: PLC0415

        with mock.patch.object(os, "cpu_count", return_value=workers):
            return load_capture(path).events.height

    return route


_NSYS_COLUMNS = {
    "CUPTI_ACTIVITY_KIND_KERNEL": "start, end, deviceId, streamId, correlationId, globalPid, demangledName",
    "CUPTI_ACTIVITY_KIND_RUNTIME": "start, end, eventClass, globalTid, correlationId, nameId",
    "NVTX_EVENTS": "start, end, eventType, text, textId, globalTid, domainId",
    "CUPTI_ACTIVITY_KIND_MEMCPY": (
        "start, end, deviceId, streamId, correlationId, globalPid, bytes, copyKind, srcKind, dstKind"
    ),
    "StringIds": "id, value",
}


def adbc(batch_rows: int) -> Callable[[Path], int]:
    """Read the columns that rca reads, into polars, with as many threads as there are cores."""

    def route(path: Path) -> int:
        import adbc_driver_manager  # noqa: PLC0415
        import adbc_driver_sqlite  # noqa: PLC0415
        import polars as pl  # noqa: PLC0415

        def table(name: str) -> int:
            with (
                adbc_driver_sqlite.connect(f"file:{path.absolute()}?mode=ro&immutable=1") as database,
                adbc_driver_manager.AdbcConnection(database) as connection,
                adbc_driver_manager.AdbcStatement(connection) as statement,
            ):
                statement.set_options(**{adbc_driver_sqlite.StatementOptions.BATCH_ROWS.value: str(batch_rows)})
                statement.set_sql_query(f"SELECT {_NSYS_COLUMNS[name]} FROM {name}")
                kept.append(pl.DataFrame(statement.execute_query()[0]))
            return 0 if name == "StringIds" else kept[-1].height

        kept: list[pl.DataFrame] = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return sum(pool.map(table, _NSYS_COLUMNS))

    return route


CORES = os.cpu_count() or 1
ROUTES: dict[str, Callable[[Path], int]] = {
    "inflate-isal": inflate_isal,
    "inflate-gzip": inflate_gzip,
    "floor-whole": floor_whole,
    "floor-windows": floor_windows,
    "rca-1": reader(1),
    "rca-2": reader(2),
    "rca-all": reader(CORES),
    "load-1": load(1),
    "load-all": load(CORES),
} | {f"adbc-{rows}": adbc(rows) for rows in (1 << 12, 1 << 16, 1 << 20)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("route", choices=ROUTES)
    parser.add_argument("paths", type=Path, nargs="+", help="read one after the other")
    args = parser.parse_args()
    print(json.dumps({"events": sum(ROUTES[args.route](path) for path in args.paths)}))


if __name__ == "__main__":
    main()
