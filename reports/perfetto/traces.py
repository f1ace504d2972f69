"""Traces of a comparison's two sides for ui.perfetto.dev: everything that was captured, and what was found in it.

A trace is Chrome trace JSON, gzipped: events as slices of their threads and streams, counters, and per rank three lines of
`rca`: its cycles, the runs of equal phase, and the place of each finding. Times are µs with three decimals after the
capture's first event, since ns since 1970 do not fit the numbers of JSON; the header says how to get back to the capture's
and the files' own clocks (docs/timeline.md).
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.api import Comparison
from rca.capture import Capture, Progress
from rca.capture.load import load, no_progress
from rca.capture.tables import GPU_KINDS
from rca.errors import InputError, OutputError
from rca.pictures import SIDES, SideName
from rca.version import __version__
from reports.perfetto.found import counters_of, found_slices
from reports.perfetto.lanes import lanes
from reports.perfetto.tracks import Line, lines_of_events, threads

SUFFIX = ".json.gz"
FORMAT = 1

_CHUNK = 1 << 16
_GZIP_LEVEL = 6
_ERA_NS = 30 * 86_400 * 10**9
"""Times that lie further apart are of clocks that do not count from the same moment."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Eras:
    """Where a trace's own time begins.

    A capture of files with and without a wall clock has times decades apart, which no trace can hold to the ns: then each
    such era begins at 0, above the others. ``start_ns`` has one entry for nearly all captures.
    """

    start_ns: tuple[int, ...]
    end_ns: tuple[int, ...]

    def own(self, at_ns: Array) -> Array:
        """Return ns of the trace for ns of the capture."""
        starts = np.array(self.start_ns, dtype=np.int64)
        return at_ns - starts[np.maximum(np.searchsorted(starts, at_ns, side="right") - 1, 0)]

    @property
    def length_ns(self) -> int:
        """The last moment of the trace."""
        return max((end - start for start, end in zip(self.start_ns, self.end_ns, strict=True)), default=0)


def trace(result: Comparison, side: SideName, capture: Capture) -> Iterator[bytes]:
    """Return the trace of one side, gzipped, piece by piece; the same bytes for the same arguments.

    Args:
        result: the comparison, which says what was found and how its files are called.
        side: which side.
        capture: that side with its events.
    """
    squeeze = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
    for text in _texts(result, side, capture):
        if piece := squeeze.compress(text.encode()):
            yield piece
    yield squeeze.flush()


def write_traces(
    result: Comparison,
    sides: Mapping[SideName, Path],
    folder: Path,
    progress: Progress = no_progress,
    force: bool = False,
    shown_as: Callable[[Capture], Capture] | None = None,
) -> list[Path]:
    """Write ``normal.json.gz`` and ``abnormal.json.gz``; return their paths.

    One side is read at a time, so that the events of one are in memory.

    Args:
        result: the comparison.
        sides: where the captures are; a redacted ``result`` does not say that.
        folder: made where it is missing.
        progress: called as files are read.
        force: replace traces that are there.
        shown_as: the `rca.redact.Redactor` that redacted ``result``, so that names are the same here; None writes all.

    Raises:
        InputError: a capture cannot be read once more, or has changed since it was compared.
        OutputError: a trace is there already, or cannot be written.
    """
    targets = {side: folder / f"{side}{SUFFIX}" for side in SIDES}
    for target in targets.values():
        if target.exists() and not force:
            raise OutputError(target, "exists; --force replaces it")
    for side, target in targets.items():
        capture = load(sides[side], progress)
        if capture.digest != _compared(result, side).digest:
            raise InputError(capture.path, "has changed since it was compared")
        write(target, trace(result, side, shown_as(capture) if shown_as else capture))
        del capture
    return list(targets.values())


def write(target: Path, pieces: Iterator[bytes]) -> None:
    """Write a trace through a temporary file beside it, so that a full disk leaves no half of it. Raises `OutputError`."""
    temporary: str | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as out:
            for piece in pieces:
                out.write(piece)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise OutputError(target, f"cannot be written: {error.strerror or error}") from None
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def header(path: Path) -> dict[str, Any]:
    """Return what a trace that was written here says about itself (its ``otherData``).

    Raises:
        ValueError: it is not one.
        OSError: it cannot be read.
    """
    with gzip.open(path, "rb") as stream:
        try:
            first = stream.readline(1 << 24)
            found = json.loads(first.rstrip().rstrip(b",") + b"}")["otherData"]["rca"]
        except (ValueError, KeyError, TypeError, EOFError, RecursionError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is not a trace that rca wrote: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path} is of another version of rca")
    return found


def _compared(result: Comparison, side: SideName) -> Capture:
    return result.normal if side == "normal" else result.abnormal


