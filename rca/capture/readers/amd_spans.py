"""What the readers of AMD's recorders have in common: names, kinds and checks of spans (FORMATS.md §1.8, §6.1)."""

from __future__ import annotations

import polars as pl

from rca.capture.findings import Finding
from rca.capture.readers.csv_table import MAX_NS
from rca.capture.readers.nsys_store import categorical
from rca.capture.tables import EVENTS, HOST, UNKNOWN_RANK

_COPY = r"(?i)(host|device|peer)_?to_?(host|device|peer)"
_HIP_REVISION = r"^(hip\w+?)R\d{4}$"
"""hipGetDevicePropertiesR0600 is hipGetDeviceProperties with the structure of ROCm 6.0."""
_KERNEL_SUFFIX = r"( \[clone \.kd\]|\.kd)$"
"""Names of kernel descriptors, as code objects spell them."""


def kernel_names(names: pl.Series) -> pl.Series:
    """Return the names of kernels as categories."""
    return categorical(names, lambda distinct: distinct.str.replace(_KERNEL_SUFFIX, "").replace("", None))


def call_names(names: pl.Series) -> pl.Series:
    """Return the names of API calls as categories, without the revision of their arguments."""
    return categorical(names, lambda distinct: distinct.str.replace(_HIP_REVISION, "$1").replace("", None))


def copy_names(directions: pl.Series) -> pl.Series:
    """Turn ``MEMORY_COPY_HOST_TO_DEVICE``, ``CopyHostToDevice`` and the like into the names that Kineto gives to copies.

    A copy from ``peer`` to ``peer`` is one between two GPUs.
    """

    def convert(distinct: pl.Series) -> pl.Series:
        source = pl.col("text").str.extract(_COPY, 1).str.to_titlecase()
        target = pl.col("text").str.extract(_COPY, 2).str.to_titlecase()
        memory = pl.format(" ({} -> {})", source.str.replace("Peer", "Device"), target.str.replace("Peer", "Device"))
        name = pl.format("Memcpy {}to{}", source.str.head(1), target.str.head(1)) + memory
        return distinct.alias("text").to_frame().select(name.fill_null("Memcpy Unknown").alias("name"))["name"]

    return categorical(directions, convert)


def call_kind(domains: pl.Series) -> pl.Series:
    """Return the kind of the rows of a domain: ``HIP_RUNTIME_API``, ``HSA_AMD_EXT_API``, ``MARKER_CORE_API``, …"""

    def convert(distinct: pl.Series) -> pl.Series:
        domain = pl.col("domain").str.to_uppercase()
        kinds = (
            pl.when(domain.str.contains("MARKER"))
            .then(pl.lit("annotation"))
            .when(domain.str.contains("HSA"))
            .then(pl.lit("driver"))
            .when(domain.str.contains("HIP|API"))
            .then(pl.lit("runtime"))
            .otherwise(pl.lit("other"))  # OMPT, Kokkos, page faults, what other tools write
        )
        return distinct.alias("domain").to_frame().select(kinds.alias("kind"))["kind"]

    return categorical(domains, convert)


def as_events(frame: pl.DataFrame, what: str, findings: list[Finding]) -> pl.DataFrame:
    """Make rows of `EVENTS` of spans with ``start_ns``, ``end_ns``, ``name``, ``kind`` and what else is known of them.

    Spans that lack a time or a name or end before they begin are left out, with a finding that names them ``what``.
    Recorders write 0 for a time that they failed to get. A correlation of 0 is none (FORMATS.md §6.1).
    """
    start, end = pl.col("start_ns"), pl.col("end_ns")
    kept = frame.filter(start.is_between(1, int(MAX_NS)) & end.is_between(start, int(MAX_NS)) & pl.col("name").is_not_null())
    if lost := frame.height - kept.height:
        text = f"{what}: {lost:,} rows lack a time or a name, or end before they begin; left out"
        findings.append(Finding("bad_values", text))
    missing: dict[str, object] = dict.fromkeys(EVENTS) | {"device": HOST, "rank": UNKNOWN_RANK, "file": 0, "pid": -1}
    filled = kept.with_columns(
        *(pl.lit(value).alias(key) for key, value in missing.items() if key not in (*kept.columns, "dur_ns")),
        dur_ns=end - start,
    )
    ids = {
        "pid": pl.col("pid").fill_null(-1),
        "tid": pl.coalesce("tid", "pid").fill_null(-1),
        "correlation": pl.when(pl.col("correlation").cast(pl.Int64) > 0).then("correlation"),
    }
    return filled.with_columns(**ids).select(pl.col(key).cast(dtype) for key, dtype in EVENTS.items())
