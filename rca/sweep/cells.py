"""From fields as text to the cells of a grid: names and units of columns, numbers, trials to means, what is skipped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from rca.errors import InputError, TooLittleDataError
from rca.sweep.model import (
    CELL,
    CONTEXT,
    COUNTS,
    FIRST,
    FORWARD,
    KEYS,
    MEAN,
    MODEL,
    NAMES,
    REQUIRED,
    REST,
    SHAPE,
    STD,
    TRIALS,
    WARMUPS,
    WORK,
)
from rca.sweep.raw import Raw, listed

TIME, TRIAL, ERROR = "time_ms", "trial", "error"
_MS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3}
_TIMED = re.compile(rf"(?:(mean|std)(?:_time)?|time)_({'|'.join(_MS)})")
_OTHER_NAMES = {"model": MODEL, "context": CONTEXT, "warmups": WARMUPS, "trials": TRIALS, "batch": "batch_size"}
_FORWARD_WORDS = ("true", "1", "1.0", "yes", "forward", "forward_only", "fwd")
_BOTH_WORDS = ("false", "0", "0.0", "no", "both", "forward_backward", "fwd_bwd")
_THOUSANDS = r"^[-+]?\d{1,3}(,\d{3})+(\.\d+)?$"
_ROW = "row"


def canonical(header: str) -> tuple[str, float]:
    """Return the name that a column has here, and by what its numbers are multiplied to be in ms."""
    name = re.sub(r"[^0-9a-zµμ]+", "_", header.strip().lower()).strip("_")
    if timed := _TIMED.fullmatch(name):
        return {"mean": MEAN, "std": STD, None: TIME}[timed[1]], _MS[timed[2]]
    return _OTHER_NAMES.get(name, name), 1.0


def missing(headers: Iterable[str]) -> list[str]:
    """Return the columns that a table with these headers lacks to be one of benchmark results."""
    names = {canonical(header)[0] for header in headers}
    lacking = [name for name in REQUIRED if name not in names]
    return lacking if names & {MEAN, TIME} else [*lacking, f"{MEAN} (or {TIME}, one row per trial)"]


def to_cells(path: Path, raw: Raw) -> tuple[pl.DataFrame, list[str]]:
    """Return the cells as in `rca.sweep.model.Sweep`, and what was skipped or converted.

    Raises:
        InputError: columns are missing; `TooLittleDataError` where no row is usable.
    """
    if lacking := missing(raw.fields.columns):
        has = ", ".join(raw.fields.columns)[:300]
        raise InputError(path, f"lacks the column(s) {', '.join(lacking)}", f"it has {has}")
    if raw.fields.height == 0:
        raise TooLittleDataError(path, "has the columns of a benchmark but no rows", "look at how it was written")
    table, warnings = _named(raw)
    table, notes = _failures(table)
    warnings += notes
    table, notes = _typed(table, raw.unit)
    warnings += notes
    if table.height == 0:
        raise TooLittleDataError(path, f"has no usable row: {'; '.join(warnings)[:400]}", "nothing is left to report")
    cells, notes = _one_per_cell(table, raw.unit)
    return _labelled(cells), warnings + notes


def _named(raw: Raw) -> tuple[pl.DataFrame, list[str]]:
    """Return the columns that matter under their names, as text, but times as numbers in ms."""
    warnings: list[str] = []
    columns: dict[str, pl.Expr] = {}
    known = {*KEYS, TRIALS, MEAN, STD, TIME, TRIAL, ERROR}
    for header in raw.fields.columns:
        name, factor = canonical(header)
        if name not in known:
            continue
        if name in columns:
            warnings.append(f"column {header} is a second {name}; the first was read")
            continue
        text = pl.col(header).cast(pl.String).str.strip_chars()
        is_time = name in (MEAN, STD, TIME)
        columns[name] = (_number(text) * factor if is_time else text).alias(name)
        if factor != 1:
            warnings.append(f"column {header} was converted to ms (times {factor:g})")
    if MEAN in columns and TIME in columns:
        del columns[TIME]
        warnings.append(f"the file has both {MEAN} and {TIME}; the means were read")
    table = raw.fields.select(pl.Series(_ROW, list(raw.numbers), dtype=pl.Int64), *columns.values())
    thousands = sum(
        int(series.str.strip_chars().str.contains(_THOUSANDS).sum() or 0)
        for series in raw.fields
        if canonical(series.name)[0] in {MEAN, STD, TIME, TRIALS, *COUNTS}
    )
    if thousands:
        warnings.append(f"{thousands:,} number(s) have commas as in 1,234.5; these were read as separators of thousands")
    return table, warnings


def _number(text: pl.Expr) -> pl.Expr:
    return (
        pl.when(text.str.contains(_THOUSANDS))
        .then(text.str.replace_all(",", ""))
        .otherwise(text)
        .cast(pl.Float64, strict=False)
    )


def _failures(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Take out the rows that say why a cell was not measured."""
    if ERROR not in table.columns:
        return table, []
    is_failure = pl.col(ERROR).fill_null("") != ""
    failed = table.filter(is_failure)
    warnings = [
        f"{row[MODEL]}, context {row[CONTEXT]}, {row[WARMUPS]} warm-up(s), forward_only {row[FORWARD]}: "
        f"not measured to the end: {row[ERROR]}"
        for row in failed.iter_rows(named=True)
    ]
    return table.filter(~is_failure), warnings


