"""What happened in single cycles: the events of the one in the middle and of the longest, laid out for drawing."""

from __future__ import annotations

import polars as pl

from rca.capture import Capture
from rca.capture.tables import GPU_KINDS, HOST
from rca.comparison import RankComparison
from rca.cycles import Rank
from rca.pictures.model import CycleOf, Excerpt, Lane, SideName, Which

MAX_EVENTS = 4_000
"""More than a timeline has pixels across, in all its rows: what is left out is too short to be seen unless zoomed into."""

MAX_LANES = 120
MAX_ROWS = 400
"""Of all lanes of a timeline: browsers draw nothing on a canvas that is higher than about 30,000 pixels."""

_SCHEDULER = ("oncpu", "runq", "io")
_HOST_KINDS = ("runtime", "driver", "sync", "op", "annotation", "python", "other")

_PLACED: dict[str, pl.DataType | type[pl.DataType]] = {
    "lane": pl.Int64,
    "depth": pl.Int64,
    "start_ns": pl.Int64,
    "dur_ns": pl.Int64,
    "name": pl.String,
    "kind": pl.String,
}


def shown_cycles(rank: RankComparison, side: SideName) -> list[CycleOf]:
    """Return the cycle with the middle duration and the longest, of those compared; one where that is the same."""
    own = rank.compared.filter(pl.col("side") == side).sort("duration_us", "cycle")
    if own.height == 0:
        return []
    at: dict[Which, int] = {"median": (own.height - 1) // 2, "worst": own.height - 1}
    shown = []
    for which, row in at.items():
        cycle = own.row(row, named=True)
        values = (cycle[key] for key in ("cycle", "start_ns", "end_ns", "phase", "file"))
        shown.append(CycleOf(side, which, *values))
    return shown if own.height > 1 else shown[:1]


def excerpt(capture: Capture, rank: Rank, of: CycleOf) -> Excerpt:
    """Return the events of a rank that overlap a cycle, at most `MAX_EVENTS` of them: the longest.

    Of more than `MAX_LANES` lanes the busiest are kept, of calls in more than `MAX_ROWS` rows the outer ones.

    Args:
        capture: with its events.
        rank: the process.
        of: the cycle.
    """
    start, end = pl.col("start_ns"), pl.col("start_ns") + pl.col("dur_ns")
    kinds = (*GPU_KINDS, *_HOST_KINDS, *_SCHEDULER)
    own = (
        capture.events.lazy()
        .filter(rank.owns() & (start < of.end_ns) & (end > of.start_ns) & pl.col("kind").is_in(list(kinds)))
        .select("start_ns", "dur_ns", pl.col("name", "kind", "device").cast(pl.String), "tid", "stream")
        .collect()
    )
    longest = own.sort("dur_ns", "start_ns", descending=[True, False], maintain_order=True).head(MAX_EVENTS)
    lanes, events = _laid_out(_with_lane(longest), of)
    return Excerpt(of, lanes, events, own.height - events.height)


def _with_lane(events: pl.DataFrame) -> pl.DataFrame:
    """Name the line on which each event is drawn: a thread, its time on a core, or a stream of a GPU."""
    on_host = pl.col("device") == HOST
    thread = pl.lit("thread ") + pl.col("tid").cast(pl.String).fill_null("?")
    stream = pl.col("device") + pl.lit(" stream ") + pl.col("stream").cast(pl.String).fill_null("?")
    scheduled = pl.col("kind").is_in(list(_SCHEDULER))
    lane = pl.when(on_host & scheduled).then(thread + ", scheduled").when(on_host).then(thread).otherwise(stream)
    return events.with_columns(on_host=on_host, lane=lane)


def _laid_out(events: pl.DataFrame, of: CycleOf) -> tuple[tuple[Lane, ...], pl.DataFrame]:
    """Give every event a lane, host threads first and the busiest of each first, and a row in it."""
    ends = (pl.col("start_ns") + pl.col("dur_ns")).clip(upper_bound=of.end_ns)
    inside = (ends - pl.col("start_ns").clip(lower_bound=of.start_ns)).sum()
    names = (
        events.group_by("lane", "on_host")
        .agg(inside=inside)
        .sort("inside", "lane", descending=[True, False])
        .head(MAX_LANES)
        .sort("on_host", "inside", "lane", descending=[True, True, False])
    )
    parts, rows = [], []
    for number, name in enumerate(names["lane"]):
        own = events.filter(pl.col("lane") == name).sort("start_ns", "dur_ns", "name", descending=[False, True, False])
        depth = _rows(own["start_ns"].to_list(), own["dur_ns"].to_list())
        rows.append(max(depth) + 1)
        parts.append(own.with_columns(lane=pl.lit(number, pl.Int64), depth=pl.Series(depth, dtype=pl.Int64)))
    most = _most_rows(rows)
    lanes = [
        Lane(name, "host" if on_host else "gpu", min(own, most))
        for (name, on_host, _), own in zip(names.iter_rows(), rows, strict=True)
    ]
    table = pl.concat(parts).filter(pl.col("depth") < most) if parts else pl.DataFrame(schema=_PLACED)
    return tuple(lanes), table.with_columns(pl.col("start_ns") - of.start_ns).select(
        pl.col(key).cast(dtype) for key, dtype in _PLACED.items()
    )


def _most_rows(rows: list[int]) -> int:
    """Return how many rows a lane may have so that all lanes have at most `MAX_ROWS`; they have at least one each."""
    most = max(rows, default=1)
    while sum(min(own, most) for own in rows) > MAX_ROWS:
        most -= 1
    return most


def _rows(start: list[int], duration: list[int]) -> list[int]:
    """Return a row for each call of a thread, below all that are still open: callers above, nothing over another.

    Args:
        start: ns, ascending, the longest first among equals.
        duration: ns.
    """
    open_until: list[int] = []
    rows = []
    for begin, length in zip(start, duration, strict=True):
        while open_until and open_until[-1] <= begin:
            open_until.pop()
        rows.append(len(open_until))
        open_until.append(begin + length)
    return rows
