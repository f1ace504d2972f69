"""Databases of rocmProfileData, ``.rpd`` (FORMATS.md §6.1): what SGLang's RPD activity and ``runTracer.sh`` record.

``rocpd_op`` holds the work of GPUs, ``rocpd_api`` the calls, ``rocpd_api_ops`` which call started which work; a call is a
marker if its name is ``UserMarker``, with its text among the arguments. Schema 3 keeps arguments in ``rocpd_ustring``.
``rocpd_monitor`` holds a value once for as long as it lasts.
"""

from __future__ import annotations

import polars as pl

from rca.capture.findings import Finding
from rca.capture.model import Clock, Reading
from rca.capture.readers.amd_spans import as_events, call_names, copy_names, kernel_names
from rca.capture.readers.csv_table import MAX_NS
from rca.capture.readers.nsys_store import INT, TEXT, categorical
from rca.capture.readers.sqlite_columns import Database
from rca.capture.source import Probe, Source, alone
from rca.capture.tables import COUNTERS, EVENTS, empty

NAME = "rpd"
group = alone

_MARKER = "UserMarker"
_CALL = r"^(__)?(hip|hsa|cuda|cu[A-Z]|nccl|rccl|mscclpp)"
_COPY_KINDS = {0: "HostToHost", 1: "HostToDevice", 2: "DeviceToHost", 3: "DeviceToDevice"}
"""Values of hipMemcpyKind; 4 leaves it to the addresses."""

_MONITORS = {
    "sclk": ("gpu_sm_frequency", "MHz"),
    "mclk": ("gpu_mem_frequency", "MHz"),
    "power": ("gpu_power", "W"),
    "temp": ("gpu_temp", "°C"),
    "gpu_busy": ("gpu_usage", "%"),
}
_STEP_NS = 10_000_000
"""A value that lasts is repeated this often, so that its samples weigh as much as its time."""
_MAX_SAMPLES = 2_000_000


def matches(probe: Probe) -> bool:
    """Tell by its tables."""
    return {"rocpd_op", "rocpd_string"} <= probe.sqlite_tables


def read(source: Source) -> Reading:
    """Read one database.

    Raises:
        InputError: it is damaged.
    """
    database = Database(source.path)
    source.advance_whole(source.path)
    findings: list[Finding] = []
    strings = _Strings(database, "rocpd_string")
    calls = database.read("rocpd_api", _CALL_COLUMNS).drop_nulls("id").unique("id", keep="first", maintain_order=True)
    tables = {
        "rocpd_op": _work(database, strings, calls),
        "rocpd_api": _calls(database, strings, calls),
    }
    parts = [as_events(table, f"table {name}", findings) for name, table in tables.items() if table.height]
    counters = _counters(database, findings)
    meta = {"profiler": "rocmProfileData"}
    events = pl.concat(parts) if parts else empty(EVENTS)
    return Reading(events, counters, meta=meta, findings=(*database.findings, *findings), clock=Clock.BOOT)


_CALL_COLUMNS = {
    **dict.fromkeys(("id", "pid", "tid", "start", "end", "apiName_id", "args_id"), INT),
}


class _Strings:
    """A table of texts by id."""

    def __init__(self, database: Database, table: str) -> None:
        self._texts = database.read(table, {"id": INT, "string": TEXT}).drop_nulls("id").unique("id", keep="first")

    def of(self, ids: pl.Series) -> pl.Series:
        """Return the texts of ids; null where there is none."""
        return ids.alias("id").to_frame().join(self._texts, on="id", how="left", maintain_order="left")["string"]

    def categories(self, ids: pl.Series) -> pl.Series:
        """Return the texts of few distinct ids as strings."""
        return categorical(ids, self.of).cast(pl.String)


def _work(database: Database, strings: _Strings, calls: pl.DataFrame) -> pl.DataFrame:
    """Read kernels and copies, with the call that started each: the smallest id, where there are several."""
    ids = ("id", "gpuId", "queueId", "start", "end", "description_id", "opType_id")
    rows = database.read("rocpd_op", dict.fromkeys(ids, INT))
    links = database.read("rocpd_api_ops", {"api_id": INT, "op_id": INT}).drop_nulls()
    links = links.group_by("op_id").agg(pl.col("api_id").min())
    rows = rows.join(links, left_on="id", right_on="op_id", how="left", maintain_order="left")
    owners = calls.select("id", "pid")
    rows = rows.join(owners, left_on="api_id", right_on="id", how="left", maintain_order="left")
    only = calls["pid"].drop_nulls().unique()
    pid = pl.col("pid").fill_null(only[0] if only.len() == 1 else -1)
    gpu = pl.col("gpuId").replace(_gpu_numbers(database, rows["gpuId"]))
    return _named(rows.with_columns(pid), database, strings).with_columns(
        pl.format("GPU {}", gpu).fill_null("GPU ?").alias("device"),
        pl.col("queueId").alias("stream"),
        pl.col("queueId").alias("tid"),
        pl.col("api_id").alias("correlation"),
        pl.col("start").alias("start_ns"),
        pl.col("end").alias("end_ns"),
    )


