"""Where the time of two profiled runs went: operators that ate time and operators that gave some, summing to the change.

Device time is that of operators or of kernels, never of both; host time is the self CPU time of all rows
(`rca.bench.kinds`). What a table's row limit cut away stands in one residual: the total below the table counts it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from rca.bench.kinds import KERNEL, OPERATOR
from rca.bench.operators import OperatorTable

Why = Literal["new", "gone", "calls", "duration", "unknown"]
Time = Literal["device", "host"]
_COLUMN = {"device": "self_device", "host": "self_cpu"}
_SORTED_BY = {"device": ("self_device", "device_total"), "host": ("self_cpu", "cpu_total")}
"""A table that falls by one of these has cut away only rows with less of this time than its last row."""

_MATTERS = 0.02
"""Share of the larger total below which one operator's change is not worth a sentence."""

_SAME = 0.01
"""Shares by which the calls of one operator may differ and count as the same."""


@dataclass(frozen=True)
class OperatorChange:
    """One operator (or kernel) on both sides.

    Attributes:
        name: as in the table, where long names end in ``...``.
        normal_us, abnormal_us: self time; None on a side whose table does not show it.
        normal_calls, abnormal_calls: the same.
        error_us: by how much the change may be off because figures are rounded.
        at_most_us: what it can have taken on the side whose table does not show it; 0 where the table is complete.
        why: ``new`` and ``gone``: it took more than it can have on the other side; ``unknown``: it may be among the rows
            that are cut away there; ``calls``: called more or less often; ``duration``: as often as before.
    """

    name: str
    normal_us: float | None
    abnormal_us: float | None
    normal_calls: int | None
    abnormal_calls: int | None
    error_us: float
    at_most_us: float
    why: Why

    @property
    def change_us(self) -> float:
        """Abnormal - normal; a side that does not show it counts as 0, and what it did take there is in the residual."""
        return (self.abnormal_us or 0.0) - (self.normal_us or 0.0)

    @property
    def by_calls_us(self) -> float:
        """The part that other calls account for: all of it where it is new or gone, else Δ calls × mean call."""
        if self.why in ("new", "gone"):
            return self.change_us
        if self.why != "calls" or not self.normal_calls or not self.abnormal_calls:
            return 0.0
        each = ((self.normal_us or 0) / self.normal_calls + (self.abnormal_us or 0) / self.abnormal_calls) / 2
        return (self.abnormal_calls - self.normal_calls) * each


@dataclass(frozen=True)
class OperatorLedger:
    """All of them, largest change first.

    Attributes:
        time: ``device``, or ``host`` (self CPU).
        rows: what it is over: ``operator``, ``kernel`` or ``row`` (all of them).
        entries: one per name.
        normal_us, abnormal_us: each side's total: as stated below the table, else the sum of its rows.
        error_us: rounding of the change of the total.
        residual_normal_us, residual_abnormal_us: of the totals, what no entry has.
        stated: whether both tables state their total.
        same_name: rows that were put together because their shortened names are the same.
    """

    time: Time
    rows: str
    entries: tuple[OperatorChange, ...]
    normal_us: float
    abnormal_us: float
    error_us: float
    residual_normal_us: float
    residual_abnormal_us: float
    stated: bool
    same_name: int

    @property
    def change_us(self) -> float:
        """Abnormal - normal, of the totals."""
        return self.abnormal_us - self.normal_us

    @property
    def residual_us(self) -> float:
        """Change of what no entry has."""
        return self.residual_abnormal_us - self.residual_normal_us

    @property
    def by_calls_us(self) -> float:
        """The part of the change that new, gone and differently often called operators account for."""
        return sum(entry.by_calls_us for entry in self.entries)

    def large(self) -> list[OperatorChange]:
        """Return the changes worth a sentence: known on both sides, beyond rounding, and no trifle."""
        least = _MATTERS * max(self.normal_us, self.abnormal_us)
        known = [entry for entry in self.entries if entry.why != "unknown"]
        return [entry for entry in known if abs(entry.change_us) >= max(least, 2 * entry.error_us)]

    def share(self, us: float) -> float | None:
        """Return which part of the change so much is; None where nothing changed."""
        return us / self.change_us if self.change_us else None

    def rest(self, shown: int) -> tuple[float, float]:
        """Return what the entries after the first ``shown`` took on each side, µs."""
        entries = self.entries[shown:]
        return sum(entry.normal_us or 0.0 for entry in entries), sum(entry.abnormal_us or 0.0 for entry in entries)


@dataclass(frozen=True)
class _Side:
    entries: dict[str, tuple[float, float, int | None]]
    total_us: float
    total_error_us: float
    stated: bool
    at_most_us: float
    same_name: int

    @property
    def residual_us(self) -> float:
        return self.total_us - sum(us for us, _, _ in self.entries.values())


def operator_ledger(normal: OperatorTable, abnormal: OperatorTable, time: Time) -> OperatorLedger | None:
    """Return the ledger of device or host time; None where a side's table has no such time."""
    if not all(_has(table, time) for table in (normal, abnormal)):
        return None
    rows = _additive(normal, abnormal) if time == "device" else "row"
    one, other = _side(normal, time, rows), _side(abnormal, time, rows)
    one, other = _with_whole_names(one, other), _with_whole_names(other, one)
    entries = [_change(name, one, other) for name in dict.fromkeys([*one.entries, *other.entries])]
    entries = [entry for entry in entries if entry.normal_us or entry.abnormal_us]
    return OperatorLedger(
        time=time,
        rows=rows,
        entries=tuple(sorted(entries, key=lambda entry: (-abs(entry.change_us), entry.name))),
        normal_us=one.total_us,
        abnormal_us=other.total_us,
        error_us=one.total_error_us + other.total_error_us,
        residual_normal_us=one.residual_us,
        residual_abnormal_us=other.residual_us,
        stated=one.stated and other.stated,
        same_name=one.same_name + other.same_name,
    )


