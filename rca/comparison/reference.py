"""The reference comparison: one row per (function, metric, device), joined over both sides (FORMATS.md §7.7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.stats.reference import mann_whitney_p, welch_p, z_score

KEY = ("function", "metric", "device")

_VALUES = ("beta", "mu", "log_mu")


def reference_rows(normal: pl.DataFrame, abnormal: pl.DataFrame) -> pl.DataFrame:
    """Compare the per-cycle rows of one rank on both sides.

    Args:
        normal: rows with the columns `KEY`, ``cycle``, ``beta_pct``, ``mu_pct`` (null counts as 0).
        abnormal: the same for the other side.

    Returns:
        One row per key of either side with the columns ``suspicion``, ``beta_normal``, ``beta_abnormal``,
        ``delta_beta``, ``z_beta``, ``p_beta``, ``u_p_beta`` and the same for μ plus ``z_log_mu``; sorted by suspicion,
        descending. A key that one side lacks counts as mean, standard deviation and n of 0 there.
    """
    joined = _summary(normal).join(_summary(abnormal), on=KEY, how="full", coalesce=True, suffix="_2")
    numbers = {c: joined[c].fill_null(0).to_numpy() for c in joined.columns if joined[c].dtype.is_numeric()}
    samples = {c: _samples(joined[c]) for c in joined.columns if isinstance(joined[c].dtype, pl.List)}

    def z(value: str) -> NDArray[np.float64]:
        return z_score(numbers[f"{value}_mean"], numbers[f"{value}_mean_2"], numbers[f"{value}_sd"])

    def p(value: str) -> NDArray[np.float64]:
        one, two = (tuple(numbers[f"{c}{side}"] for c in (f"{value}_mean", f"{value}_sd", "n")) for side in ("", "_2"))
        return welch_p(*one, *two)

    delta_beta = numbers["beta_mean_2"] - numbers["beta_mean"]
    columns: dict[str, Any] = {
        "suspicion": np.abs(delta_beta) * (np.abs(z("beta")) + np.abs(z("log_mu"))),
        "beta_normal": numbers["beta_mean"],
        "beta_abnormal": numbers["beta_mean_2"],
        "delta_beta": delta_beta,
        "z_beta": z("beta"),
        "p_beta": p("beta"),
        "u_p_beta": mann_whitney_p(samples["beta"], samples["beta_2"]),
        "mu_normal": numbers["mu_mean"],
        "mu_abnormal": numbers["mu_mean_2"],
        "delta_mu": numbers["mu_mean_2"] - numbers["mu_mean"],
        "z_mu": z("mu"),
        "z_log_mu": z("log_mu"),
        "p_mu": p("mu"),
        "u_p_mu": mann_whitney_p(samples["mu"], samples["mu_2"]),
    }
    return (
        joined.select(pl.col(KEY).cast(pl.String))
        .with_columns(**{k: pl.Series(v) for k, v in columns.items()})
        .sort("suspicion", *KEY, descending=[True, False, False, False])
    )


def _summary(rows: pl.DataFrame) -> pl.DataFrame:
    """Return mean, sample standard deviation (0 for a single row), values and number of cycles per key."""
    mu = pl.col("mu_pct").fill_null(0.0)
    values = rows.select(*KEY, "cycle", beta=pl.col("beta_pct"), mu=mu, log_mu=mu.log1p())
    return values.group_by(KEY, maintain_order=True).agg(
        *(pl.col(v).mean().alias(f"{v}_mean") for v in _VALUES),
        *(pl.col(v).std(ddof=1).fill_null(0.0).alias(f"{v}_sd") for v in _VALUES),
        pl.col("cycle").n_unique().cast(pl.Float64).alias("n"),
        pl.col("beta"),
        pl.col("mu"),
    )


def _samples(column: pl.Series) -> list[NDArray[np.float64]]:
    empty = np.zeros(0)
    return [empty if values is None else values.to_numpy() for values in column]
