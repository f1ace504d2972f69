"""Databases of rocprofv3: rocpd, schemas 3 and 4 (FORMATS.md §6.1).

The tables of each process have a suffix of their own, and ids count within one suffix; the views that join them are not
used, since a view is somebody else's query. Schema 4 keeps the process, thread, agent, queue and stream of a span in
``rocpd_track``. What CSV files call correlation is ``stack_id``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec
import polars as pl

from rca.capture.findings import Finding
from rca.capture.model import Clock, Reading
from rca.capture.readers.amd_spans import as_events, call_kind, call_names, copy_names, kernel_names
from rca.capture.readers.nsys_store import INT, TEXT, Columns, categorical
from rca.capture.readers.sqlite_columns import Database
from rca.capture.source import Probe, Source, alone
from rca.capture.tables import EVENTS, HOST, empty
from rca.errors import InputError

NAME = "rocpd"
group = alone

_PROCESS = re.compile(r"rocpd_info_process([0-9A-Za-z_]*)")
_MAX_PARTS = 4096
"""Processes in one file; merged recordings of whole clusters have fewer."""

_SPAN: Columns = {"start": INT, "end": INT, "pid": INT, "tid": INT, "track_id": INT, "event_id": INT, "stream_id": INT}
_TRACK: Columns = dict.fromkeys(("id", "pid", "tid", "agent_id", "stream_id"), INT)


def matches(probe: Probe) -> bool:
    """Tell by its tables. Files of rocmProfileData (`rpd`) have a table ``rocpd_op`` and none with processes."""
    return any(_PROCESS.fullmatch(name) for name in probe.sqlite_tables)


def read(source: Source) -> Reading:
    """Read one database.

    Raises:
        InputError: it is damaged.
    """
    database = Database(source.path)
    source.advance_whole(source.path)
    suffixes = sorted(match[1] for name in database.names if (match := _PROCESS.fullmatch(name)))
    if len(suffixes) > _MAX_PARTS:
        raise InputError(source.path, f"holds the tables of {len(suffixes):,} processes", "split it")
    parts = [_Part(database, suffix) for suffix in suffixes]
    events = [table for part in parts for table in part.events()]
    findings = (*database.findings, *(finding for part in parts for finding in part.findings))
    meta: dict[str, object] = {"profiler": "rocprofv3"}
    if names := sorted({name for part in parts for name in part.gpu_names}):
        meta["gpu_names"] = names
    if hosts := sorted({name for part in parts for name in part.hosts}):
        meta["host_name"] = ", ".join(hosts)
    filled = [table for table in events if table.height]
    return Reading(pl.concat(filled) if filled else empty(EVENTS), meta=meta, findings=findings, clock=Clock.BOOT)


@dataclass
class _Part:
    """The tables of one suffix."""

    database: Database
    suffix: str
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        agents = self._read("rocpd_info_agent", {"id": INT, "absolute_index": INT, "type": TEXT, "product_name": TEXT})
        agents = agents.drop_nulls("id").unique("id", keep="first").sort("absolute_index", "id")
        gpus = agents.filter(pl.col("type") == "GPU")
        self.gpu_names = set(gpus["product_name"].drop_nulls())
        self.hosts = set(self._read("rocpd_info_node", {"hostname": TEXT})["hostname"].drop_nulls())
        self._devices = dict.fromkeys(agents["id"], HOST) | {id_: f"GPU {index}" for index, id_ in enumerate(gpus["id"])}
        self._strings = self._keyed("rocpd_string", {"string": TEXT})

    def events(self) -> list[pl.DataFrame]:
        """Return all spans."""
        return [
            as_events(self._linked(table), f"table {name}", self.findings)
            for name, table in (
                ("rocpd_kernel_dispatch", self._kernels()),
                ("rocpd_memory_copy", self._copies()),
                ("rocpd_memory_allocate", self._allocations()),
                ("rocpd_region", self._regions()),
            )
            if table.height
        ]

    def _read(self, table: str, columns: Columns) -> pl.DataFrame:
        return self.database.read(table + self.suffix, columns)

    def _keyed(self, table: str, columns: Columns) -> pl.DataFrame:
        return self._read(table, {"id": INT, **columns}).drop_nulls("id").unique("id", keep="first")

    def _spans(self, table: str, columns: Columns) -> pl.DataFrame:
        """Return rows of a table of spans, with what schema 4 keeps in their track."""
        rows = self._read(table, {**_SPAN, **columns})
        if "track_id" not in self.database.columns(table + self.suffix):
            return rows
        tracks = self._read("rocpd_track", _TRACK).drop_nulls("id").unique("id", keep="first")
        rows = rows.drop([name for name in _TRACK if name in rows.columns])
        return rows.join(tracks, left_on="track_id", right_on="id", how="left", maintain_order="left")

    def _linked(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Give spans the ids that the system knows of their process and thread, and the id of the call behind them."""
        processes = self._keyed("rocpd_info_process", {"pid": INT}).rename({"id": "pid", "pid": "os pid"})
        threads = self._keyed("rocpd_info_thread", {"tid": INT}).rename({"id": "tid", "tid": "os tid"})
        rows = rows.join(processes, on="pid", how="left", maintain_order="left")
        rows = rows.join(threads, on="tid", how="left", maintain_order="left")
        if "stack_id" not in rows.columns:
            rows = self._with_event(rows, {"stack_id": INT})
        on_gpu = pl.col("kind").cast(pl.String).is_in(["kernel", "memcpy"])
        return rows.with_columns(
            pl.col("start").alias("start_ns"),
            pl.col("end").alias("end_ns"),
            pl.col("os pid").alias("pid"),
            pl.when(on_gpu).then("stream_id").otherwise("os tid").alias("tid"),
            pl.when(on_gpu).then("stream_id").alias("stream"),
            pl.when(pl.col("kind").cast(pl.String) != "annotation").then("stack_id").alias("correlation"),
        )

    def _with_event(self, rows: pl.DataFrame, columns: Columns) -> pl.DataFrame:
        events = self._keyed("rocpd_event", columns)
        return rows.join(events, left_on="event_id", right_on="id", how="left", maintain_order="left")

    def _kernels(self) -> pl.DataFrame:
        rows = self._spans("rocpd_kernel_dispatch", {"kernel_id": INT, "agent_id": INT, "queue_id": INT})
        symbols = self._keyed("rocpd_info_kernel_symbol", {"display_name": TEXT, "kernel_name": TEXT})
        symbols = symbols.select("id", pl.coalesce("display_name", "kernel_name").alias("name"))
        names = categorical(rows["kernel_id"], lambda ids: kernel_names(_looked_up(ids, symbols)))
        return rows.with_columns(names.alias("name"), self._device(rows["agent_id"]), kind=pl.lit("kernel"))

    def _copies(self) -> pl.DataFrame:
        """Place a copy on the GPU that takes part in it; of two, on the one that it is read from."""
        rows = self._spans("rocpd_memory_copy", {"name_id": INT, "src_agent_id": INT, "dst_agent_id": INT, "size": INT})
        source, target = (self._device(rows[f"{end}_agent_id"]).cast(pl.String) for end in ("src", "dst"))
        on_two = (source != HOST) & (target != HOST) & (source != target)
        direction = pl.select(
            pl.when(on_two).then(pl.lit("PEER_TO_PEER")).otherwise(self._string(rows["name_id"]))
        ).to_series()
        return rows.with_columns(
            copy_names(direction).alias("name"),
            pl.select(pl.when(source != HOST).then(source).otherwise(target)).to_series().alias("device"),
            pl.col("size").alias("bytes"),
            kind=pl.lit("memcpy"),
        )

    def _allocations(self) -> pl.DataFrame:
        rows = self._spans("rocpd_memory_allocate", {"type": TEXT, "level": TEXT, "size": INT})
        prefix = (
            pl.when(pl.col("level") == "SCRATCH").then(pl.lit("SCRATCH_MEMORY_")).otherwise(pl.lit("MEMORY_ALLOCATION_"))
        )
        operation = prefix + pl.col("type").replace("ALLOC", "ALLOCATE")  # as the other formats call them
        return rows.with_columns(operation.alias("name"), pl.col("size").alias("bytes"), kind=pl.lit("other"))

    def _regions(self) -> pl.DataFrame:
        """Read calls of APIs, and markers, whose text is in their event."""
        rows = self._spans("rocpd_region", {"name_id": INT})
        rows = self._with_event(rows, {"category_id": INT, "stack_id": INT, "extdata": TEXT})
        categories = self._keyed("rocpd_info_category", {"name": TEXT})
        if categories.height:
            domain = categorical(rows["category_id"], lambda ids: _looked_up(ids, categories)).cast(pl.String)
        else:
            domain = self._string(rows["category_id"])
        kind, called = call_kind(domain.fill_null("")).cast(pl.String), call_names(self._string(rows["name_id"]))
        extdata = pl.select(pl.when(kind == "annotation").then(rows["extdata"])).to_series()
        message = categorical(extdata, _messages).cast(pl.String)
        return rows.with_columns(message.fill_null(called.cast(pl.String)).alias("name"), kind.alias("kind"))

    def _string(self, ids: pl.Series) -> pl.Series:
        return categorical(ids, lambda distinct: _looked_up(distinct, self._strings)).cast(pl.String)

    def _device(self, agents: pl.Series) -> pl.Series:
        def convert(distinct: pl.Series) -> pl.Series:
            known = [HOST if id_ is None else self._devices.get(id_, f"GPU {id_}") for id_ in distinct]
            return pl.Series(known, dtype=pl.String)

        return categorical(agents, convert).alias("device")


def _looked_up(ids: pl.Series, texts: pl.DataFrame) -> pl.Series:
    """Return the texts of ids, of a table of two columns, the first of which is ``id``."""
    found = ids.alias("id").to_frame().join(texts, on="id", how="left", maintain_order="left")
    return found.to_series(1)


class _Extra(msgspec.Struct):
    message: str = ""


def _messages(extdata: pl.Series) -> pl.Series:
    """Return the texts of markers; null where there is none."""
    messages = []
    for text in extdata:
        try:
            messages.append(msgspec.json.decode(text or "{}", type=_Extra).message or None)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            messages.append(None)
    return pl.Series(messages, dtype=pl.String)