def _typed(table: pl.DataFrame, unit: str) -> tuple[pl.DataFrame, list[str]]:
    """Return the usable rows with numbers as numbers; say which rows are not usable, and why."""
    time = MEAN if MEAN in table.columns else TIME
    present = [name for name in (*COUNTS, TRIALS, TRIAL) if name in table.columns]
    words = pl.col(FORWARD).str.to_lowercase().str.replace_all(r"[^a-z0-9.]+", "_").str.strip_chars("_")
    table = table.with_columns(
        *(_number(pl.col(name)).alias(name) for name in present),
        pl.when(words.is_in(_FORWARD_WORDS)).then(True).when(words.is_in(_BOTH_WORDS)).then(False).alias(FORWARD),
        pl.col(MODEL).replace("", None),
    )
    whole = {
        name: pl.col(name).is_finite() & (pl.col(name) == pl.col(name).floor()) & (pl.col(name) < 1e15) for name in present
    }
    usable = {
        f"{MODEL} is blank": pl.col(MODEL).is_not_null(),
        f"{CONTEXT} is no whole number above 0": whole[CONTEXT] & (pl.col(CONTEXT) > 0),
        f"{WARMUPS} is no whole number from 0": whole[WARMUPS] & (pl.col(WARMUPS) >= 0),
        f"{FORWARD} is neither true nor false": pl.col(FORWARD).is_not_null(),
        f"{time} is no number above 0": (pl.col(time) > 0) & (pl.col(time) < 1e15),
    }
    warnings = []
    for problem, good in usable.items():
        bad = table.filter(~good.fill_null(False))
        if bad.height:
            warnings.append(f"{listed(unit, bad[_ROW].to_list())}: {problem}; skipped")
        table = table.filter(good.fill_null(False))
    for name in set(present) - {CONTEXT, WARMUPS, TRIAL}:
        unknown = ~(whole[name] & (pl.col(name) > 0)).fill_null(False)
        if odd := table.filter(unknown & pl.col(name).is_not_null())[_ROW].to_list():
            warnings.append(f"{listed(unit, odd)}: {name} is no whole number above 0; taken as unknown")
        table = table.with_columns(pl.when(unknown).then(None).otherwise(pl.col(name)).alias(name))
    if STD in table.columns:
        unknown = ~((pl.col(STD) >= 0) & (pl.col(STD) < 1e15)).fill_null(False)
        if odd := table.filter(unknown & pl.col(STD).is_not_null())[_ROW].to_list():
            warnings.append(f"{listed(unit, odd)}: {STD} is no number from 0; taken as unknown")
        table = table.with_columns(pl.when(unknown).then(None).otherwise(pl.col(STD)).alias(STD))
    whole_columns = [name for name in present if name != TRIAL]
    names = [pl.col(name).replace("", None) for name in NAMES if name in table.columns]
    return table.with_columns(pl.col(whole_columns).cast(pl.Int64), *names), sorted(warnings)


