"""Baselines: what others would name, from the same two captures.

All of them give every counter a score and name the cause that the counter speaks for, by one table, `CAUSE_OF_METRIC`; they
differ in the score alone. They have no threshold: they name something for captures that do not differ, too.

- N-sigma: how many standard deviations of the normal side the farthest sample of the abnormal side lies from its mean.
- BARO's robust scorer (Pham et al., FSE 2024): the same with median and interquartile range.
- The seed's suspicion score: that of the counter's best row, |Δβ|·(|Z(β)| + |Z(log μ)|) (DESIGN.md).

The first two are as in RCAEval (Pham et al., WWW Companion 2025), which has them of scikit-learn's ``StandardScaler`` and
``RobustScaler``: the standard deviation is the biased one, and a spread of 0 counts as 1. It departs from that in their
favour: the absolute distance counts, for a clock that falls is a sign as well; counters without any spread on the normal
side take part (RCAEval drops them), for that of throttling has none; all bytes, not only those of memory, are counted in
MB, for else a counter without spread would score by its unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.api import Comparison

Floats = NDArray[np.float64]
Ranking = tuple[tuple[str, float], ...]
"""(cause, score) from the first to the last, each cause once, with its best score; by score, then by name."""

N_SIGMA = "N-sigma"
ROBUST = "BARO robust scorer"
SUSPICION = "suspicion score"

_ROUNDING = 10 * float(np.finfo(float).eps)
"""A spread that is no larger, relative to the values, is 0 but for rounding."""

_METRICS_OF_CAUSE = {
    "cpu_frequency": ("cpu_frequency", "cpu_throttle_events"),
    "cpu_contention": (
        *("host_cpu_usage", "host_cpu_steal", "host_procs_running", "core_usage"),
        *("pressure_cpu_some", "cgroup_pressure_cpu_some"),
        *("process_runq_wait", "process_involuntary_switches", "process_nice"),
    ),
    "cpu_quota": ("cgroup_cpu_quota", "cgroup_cpu_throttled", "cgroup_cpu_throttled_periods", "process_allowed_cores"),
    "host_memory_pressure": (
        *("host_mem_usage", "host_mem_available", "host_swap_used", "host_swap_in", "host_swap_out"),
        *("host_major_faults", "host_direct_reclaim", "host_background_reclaim"),
        *("pressure_memory_some", "pressure_memory_full", "cgroup_pressure_memory_some"),
        *("cgroup_mem_limit", "process_major_faults", "process_mem_swap"),
    ),
    "cold_cache": ("host_mem_cache",),
    "disk_io": (
        *("host_cpu_iowait", "host_procs_blocked", "pressure_io_some", "pressure_io_full", "cgroup_pressure_io_some"),
        *("disk_busy", "disk_latency", "disk_read_rate", "disk_write_rate", "process_blkio_wait"),
    ),
    "network": ("net_rx_rate", "net_tx_rate", "net_drops", "net_errors", "tcp_retransmits"),
    "gpu_clock": (
        *("gpu_frequency", "gpu_sm_frequency", "gpu_mem_frequency"),
        *("gpu_throttle_power", "gpu_throttle_thermal", "gpu_power_limit"),
    ),
    "gpu_contention": ("gpu_usage", "process_gpu_usage", "gpu_sm_util", "gpu_sm_occupancy", "gpu_tensor_util"),
    "gpu_memory_pressure": ("gpu_mem_used", "gpu_mem_util", "gpu_dram_util"),
    "pcie_contention": (
        *("gpu_pcie_transmit", "gpu_pcie_receive", "gpu_pcie_replays"),
        *("gpu_pcie_generation", "gpu_pcie_width"),
    ),
    "nvlink_contention": ("gpu_link_transmit", "gpu_link_receive"),
    "workload_shift": (
        *("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:iteration_tokens_total"),
        *("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        *("sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:num_used_tokens"),
        *("sglang:token_usage", "sglang:cache_hit_rate"),
    ),
}

CAUSE_OF_METRIC: dict[str, str] = {metric: cause for cause, metrics in _METRICS_OF_CAUSE.items() for metric in metrics}
"""The cause that a counter speaks for when it moves, by how machines work.

