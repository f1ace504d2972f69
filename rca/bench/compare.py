"""Two model runs compared: latencies by configuration, operators by name, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from rca.bench.judge import BenchVerdict, Matter, judge
from rca.bench.kinds import is_model_call
from rca.bench.latency import LatencyComparison, compare_latencies
from rca.bench.ledger import OperatorLedger, operator_ledger
from rca.bench.matter import Difference, Work
from rca.bench.model import BenchRun
from rca.bench.operators import OperatorTable
from rca.bench.read import read

_HARDWARE = ("device", "device_name")
_SOFTWARE = ("torch", "transformers", "python", "runtime")
_SETTINGS = (
    *("model", "weights", "layers", "hidden_size", "parameters"),
    *("dtype", "quantized", "compiled", "attention", "threads"),
)


@dataclass(frozen=True)
class BenchComparison:
    """What two model runs come to.

    Attributes:
        normal, abnormal: the sides.
        latency: of the timed runs.
        device, host: ledgers of the profiled runs; None where a side's table has no such time, or where the profiled runs
            are known to have done different work.
        main: the one of them that tells more of the change.
        work: whether the profiled runs did the same.
        differences: of the environments, where our own runner wrote them.
        verdict: status, headline and causes.
        warnings: what was skipped, guessed or cannot be compared.
    """

    normal: BenchRun
    abnormal: BenchRun
    latency: LatencyComparison
    device: OperatorLedger | None
    host: OperatorLedger | None
    main: OperatorLedger | None
    work: Work
    differences: tuple[Difference, ...]
    verdict: BenchVerdict
    warnings: tuple[str, ...]


def compare(normal: Path | str, abnormal: Path | str) -> BenchComparison:
    """Compare two model runs: folders of `rca bench run`, texts, or ``FILE#N``.

    Raises:
        InputError: a side cannot be read, or holds several runs of which none is chosen.
    """
    return compare_runs(read(normal), read(abnormal))


def compare_runs(normal: BenchRun, abnormal: BenchRun) -> BenchComparison:
    """Compare two model runs that were read before."""
    latency = compare_latencies(normal.records, abnormal.records)
    work = _work(normal, abnormal)
    device = host = None
    if normal.table and abnormal.table and work.status != "other":
        device = operator_ledger(normal.table, abnormal.table, "device")
        host = operator_ledger(normal.table, abnormal.table, "host")
    differences = _differences(normal, abnormal)
    matter = Matter(normal, abnormal, latency, device, host, work, differences, _is_same(normal, abnormal))
    return BenchComparison(
        normal=normal,
        abnormal=abnormal,
        latency=latency,
        device=device,
        host=host,
        main=matter.main,
        work=work,
        differences=differences,
        verdict=judge(matter),
        warnings=tuple(_warnings(matter)),
    )


def _is_same(normal: BenchRun, abnormal: BenchRun) -> bool:
    """Tell whether both sides are one run, under whatever name."""
    tables = normal.table, abnormal.table
    alike = tables[0] is None or tables[1] is None or tables[0].rows.equals(tables[1].rows)
    return (tables[0] is None) == (tables[1] is None) and alike and normal.records == abnormal.records


def _work(normal: BenchRun, abnormal: BenchRun) -> Work:
    if normal.table is None or abnormal.table is None:
        return Work("unknown", "not both sides have an operator table of a profiled run")
    if normal.profiled and abnormal.profiled:
        one, other = normal.profiled.title, abnormal.profiled.title
        if normal.profiled.key == abnormal.profiled.key:
            return Work("same", f"both profiled runs had {one}")
        return Work("other", f"the profiled runs had {one} and {other}")
    calls = _model_calls(normal.table), _model_calls(abnormal.table)
    common = [name for name in calls[0] if name in calls[1] and max(calls[0][name], calls[1][name]) > 1]
    if not common:
        return Work("unknown", "no call that a model makes for every token stands in both tables, and no length is stated")
    same = [name for name in common if calls[0][name] == calls[1][name]]
    name = max(same or common, key=lambda name: calls[0][name])
    if same:
        others = [f"`{n}` {calls[0][n]:,} and {calls[1][n]:,}" for n in common if n not in same]
        unlike = f"; other calls differ: {', '.join(others)}" if others else ""
        text = f"`{name}` was called {calls[0][name]:,} times in both profiled runs"
        return Work("same", f"{text}, which says nothing of batch and prompt length{unlike}")
    times = f"{calls[0][name]:,} times in one profiled run and {calls[1][name]:,} in the other"
    return Work("other", f"`{name}` was called {times}")


def _model_calls(table: OperatorTable) -> dict[str, int]:
    """Return how often each call of the model was made, over all shapes."""
    rows = table.rows.filter(pl.col("calls").is_not_null()).group_by("name", maintain_order=True).agg(pl.col("calls").sum())
    return {name: calls for name, calls in rows.iter_rows() if is_model_call(name)}


def _differences(normal: BenchRun, abnormal: BenchRun) -> tuple[Difference, ...]:
    found = []
    kinds: tuple[tuple[Literal["hardware", "software", "settings"], tuple[str, ...]], ...] = (
        ("hardware", _HARDWARE),
        ("software", _SOFTWARE),
        ("settings", _SETTINGS),
    )
    for kind, names in kinds:
        for name in names:
            one, other = (run.environment.get(name) for run in (normal, abnormal))
            if one != other and not (one is None or other is None):
                found.append(Difference(kind, name.replace("_", " "), _value(one), _value(other)))
    return tuple(found)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value) or "none"


def _warnings(m: Matter) -> list[str]:
    sides = {"normal": m.normal, "abnormal": m.abnormal}
    found = [f"{side}: {warning}" for side, run in sides.items() for warning in run.warnings]
    if m.normal.source.partition("#")[0] == m.abnormal.source.partition("#")[0]:  # one text: what was skipped is said once
        found = list(dict.fromkeys(warning for run in sides.values() for warning in run.warnings))
    for side, only in (("normal", m.latency.only_normal), ("abnormal", m.latency.only_abnormal)):
        if only:
            found.append(f"only the {side} side ran {'; '.join(only)}: not compared")
    units = {row.normal.memory_unit for row in m.latency.rows}, {row.abnormal.memory_unit for row in m.latency.rows}
    if all(units) and units[0] != units[1] and "" not in units[0] | units[1]:
        found.append("peak memory is not compared: " + " and ".join("/".join(sorted(unit)) for unit in units))
    elif m.normal.memory_of != m.abnormal.memory_of and m.normal.memory_of and m.abnormal.memory_of:
        found.append(f"peak memory is of the {m.normal.memory_of} on one side, of the {m.abnormal.memory_of} on the other")
    if m.work.status != "same" and m.normal.table and m.abnormal.table:
        told = "operators are not compared" if m.work.status == "other" else "operators are compared as if they had"
        found.append(f"whether the profiled runs did the same work: {m.work.text}; {told}")
    found += _of_tables(m)
    return found


def _of_tables(m: Matter) -> list[str]:
    found = []
    has_device = [bool(run.table and run.table.device) for run in (m.normal, m.abnormal)]
    if m.normal.table and m.abnormal.table and has_device[0] != has_device[1]:
        lacking = "abnormal" if has_device[0] else "normal"
        found.append(f"the {lacking} side's operator table has no device time: only host time is compared")
    for ledger in (m.device, m.host):
        if ledger and ledger.same_name and ledger.time == "device":
            found.append(f"{ledger.same_name:,} rows have the same shortened names; each such name is taken together")
        if ledger and not ledger.stated:
            found.append(f"a table states no total of {ledger.time} time: sums are of the rows that it shows")
        if ledger and min(ledger.residual_normal_us, ledger.residual_abnormal_us) < -ledger.error_us - _rounding(ledger):
            found.append(f"the rows of a table sum to more {ledger.time} time than it states: some are counted twice")
    return found


def _rounding(ledger: OperatorLedger) -> float:
    return sum(entry.error_us for entry in ledger.entries)
