"""All readers, in the order in which they are asked."""

from __future__ import annotations

from rca.capture.readers import (
    capture_json,
    chrome,
    counters,
    counters_parquet,
    cycle_profile,
    dcgm,
    nsys_folder,
    nsys_report,
    nsys_sqlite,
    nsys_stats,
    nvidia_smi,
    nvtx_gpu_proj,
    op_table,
    prometheus,
    rocpd,
    rocprof_csv,
    rocprof_json,
    rpd,
)
from rca.capture.source import Reader

READERS: tuple[Reader, ...] = (
    capture_json,
    chrome,
    cycle_profile,
    nsys_sqlite,
    nsys_folder,
    nsys_report,
    nvtx_gpu_proj,
    nsys_stats,
    rocprof_csv,
    rocprof_json,
    rocpd,
    rpd,
    op_table,
    prometheus,
    nvidia_smi,
    dcgm,
    counters_parquet,
    counters,
)
"""The first that claims a file reads it. Loose claims (any CSV with a time column) come last."""

NO_TRACES: tuple[Reader, ...] = (cycle_profile, prometheus, nvidia_smi, dcgm, counters_parquet, counters)
"""Readers of samples and of captures that were reduced before."""
