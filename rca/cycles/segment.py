"""Cutting a capture into cycles: from one anchor's start to the next one's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from rca.capture import Capture
from rca.capture.tables import HOST, UNKNOWN_RANK
from rca.cycles.anchors import anchor_spans
from rca.cycles.grammar import IDLE, IDLE_MARKS, PREFILL, UNKNOWN, Anchor, Work
from rca.cycles.phases import phases_of

CYCLES: dict[str, pl.DataType | type[pl.DataType]] = {
    "cycle": pl.Int64,
    "start_ns": pl.Int64,
    "end_ns": pl.Int64,
    "duration_us": pl.Float64,
    "span_us": pl.Float64,
    "phase": pl.String,
    "batch": pl.Int64,
    "tokens": pl.Int64,
    "complete": pl.Boolean,
    "note": pl.String,
    "file": pl.Int32,
}
"""One row per cycle. ``span_us`` is the annotated span alone; a cycle that is not ``complete`` has an end of which it is
not known whether the cycle lasted that long, and takes no part in any statistic."""

MAX_TILING_GAP = 0.01
"""Spans that leave less than this share of the time between them are back to back: the last one is a whole cycle too."""

IDLE_FACTOR = 5
IDLE_MIN_US = 50_000
"""A gap this many times the median gap, and this long, is a pause if the next cycle starts from an empty batch."""


@dataclass(frozen=True)
class Rank:
    """One process that runs cycles, and its cycles. ``role`` pairs it with its counterpart on the other side."""

    role: str
    pid: int
    anchor: str
    cycles: pl.DataFrame
    coverage: float | None
    """Share of the time from the first to the last event of the process that lies in complete cycles."""
    files: tuple[int, ...]
    """Indices of the capture's files that hold it."""
    ambiguous: bool = False
    """Other processes of the capture have the same role: which one is which on the other side is anyone's guess."""
    rank: int = UNKNOWN_RANK
    """As the trace states it; with ``pid``, which containers may share, it tells whose events they are."""

    def owns(self) -> pl.Expr:
        """Tell which events are of this process."""
        return of_process(self.rank, self.pid, self.files)


def of_process(rank: int, pid: int, files: tuple[int, ...]) -> pl.Expr:
    """Tell which events are of one process."""
    return (pl.col("pid") == pid) & (pl.col("rank") == rank) & pl.col("file").is_in(files)


def cut(capture: Capture, anchor: Anchor | None) -> list[Rank]:
    """Cut every process of a capture that has cycles.

    Args:
        capture: one side.
        anchor: what starts a cycle; None for captures that were cut before they reached us.

    Returns:
        One `Rank` per process, sorted by role.
    """
    ranks = _from_rows(capture) if anchor is None else _from_events(capture, anchor)
    return sorted(_told_apart(ranks), key=lambda rank: (rank.role, rank.pid))


def _from_rows(capture: Capture) -> list[Rank]:
    """Take the cycles as they are. Several files are several kinds of cycles (prefill, decode, layer), told by name."""
    rows = capture.cycle_rows
    several = rows["file"].n_unique() > 1
    ranks = []
    for (file, pid), own in sorted(rows.group_by("file", "pid")):
        gpus = sorted(d for d in own["device"].cast(pl.String).unique() if d.startswith("GPU"))
        cycles = (
            own.group_by("cycle")
            .agg(
                pl.col("cycle_start_ns").first().alias("start_ns"),
                pl.col("cycle_us").first().alias("duration_us"),
                pl.col("file").first(),
            )
            .sort("cycle")
            .with_columns(
                end_ns=pl.col("start_ns") + (pl.col("duration_us") * 1000).cast(pl.Int64),
                span_us=pl.col("duration_us"),
                phase=pl.lit(UNKNOWN),
                complete=pl.lit(True),
                note=pl.lit(""),
                batch=None,
                tokens=None,
            )
        )
        anchors = sorted(own["anchor"].cast(pl.String).unique())
        role = (" + ".join(gpus) or HOST) + (f" ({capture.files[int(file)].path})" if several else "")
        ranks.append(Rank(role, int(pid), " / ".join(anchors), _typed(cycles), None, (int(file),)))
    return ranks


def _from_events(capture: Capture, anchor: Anchor) -> list[Rank]:
    spans = anchor_spans(capture, anchor)
    ranks = []
    for rank, pid in spans.select("rank", "pid").unique().sort("rank", "pid").iter_rows():
        own = spans.filter((pl.col("rank") == rank) & (pl.col("pid") == pid))
        role = f"rank {rank}" if rank != UNKNOWN_RANK else _gpus(capture, pid) or "rank ?"
        for recordings in _one_after_the_other([part for _, part in sorted(own.group_by("file"))]):
            pieces = [_cut_file(capture, anchor, part) for part in recordings]
            cycles = pl.concat(pieces).with_columns(cycle=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))
            files = tuple(int(part["file"][0]) for part in recordings)
            coverage = _coverage(capture, of_process(rank, pid, files), cycles)
            ranks.append(Rank(role, pid, anchor.name, _typed(cycles), coverage, files, rank=rank))
    return ranks


def _gpus(capture: Capture, pid: int) -> str:
    """Name a process of unknown rank by the GPUs that it runs kernels on."""
    own = capture.events.filter((pl.col("pid") == pid) & (pl.col("kind") == "kernel"))
    return " + ".join(sorted(own["device"].cast(pl.String).unique()))


