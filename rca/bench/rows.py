"""Rows of one operator table in the order of the time that they took themselves."""

from __future__ import annotations

import polars as pl

from rca.bench.ledger import Time
from rca.bench.operators import OperatorTable


def operators_by_time(table: OperatorTable) -> tuple[Time, pl.DataFrame]:
    """Return which time the rows are sorted by, device if there is any, and the rows.

    ``share`` is of the total that the table states, null where it states none, and for annotations: on the device's side
    they hold gaps, and what others did.
    """
    has_device = bool((table.rows["self_device_us"].fill_null(0.0) > 0).any())
    column, total = ("self_device_us", table.self_device) if has_device else ("self_cpu_us", table.self_cpu)
    share = pl.col(column) / total.us if total and total.us else pl.lit(None, dtype=pl.Float64)
    if has_device:
        share = pl.when(pl.col("kind") != "annotation").then(share)
    rows = table.rows.with_columns(share.alias("share")).sort(column, "name", descending=[True, False], nulls_last=True)
    return ("device" if has_device else "host"), rows
