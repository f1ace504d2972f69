"""Captures made event by event, without a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from rca.capture.findings import Finding
from rca.capture.health import check
from rca.capture.model import Capture, SourceFile
from rca.capture.tables import COUNTERS, CYCLE_ROWS, EVENTS, empty

T0 = 1_790_857_026_000_000_000
US, MS, SECOND = 1_000, 1_000_000, 1_000_000_000


def event(name: str, kind: str, start: int, dur: int, correlation: int | None = None, **fields: Any) -> dict[str, Any]:
    """One row; ``start`` is ns since `T0`."""
    row = dict.fromkeys(EVENTS) | {"start_ns": T0 + start, "dur_ns": dur, "name": name, "kind": kind}
    row |= {"pid": 100, "tid": 100, "rank": 0, "device": "GPU 0" if kind == "kernel" else "Host", "file": 0}
    return row | {"correlation": correlation} | fields


def launches(n: int = 1000, wait: int = 20 * US, first: int = 1, **fields: Any) -> list[dict[str, Any]]:
    """One launch each 100 µs, its kernel ``wait`` later."""
    rows = []
    for i in range(n):
        rows.append(event("cudaLaunchKernel", "runtime", i * 100 * US, 5 * US, first + i, **fields))
        rows.append(event("gemm", "kernel", i * 100 * US + wait, 60 * US, first + i, **fields))
    return rows


def samples(metric: str, at: Any, device: str = "GPU 0") -> pl.DataFrame:
    """Samples at ns since `T0`."""
    times = [T0 + int(t) for t in at]
    rows = {"ts_ns": times, "metric": metric, "device": device, "pid": None, "value": 1.0, "unit": ""}
    return pl.DataFrame(rows).select(pl.col(key).cast(dtype) for key, dtype in COUNTERS.items())


def capture(
    rows: list[dict[str, Any]],
    counters: list[pl.DataFrame] | None = None,
    meta: tuple[dict[str, Any], ...] = ({},),
    findings: tuple[Finding, ...] = (),
    formats: tuple[str, ...] = (),
) -> Capture:
    names = formats or ("chrome",) * len(meta)
    files = tuple(SourceFile(f"rank{i}.json", name, 1, str(i)) for i, name in enumerate(names))
    plain = dict.fromkeys(EVENTS, None) | {"name": pl.String, "kind": pl.String, "device": pl.String}
    table = pl.DataFrame(rows, schema={k: plain[k] or EVENTS[k] for k in EVENTS})
    events = table.select(pl.col(key).cast(dtype) for key, dtype in EVENTS.items()).sort("start_ns", maintain_order=True)
    samples_of_all = pl.concat(counters) if counters else empty(COUNTERS)
    return Capture(Path("side"), files, events, samples_of_all, empty(CYCLE_ROWS), meta, findings)


def found(side: Capture) -> dict[str, Finding]:
    return {finding.code: finding for finding in check(side)}