def _gpu_numbers(database: Database, ids: pl.Series) -> dict[int, int]:
    """Return the numbers of GPUs that are counted among CPUs, 2 to 9 instead of 0 to 7: known if all were monitored."""
    monitored = database.read("rocpd_monitor", {"deviceType": TEXT, "deviceId": INT}).filter(pl.col("deviceType") == "gpu")
    numbers, own = (sorted(column.drop_nulls().unique()) for column in (monitored["deviceId"], ids))
    return dict(zip(own, numbers, strict=True)) if len(own) == len(numbers) else {}


def _named(rows: pl.DataFrame, database: Database, strings: _Strings) -> pl.DataFrame:
    """Tell kernels from copies and memory sets by the type of the operation, and name them."""
    copies = database.read("rocpd_copyapi", {"api_ptr_id": INT, "size": INT, "kind": INT})
    copies = copies.drop_nulls("api_ptr_id").unique("api_ptr_id", keep="first")
    rows = rows.join(copies, left_on="api_id", right_on="api_ptr_id", how="left", maintain_order="left")
    operation = strings.categories(rows["opType_id"]).fill_null("")
    is_copy = operation.str.contains("(?i)copy")
    is_set = operation.str.contains("(?i)fill|memset")
    is_kernel = operation.str.contains("(?i)kernel|dispatch")
    rows = rows.with_columns(operation.alias("operation"))
    directed = pl.col("operation").str.contains("(?i)to_?(host|device)")
    direction = pl.when(directed).then("operation").otherwise(pl.col("kind").replace_strict(_COPY_KINDS, default=None))
    copy = copy_names(rows.select(direction.alias("direction"))["direction"]).cast(pl.String)
    described = kernel_names(strings.categories(rows["description_id"])).cast(pl.String)
    kernel = pl.coalesce(described, pl.when(operation != "").then(operation))
    return rows.select(
        pl.exclude("kind", "size"),
        pl.when(is_copy).then(copy).when(is_set).then(pl.lit("Memset (Device)")).otherwise(kernel).alias("name"),
        pl.when(is_copy)
        .then(pl.lit("memcpy"))
        .when(is_set)
        .then(pl.lit("memset"))
        .when(is_kernel | described.is_not_null())
        .then(pl.lit("kernel"))
        .otherwise(pl.lit("other"))  # barriers and marks in a queue
        .alias("kind"),
        pl.when(is_copy).then("size").alias("bytes"),
    )


def _calls(database: Database, strings: _Strings, rows: pl.DataFrame) -> pl.DataFrame:
    arguments = _Strings(database, "rocpd_ustring") if database.columns("rocpd_ustring") else strings
    called = call_names(strings.categories(rows["apiName_id"])).cast(pl.String)
    is_call = called.str.contains(_CALL).fill_null(value=False)
    marked = rows.filter(called == _MARKER).select("id", "args_id")
    texts = marked.select("id", arguments.of(marked["args_id"]).alias("text"))
    rows = rows.join(texts, on="id", how="left", maintain_order="left")
    kind = pl.when(called.str.starts_with("hsa")).then(pl.lit("driver")).otherwise(pl.lit("runtime"))
    return rows.with_columns(
        pl.coalesce("text", called).alias("name"),
        pl.when(is_call).then(kind).otherwise(pl.lit("annotation")).alias("kind"),
        pl.when(is_call).then("id").alias("correlation"),
        pl.col("start").alias("start_ns"),
        pl.col("end").alias("end_ns"),
    )


def _counters(database: Database, findings: list[Finding]) -> pl.DataFrame:
    columns = {"deviceType": TEXT, "deviceId": INT, "monitorType": TEXT, "start": INT, "end": INT, "value": TEXT}
    rows = database.read("rocpd_monitor", columns)
    rows = rows.with_columns(pl.col("value").cast(pl.Float64, strict=False), pl.max_horizontal("start", "end").alias("end"))
    good = pl.col("start").is_between(1, int(MAX_NS)) & (pl.col("end") <= int(MAX_NS)) & pl.col("value").is_finite()
    kept = rows.filter(
        good & (pl.col("deviceType") == "gpu") & pl.col("deviceId").is_not_null() & pl.col("monitorType").is_not_null()
    )
    if lost := rows.height - kept.height:
        findings.append(Finding("bad_values", f"table rocpd_monitor: {lost:,} values without time, number or GPU; left out"))
    if not kept.height:
        return empty(COUNTERS)
    lasted = (kept["end"] - kept["start"]).cast(pl.Float64).sum()
    step = max(_STEP_NS, int(lasted / _MAX_SAMPLES))
    name = pl.col("monitorType").str.to_lowercase()
    kept = kept.with_columns(pl.int_ranges("start", pl.col("end") + 1, step).alias("ts_ns"))
    metric = name.replace_strict({key: value[0] for key, value in _MONITORS.items()}, default="gpu_" + name)
    unit = name.replace_strict({key: value[1] for key, value in _MONITORS.items()}, default="")
    named = kept.select(
        "ts_ns",
        "value",
        metric.alias("metric"),
        unit.alias("unit"),
        pl.format("GPU {}", "deviceId").alias("device"),
        pid=None,
    )
    return named.explode("ts_ns").select(pl.col(key).cast(dtype) for key, dtype in COUNTERS.items())