Not in it: what follows from being slow, whatever the reason (throughput, latencies, switches, the process's own CPU time,
power, temperatures), what is no quantity (throttle bits), and counters of single threads, which repeat the process's.
"""


def rankings(comparison: Comparison) -> dict[str, Ranking]:
    """Return what each baseline makes of a comparison, by the baseline's name."""
    normal, abnormal = comparison.normal.counters, comparison.abnormal.counters
    return {
        N_SIGMA: n_sigma(normal, abnormal),
        ROBUST: robust_scorer(normal, abnormal),
        SUSPICION: suspicion(rank.rows for rank in comparison.ranks),
    }


def n_sigma(normal: pl.DataFrame, abnormal: pl.DataFrame) -> Ranking:
    """Rank causes by max |x − mean of normal| / (standard deviation of normal); tables of counters (`COUNTERS`)."""
    return _by_distance(normal, abnormal, lambda x: (float(x.mean()), float(x.std())))


def robust_scorer(normal: pl.DataFrame, abnormal: pl.DataFrame) -> Ranking:
    """Rank causes by max |x − median of normal| / (interquartile range of normal); tables of counters (`COUNTERS`)."""
    return _by_distance(normal, abnormal, lambda x: (float(np.median(x)), float(np.subtract(*np.quantile(x, [0.75, 0.25])))))


def suspicion(rows: Iterable[pl.DataFrame]) -> Ranking:
    """Rank causes by the highest suspicion of any row; one table per rank with ``metric`` and ``suspicion``."""
    scores = [pair for table in rows for pair in table.select("metric", "suspicion").iter_rows()]
    return _ranked(scores)


def _by_distance(normal: pl.DataFrame, abnormal: pl.DataFrame, fit: Callable[[Floats], tuple[float, float]]) -> Ranking:
    """Rank causes by the largest distance of an abnormal sample from the normal side's centre, in its spreads."""
    before, after = _series(normal), _series(abnormal)
    scores = []
    for key in sorted(before.keys() & after.keys()):
        centre, spread = fit(before[key])
        scale = spread if spread > _ROUNDING * max(1.0, abs(centre)) else 1.0  # as scikit-learn has it
        scores.append((key[0], float(np.abs(after[key] - centre).max()) / scale))
    return _ranked(scores)


def _series(counters: pl.DataFrame) -> Mapping[tuple[str, str], Floats]:
    """Return the samples of each (metric, device) of `CAUSE_OF_METRIC`; those of several processes at a time averaged."""
    names = pl.col("metric", "device", "unit").cast(pl.String)
    table = (
        counters.with_columns(names)
        .filter(pl.col("metric").is_in(list(CAUSE_OF_METRIC)) & pl.col("value").is_finite())
        .with_columns(pl.when(pl.col("unit").str.starts_with("bytes")).then(pl.col("value") / 1e6).otherwise("value"))
        .group_by("metric", "device", "ts_ns")
        .agg(pl.col("value").mean())
        .sort("metric", "device", "ts_ns")
    )
    parts = table.group_by("metric", "device", maintain_order=True)
    return {(str(metric), str(device)): part["value"].to_numpy() for (metric, device), part in parts}


def _ranked(scores: Iterable[tuple[str, float]]) -> Ranking:
    """Turn scores of metrics into a ranking of causes; a metric that did not move names none."""
    best: dict[str, float] = {}
    for metric, score in scores:
        cause = CAUSE_OF_METRIC.get(metric)
        if cause is not None and np.isfinite(score) and score > 0:
            best[cause] = max(score, best.get(cause, 0.0))
    return tuple(sorted(best.items(), key=lambda item: (-item[1], item[0])))
