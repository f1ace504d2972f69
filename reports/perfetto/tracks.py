"""On which line of the timeline each event of a capture is drawn, and the numbers by which the trace names these lines.

Perfetto tells processes by pid and threads by tid, both from 0 to 2^32 - 1, in some releases threads by tid alone. So every
line gets numbers of its own: those of the capture where they can be kept, else others from `FREE`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import polars as pl

from rca.capture.tables import HOST, UNKNOWN_RANK
from rca.cycles import Rank

FREE = 1_000_000_000
"""Numbers from here on are no process of Linux, whose pids end at 4,194,304."""

_PROFILER = ("overhead", "window")
_BESIDE = {"oncpu": "scheduled", "runq": "scheduled", "io": "I/O"} | dict.fromkeys(_PROFILER, "profiler")
"""What is no call of a thread, and so has a line of its own below the thread's."""

_ON_STREAM = ("gpu_annotation", "sync")
_MOST_GPUS = 1024
_FIRST, _HOSTS, _GPUS, _PROFILERS, _COUNTERS = range(5)

_KEYS = ("rank", "pid", "tid", "file", "device", "stream", "kind")


class Line(NamedTuple):
    """A thread of the written trace. ``order`` and ``place`` sort processes, and threads within one."""

    process: str
    thread: str
    order: tuple[int, str]
    place: tuple[int, int]
    pid: int | None = None
    tid: int | None = None


@dataclass
class Numbers:
    """Gives out pids and tids, none of them twice."""

    _taken: set[int] = field(default_factory=set)
    _next: int = FREE

    def keep_or_new(self, wanted: int | None) -> int:
        """Return the wanted number if it is a possible one and free, else one that nothing has."""
        number = wanted
        if number is None or not 0 < number < FREE or number in self._taken:
            while self._next in self._taken:
                self._next += 1
            number = self._next
        self._taken.add(number)
        return number


@dataclass(frozen=True)
class Threads:
    """The threads of a trace: where slices and samples go, and the events that name them.

    Attributes:
        ids: (pid, tid) of each (line, lane).
        metadata: what tells Perfetto the names and the order of processes and threads.
    """

    ids: dict[tuple[int, int], tuple[int, int]]
    metadata: list[dict[str, Any]]


def lines_of_events(events: pl.DataFrame, ranks: Iterable[Rank]) -> tuple[list[Line], pl.Series]:
    """Return the lines that the events of a capture need, and the number of its line for each event.

    Args:
        events: `rca.capture.tables.EVENTS`.
        ranks: the processes of the capture that have a role.
    """
    own = list(ranks)
    keys = events.select(pl.col(key) for key in _KEYS)
    distinct = keys.unique().sort("rank", "pid", "tid", "file", pl.col("device").cast(pl.String), "stream", "kind")
    rows = list(distinct.iter_rows(named=True))
    known = _Known(
        roles={(rank.rank, rank.pid, file): rank.role for rank in own for file in rank.files},
        part={file: min(rank.files) for rank in own for file in rank.files},
        owners=_owners(rows),
        hosts={
            (row["rank"], row["file"], row["pid"])
            for row in rows
            if row["device"] == HOST and row["kind"] not in (*_ON_STREAM, *_PROFILER)
        },
    )
    numbers: dict[Line, int] = {}
    codes = [numbers.setdefault(_line(row, known), len(numbers)) for row in rows]
    table = distinct.with_columns(pl.Series("line", codes, dtype=pl.Int32))
    return list(numbers), keys.join(table, on=list(_KEYS), how="left", nulls_equal=True, maintain_order="left")["line"]


class _Known(NamedTuple):
    """What tells whose an event is.

    Attributes:
        roles: of processes, by rank, pid and file.
        part: the first file of the recording to which a file belongs.
        owners: of GPUs, by rank, file and device: the pid of the only process that works there.
        hosts: processes that did something on the host, by rank, file and pid.
    """

    roles: dict[tuple[int, int, int], str]
    part: dict[int, int]
    owners: dict[tuple[int, int, str], int]
    hosts: set[tuple[int, int, int]]


