"""How time scales with width, depth, context and batch: exponents with intervals, and what cannot be told apart."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from rca.stats.robust import Floats, Shift
from rca.stats.trend import exponents
from rca.sweep.model import (
    BATCH,
    CONTEXT,
    DEPTH,
    FORWARD,
    MEAN,
    MODEL,
    NAMES,
    SHAPE,
    WIDTH,
    Deviation,
    Effect,
    Scaling,
)

FACTORS = (WIDTH, DEPTH, CONTEXT, BATCH)
_HALF = 0.5
"""Midway between time that does not depend on the context, exponent 0, and time in proportion to it, 1."""

_LARGE_DEVIATION = math.log(1.2)
_TOGETHER = 0.999
"""Factors whose logarithms correlate at least so much move together."""


def scalings(warmed: pl.DataFrame) -> tuple[Scaling, ...]:
    """Return the scaling of each pass of cells with warm-up; of each device, number format and vocabulary by itself."""
    apart = [name for name in (*NAMES, "vocab_size") if name in warmed.columns and warmed[name].n_unique() > 1]
    groups = warmed.group_by(FORWARD, *apart, maintain_order=True)
    return tuple(_scaling(_name(key), part) for key, part in sorted(groups, key=lambda group: not group[0][0]))


def _name(key: tuple[object, ...]) -> str:
    done = "forward" if key[0] else "forward+backward"
    return ", ".join([done, *map(str, key[1:])])


def _scaling(name: str, cells: pl.DataFrame) -> Scaling:
    factors = [factor for factor in FACTORS if factor in cells.columns]
    notes = [
        f"not available for {factor}: there is no column {factor}" for factor in (WIDTH, DEPTH) if factor not in factors
    ]
    configurations = (
        cells.group_by(SHAPE, maintain_order=True)
        .agg(pl.col(MODEL, *factors).first(), pl.col(MEAN).mean())
        .drop_nulls(factors)
    )
    unknown = cells[SHAPE].n_unique() - configurations.height
    if unknown:
        notes.append(f"{unknown} configuration(s) without a known {', '.join(factors)} are left out")
    arrays = {factor: configurations[factor].to_numpy().astype(float) for factor in factors}
    times = configurations[MEAN].to_numpy()
    joint, worst, more = _joint(arrays, times, configurations[SHAPE].to_list())
    within = _within(cells, notes)
    return Scaling(
        name=name,
        n=configurations.height,
        models=configurations[MODEL].n_unique(),
        joint=joint,
        within=within,
        correlation=_correlation(configurations),
        worst=worst,
        unsettled=tuple(e.name for e in joint if e.low is not None and e.high is not None and e.low <= 0 <= e.high),
        flat=tuple(e.name for e in within if e.high is not None and e.high < _HALF),
        steep=tuple(e.name for e in within if e.low is not None and e.low > _HALF),
        notes=(*notes, *more),
    )


def _joint(
    factors: dict[str, Floats], times: Floats, shapes: list[str]
) -> tuple[tuple[Effect, ...], Deviation | None, list[str]]:
    """Fit all factors at once, one value per configuration; factors that move together are fitted as one, which is said."""
    varying = {name: x for name, x in factors.items() if len(np.unique(x)) > 1}
    notes = []
    if constant := [name for name, x in factors.items() if name not in varying and len(x) and name != BATCH]:
        notes.append(f"not available for {', '.join(constant)}: only one value was measured")
    for one, other in _moving_together(varying):
        if one in varying and other in varying:
            notes.append(f"{one} and {other} move together: their exponents cannot be told apart, and {one} carries both")
            del varying[other]
    if not varying:
        return (), None, notes
    needed = len(varying) + 3
    if len(times) < needed:
        notes.append(
            f"no joint fit: {len(times)} configuration(s) for {len(varying)} exponent(s), at least {needed} are needed"
        )
        return (), None, notes
    fitted = exponents(varying, times)
    if fitted is None:
        notes.append(f"no joint fit: {', '.join(varying)} cannot be told apart in these configurations")
        return (), None, notes
    residuals = np.log(times) - sum(fitted[name].estimate * np.log(x) for name, x in varying.items())
    residuals = residuals - residuals.mean()
    at = int(np.argmax(np.abs(residuals)))
    off = float(residuals[at])
    measured = float(times[at])
    worst = Deviation(shapes[at], measured, measured / math.exp(off), abs(off) >= _LARGE_DEVIATION)
    return tuple(_effect(name, len(times), shift) for name, shift in fitted.items()), worst, notes


def _moving_together(factors: dict[str, Floats]) -> list[tuple[str, str]]:
    names = list(factors)
    return [
        (one, other)
        for i, one in enumerate(names)
        for other in names[i + 1 :]
        if abs(np.corrcoef(np.log(factors[one]), np.log(factors[other]))[0, 1]) >= _TOGETHER
    ]


def _within(cells: pl.DataFrame, notes: list[str]) -> tuple[Effect, ...]:
    """Return the exponent of the context within each model, where nothing else varies but the batch.

    Cells that differ in their warm-ups are one value, as they are the same work: they do not show how much configurations
    deviate from a power law. An interval takes four values.
    """
    found = []
    lacking = []
    for (model,), part in cells.group_by(MODEL, maintain_order=True):
        batches = [BATCH] if BATCH in part.columns and not part[BATCH].has_nulls() else []
        values = part.group_by(CONTEXT, *batches, maintain_order=True).agg(pl.col(MEAN).log().mean().exp())
        factors = {name: values[name].to_numpy().astype(float) for name in (CONTEXT, *batches)}
        times = values[MEAN].to_numpy()
        fitted = exponents(factors, times) if _same_model(part) else None
        if fitted and CONTEXT in fitted:
            found.append(_effect(str(model), len(times), fitted[CONTEXT]))
        elif _same_model(part) and len(np.unique(factors[CONTEXT])) == len(times) > 1:
            slope = np.polyfit(np.log(factors[CONTEXT]), np.log(times), 1)[0]
            found.append(Effect(str(model), len(times), float(slope)))
        else:
            lacking.append(str(model).replace("`", "'"))
    if lacking:
        named = ", ".join(f"`{model}`" for model in lacking[:5]) + (" and others" if len(lacking) > 5 else "")
        notes.append(f"no exponent of the context within {named}: it takes two lengths with warm-up")
    if any(effect.low is None for effect in found):
        notes.append("an exponent of two or three lengths has no interval: nothing shows how far lengths deviate from it")
    return tuple(found)


def _same_model(cells: pl.DataFrame) -> bool:
    return all(cells[factor].n_unique() == 1 for factor in (WIDTH, DEPTH) if factor in cells.columns)


def _correlation(configurations: pl.DataFrame) -> float | None:
    if not {WIDTH, DEPTH} <= set(configurations.columns):
        return None
    models = configurations.unique([MODEL, WIDTH, DEPTH])
    if models[WIDTH].n_unique() < 2 or models[DEPTH].n_unique() < 2:
        return None
    return float(np.corrcoef(models[WIDTH].log().to_numpy(), models[DEPTH].log().to_numpy())[0, 1])


def _effect(name: str, n: int, shift: Shift) -> Effect:
    return Effect(name, n, shift.estimate, shift.low, shift.high)
