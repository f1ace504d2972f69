"""What an Nsight Systems export says besides spans: versions, settings, GPUs, its own warnings, sampled metrics
(FORMATS.md §4.1, §4.4).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from rca.capture.findings import Finding, Severity
from rca.capture.readers.nsys_store import INT, TEXT, Part, TableStore
from rca.capture.tables import COUNTERS, HOST

_MAX_MESSAGES = 20
_MAX_MESSAGE_CHARS = 300

_CAPTURE_FACTS = {
    "CUDA_GRAPH_TRACE_OPTIONS:MODE": "cuda_graph_trace",
    "OS_RUNTIME_OPTIONS:DURATION_THRESHOLD_NS": "osrt_threshold_ns",
}
"""Settings that change what is in the file. The same table holds the environment of the program, tokens included, and its
command line: nothing else of it may be used."""

_NO_SHIFT = ("", "0")


def export_settings(store: TableStore) -> dict[str, str]:
    """Return the settings of the export, such as ``EXPORT_SCHEMA_VERSION``."""
    settings: dict[str, str] = {}
    for table in ("EXPORT_META_DATA", "META_DATA_EXPORT"):  # before and since schema 3.1
        rows = store.read(table, {"name": TEXT, "value": TEXT}).filter(pl.col("name").str.starts_with("EXPORT_"))
        settings |= {name: value or "" for name, value in rows.head(1000).iter_rows()}
    return settings


def facts(store: TableStore, settings: dict[str, str]) -> dict[str, Any]:
    """Pick the facts that matter for a comparison."""
    found: dict[str, Any] = {
        "product_version": settings.get("EXPORT_PRODUCT_VERSION"),
        "schema_version": settings.get("EXPORT_SCHEMA_VERSION"),
    }
    capture = store.read("META_DATA_CAPTURE", {"name": TEXT, "value": TEXT})
    for name, key in _CAPTURE_FACTS.items():
        values = capture.filter(pl.col("name") == name)["value"].drop_nulls()
        found[key] = values[0].lower()[:100] if values.len() else None
    traced = capture.filter(pl.col("name") == "CAPTURE_EVENT_TYPE")["value"].drop_nulls().unique().sort().head(50)
    found["traced"] = traced.to_list()
    gpus = store.read("TARGET_INFO_GPU", {"id": INT, "name": TEXT, "uuid": TEXT, "busLocation": TEXT}).head(1024).sort("id")
    found["gpu_names"] = gpus["name"].drop_nulls().unique().sort().to_list()
    found["gpus"] = gpus.unique().sort("id").rename({"id": "index", "busLocation": "bus"}).to_dicts()
    return {key: value for key, value in found.items() if value not in (None, [])}


def export_findings(settings: dict[str, str]) -> list[Finding]:
    """Say in what the export differs from the recording."""
    found = [
        Finding("time_filtered", f"its times were shifted by {shift[:40]} on export ({key})")
        for key in ("EXPORT_PARAM_TIME_SHIFT", "EXPORT_CONFIG_TIME_SHIFT")
        if (shift := settings.get(key, "")) not in _NO_SHIFT
    ]
    if times := settings.get("EXPORT_PARAM_TIMES_TO_EXPORT"):
        found.append(Finding("time_filtered", f"only a part of the recording was exported: times {times[:80]}"))
    if tables := settings.get("EXPORT_PARAM_TABLES_TO_EXPORT"):
        found.append(Finding("time_filtered", f"only some tables were exported: {tables[:80]}"))
    if settings.get("EXPORT_PARAM_TIME_NORMALIZE", "").lower() == "true":
        found.append(Finding("time_filtered", "its times were normalised to UTC on export", Severity.INFO))
    return found


def gpu_of(store: TableStore) -> pl.DataFrame:
    """Return which GPU (``gpu``, as in TARGET_INFO_GPU) is the process's (``pid``) CUDA device (``deviceId``).

    Only where that differs: CUDA_VISIBLE_DEVICES renumbers GPUs. Older exports do not tell; CUDA's number is all there is.
    """
    rows = store.read("TARGET_INFO_CUDA_DEVICE", {"pid": INT, "cudaId": INT, "gpuId": INT}).drop_nulls()
    rows = rows.rename({"cudaId": "deviceId", "gpuId": "gpu"}).unique(["pid", "deviceId"], keep="first")
    return rows if (rows["deviceId"] != rows["gpu"]).any() else rows.clear()


def session_start(store: TableStore) -> int | None:
    """Return when time 0 of the file was, in ns since 1970."""
    times = store.read("TARGET_INFO_SESSION_START_TIME", {"utcEpochNs": INT})["utcEpochNs"].drop_nulls()
    possible = times.filter(times.is_between(10**18, 4 * 10**18))  # 2001 to 2096
    return int(possible[0]) if possible.len() else None


def messages(store: TableStore) -> list[Finding]:
    """Return warnings and errors of nsys itself (severity 2 and 3)."""
    rows = store.read("DIAGNOSTIC_EVENT", {"timestamp": INT, "severity": INT, "text": TEXT})
    rows = rows.filter(pl.col("severity").is_in([2, 3]) & pl.col("text").is_not_null()).sort("timestamp")
    texts = rows["text"].str.replace_all(r"[\s\pC]+", " ").str.strip_chars().unique(maintain_order=True)
    lost = texts.str.contains(r"(?i)\b(lost|losing|dropped|discarded|overflow\w*)\b")
    found = []
    for text, is_lost in zip(texts.head(_MAX_MESSAGES), lost, strict=False):
        shown = text if len(text) <= _MAX_MESSAGE_CHARS else text[:_MAX_MESSAGE_CHARS] + "…"
        found.append(Finding("lost_events" if is_lost else "tool_message", f"nsys says: {shown}"))
    if texts.len() > _MAX_MESSAGES:
        found.append(Finding("tool_message", f"nsys has {texts.len() - _MAX_MESSAGES:,} more warnings"))
    return found


_GPU_METRICS = {
    r"^gpc clock": "gpu_sm_frequency",
    r"^gr active": "gpu_usage",
    r"^sms? active": "gpu_sm_util",
    r"^compute warps in flight.*%": "gpu_sm_occupancy",
}
"""Names that other sources use for the same. Links are in % of their peak here, so they keep names of their own."""


def gpu_metrics(store: TableStore) -> Part:
    """Read sampled hardware counters. A clock called ``[MHz]`` holds Hz in exports seen so far; its size tells."""
    known = store.read("TARGET_INFO_GPU_METRICS", {"typeId": INT, "metricId": INT, "metricName": TEXT})
    samples = store.read("GPU_METRICS", {"timestamp": INT, "typeId": INT, "metricId": INT, "value": INT})
    known = known.drop_nulls().unique(["typeId", "metricId"], keep="first")
    label = pl.col("metricName").str.to_lowercase()
    metric = pl.lit("gpu_") + _slug(label.str.replace(r"\s*\[.*$", ""))
    for pattern, name in _GPU_METRICS.items():
        metric = pl.when(label.str.contains(pattern)).then(pl.lit(name)).otherwise(metric)
    unit = pl.col("metricName").str.extract(r"\[(?:Throughput )?([^\[\]]*)\]\s*$").fill_null("")
    known = known.select(
        "typeId",
        "metricId",
        metric.cast(pl.Categorical).alias("metric"),
        pl.format("GPU {}", pl.col("typeId") % 256).cast(pl.Categorical).alias("device"),
        unit.cast(pl.Categorical).alias("unit"),
    )
    value = pl.col("value").cast(pl.Float64)
    in_hz = (pl.col("unit").cast(TEXT) == "MHz") & (value >= 1e5)
    samples = samples.join(known, on=["typeId", "metricId"], how="left", maintain_order="left")
    value = pl.when(in_hz).then(value / 1e6).otherwise(value)
    return _counters("GPU_METRICS", samples.with_columns(ts_ns="timestamp", value=value))


def nic_metrics(store: TableStore) -> Part:
    """Read sampled NIC counters; rates are in units per ms (``bytes/ms``)."""
    keys = ["metricsListId", "metricsIdx"]
    known = store.read("TARGET_INFO_NETWORK_METRICS", {**dict.fromkeys(keys, INT), "name": TEXT, "unit": TEXT})
    samples = store.read("NET_NIC_METRIC", {"end": INT, **dict.fromkeys(keys, INT), "value": INT})
    label = pl.col("name").str.to_lowercase()
    metric = pl.lit("net_") + _slug(label)
    of_ip_over_ib = label.str.starts_with("ipoib")  # the same bytes are also counted as IB
    for pattern, name in (("bytes sent", "net_tx_rate"), ("bytes received", "net_rx_rate")):
        metric = pl.when(label.str.contains(pattern, literal=True) & ~of_ip_over_ib).then(pl.lit(name)).otherwise(metric)
    unit = pl.col("unit").fill_null("")
    known = (
        known.drop_nulls([*keys, "name"])
        .unique(keys, keep="first")
        .select(
            *keys,
            metric.cast(pl.Categorical).alias("metric"),
            pl.lit(HOST).cast(pl.Categorical).alias("device"),
            pl.when(unit.str.ends_with("/ms")).then(1000.0).otherwise(1.0).alias("scale"),
            unit.str.replace(r"/ms$", "/s").cast(pl.Categorical).alias("unit"),
        )
    )
    samples = samples.join(known, on=keys, how="left", maintain_order="left")
    return _counters("NET_NIC_METRIC", samples.with_columns(ts_ns="end", value=pl.col("value") * pl.col("scale")))


def _slug(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all(r"[^a-z0-9]+", "_").str.strip_chars("_")


def _counters(table: str, samples: pl.DataFrame) -> Part:
    """Keep the samples that can be; times before the start of the session and negative values are artefacts."""
    possible = samples.filter(
        pl.col("ts_ns").is_between(0, 4 * 10**18) & (pl.col("value") >= 0) & pl.col("metric").is_not_null()
    )
    findings = []
    if lost := samples.height - possible.height:
        text = f"table {table} has {lost:,} samples without a name or with a negative time or value; left out"
        findings.append(Finding("bad_values", text, Severity.INFO))
    counters = possible.with_columns(pid=pl.lit(None)).select(pl.col(key).cast(dtype) for key, dtype in COUNTERS.items())
    return Part(counters=counters, findings=tuple(findings))
