"""What a grid means: which cells stay out of comparisons, ratios of passes and warm-ups, repeats that disagree.

Sources: intervals of paired ratios are Student's t on their logarithms, since there are a few pairs only, of which a
bootstrap would promise too much; intervals of differences are Welch's (Biometrika 34, 1947).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
from scipy import stats as scipy_stats

from rca.stats.reference import welch_p
from rca.stats.robust import CONFIDENCE, Floats, benjamini_hochberg, outliers
from rca.sweep.model import (
    CELL,
    FIRST,
    FORWARD,
    MEAN,
    MODEL,
    REST,
    SHAPE,
    STD,
    TRIALS,
    WARMUPS,
    WORK,
    Effect,
    FirstCalls,
    Meaning,
    Range,
)
from rca.sweep.scaling import scalings

ALPHA = 0.05
SMALLEST_SPREAD = 0.05
"""A standard deviation below this share of the mean is no trouble, however much steadier the others are."""

OVERALL = "overall"
_NO_WARM = "no cell has a warm-up; run the grid again with --warmups 0,1,5"


def explain(cells: pl.DataFrame) -> Meaning:
    """Return what cells as in `rca.sweep.model.Sweep` mean. Comparisons are of cells with warm-up only."""
    warmed = cells.filter(pl.col(WARMUPS) > 0)
    unavailable: dict[str, str] = {}
    backward = _backward(warmed, unavailable)
    warmups = _more_warmups(warmed, unavailable)
    scaling = scalings(warmed)
    if warmed.is_empty():
        unavailable["scaling"] = _NO_WARM
    contradictions, pairs = _contradictions(warmed, unavailable)
    return Meaning(
        first_calls=_first_calls(cells, warmed),
        backward=backward,
        warmups=warmups,
        scaling=scaling,
        noisy=_noisy(warmed, unavailable),
        contradictions=contradictions,
        pairs=pairs,
        warmed=warmed.height,
        unavailable=unavailable,
    )


def paired(name: str, logs: Floats) -> Effect:
    """Return the geometric mean of ratios from their logarithms, with Student's interval where there are two or more."""
    n = len(logs)
    centre = float(logs.mean())
    if n < 2:
        return Effect(name, n, math.exp(centre))
    reach = float(scipy_stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * logs.std(ddof=1) / math.sqrt(n))
    return Effect(name, n, math.exp(centre), _exp(centre - reach), _exp(centre + reach))


def _exp(x: float) -> float:
    return math.exp(min(x, 700.0))


def _first_calls(cells: pl.DataFrame, warmed: pl.DataFrame) -> FirstCalls:
    """Tell the cells without warm-up, what their first calls cost.

    A cell of n trials with one slow call has the mean w + cost/n, where w is the mean of warmed cells of the same work, and
    the standard deviation cost/√n. With trials at hand, the cost is the first trial's time less w, or less the mean of the
    other trials where nothing was warmed.
    """
    weight = pl.col(TRIALS).fill_null(1)
    steady = warmed.group_by(WORK).agg(
        ((pl.col(MEAN) * weight).sum() / weight.sum()).alias("warmed_mean_ms"),
        pl.col(STD).max().alias("warmed_std_ms"),
        pl.col(TRIALS).filter(pl.col(STD) == pl.col(STD).max()).max().alias("warmed_n"),
    )
    cold = cells.filter(pl.col(WARMUPS) == 0).join(steady, on=WORK, how="left", maintain_order="left")
    from_trials = bool(cold[FIRST].is_not_null().any())
    base = pl.coalesce("warmed_mean_ms", REST)
    cost = pl.coalesce(pl.col(FIRST) - base, pl.col(TRIALS) * (pl.col(MEAN) - pl.col("warmed_mean_ms")))
    cold = cold.with_columns(cost.alias("cost_ms")).with_columns(_spreads_more(cold))
    is_first_call = pl.col("spreads_more") & (pl.col("cost_ms").is_null() | (pl.col("cost_ms") > 0))
    alone = pl.col("cost_ms") / pl.col(TRIALS).sqrt() / pl.col(STD)
    table = cold.select(
        CELL,
        pl.when(is_first_call).then(pl.lit("first_call")).otherwise(pl.lit("no_warm_up")).alias("rule"),
        TRIALS,
        MEAN,
        STD,
        "warmed_mean_ms",
        "warmed_std_ms",
        "cost_ms",
        pl.when(pl.col(STD) > 0).then(alone).alias("explained"),
    )
    ruled = table.filter(pl.col("rule") == "first_call") if warmed.height else table
    return FirstCalls(
        table,
        table.filter(pl.col(STD) > pl.col(MEAN)).height,
        from_trials,
        _range(ruled["cost_ms"]),
        _range(ruled["explained"]),
    )


