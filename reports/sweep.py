"""Benchmark grids as reports: the tables that people make by hand, and before them what they mean."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from shlex import quote
from typing import Any

import polars as pl

from collectors.sweep import Outcome
from rca.sweep.model import CELL, MEAN, MODEL, Effect, Result
from rca.version import SWEEP_SCHEMA, __version__
from reports.cells import Table
from reports.document import Document, Section, json, separated
from reports.sweep_meaning import code, counted, lead, meaning

_MOST_ROWS = 1_000
_MOST_MODELS = 100


def document(result: Result) -> Document:
    """Return the report: what the grid means, then its tables under the headings that people know."""
    tables = result.tables
    digits = _digits(tables.complete)
    return Document(
        title="Benchmark Results Summary",
        lead=lead(result),
        sections=(
            *meaning(result.meaning, digits),
            _section("Complete Results", tables.complete, digits),
            *_by_model(result, digits),
            _section("Forward-Only vs Forward+Backward Comparison", tables.comparison, digits),
            _section("Effect of Number of Warmup Runs", tables.warmups, digits),
            _section("Mean Time by Warmup Count", tables.mean_by_warmups, digits, level=3),
            _section("Summary Statistics", tables.summary.rename({"statistic": ""}), digits),
        ),
        warnings=result.sweep.warnings,
        version=f"rca {__version__} ({SWEEP_SCHEMA})",
    )


def short(result: Result) -> str:
    """Return what a grid means in a few lines of plain text."""
    sections = meaning(result.meaning, _digits(result.tables.complete))
    lines = [*lead(result), *(f"- {text}" for text in (*sections[0].prose, *sections[0].notes))]
    return "\n".join(line.replace("`", "") for line in lines) + "\n"


def summary(outcome: Outcome, result: Result | None) -> str:
    """Return what came of a run and what it means, in plain text."""
    lines = [f"{outcome.folder}: {counted(outcome.trials, 'trial')}"]
    lines += [f"  failed: {cell}: {why}" for cell, why in outcome.failed]
    lines += ["  interrupted: what was measured is kept"] if outcome.interrupted else []
    if result is None:
        return "\n".join(lines) + "\n"
    return "\n".join(lines) + f"\n{short(result)}next: rca sweep report {quote(str(outcome.folder))}\n"


def sweep_csv(result: Result) -> str:
    """Return one line per cell with full numbers, and the rule that keeps it out of comparisons."""
    cells = _with_rules(result)
    return separated(tuple(cells.columns), cells.rows())


def sweep_json(result: Result) -> str:
    """Return all there is, as in ``schema/sweep-1.schema.json``."""
    sweep, tables, found = result.sweep, result.tables, result.meaning
    calls = found.first_calls
    return json(
        {
            "schema": SWEEP_SCHEMA,
            "source": sweep.source,
            "environment": dict(sweep.environment),
            "cells": _with_rules(result).to_dicts(),
            "mean_by_warmups": [
                {MODEL: row[0], "mean_time_ms": dict(zip(tables.mean_by_warmups.columns[1:], row[1:], strict=True))}
                for row in tables.mean_by_warmups.iter_rows()
            ],
            "summary": tables.summary.to_dicts(),
            "first_calls": {
                "cells": calls.cells.to_dicts(),
                "above_mean": calls.above_mean,
                "from_trials": calls.from_trials,
                "cost_ms": _fields(calls.cost_ms),
                "explained": _fields(calls.explained),
            },
            "backward_over_forward": _effects(found.backward),
            "more_warmups": _effects(found.warmups),
            "scaling": [
                {
                    **_fields(scaling),
                    "joint": _effects(scaling.joint),
                    "within": _effects(scaling.within),
                    "worst": _fields(scaling.worst),
                }
                for scaling in found.scaling
            ],
            "noisy": found.noisy.to_dicts(),
            "contradictions": found.contradictions.to_dicts(),
            "pairs_tested": found.pairs,
            "warmed_cells": found.warmed,
            "unavailable": dict(found.unavailable),
            "warnings": list(sweep.warnings),
        }
    )


def _fields(value: Any) -> Any:
    return None if value is None else dict(vars(value))


def _effects(effects: Iterable[Effect]) -> list[Any]:
    return [_fields(effect) for effect in effects]


def _with_rules(result: Result) -> pl.DataFrame:
    """Return the complete results with full numbers; ``left_out`` is the rule that keeps a cell out of comparisons."""
    rules = result.meaning.first_calls.cells.select(CELL, pl.col("rule").alias("left_out"))
    cells = result.sweep.cells.join(rules, on=CELL, how="left", maintain_order="left")
    return cells.select(*result.tables.complete.columns, "left_out")


def _by_model(result: Result, digits: int) -> tuple[Section, ...]:
    models = result.tables.by_model
    shown = models[:_MOST_MODELS]
    more = (f"The first {len(shown)} of {counted(len(models), 'model')}.",) if len(models) > len(shown) else ()
    return (
        Section("Results by Model Size", prose=more),
        *(_section(f"Model: {name}", table, digits, level=3) for name, table in shown),
    )


def _section(heading: str, frame: pl.DataFrame, digits: int, level: int = 2) -> Section:
    prose: tuple[str, ...] = ()
    if frame.height > _MOST_ROWS:
        prose = (f"The first {_MOST_ROWS:,} of {frame.height:,} rows; all are in the CSV ({code('--format csv')}).",)
    rows = (tuple(_cell(value, digits) for value in row) for row in frame.head(_MOST_ROWS).iter_rows())
    return Section(heading, prose=prose, table=Table(tuple(frame.columns), tuple(rows)), level=level)


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return ""
    return plain(value, digits) if isinstance(value, float) else str(value)


def plain(value: float, digits: int) -> str:
    """Return a number with at most so many decimals, without zeros at its end; a tie of its decimal digits goes up."""
    text = f"{Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _digits(complete: pl.DataFrame) -> int:
    """Return the decimals of times in ms: 2, or as many as give the shortest mean three digits."""
    shortest: Any = complete[MEAN].min()
    return max(2, 2 - math.floor(math.log10(shortest)))
