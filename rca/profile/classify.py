"""What an event is (its class) and which counters belong to a class (FORMATS.md §7.2, §7.3)."""

from __future__ import annotations

import numpy as np
import polars as pl

OP_CLASSES = ("cpu_op", "cpu_runtime", "cpu_sync")
"""Host calls nest; their time in a profile is the time that no call inside them accounts for (self time)."""

PROFILED_KINDS = ("kernel", "memcpy", "memset", "op", "runtime", "driver", "io")
"""Annotations, Python frames and profiler rows are spans over other work, not work; scheduler slices have rules of their
own (see `rca.profile.scheduling`)."""

_HOST_COUNTERS = (
    "process_cpu_usage",
    "host_cpu_usage",
    "process_runq_wait",
    "process_involuntary_switches",
    "host_mem_usage",
    "process_mem_usage",
    "cpu_frequency",
    "cpu_temp",
    "cpu_power",
)

COUNTERS_OF_CLASS: dict[str, tuple[str, ...]] = {
    "gpu_compute": (
        "process_gpu_usage",
        "gpu_usage",
        "gpu_sm_util",
        "gpu_sm_occupancy",
        "gpu_mem_used",
        "gpu_frequency",
        "gpu_sm_frequency",
        "gpu_mem_frequency",
    ),
    "gpu_comm": (
        "process_gpu_usage",
        "gpu_usage",
        "gpu_sm_util",
        "gpu_sm_occupancy",
        "gpu_pcie_transmit",
        "gpu_pcie_receive",
        "gpu_link_transmit",
        "gpu_link_receive",
        "net_tx_rate",
        "net_rx_rate",
    ),
    "gpu_memcpy_h2d": ("gpu_pcie_transmit", "gpu_pcie_receive"),
    "gpu_memcpy_d2h": ("gpu_pcie_transmit", "gpu_pcie_receive"),
    "gpu_memcpy_d2d": ("gpu_link_transmit", "gpu_link_receive", "net_tx_rate", "net_rx_rate"),
    "oncpu": _HOST_COUNTERS,
    "runq": _HOST_COUNTERS[:6],
    "cpu_os_syscall_mem": ("host_mem_usage", "process_mem_usage", "process_mem_rss"),
    "disk_read_and_write": ("disk_usage",),
    "cpu_op": _HOST_COUNTERS,
}
"""The reference's mapping, with the scheduler's counters added for work on the CPU. Other classes have no counter."""


_MEMORY_CALLS = ("mmap", "mprotect", "munmap")


def with_class(events: pl.DataFrame) -> pl.DataFrame:
    """Add the column ``class`` (categorical) to a table with ``name`` and ``kind``; the first rule that fits wins.

    A trace has thousands of names and millions of events: the rules are applied to names, events look theirs up.
    """
    pairs = events.select("name", "kind").unique()
    classes = pairs.select(_rules().alias("class")).to_series()
    distinct = classes.unique().sort()
    name, kind = (events[column].to_physical().to_numpy() for column in ("name", "kind"))
    place_of = np.zeros((int(name.max(initial=0)) + 1, int(kind.max(initial=0)) + 1), dtype=np.uint32)
    known = pairs.select(pl.all().to_physical())
    place_of[known["name"].to_numpy(), known["kind"].to_numpy()] = distinct.search_sorted(classes).to_numpy()
    return events.with_columns(distinct.cast(pl.Categorical).gather(place_of[name, kind]).alias("class"))


def _rules() -> pl.Expr:
    name = pl.col("name").cast(pl.String)
    kind = pl.col("kind")
    return (
        pl.when((kind == "kernel") & name.str.to_lowercase().str.contains("nccl|rccl"))
        .then(pl.lit("gpu_comm"))
        .when(kind == "kernel")
        .then(pl.lit("gpu_compute"))
        .when((kind == "memcpy") & name.str.contains("DtoH"))
        .then(pl.lit("gpu_memcpy_d2h"))
        .when((kind == "memcpy") & name.str.contains("DtoD"))
        .then(pl.lit("gpu_memcpy_d2d"))
        .when(kind.is_in(["memcpy", "memset"]))
        .then(pl.lit("gpu_memcpy_h2d"))
        .when(kind.is_in(["runtime", "driver", "io"]) & name.is_in(list(_MEMORY_CALLS)))
        .then(pl.lit("cpu_os_syscall_mem"))
        .when(kind.is_in(["runtime", "driver"]) & name.str.contains("Synchronize"))
        .then(pl.lit("cpu_sync"))
        .when(kind.is_in(["runtime", "driver"]))
        .then(pl.lit("cpu_runtime"))
        .when(kind == "io")
        .then(pl.lit("disk_read_and_write"))
        .when(kind == "op")
        .then(pl.lit("cpu_op"))
        .otherwise(kind.cast(pl.String))
    )
