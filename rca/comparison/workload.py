"""How much of a change in cycle time the work of the cycles explains, and how much remains.

Cycles are regressed on what they did: a level per phase, a slope per request of the batch and per token computed, and one
term for the side. The side's term is what remains at equal work (ordinary least squares; the standard error allows for
serial dependence: Newey & West, Econometrica 55, 1987). What the work explains is the rest of the change of the mean: the
decomposition of Oaxaca (Int. Econ. Rev. 14, 1973) with common coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.stats.robust import block_length, dependence

Floats = NDArray[np.float64]

MIN_CYCLES = 8
"""Per side, to fit a line through cycles."""
MAX_COLLINEAR = 0.95
"""Share of the side's term that the work may foretell: beyond, the two cannot be told apart."""


@dataclass(frozen=True)
class Workload:
    """The change of the mean cycle time in µs: what the work explains, and what remains (with its 95 % interval).

    ``terms`` are the quantities of work that were regressed on. ``slopes`` are µs per unit of each.
    """

    change_us: float
    explained_us: float
    remains_us: float
    remains_low_us: float
    remains_high_us: float
    p_value: float
    terms: tuple[str, ...]
    slopes: tuple[float, ...]


def explain(normal: pl.DataFrame, abnormal: pl.DataFrame) -> Workload | None:
    """Split the change of mean cycle time into work and rest.

    Args:
        normal: complete cycles of one side, in time order: ``duration_us, phase, batch, tokens``.
        abnormal: of the other.

    Returns:
        None where the cycles do not say what they did, where it is the same throughout, or where it differs so much between
        the sides that it cannot be told from the side.
    """
    if min(normal.height, abnormal.height) < MIN_CYCLES:
        return None
    both = pl.concat([normal, abnormal], how="vertical").select("duration_us", "phase", "batch", "tokens")
    side = np.repeat([0.0, 1.0], [normal.height, abnormal.height])
    terms = _terms(both)
    if not terms:
        return None
    work = np.column_stack(list(terms.values()))
    if _foretold(side, work) > MAX_COLLINEAR:
        return None
    from statsmodels.regression.linear_model import OLS  # noqa: PLC0415  (takes a second to import, and few comparisons need it)

    duration = both["duration_us"].to_numpy()
    rho = dependence(normal["duration_us"].to_numpy(), abnormal["duration_us"].to_numpy())
    lags = block_length(min(normal.height, abnormal.height), rho)
    model = OLS(duration, np.column_stack([np.ones(len(side)), side, work]))
    fitted = model.fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True}, use_t=True)
    low, high = fitted.conf_int()[1]
    change = float(duration[side == 1].mean() - duration[side == 0].mean())
    remains = float(fitted.params[1])
    return Workload(
        change_us=change,
        explained_us=change - remains,
        remains_us=remains,
        remains_low_us=float(low),
        remains_high_us=float(high),
        p_value=float(fitted.pvalues[1]),
        terms=tuple(terms),
        slopes=tuple(float(value) for value in fitted.params[2:]),
    )


def _terms(cycles: pl.DataFrame) -> dict[str, Floats]:
    """Return the work of each cycle as columns that vary: phases but the most frequent one, requests, tokens."""
    terms: dict[str, Floats] = {}
    phases = cycles["phase"].value_counts().sort("count", "phase", descending=[True, False])["phase"].to_list()
    for phase in phases[1:]:
        terms[f"{phase} cycles"] = (cycles["phase"] == phase).cast(pl.Float64).to_numpy()
    for column in ("batch", "tokens"):
        if cycles[column].null_count() == 0:
            values = cycles[column].cast(pl.Float64).to_numpy()
            if np.ptp(values) > 0 and not _repeats(values, terms):
                terms[column] = values
    return terms


def _repeats(values: Floats, terms: dict[str, Floats]) -> bool:
    """Tell whether a column follows from those before: in decode cycles tokens are requests."""
    known = np.column_stack([np.ones(len(values)), *terms.values()])
    return _r_squared(values, known) > 1 - 1e-6


def _foretold(side: Floats, work: Floats) -> float:
    return _r_squared(side, np.column_stack([np.ones(len(side)), work]))


def _r_squared(values: Floats, columns: Floats) -> float:
    fit = columns @ np.linalg.lstsq(columns, values, rcond=None)[0]
    spread = float(((values - values.mean()) ** 2).sum())
    return 1 - float(((values - fit) ** 2).sum()) / spread if spread > 0 else 1.0