def _owners(rows: list[dict[str, Any]]) -> dict[tuple[int, int, str], int]:
    pids: dict[tuple[int, int, str], set[int]] = {}
    for row in rows:
        if row["device"] != HOST:
            pids.setdefault((row["rank"], row["file"], row["device"]), set()).add(row["pid"])
    return {gpu: min(own) for gpu, own in pids.items() if len(own) == 1}


def _line(row: dict[str, Any], known: _Known) -> Line:
    """Return the line of all events that agree in `_KEYS`.

    torch.profiler's rows of annotations and waits on a stream have the number of the GPU for a pid and that of the stream
    for a tid.
    """
    rank, pid, tid, kind, device, stream = (row[key] for key in ("rank", "pid", "tid", "kind", "device", "stream"))
    is_host = (rank, row["file"], pid) in known.hosts
    owner: int | None = pid
    if device == HOST and kind in _ON_STREAM and not is_host and 0 <= pid < _MOST_GPUS:
        device, stream, owner = f"GPU {pid}", tid, known.owners.get((rank, row["file"], f"GPU {pid}"))
    part = known.part.get(row["file"], row["file"])
    role = known.roles.get((rank, pid, row["file"]))
    if device != HOST:
        who = f"rank {rank}: " if rank != UNKNOWN_RANK else "" if owner is None else f"pid {owner}: "
        text = f"stream {tid if stream is None else stream}" + (", annotations" if kind in _ON_STREAM else "")
        place = (tid if stream is None else stream, int(kind in _ON_STREAM))
        return Line(who + device, text, (_GPUS, f"{rank:08d} {device} {part:08d}"), place)
    if kind in _PROFILER and not is_host:
        text = kind if rank == UNKNOWN_RANK else f"{kind}, rank {rank}"
        return Line("profiler", text, (_PROFILERS, ""), (rank, part))
    beside = _BESIDE.get(kind)
    text, at = (
        (f"thread {tid}, {beside}", 1 + sorted(set(_BESIDE.values())).index(beside)) if beside else (f"thread {tid}", 0)
    )
    name = f"{role or f'rank {rank}'} (pid {pid})" if rank != UNKNOWN_RANK else f"pid {pid}" + (f" ({role})" if role else "")
    return Line(name, text, (_HOSTS, f"{rank:08d} {part:08d} {pid:012d}"), (tid, at), pid, None if at else tid)


def own_line(process: str, thread: str, place: int) -> Line:
    """Return a line for what `rca` found: above everything else."""
    return Line(process, thread, (_FIRST, process), (place, 0))


def counter_line(device: str) -> Line:
    """Return the line that holds the counters of a device: below everything else."""
    return Line(f"counters: {device}", device, (_COUNTERS, device), (0, 0))


def threads(lines: list[Line], used: Iterable[tuple[int, int]]) -> Threads:
    """Give numbers to the lines and to further lanes of them.

    Args:
        lines: distinct ones.
        used: each (index of a line, lane) that holds something.
    """
    numbers = Numbers()
    wanted = sorted(used, key=lambda item: (lines[item[0]].order, lines[item[0]].place, lines[item[0]].thread, item[1]))
    processes: dict[tuple[Any, ...], int] = {}
    for number, _ in wanted:
        line = lines[number]
        if (key := (line.order, line.process)) not in processes:
            processes[key] = numbers.keep_or_new(line.pid)
    ids: dict[tuple[int, int], tuple[int, int]] = {}
    metadata: list[dict[str, Any]] = []
    for place, (key, pid) in enumerate(processes.items()):
        metadata += _named("process", key[-1], place, {"pid": pid, "tid": pid})
    for place, (number, lane) in enumerate(wanted):
        line = lines[number]
        pid = processes[line.order, line.process]
        is_main = line.tid is not None and line.tid == line.pid and lane == 0
        tid = pid if is_main else numbers.keep_or_new(line.tid if lane == 0 else None)
        ids[number, lane] = pid, tid
        text = line.thread if lane == 0 else f"{line.thread}, overlapping {lane}"
        metadata += _named("thread", text, place, {"pid": pid, "tid": tid})
    return Threads(ids, metadata)


def _named(what: str, text: str, place: int, where: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {"ph": "M", **where, "name": f"{what}_name", "args": {"name": text}},
        {"ph": "M", **where, "name": f"{what}_sort_index", "args": {"sort_index": place}},
    ]