def _texts(result: Comparison, side: SideName, capture: Capture) -> Iterator[str]:
    """Return the JSON text: a header of one line, then one event a line."""
    events = capture.events
    ranks = [rank.normal if side == "normal" else rank.abnormal for rank in result.ranks]
    lines, line = lines_of_events(events, ranks)
    found_lines, found = found_slices(result, side)
    sample_lines, samples = counters_of(capture)
    eras = _eras(events, samples, found)

    start = eras.own(events["start_ns"].to_numpy())
    own_lane = lanes(start, events["dur_ns"].to_numpy(), line.to_numpy())
    found = found.with_columns(start=pl.Series(eras.own(found["start_ns"].to_numpy())))
    found = found.sort("start", "dur_ns", descending=[False, True], maintain_order=True)
    found_lane = lanes(found["start"].to_numpy(), found["dur_ns"].to_numpy(), found["line"].to_numpy())

    every: list[Line] = [*found_lines, *lines, *sample_lines]
    key = _key(line.to_numpy() + len(found_lines), own_lane)
    found_key = _key(found["line"].to_numpy(), found_lane)
    sample_key = _key(samples["line"].to_numpy() + len(found_lines) + len(lines), 0)
    used, codes = np.unique(np.concatenate([found_key, key, sample_key]), return_inverse=True)
    table = threads(every, [(int(k) >> 32, int(k) & 0xFFFFFFFF) for k in used])
    ids = [table.ids[int(k) >> 32, int(k) & 0xFFFFFFFF] for k in used]
    where = pl.Series([f'"pid":{pid},"tid":{tid}' for pid, tid in ids], dtype=pl.String)
    borders = [len(found_key), len(found_key) + len(key)]
    found_at, at, sample_at = np.split(codes, borders)

    yield _head(_compared(result, side), capture, side, eras, (events.height, found.height, samples.height))
    yield ",\n".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in table.metadata)
    yield from _found_text(found, found_at, where)
    yield from _event_text(events, start, at, where)
    yield from _sample_text(samples, eras.own(samples["ts_ns"].to_numpy()), sample_at, where)
    yield "\n]}\n"


def _key(line: Array, lane: Array | int) -> Array:
    key: Array = (line.astype(np.int64) << 32) | lane
    return key


def _eras(events: pl.DataFrame, samples: pl.DataFrame, found: pl.DataFrame) -> Eras:
    begins = np.concatenate([events["start_ns"].to_numpy(), samples["ts_ns"].to_numpy(), found["start_ns"].to_numpy()])
    if not len(begins):
        return Eras((0,), (0,))
    ends = np.concatenate(
        [
            (events["start_ns"] + events["dur_ns"]).to_numpy(),
            samples["ts_ns"].to_numpy(),
            (found["start_ns"] + found["dur_ns"]).to_numpy(),
        ]
    )
    order = np.argsort(begins, kind="stable")
    sorted_begins = begins[order]
    cut = np.flatnonzero(np.diff(sorted_begins) > _ERA_NS) + 1
    starts = tuple(int(part[0]) for part in np.split(sorted_begins, cut))
    return Eras(starts, tuple(int(part.max()) for part in np.split(ends[order], cut)))


def _head(compared: Capture, capture: Capture, side: SideName, eras: Eras, held: tuple[int, int, int]) -> str:
    """Return the start of the file; its first line is what `header` reads.

    Args:
        compared: has the files under the names that are shown.
        capture: the same as it was read now.
        side: which one.
        eras: where the trace's time begins.
        held: events, slices of ours, samples.
    """
    files = [
        {"path": file.path, "sha256": file.sha256, "format": file.format, "added_ns": meta.get("added_ns")}
        for file, meta in zip(compared.files, capture.meta, strict=True)
    ]
    about = {
        "format": FORMAT,
        "version": __version__,
        "side": side,
        "origin_ns": eras.start_ns[0],
        "length_ns": eras.length_ns,
        "eras": [list(era) for era in zip(eras.start_ns, eras.end_ns, strict=True)],
        **dict(zip(("events", "found", "samples"), held, strict=True)),
        "files": files,
    }
    has_wall_clock = not any(finding.code == "no_wall_clock" for finding in capture.findings)
    known_base = {"baseTimeNanoseconds": eras.start_ns[0]} if has_wall_clock and len(eras.start_ns) == 1 else {}
    text = json.dumps({**known_base, "otherData": {"rca": about}}, separators=(",", ":"))
    return text.replace("\x7f", "\\u007f")[:-1] + ',\n"traceEvents":[\n'


_FRACTION = pl.Series([f".{ns:03d}" for ns in range(1000)])


def _us(ns: pl.Series) -> list[pl.Series]:
    """Return µs with three decimals as two columns of text."""
    whole = ns // 1000
    return [whole.cast(pl.String), _FRACTION.gather((ns - whole * 1000).cast(pl.UInt32))]


def _json(texts: pl.Series) -> pl.Series:
    """Return each text as JSON, quotes included."""
    distinct = texts.unique(maintain_order=True)
    escaped = [json.dumps(text, ensure_ascii=False) for text in distinct]
    return texts.replace_strict(distinct, pl.Series(escaped, dtype=pl.String), return_dtype=pl.String)


