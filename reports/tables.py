"""CSV reports: the detailed table with the reference's column names, and all cycles."""

from __future__ import annotations

import polars as pl

from rca.api import Comparison
from rca.comparison import RankComparison

_COLUMNS = {
    "function": "Function Name",
    "metric": "Metric Name",
    "device": "Device",
    "suspicion": "Suspicion Score",
    "beta_normal": "β_normal(%)",
    "beta_abnormal": "β_abnormal(%)",
    "delta_beta": "Δβ(%)",
    "z_beta": "Z-Score(β)",
    "p_beta": "p-value(β)",
    "u_p_beta": "U-test p(β)",
    "mu_normal": "μ_normal",
    "mu_abnormal": "μ_abnormal",
    "delta_mu": "Δμ",
    "z_mu": "Z-Score(μ)",
    "z_log_mu": "Z-Score(log_μ)",
    "p_mu": "p-value(μ)",
    "u_p_mu": "U-test p(μ)",
    # the robust columns: one value per cycle (time), or per sample (metric)
    "time_normal_us": "time_normal(us)",
    "time_abnormal_us": "time_abnormal(us)",
    "shift_us": "shift(us)",
    "shift_low_us": "shift_low95(us)",
    "shift_high_us": "shift_high95(us)",
    "cliffs_delta": "Cliff's δ(time)",
    "p_time": "p(time)",
    "q_time": "q(time)",
    "metric_cliffs_delta": "Cliff's δ(metric)",
    "p_metric": "p(metric)",
    "q_metric": "q(metric)",
}


def comparison_csv(result: Comparison) -> str:
    """Return one line per (function, metric, device), by suspicion; with several ranks, rank and pids stand in front."""
    several = len(result.ranks) > 1
    if not result.ranks:
        return _csv(pl.DataFrame(schema=dict.fromkeys(_COLUMNS.values(), pl.String)))
    return _csv(pl.concat([_detail(rank, several) for rank in result.ranks]))


def _detail(rank: RankComparison, several: bool) -> pl.DataFrame:
    table = rank.rows.select(pl.col(old).alias(new) for old, new in _COLUMNS.items())
    if not several:
        return table
    pid = str(rank.normal.pid) if rank.normal.pid == rank.abnormal.pid else f"{rank.normal.pid} vs {rank.abnormal.pid}"
    return table.select(pl.lit(rank.role).alias("Rank"), pl.lit(pid).alias("PID"), pl.all())


_CYCLE_COLUMNS = ("start_ns", "duration_us", "span_us", "phase", "batch", "tokens", "compared", "note")


def cycles_csv(result: Comparison) -> str:
    """Return one line per cycle of either side, those that were left out included."""
    parts = []
    for rank in result.ranks:
        for side, own in (("normal", rank.normal), ("abnormal", rank.abnormal)):
            compared = rank.compared.filter(pl.col("side") == side)["cycle"].to_list()
            of_rank = (pl.lit(rank.role).alias("rank"), pl.lit(own.pid).alias("pid"), pl.lit(side).alias("side"))
            cycles = own.cycles.with_columns(compared=pl.col("cycle").is_in(compared))
            parts.append(cycles.select(*of_rank, "cycle", *_CYCLE_COLUMNS))
    if not parts:
        return _csv(pl.DataFrame(schema=dict.fromkeys(("rank", "pid", "side", "cycle", *_CYCLE_COLUMNS), pl.String)))
    return _csv(pl.concat(parts))


def _csv(table: pl.DataFrame) -> str:
    return table.with_columns(pl.selectors.float().fill_nan(None)).write_csv()
