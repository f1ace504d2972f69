"""The end of a capture: journals into parquet, and the clocks of traces.

It runs as a process of its own, at a low priority: what it needs, the server on this machine should not miss.

::

    python -m collectors.pack CAPTURE < facts.json > facts.json
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rca.capture.bytes_in import read_chunks
from rca.capture.manifest import ProfilerFacts, TraceFacts
from rca.errors import RcaError

COUNTERS, TRACES, LOGS = "counters", "traces", "logs"
"""Folders of a capture."""

_NICE = 5
"""A quarter of a core beside a busy program; at the lowest priority half a second of work took half a minute there."""

_CHUNK_BYTES = 1 << 20
_ENDS_BYTES = 1 << 14
_BASE = re.compile(rb'"baseTimeNanoseconds"\s*:\s*(\d{1,19})')
_BEGIN = re.compile(rb'"name"\s*:\s*"PyTorch Profiler \(\d+\)".{0,200}?"ts"\s*:\s*(\d{1,17})(?:\.(\d{1,3}))?', re.DOTALL)
_END = re.compile(rb'"name"\s*:\s*"Record Window End".{0,200}?"ts"\s*:\s*(\d{1,17})(?:\.(\d{1,3}))?', re.DOTALL)


class Work(msgspec.Struct):
    """What is known before (``profiler``), and what is found out (the rest)."""

    profiler: ProfilerFacts | None = None
    traces: list[TraceFacts] = []
    problems: list[str] = []


def pack(folder: Path, profiler: ProfilerFacts | None) -> Work:
    """Pack a capture in a child process; what went wrong is among the problems of the result, and nothing is lost by it."""
    command = [sys.executable, "-P", "-m", "collectors.pack", str(folder)]
    ran = subprocess.run(command, input=msgspec.json.encode(Work(profiler)), capture_output=True, check=False)  # noqa: S603
    try:
        return msgspec.json.decode(ran.stdout, type=Work)
    except msgspec.DecodeError:
        last = ran.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
        return Work(problems=[f"samples stay CSV files: {last[0][:200]}"])


def to_parquet(journal: Path) -> str | None:
    """Replace a journal by a parquet file; return what went wrong. The journal goes only when the new file is whole."""
    import polars as pl  # noqa: PLC0415  (only the child needs it)

    target, unfinished = journal.with_suffix(".parquet"), journal.with_suffix(".parquet.part")
    schema = {
        "timestamp": pl.Int64,
        "metric": pl.Categorical,
        "device": pl.Categorical,
        "value": pl.Float64,
        "unit": pl.Categorical,
        "pid": pl.Int64,
    }
    try:
        table = pl.read_csv(journal, schema=schema)
        if table.height:
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                table.write_parquet(out)
                out.flush()
                os.fsync(out.fileno())
            os.replace(unfinished, target)
        journal.unlink()
    except (OSError, pl.exceptions.PolarsError) as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        return f"{journal.name} stays a CSV file: {' '.join(str(error).split())[:200]}"
    return None


def trace_facts(path: Path, name: str, profiler: ProfilerFacts | None) -> TraceFacts:
    """Return size and clock of a trace: what Kineto writes at a file's two ends."""
    head = tail = b""
    try:
        for chunk in read_chunks(path, _CHUNK_BYTES):
            head = head or chunk[:_ENDS_BYTES]
            tail = (tail + chunk)[-_ENDS_BYTES:]
    except RcaError:
        return TraceFacts(name, path.stat().st_size)
    base = _BASE.search(head) or _BASE.search(tail)
    begin, end = _BEGIN.search(tail), _END.search(tail)
    facts = TraceFacts(name, path.stat().st_size)
    if begin and end:
        base_ns = int(base[1]) if base else 0
        facts.window = base_ns + _ns(begin), base_ns + _ns(end)
        facts.offset = _offset(facts.window, profiler)
    return facts


def _ns(match: re.Match[bytes]) -> int:
    return int(match[1]) * 1000 + int((match[2] or b"0").ljust(3, b"0"))


def _offset(window: tuple[int, int], profiler: ProfilerFacts | None) -> tuple[int, int] | None:
    """Bound how far the trace's clock is ahead of ours: it began after we asked for it and ended before it was written.

    Where the engine answers only when its profiler runs, the trace also began before that.
    """
    if not (profiler and profiler.asked_ns and profiler.written_ns):
        return None
    least = window[1] - profiler.written_ns
    if profiler.begins_at_once and profiler.started_ns:
        least = max(least, window[0] - profiler.started_ns)
    return least, window[0] - profiler.asked_ns


def main(arguments: Sequence[str]) -> None:
    """Do the work for the capture that is named, as the module's text says."""
    os.nice(_NICE)
    folder = Path(arguments[0])
    work = msgspec.json.decode(sys.stdin.buffer.read(), type=Work)
    for journal in sorted((folder / COUNTERS).glob("*.csv")):
        if problem := to_parquet(journal):
            work.problems.append(problem)
    for path in sorted(path for path in (folder / TRACES).rglob("*") if path.is_file()):
        work.traces.append(trace_facts(path, str(path.relative_to(folder)), work.profiler))
    sys.stdout.buffer.write(msgspec.json.encode(work))


if __name__ == "__main__":
    main(sys.argv[1:])
