"""The tables that are derived from the cells of a grid. Nothing is rounded here.

Rows stand in the order in which the cells were first seen, save in the table of warm-ups and the one of means, which are
sorted; rows that tie keep their order. Quantiles are linear (Hyndman & Fan's type 7), standard deviations of ddof 1.
"""

from __future__ import annotations

import polars as pl

from rca.sweep.model import COMPLETE, CONTEXT, FORWARD, MEAN, MODEL, STD, WARMUPS, Tables

_SHORT = (CONTEXT, WARMUPS, FORWARD, MEAN, STD)


def derive(cells: pl.DataFrame) -> Tables:
    """Return the derived tables of cells as in `rca.sweep.model.Sweep`."""
    return Tables(
        complete=cells.select(name for name in COMPLETE if name in cells.columns),
        by_model=tuple(
            (str(part[MODEL][0]), part.select(_SHORT)) for part in cells.partition_by(MODEL, maintain_order=True)
        ),
        comparison=cells.select(MODEL, *_SHORT),
        warmups=cells.select(MODEL, CONTEXT, WARMUPS, MEAN, STD).sort(MODEL, CONTEXT, WARMUPS, maintain_order=True),
        mean_by_warmups=_mean_by_warmups(cells),
        summary=_summary(cells),
    )


def _mean_by_warmups(cells: pl.DataFrame) -> pl.DataFrame:
    """Return the mean of means, one row per model, one column per number of warm-ups."""
    long = cells.group_by(MODEL, WARMUPS).agg(pl.col(MEAN).mean()).sort(MODEL, WARMUPS)
    wide = long.pivot(on=WARMUPS, index=MODEL, values=MEAN)
    return wide.select(MODEL, *(str(count) for count in long[WARMUPS].unique().sort()))


def _summary(cells: pl.DataFrame) -> pl.DataFrame:
    """Return count, mean, standard deviation and quantiles of both columns, as ``describe`` of pandas has them."""
    columns = [pl.col(MEAN), pl.col(STD)]
    rows = {
        "count": [c.count().cast(pl.Float64) for c in columns],
        "mean": [c.mean() for c in columns],
        "std": [c.std() for c in columns],
        "min": [c.min() for c in columns],
        **{f"{100 * q:.0f}%": [c.quantile(q, interpolation="linear") for c in columns] for q in (0.25, 0.5, 0.75)},
        "max": [c.max() for c in columns],
    }
    return pl.concat([cells.select(pl.lit(name).alias("statistic"), *values) for name, values in rows.items()])