_CUT = "..."
_OF_A_BUILD = re.compile(r"(?<=CompiledFxGraph )\w+|(?<=Torch-Compiled Region: )\S+|(?<=cpp_fused_)\w*?_(?=\d+$)")
"""Hashes and numbers that differ from one compilation of a program to the next."""


def _with_whole_names(side: _Side, other: _Side) -> _Side:
    """Give names that a table cut short the name that they have on the other side, if only one begins so."""
    names = {}
    for name in side.entries:
        whole = [own for own in other.entries if own not in side.entries and own.startswith(name[: -len(_CUT)])]
        cut = name.endswith(_CUT) and name not in other.entries
        names[name] = whole[0] if cut and len(whole) == 1 else name
    if len(set(names.values())) < len(names):  # two short names that may be the same one
        return side
    return replace(side, entries={names[name]: entry for name, entry in side.entries.items()})


def _has(table: OperatorTable, time: Time) -> bool:
    column = f"{_COLUMN[time]}_us"
    return bool((table.rows[column].fill_null(0.0) > 0).any())


def _additive(normal: OperatorTable, abnormal: OperatorTable) -> str:
    """Choose operators or kernels: what shows more of the device time on the side that shows less of it.

    Kernels of a CUDA graph belong to no operator; of an eager model, a short table shows few of its many kernels.
    """

    def covered(kind: str) -> float:
        of_kind = [table.rows.filter(pl.col("kind") == kind) for table in (normal, abnormal)]
        shown = [float(rows["self_device_us"].sum() or 0.0) for rows in of_kind]
        totals = [_total(table, "device", kind)[0] for table in (normal, abnormal)]
        return min(part / total if total else 0.0 for part, total in zip(shown, totals, strict=True))

    return KERNEL if covered(KERNEL) > covered(OPERATOR) else OPERATOR


def _total(table: OperatorTable, time: Time, rows: str) -> tuple[float, float, bool]:
    """Return a side's total, its rounding, and whether the table states it."""
    figure = table.self_device if time == "device" else table.self_cpu
    if figure and figure.us > 0:
        return figure.us, figure.error_us, True
    shown = table.rows if rows == "row" else table.rows.filter(pl.col("kind") == rows)
    column = _COLUMN[time]
    return float(shown[f"{column}_us"].sum() or 0.0), float(shown[f"{column}_error_us"].sum() or 0.0), False


def _side(table: OperatorTable, time: Time, rows: str) -> _Side:
    column = _COLUMN[time]
    shown = table.rows if rows == "row" else table.rows.filter(pl.col("kind") == rows)
    shown = shown.with_columns(pl.col("name").map_elements(lambda name: _OF_A_BUILD.sub("…", name), return_dtype=pl.String))
    grouped = shown.group_by("name", maintain_order=True).agg(
        pl.col(f"{column}_us").sum().alias("us"),
        pl.col(f"{column}_error_us").sum().alias("error_us"),
        pl.col("calls").filter(pl.col(f"{column}_us") > 0).sum().alias("calls"),
        pl.len().alias("n"),
    )
    total, error, stated = _total(table, time, rows)
    residual = total - float(grouped["us"].sum())
    blur = error + float(grouped["error_us"].sum())
    at_most = max(residual + blur, 0.0) if stated else math.inf
    if at_most <= 2 * blur:
        at_most = 0.0  # the rows are all there is
    elif table.sorted_by in _SORTED_BY[time]:
        at_most = min(at_most, float(table.rows[f"{table.sorted_by}_us"].drop_nulls()[-1]))
    return _Side(
        entries={row["name"]: (row["us"], row["error_us"], row["calls"]) for row in grouped.iter_rows(named=True)},
        total_us=total,
        total_error_us=error,
        stated=stated,
        at_most_us=at_most,
        same_name=int(grouped.filter((pl.col("n") > 1) & pl.col("name").str.ends_with("..."))["n"].sum() or 0),
    )


def _change(name: str, normal: _Side, abnormal: _Side) -> OperatorChange:
    one, other = normal.entries.get(name), abnormal.entries.get(name)
    at_most = 0.0
    why: Why
    if one and other:
        why = "duration" if _same_calls(one[2], other[2]) else "calls"
    else:
        shown = one or other
        assert shown  # noqa: S101  (names come from either side)
        at_most = (abnormal if one else normal).at_most_us
        lacking: Why = "gone" if one else "new"
        why = lacking if shown[0] - shown[1] > at_most else "unknown"
    return OperatorChange(
        name=name,
        normal_us=one[0] if one else None,
        abnormal_us=other[0] if other else None,
        normal_calls=one[2] if one else None,
        abnormal_calls=other[2] if other else None,
        error_us=sum(side[1] for side in (one, other) if side),
        at_most_us=at_most,
        why=why,
    )


def _same_calls(normal: int | None, abnormal: int | None) -> bool:
    if not normal or not abnormal:
        return normal == abnormal
    return abs(abnormal - normal) <= _SAME * max(normal, abnormal)
