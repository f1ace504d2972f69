"""Causes ranked by the reference's suspicion score: which counter moved most where the time share moved most.

This names the resource whose counters stand out; it does not weigh symptoms against causes, so no confidence is given.
Only counters that changed by the robust statistics too are considered: the score alone fires on captures that do not
differ (DESIGN.md, "Why they are not enough").
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from rca.comparison import RankComparison
from rca.verdict.model import Cause, Status

MAX_Q = 0.05
MIN_CLIFFS_DELTA = 0.474
"""A "large" effect (Romano et al., 2006)."""
MIN_RELATIVE_CHANGE = 0.1


@dataclass(frozen=True)
class _Signal:
    cause: str
    next_check: str


_CPU_CHECK = "on the host, while it is slow: pidstat -u -w 1 and cat /proc/pressure/cpu"
_SIGNALS = {
    "cpu_frequency": _Signal("cpu_frequency", "cpupower frequency-info; turbostat --show Core,Bzy_MHz,CoreTmp"),
    "host_cpu_usage": _Signal("cpu_contention", _CPU_CHECK),
    "process_runq_wait": _Signal("cpu_contention", _CPU_CHECK),
    "host_mem_usage": _Signal("host_memory_pressure", "vmstat 1; cat /proc/pressure/memory"),
    "gpu_sm_frequency": _Signal("gpu_clock", "nvidia-smi -q -d CLOCK,PERFORMANCE"),
    "gpu_frequency": _Signal("gpu_clock", "nvidia-smi -q -d CLOCK,PERFORMANCE"),
    "gpu_mem_frequency": _Signal("gpu_clock", "nvidia-smi -q -d CLOCK,PERFORMANCE"),
    "gpu_usage": _Signal("gpu_contention", "nvidia-smi pmon -s um"),
    "process_gpu_usage": _Signal("gpu_contention", "nvidia-smi pmon -s um"),
    "gpu_mem_used": _Signal("gpu_memory_pressure", "nvidia-smi --query-compute-apps=pid,used_memory --format=csv"),
    "gpu_pcie_transmit": _Signal("pcie_contention", "nvidia-smi dmon -s t"),
    "gpu_pcie_receive": _Signal("pcie_contention", "nvidia-smi dmon -s t"),
    "gpu_link_transmit": _Signal("nvlink_contention", "nvidia-smi nvlink -gt d"),
    "gpu_link_receive": _Signal("nvlink_contention", "nvidia-smi nvlink -gt d"),
    "net_tx_rate": _Signal("network", "sar -n DEV 1; ss -ti"),
    "net_rx_rate": _Signal("network", "sar -n DEV 1; ss -ti"),
}
"""Counters that speak for a resource. ``process_cpu_usage`` does not: it follows from what the process waits for."""


def suspects(comparison: RankComparison, status: Status) -> tuple[Cause, ...]:
    """Return one cause per resource whose counters changed, by descending suspicion of their best row."""
    if status == "insufficient_data":
        return ()
    changed = comparison.metrics.filter(
        (pl.col("q") < MAX_Q)
        & (pl.col("cliffs_delta").abs() >= MIN_CLIFFS_DELTA)
        & ((pl.col("abnormal") - pl.col("normal")).abs() >= MIN_RELATIVE_CHANGE * pl.col("normal").abs())
    )
    best = (
        comparison.rows.filter(pl.col("metric").is_in(list(_SIGNALS)))
        .group_by("metric", "device")
        .agg(pl.col("suspicion").max(), pl.col("function").sort_by("suspicion", descending=True).first())
        .join(changed, on=["metric", "device"], how="inner")
        .with_columns(cause=pl.col("metric").replace_strict({m: s.cause for m, s in _SIGNALS.items()}))
        .sort("suspicion", "metric", "device", descending=[True, False, False])
    )
    causes: list[Cause] = []
    for (cause, device), signals in best.group_by("cause", "device", maintain_order=True):
        rows = list(signals.iter_rows(named=True))
        causes.append(
            Cause(
                id=str(cause),
                rank=len(causes) + 1,
                confidence=None,
                latent=status == "no_difference",
                device=str(device),
                metrics=tuple(row["metric"] for row in rows),
                evidence_for=tuple(_evidence(row) for row in rows),
                evidence_against=(),
                missing=(),
                next_check=_SIGNALS[rows[0]["metric"]].next_check,
            )
        )
    return tuple(causes)


def _evidence(row: dict[str, object]) -> str:
    return (
        f"{row['metric']} on {row['device']}: {row['normal']:.4g} → {row['abnormal']:.4g} "
        f"(Cliff's δ {row['cliffs_delta']:+.2f}, q = {row['q']:.2g}, effective n {row['effective_normal']:.0f} and "
        f"{row['effective_abnormal']:.0f}); suspicion {row['suspicion']:,.1f} with {str(row['function'])[:60]}"
    )