def _spreads_more(cold: pl.DataFrame) -> pl.Series:
    """Tell which cells have a larger spread than the warmed cell of the same work that has the largest.

    Where the trials were counted, by more than chance gives: one-sided F test, Benjamini-Hochberg over these cells.
    """
    larger = (cold[STD] > cold["warmed_std_ms"]).fill_null(False)
    freedom = [(cold[name] - 1).fill_null(0).to_numpy() for name in (TRIALS, "warmed_n")]
    testable = (larger & (cold["warmed_std_ms"] > 0)).fill_null(False).to_numpy() & (freedom[0] > 0) & (freedom[1] > 0)
    p = np.where(larger.to_numpy(), 0.0, 1.0)
    ratio = (cold[STD] / cold["warmed_std_ms"]).to_numpy()[testable] ** 2
    p[testable] = scipy_stats.f.sf(ratio, freedom[0][testable], freedom[1][testable])
    return pl.Series("spreads_more", benjamini_hochberg(p) < ALPHA, dtype=pl.Boolean)


def _range(values: pl.Series) -> Range | None:
    known = values.drop_nulls().to_numpy()
    return Range(len(known), float(known.min()), float(np.median(known)), float(known.max())) if len(known) else None


def _backward(warmed: pl.DataFrame, unavailable: dict[str, str]) -> tuple[Effect, ...]:
    """Return (forward + backward) / forward per model over its pairs of cells, and overall over sizes and contexts.

    Pairs of one size and context that differ in their warm-ups count as one: they are the same work.
    """
    both, forward = (warmed.filter(pl.col(FORWARD) == only) for only in (False, True))
    pairs = both.join(forward, on=[SHAPE, WARMUPS], suffix="_forward", maintain_order="left").with_columns(
        (pl.col(MEAN) / pl.col(f"{MEAN}_forward")).log().alias("log")
    )
    if pairs.is_empty():
        unavailable["backward"] = _NO_WARM if warmed.is_empty() else "no cell with warm-up was measured in both passes"
        return ()
    shapes = pairs.group_by(SHAPE, maintain_order=True).agg(pl.col(MODEL).first(), pl.col("log").mean())
    of_models = [
        paired(str(model), part["log"].to_numpy()) for (model,), part in shapes.group_by(MODEL, maintain_order=True)
    ]
    return (*of_models, paired(OVERALL, shapes["log"].to_numpy()))


def _more_warmups(warmed: pl.DataFrame, unavailable: dict[str, str]) -> tuple[Effect, ...]:
    """Return time with k warm-ups / time with the fewest of the grid, per k, over pairs of cells of the same work."""
    counts = warmed[WARMUPS].unique().sort().to_list()
    fewest = warmed.filter(pl.col(WARMUPS) == (counts[0] if counts else 0)).select(WORK, pl.col(MEAN).alias("fewest"))
    effects = []
    for count in counts[1:]:
        pairs = warmed.filter(pl.col(WARMUPS) == count).join(fewest, on=WORK)
        if pairs.height:
            effects.append(paired(f"{count} / {counts[0]}", np.log((pairs[MEAN] / pairs["fewest"]).to_numpy())))
    if not effects:
        unavailable["warmups"] = (
            _NO_WARM if warmed.is_empty() else "no work was measured with two numbers of warm-ups above 0"
        )
    return tuple(effects)