def _one_after_the_other(recordings: list[pl.DataFrame]) -> list[list[pl.DataFrame]]:
    """Group the files of one (rank, pid) into processes: recordings that overlap in time cannot be of the same one."""
    processes: list[list[pl.DataFrame]] = []
    for recording in sorted(recordings, key=lambda part: int(part["start_ns"][0])):
        begins = int(recording["start_ns"][0])
        fits = (p for p in processes if int((p[-1]["start_ns"] + p[-1]["dur_ns"]).to_numpy().max()) <= begins)
        if (process := next(fits, None)) is not None:
            process.append(recording)
        else:
            processes.append([recording])
    return processes


def _told_apart(ranks: list[Rank]) -> list[Rank]:
    """Number the roles that several processes of one capture share, in order of their first cycle."""
    ordered = sorted(ranks, key=lambda rank: (rank.role, rank.cycles["start_ns"].to_numpy().min(), rank.pid))
    roles = [rank.role for rank in ordered]
    return [
        rank
        if roles.count(rank.role) == 1
        else replace(rank, role=f"{rank.role} #{roles[: i + 1].count(rank.role)}", ambiguous=True)
        for i, rank in enumerate(ordered)
    ]


def _cut_file(capture: Capture, anchor: Anchor, spans: pl.DataFrame) -> pl.DataFrame:
    """Cut one process in one file: cycles never reach over the border of a recording."""
    start = spans["start_ns"].to_numpy()
    span_end = start + spans["dur_ns"].to_numpy()
    names = spans["name"].cast(pl.String)
    work_of = {name: _work(anchor, name) for name in names.unique()}
    work = [work_of[name] for name in names]
    first = spans.row(0, named=True)
    own = of_process(first["rank"], first["pid"], (first["file"],))
    phase = phases_of(capture, own, np.array([w.phase for w in work]), start, np.append(start[1:], span_end[-1]))

    gap = start[1:] - span_end[:-1]
    period = np.diff(start)
    idle = _idle_gaps(capture, own, start, gap, phase)
    tiled = len(period) > 0 and float(np.median(gap)) < MAX_TILING_GAP * float(np.median(period))
    is_last = np.arange(len(start)) == len(start) - 1
    ends_idle = np.append(idle, False)
    own_end = ends_idle | is_last
    end = np.where(own_end, span_end, np.append(start[1:], span_end[-1]))
    note = np.select(
        [phase == IDLE, ends_idle, is_last & ((not tiled) | (span_end == start)) & (len(start) > 1)],
        ["idle step", "ends in an idle pause", "last of the recording"],
        "",
    )
    return pl.DataFrame(
        {
            "cycle": np.arange(len(start)),
            "start_ns": start,
            "end_ns": end,
            "duration_us": (end - start) / 1000,
            "span_us": (span_end - start) / 1000,
            "phase": phase.tolist(),
            "batch": [w.batch for w in work],
            "tokens": [w.tokens for w in work],
            "complete": (note == "") & (end > start),
            "note": note.tolist(),
            "file": spans["file"],
        }
    ).select(pl.col(key).cast(dtype) for key, dtype in CYCLES.items())


def _work(anchor: Anchor, name: str) -> Work:
    match = anchor.pattern.search(name) if anchor.pattern else None
    return anchor.work(match) if match else Work()


def _idle_gaps(
    capture: Capture,
    own: pl.Expr,
    start: np.ndarray[tuple[int], np.dtype[np.int64]],
    gap: np.ndarray[tuple[int], np.dtype[np.int64]],
    phase: np.ndarray[tuple[int], np.dtype[np.str_]],
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which gaps are pauses without work.

    A server that had nothing to do either says so (`IDLE_MARKS`), or goes on with a prefill after an unusually long
    gap: with requests in flight it would have decoded. A long gap before a decode is time that a request waited.
    """
    if len(gap) == 0:
        return np.zeros(0, dtype=bool)
    marks = (
        capture.events.lazy()
        .filter(own & (pl.col("kind") == "annotation"))
        .filter(pl.col("name").cast(pl.String).str.contains(IDLE_MARKS.pattern))
        .select("start_ns")
        .collect()
        .to_series()
        .to_numpy()
    )
    marks_before = np.searchsorted(np.sort(marks), start)
    marked = np.diff(marks_before) > 0
    long = gap > max(IDLE_FACTOR * float(np.median(gap)), IDLE_MIN_US * 1000)
    return np.asarray(marked | (long & (phase[1:] == PREFILL)))


def _coverage(capture: Capture, own: pl.Expr, cycles: pl.DataFrame) -> float | None:
    recorded = (
        capture.events.lazy()
        .filter(own)
        .group_by("file")
        .agg((pl.col("start_ns") + pl.col("dur_ns")).max().alias("last"), pl.col("start_ns").min().alias("first"))
        .collect()
    )
    extent = float((recorded["last"] - recorded["first"]).sum())
    inside = float(cycles.filter(pl.col("complete"))["duration_us"].sum()) * 1000
    return min(inside / extent, 1.0) if extent > 0 else None


def _typed(cycles: pl.DataFrame) -> pl.DataFrame:
    return cycles.select(pl.col(key).cast(dtype) for key, dtype in CYCLES.items())
