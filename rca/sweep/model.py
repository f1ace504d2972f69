"""What a benchmark grid is made of: the names of its columns, its cells, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

MODEL = "model_size"
CONTEXT = "context_length"
WARMUPS = "num_warmups"
FORWARD = "forward_only"
TRIALS = "num_trials"
MEAN = "mean_time_ms"
STD = "std_time_ms"
FIRST = "first_time_ms"
REST = "rest_time_ms"

REQUIRED = (MODEL, CONTEXT, WARMUPS, FORWARD)
WIDTH, DEPTH, BATCH = "d_model", "num_layers", "batch_size"
COUNTS = (WIDTH, CONTEXT, DEPTH, "num_heads", BATCH, "vocab_size", WARMUPS)
"""Columns of whole numbers; a width or a depth that is no positive number is unknown."""

NAMES = ("dtype", "device")
KEYS = (MODEL, WIDTH, CONTEXT, DEPTH, "num_heads", BATCH, "vocab_size", *NAMES, WARMUPS, FORWARD)
"""What tells one cell from another."""

COMPLETE = (MODEL, WIDTH, CONTEXT, DEPTH, "num_heads", BATCH, "vocab_size", *NAMES, WARMUPS, TRIALS, FORWARD, MEAN, STD)
"""The columns of the complete results, in their order."""

SHAPE, WORK, CELL = "shape", "work", "cell"
"""Texts that name a cell: its size and context; those and its pass; all of it."""


@dataclass(frozen=True)
class Sweep:
    """The cells of a grid, one row each in order of first appearance.

    Attributes:
        source: the path as it was given.
        cells: those of `KEYS` that the file has, `TRIALS` (null: unknown), `MEAN` and `STD` in ms (ddof 1; null: one trial),
            `FIRST` and `REST` (the first trial and the mean of the others, null where the file has no trials), and the
            texts `SHAPE`, `WORK` and `CELL`.
        warnings: what was skipped, converted or guessed.
        environment: how it was measured, as far as that was recorded.
    """

    source: str
    cells: pl.DataFrame
    warnings: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tables:
    """The derived tables, unrounded: `rca.sweep.tables`."""

    complete: pl.DataFrame
    by_model: tuple[tuple[str, pl.DataFrame], ...]
    comparison: pl.DataFrame
    warmups: pl.DataFrame
    mean_by_warmups: pl.DataFrame
    summary: pl.DataFrame


@dataclass(frozen=True)
class Effect:
    """An estimate with its 95 % interval, over n values; of a single value the interval is not known."""

    name: str
    n: int
    estimate: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Range:
    """Smallest, median and largest of n values."""

    n: int
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class FirstCalls:
    """The cells without warm-up, which stay out of comparisons.

    Attributes:
        cells: one row each: `CELL`, ``rule`` (``first_call``: its spread is above that of warmed cells of the same work;
            ``no_warm_up``: that cannot be told, or is not so), `TRIALS`, `MEAN`, `STD`, ``warmed_mean_ms``,
            ``warmed_std_ms``, ``cost_ms`` of its first call (null: not known), ``explained``: the standard deviation that
            one call of this cost gives, cost/√n, as a share of the one that was seen.
        above_mean: of how many the standard deviation is above the mean.
        from_trials: whether the costs are of first trials, not reckoned from means.
        cost_ms: over the cells of the rule ``first_call``; None where no cost is known.
        explained: the same of the shares.
    """

    cells: pl.DataFrame
    above_mean: int
    from_trials: bool
    cost_ms: Range | None
    explained: Range | None


@dataclass(frozen=True)
class Deviation:
    """The configuration that lies farthest off a fitted power law; times in ms. ``is_large``: by a fifth or more."""

    shape: str
    measured: float
    fitted: float
    is_large: bool


@dataclass(frozen=True)
class Scaling:
    """How time scales in one pass: exponents over all configurations, and those of the context within each model.

    Attributes:
        name: the pass, and the device or number format where the file has several.
        n: configurations, that is one value per size and context, averaged over warm-ups.
        models: different models among them, all that width and depth vary over.
        joint: one exponent per factor.
        within: per model, the exponent of its context length over its cells.
        correlation: of the logarithms of width and depth over the models; None where one of them never varies.
        worst: what lies farthest off the joint fit.
        unsettled: factors whose interval holds 0, no influence.
        flat: models whose time hardly grows with context: the exponent's interval lies below a half.
        steep: those with which it does: the interval lies above a half.
        notes: what could not be computed and why.
    """

    name: str
    n: int
    models: int
    joint: tuple[Effect, ...]
    within: tuple[Effect, ...]
    correlation: float | None
    worst: Deviation | None
    unsettled: tuple[str, ...]
    flat: tuple[str, ...]
    steep: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Meaning:
    """What the cells mean.

    Attributes:
        first_calls: what is excluded, and the cost of first calls.
        backward: (forward + backward) / forward per model, then overall.
        warmups: time with more warm-ups over time with the fewest, one effect per number of warm-ups.
        scaling: one per pass.
        noisy: warmed cells whose repeats disagree: `CELL`, `TRIALS`, `MEAN`, `STD`, ``spread`` (std/mean), ``others`` (the
            spread that it is held against), ``q`` (null where the rule has none), ``rule``.
        contradictions: pairs of cells of the same work that differ: `WORK`, ``fewer`` and ``more`` warm-ups,
            ``mean_fewer_ms``, ``mean_more_ms``, ``change_ms`` with ``low_ms`` and ``high_ms``, ``change`` (as a share of the
            cell of fewer warm-ups), ``q``.
        pairs: how many pairs were tested.
        warmed: how many cells with warm-up there are.
        unavailable: what could not be computed: topic -> why.
    """

    first_calls: FirstCalls
    backward: tuple[Effect, ...]
    warmups: tuple[Effect, ...]
    scaling: tuple[Scaling, ...]
    noisy: pl.DataFrame
    contradictions: pl.DataFrame
    pairs: int
    warmed: int
    unavailable: Mapping[str, str]


@dataclass(frozen=True)
class Result:
    """A grid with its tables and what they mean."""

    sweep: Sweep
    tables: Tables
    meaning: Meaning