def _noisy(warmed: pl.DataFrame, unavailable: dict[str, str]) -> pl.DataFrame:
    """Return warmed cells whose spread is at least `SMALLEST_SPREAD` and stands out by one of two rules.

    ``outlier``: log(std/mean) is an outlier among all warmed cells (`rca.stats.robust.outliers`). ``same_work``: it is above
    that of the other cells of the same work, by the one-sided F test of variances, Benjamini-Hochberg over all cells.
    """
    usable = warmed.filter((pl.col(STD) > 0) & (pl.col(TRIALS) > 1)).with_columns(
        (pl.col(STD) / pl.col(MEAN)).alias("spread"), (pl.col(TRIALS) - 1).alias("df")
    )
    if usable.is_empty():
        unavailable["noisy"] = (
            _NO_WARM if warmed.is_empty() else "no cell with warm-up has a standard deviation and two or more trials"
        )
    squares = pl.col("df") * pl.col("spread") ** 2
    usable = usable.with_columns((pl.col("df").sum().over(WORK) - pl.col("df")).alias("other_df"))
    usable = usable.with_columns(
        ((squares.sum().over(WORK) - squares).clip(0) / pl.col("other_df")).sqrt().fill_nan(None).alias("others")
    )
    paired_up = usable.filter((pl.col("other_df") > 0) & (pl.col("others") > 0))
    ratio = (paired_up["spread"] / paired_up["others"]).to_numpy() ** 2
    p = scipy_stats.f.sf(ratio, paired_up["df"].to_numpy(), paired_up["other_df"].to_numpy())
    tested = paired_up.select(CELL, pl.Series("q", benjamini_hochberg(p), dtype=pl.Float64))
    logs = np.log(usable["spread"].to_numpy())
    centre = float(np.median(logs)) if len(logs) else 0.0
    is_far = outliers(logs) & (logs > centre) if len(logs) else np.zeros(0, dtype=bool)
    found = usable.join(tested, on=CELL, how="left", maintain_order="left").with_columns(
        pl.Series("far", is_far, dtype=pl.Boolean)
    )
    by_work = (pl.col("q") < ALPHA).fill_null(False)
    return (
        found.filter((pl.col("spread") >= SMALLEST_SPREAD) & (pl.col("far") | by_work))
        .with_columns(
            pl.when(by_work).then(pl.col("others")).otherwise(pl.lit(math.exp(centre))).alias("others"),
            pl.when(by_work).then(pl.col("q")).alias("q"),
            pl.when(by_work).then(pl.lit("same_work")).otherwise(pl.lit("outlier")).alias("rule"),
        )
        .sort("spread", descending=True, maintain_order=True)
        .select(CELL, TRIALS, MEAN, STD, "spread", "others", "q", "rule")
    )


def _contradictions(warmed: pl.DataFrame, unavailable: dict[str, str]) -> tuple[pl.DataFrame, int]:
    """Return the pairs of warmed cells of the same work whose means differ by Welch's test, and how many were tested.

    Benjamini-Hochberg over all pairs keeps the share of false ones at `ALPHA`; the interval is of one pair.
    """
    usable = warmed.filter(pl.col(STD).is_not_null() & (pl.col(TRIALS) > 1)).select(WORK, WARMUPS, MEAN, STD, TRIALS)
    pairs = usable.join(usable, on=WORK, suffix="_more", maintain_order="left").filter(
        pl.col(WARMUPS) < pl.col(f"{WARMUPS}_more")
    )
    if pairs.is_empty():
        unavailable["contradictions"] = (
            _NO_WARM if warmed.is_empty() else "no work has two cells with warm-up, their spread and two or more trials"
        )
    change, reach, p = _welch(*(pairs[name + suffix].to_numpy() for suffix in ("", "_more") for name in (MEAN, STD, TRIALS)))
    tested = pairs.select(
        WORK,
        pl.col(WARMUPS).alias("fewer"),
        pl.col(f"{WARMUPS}_more").alias("more"),
        pl.col(MEAN).alias("mean_fewer_ms"),
        pl.col(f"{MEAN}_more").alias("mean_more_ms"),
        pl.Series("change_ms", change, dtype=pl.Float64),
        pl.Series("low_ms", change - reach, dtype=pl.Float64),
        pl.Series("high_ms", change + reach, dtype=pl.Float64),
        pl.Series("change", change / pairs[MEAN].to_numpy(), dtype=pl.Float64),
        pl.Series("q", benjamini_hochberg(p), dtype=pl.Float64),
    )
    return tested.filter(pl.col("q") < ALPHA).sort("q", maintain_order=True), pairs.height


def _welch(mean_1: Floats, sd_1: Floats, n_1: Any, mean_2: Floats, sd_2: Floats, n_2: Any) -> tuple[Floats, Floats, Floats]:
    """Return mean_2 − mean_1, half the width of its interval, and p; where nothing varies p is 0 or 1 and the width 0."""
    part_1, part_2 = sd_1**2 / n_1, sd_2**2 / n_2
    variance = part_1 + part_2
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = variance**2 / (part_1**2 / (n_1 - 1) + part_2**2 / (n_2 - 1))
    reach = np.where(
        variance > 0, np.sqrt(variance) * scipy_stats.t.ppf(0.5 + CONFIDENCE / 2, np.nan_to_num(freedom, nan=1)), 0.0
    )
    change = mean_2 - mean_1
    p = welch_p(mean_1, sd_1, n_1, mean_2, sd_2, n_2)
    return change, reach, np.where(variance > 0, p, np.where(change == 0, 1.0, 0.0))
