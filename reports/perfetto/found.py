"""What `rca` made of a capture, as lines of the timeline: cycles, phases, findings, and the counters it read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import polars as pl

from rca.api import Comparison
from rca.capture import Capture
from rca.comparison import RankComparison
from rca.cycles import Rank
from rca.pictures import SideName
from rca.verdict import duration
from reports.perfetto.tracks import Line, counter_line, own_line

_SLICES: dict[str, pl.DataType | type[pl.DataType]] = {
    "line": pl.Int32,
    "start_ns": pl.Int64,
    "dur_ns": pl.Int64,
    "name": pl.String,
    "args": pl.String,
}
_Row = tuple[int, int, int, str, dict[str, Any]]


def found_slices(result: Comparison, side: SideName) -> tuple[list[Line], pl.DataFrame]:
    """Return the lines of each rank's cycles, phases and findings, and their slices.

    Returns:
        The lines, and ``line, start_ns, dur_ns, name, args`` (JSON text) on the capture's clock.
    """
    lines: list[Line] = []
    rows: list[_Row] = []
    for rank in result.ranks:
        own = rank.normal if side == "normal" else rank.abnormal
        process = f"rca: {rank.role}"
        first = len(lines)
        lines += [own_line(process, thread, place) for place, thread in enumerate(("cycles", "phases", "findings"))]
        cycles = own.cycles.filter(pl.col("start_ns").is_not_null() & pl.col("end_ns").is_not_null())
        rows += _cycles(cycles, _compared(rank, side), own, first)
        rows += _phases(cycles, first + 1)
    rows += _findings(result, side, {line.process: number for number, line in enumerate(lines) if line.thread == "findings"})
    return lines, pl.DataFrame([(*row[:4], _text(row[4])) for row in rows], schema=_SLICES, orient="row")


def counters_of(capture: Capture) -> tuple[list[Line], pl.DataFrame]:
    """Return a line per device that has counters, and the samples: ``line, ts_ns, name, unit, value``.

    Values that are no numbers are left out: JSON has no word for them.
    """
    counters = capture.counters.filter(pl.col("value").is_finite())
    devices = sorted(counters["device"].cast(pl.String).unique())
    number = pl.Series("line", range(len(devices)), dtype=pl.Int32)
    of_process = pl.when(pl.col("pid").is_null()).then(pl.lit("")).otherwise(pl.format(" (pid {})", pl.col("pid")))
    unit = pl.col("unit").cast(pl.String)
    samples = counters.select(
        line=pl.col("device").cast(pl.String).replace_strict(devices, number, return_dtype=pl.Int32),
        ts_ns=pl.col("ts_ns"),
        name=pl.col("metric").cast(pl.String) + of_process,
        unit=pl.when(unit.is_null() | (unit == "")).then(pl.lit("value")).otherwise(unit),
        value=pl.col("value"),
    )
    return [counter_line(device) for device in devices], samples


def _compared(rank: RankComparison, side: SideName) -> set[int]:
    return set(rank.compared.filter(pl.col("side") == side)["cycle"])


def _cycles(cycles: pl.DataFrame, compared: set[int], own: Rank, line: int) -> Iterator[_Row]:
    for row in cycles.iter_rows(named=True):
        us = row["duration_us"]
        took = f" ({duration(us)})" if us is not None and math.isfinite(us) else ""
        args = {
            "cycle": row["cycle"],
            "phase": row["phase"],
            "batch": row["batch"],
            "tokens": row["tokens"],
            "compared": "yes" if row["cycle"] in compared else "no",
            "note": row["note"],
            "anchor": own.anchor,
        }
        name = f"{_phase(row['phase'])} {row['cycle']}{took}"
        yield line, row["start_ns"], max(row["end_ns"] - row["start_ns"], 0), name, args


def _phases(cycles: pl.DataFrame, line: int) -> Iterator[_Row]:
    """Return the runs of cycles of equal phase; a run ends with its file."""
    runs = (
        cycles.sort("start_ns", "cycle")
        .with_columns(run=pl.struct("phase", "file").rle_id())
        .group_by("run", maintain_order=True)
        .agg(
            pl.col("phase").first(),
            pl.col("start_ns").first(),
            pl.col("end_ns").max(),
            first=pl.col("cycle").first(),
            last=pl.col("cycle").last(),
            n=pl.len(),
        )
    )
    for row in runs.iter_rows(named=True):
        args = {"phase": row["phase"], "cycles": row["n"], "first": row["first"], "last": row["last"]}
        yield line, row["start_ns"], max(row["end_ns"] - row["start_ns"], 0), _phase(row["phase"]), args


def _findings(result: Comparison, side: SideName, line_of: dict[str, int]) -> Iterator[_Row]:
    for place in result.places:
        if place.side == side and (line := line_of.get(f"rca: {place.role}")) is not None:
            args = {
                "finding": place.finding,
                "text": place.text,
                "cycle": place.cycle,
                "file": place.file,
                "file_ts_us": place.file_ts_us,
            }
            yield line, place.ts_ns, max(place.dur_ns, 0), f"{_subject(place.finding)}: {place.text}", args


def _subject(finding: str) -> str:
    """Return what a finding is about, without the kind of finding: ``function:GPU 0:gemm`` is ``gemm``."""
    kind, _, rest = finding.partition(":")
    return rest.partition(":")[2] if kind == "function" else rest or kind


def _phase(phase: str) -> str:
    return "cycle" if phase == "unknown" else phase


def _text(args: dict[str, Any]) -> str:
    """Return members that say something, as JSON."""
    return json.dumps({key: value for key, value in args.items() if value not in (None, "")})