def _one_per_cell(table: pl.DataFrame, unit: str) -> tuple[pl.DataFrame, list[str]]:
    keys = [name for name in KEYS if name in table.columns]
    if TIME in table.columns:
        return _from_trials(table, keys)
    first = table.unique(keys, keep="first", maintain_order=True)
    again = table.join(first.select(_ROW), on=_ROW, how="anti")
    warnings = (
        [f"{listed(unit, again[_ROW].to_list())}: cells that stand in the file already; skipped"] if again.height else []
    )
    nothing = pl.lit(None, dtype=pl.Float64)
    if STD not in first.columns:
        warnings.append(f"there is no column {STD}: nothing can be said of how repeats agree")
        first = first.with_columns(nothing.alias(STD))
    if TRIALS not in first.columns:
        warnings.append(f"there is no column {TRIALS}: means cannot be tested against each other")
        first = first.with_columns(pl.lit(None, dtype=pl.Int64).alias(TRIALS))
    return first.select(*keys, TRIALS, MEAN, STD, nothing.alias(FIRST), nothing.alias(REST)), warnings


def _from_trials(table: pl.DataFrame, keys: list[str]) -> tuple[pl.DataFrame, list[str]]:
    """Return one row per cell from one per trial; trials are in the order of their numbers, else of the file."""
    warnings = []
    if TRIAL in table.columns:
        repeated = int(
            table.filter(pl.col(TRIAL).is_not_null()).select(pl.struct(*keys, TRIAL).is_duplicated().sum()).item()
        )
        if repeated:
            warnings.append(
                f"{repeated:,} row(s) share cell and trial number with others; all were taken as trials of their own"
            )
    time = pl.col(TIME).sort_by(TRIAL, nulls_last=True, maintain_order=True) if TRIAL in table.columns else pl.col(TIME)
    cells = table.group_by(keys, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias(TRIALS),
        pl.col(TIME).mean().alias(MEAN),
        pl.col(TIME).std().alias(STD),
        time.first().alias(FIRST),
        time.slice(1).mean().alias(REST),
    )
    single = cells.filter(pl.col(TRIALS) == 1).height
    if single:
        warnings.append(f"{single:,} of {cells.height:,} cells have a single trial, and so no standard deviation")
    return cells, warnings


def _labelled(cells: pl.DataFrame) -> pl.DataFrame:
    """Add the texts that name a cell; what never varies within a model is left out of them."""
    apart = [name for name in KEYS if name in cells.columns and name not in REQUIRED]
    varying = [name for name in apart if _varies(cells, name)]
    shape = pl.concat_str(
        pl.col(MODEL),
        pl.format(", context {}", CONTEXT),
        *(pl.format(f", {name} {{}}", pl.col(name).cast(pl.String).fill_null("unknown")) for name in varying),
    )
    done = pl.when(FORWARD).then(pl.lit("forward")).otherwise(pl.lit("forward+backward"))
    cells = cells.with_columns(shape.alias(SHAPE))
    cells = cells.with_columns(pl.format("{}, {}", SHAPE, done).alias(WORK))
    warmups = pl.when(pl.col(WARMUPS) == 1).then(pl.lit("warm-up")).otherwise(pl.lit("warm-ups"))
    return cells.with_columns(pl.format("{}, {} {}", WORK, WARMUPS, warmups).alias(CELL))


def _varies(cells: pl.DataFrame, name: str) -> bool:
    return bool((cells.group_by(MODEL).agg(pl.col(name).n_unique())[name] > 1).any())