def _coded(texts: pl.Series) -> tuple[pl.Series, Array]:
    """Return the distinct texts of a categorical column as JSON, and each row's place among them."""
    physical, codes = np.unique(texts.to_physical().to_numpy(), return_inverse=True)
    first = np.zeros(len(physical), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    names = texts.gather(first).cast(pl.String)
    return pl.Series([json.dumps(name, ensure_ascii=False) for name in names], dtype=pl.String), codes


def _joined(parts: list[pl.Series | str]) -> str:
    """Return the rows of columns of text, each with a separator before it."""
    height = next(len(part) for part in parts if isinstance(part, pl.Series))
    if not height:
        return ""
    columns = [part.rename(str(i)) if isinstance(part, pl.Series) else pl.lit(part) for i, part in enumerate(parts)]
    frame = pl.DataFrame([column for column in columns if isinstance(column, pl.Series)])
    expressions = [pl.col(str(i)) if isinstance(part, pl.Series) else pl.lit(part) for i, part in enumerate(parts)]
    rows = frame.select(text=pl.concat_str(expressions))["text"]
    return "".join(rows.str.join("").to_list())


def _event_text(events: pl.DataFrame, start: Array, at: Array, where: pl.Series) -> Iterator[str]:
    names, name_code = _coded(events["name"])
    kinds, kind_code = _coded(events["kind"])
    heads = pl.Series([f',\n{{"ph":"X","cat":{kind},' for kind in kinds], dtype=pl.String)
    flow = _flows(events)
    for begin in range(0, events.height, _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        part = events.slice(begin, _CHUNK)
        yield _joined(
            [
                heads.gather(kind_code[rows]),
                where.gather(at[rows]),
                ',"ts":',
                *_us(pl.Series(start[rows])),
                ',"dur":',
                *_us(part["dur_ns"]),
                ',"name":',
                names.gather(name_code[rows]),
                flow[rows],
                _args(part),
                "}",
            ]
        )


def _args(events: pl.DataFrame) -> pl.Series:
    """Return the members that not every event has."""
    fields = {"correlation": "correlation", "bytes": "bytes"}
    inner = pl.concat_str(
        [pl.lit(f'"{name}":') + pl.col(column).cast(pl.String) for column, name in fields.items()],
        separator=",",
        ignore_nulls=True,
    )
    text = pl.when(inner == "").then(pl.lit("")).otherwise(pl.lit(',"args":{') + inner + pl.lit("}"))
    return events.select(text=text)["text"]


def _flows(events: pl.DataFrame) -> pl.Series:
    """Return the members that make Perfetto draw an arrow from a launch to the GPU's work, as text.

    Work that begins before its launch gets none: an arrow cannot end before it starts.
    """
    key = ["rank", "pid", "file", "correlation"]
    linked = (
        events.lazy()
        .with_row_index("row")
        .filter(pl.col("correlation").is_not_null() & (pl.col("correlation") > 0))
        .select("row", "start_ns", *key, on_gpu=pl.col("kind").is_in(list(GPU_KINDS)), calls=_is_call())
    )
    launches = (
        linked.filter("calls").group_by(key).agg(pl.col("row").min().alias("launch"), pl.col("start_ns").min().alias("at"))
    )
    work = (
        linked.filter("on_gpu")
        .join(launches, on=key)
        .filter((pl.col("start_ns") >= pl.col("at")) & (pl.col("row") > pl.col("launch")))
    )
    arrows = work.select("row", "launch").collect().sort("row")
    text = np.full(events.height, "", dtype=object)
    launch = arrows["launch"].unique().sort()
    number = {row: i for i, row in enumerate(launch, start=1)}
    text[launch.to_numpy()] = [f',"bind_id":{i},"flow_out":true' for i in number.values()]
    text[arrows["row"].to_numpy()] = [f',"bind_id":{number[row]},"flow_in":true' for row in arrows["launch"]]
    return pl.Series(text, dtype=pl.String)


def _is_call() -> pl.Expr:
    return pl.col("kind").is_in(["runtime", "driver"])


def _found_text(found: pl.DataFrame, at: Array, where: pl.Series) -> Iterator[str]:
    if found.height:
        yield _joined(
            [
                ',\n{"ph":"X","cat":"rca",',
                where.gather(at),
                ',"ts":',
                *_us(found["start"]),
                ',"dur":',
                *_us(found["dur_ns"]),
                ',"name":',
                _json(found["name"]),
                ',"args":',
                found["args"],
                "}",
            ]
        )


def _sample_text(samples: pl.DataFrame, at_ns: Array, at: Array, where: pl.Series) -> Iterator[str]:
    for begin in range(0, samples.height, _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        part = samples.slice(begin, _CHUNK)
        yield _joined(
            [
                ',\n{"ph":"C",',
                where.gather(at[rows]),
                ',"ts":',
                *_us(pl.Series(at_ns[rows])),
                ',"name":',
                _json(part["name"]),
                ',"args":{',
                _json(part["unit"]),
                ":",
                part["value"].cast(pl.String),
                "}}",
            ]
        )
