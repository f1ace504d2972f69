"""Causes ranked by the reference's suspicion score: which counter moved most where the time share moved most.

This names the resource whose counters stand out; it does not weigh symptoms against causes, so no confidence is given.
Only counters that moved the way the resource's trouble moves them, by the robust statistics too, are considered: the score
alone fires on captures that do not differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from rca.comparison import RankComparison
from rca.verdict.model import Cause, Status

MIN_CLIFFS_DELTA = 0.474
"""A "large" effect (Romano et al., 2006)."""
MIN_RELATIVE_CHANGE = 0.1
MAX_Q = 0.05
MIN_SEPARATION = 3.0
MIN_SAMPLES = 5
"""Slowly drifting counters are worth too few samples for a test; sides that lie three ranges apart need none."""


@dataclass(frozen=True)
class _Signal:
    """A resource that a counter speaks for when it moves in ``direction`` (+1 up, −1 down), and how to look closer."""

    cause: str
    direction: int
    next_check: str


_CPU = "pidstat -u -w 1; cat /proc/pressure/cpu"
_CLOCK = "nvidia-smi -q -d CLOCK,PERFORMANCE"
_GPU = "nvidia-smi pmon -s um"
_SIGNALS = {
    "cpu_frequency": _Signal("cpu_frequency", -1, "cpupower frequency-info; turbostat --show Core,Bzy_MHz,CoreTmp"),
    "host_cpu_usage": _Signal("cpu_contention", +1, _CPU),
    "process_runq_wait": _Signal("cpu_contention", +1, _CPU),
    "host_mem_usage": _Signal("host_memory_pressure", +1, "vmstat 1; cat /proc/pressure/memory"),
    "gpu_sm_frequency": _Signal("gpu_clock", -1, _CLOCK),
    "gpu_frequency": _Signal("gpu_clock", -1, _CLOCK),
    "gpu_mem_frequency": _Signal("gpu_clock", -1, _CLOCK),
    "gpu_usage": _Signal("gpu_contention", +1, _GPU),
    "process_gpu_usage": _Signal("gpu_contention", +1, _GPU),
    "gpu_mem_used": _Signal("gpu_memory_pressure", +1, "nvidia-smi --query-compute-apps=pid,used_memory --format=csv"),
    "gpu_pcie_transmit": _Signal("pcie_contention", +1, "nvidia-smi dmon -s t"),
    "gpu_pcie_receive": _Signal("pcie_contention", +1, "nvidia-smi dmon -s t"),
    "gpu_link_transmit": _Signal("nvlink_contention", +1, "nvidia-smi nvlink -gt d"),
    "gpu_link_receive": _Signal("nvlink_contention", +1, "nvidia-smi nvlink -gt d"),
    "net_tx_rate": _Signal("network", +1, "sar -n DEV 1; ss -ti"),
    "net_rx_rate": _Signal("network", +1, "sar -n DEV 1; ss -ti"),
}
"""Counters that speak for a resource. ``process_cpu_usage`` does not: it follows from what the process waits for."""


def suspects(comparison: RankComparison, status: Status) -> tuple[Cause, ...]:
    """Return one cause per resource whose counters changed, by descending suspicion of their best row."""
    if status == "insufficient_data":
        return ()
    worse = -1 if status == "faster" else 1  # what made it faster moved the other way
    wanted = pl.col("metric").replace_strict({metric: worse * signal.direction for metric, signal in _SIGNALS.items()})
    apart = pl.col("separation") >= MIN_SEPARATION
    enough = pl.min_horizontal("n_normal", "n_abnormal") >= MIN_SAMPLES
    changed = comparison.metrics.filter(pl.col("metric").is_in(list(_SIGNALS))).filter(
        (pl.col("shift").sign() == wanted)
        & ((pl.col("q") < MAX_Q) | (apart & enough))
        & (pl.col("cliffs_delta").abs() >= MIN_CLIFFS_DELTA)
        & ((pl.col("abnormal") - pl.col("normal")).abs() >= MIN_RELATIVE_CHANGE * pl.col("normal").abs())
    )
    best = (
        comparison.rows.group_by("metric", "device")
        .agg(pl.col("suspicion").max())
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


def _evidence(row: dict[str, Any]) -> str:
    n = f"effective n {row['effective_normal']:.0f} and {row['effective_abnormal']:.0f}"
    apart = f"no overlap, {row['separation']:.0f} times the wider side's range apart"
    grade = f"q = {row['q']:.2g}, {n}" if row["q"] < MAX_Q else apart
    return (
        f"{row['metric']} on {row['device']}: {row['normal']:.4g} → {row['abnormal']:.4g} (shift {row['shift']:+.3g}, "
        f"95 % CI {row['shift_low']:+.3g} to {row['shift_high']:+.3g}, Cliff's δ {row['cliffs_delta']:+.2f}, {grade}); "
        f"suspicion {row['suspicion']:,.1f}"
    )
