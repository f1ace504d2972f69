"""Causes of a change between two model runs, of the closed list of `rca.verdict`.

Tables of operators tell what a program does, not what the machine was like: so only two causes can be named, that the
program does other things (`software_change`) and that it ran on another device (`hardware_change`); the rest is
`unexplained`.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from rca.bench.kinds import KERNEL, is_copy, is_gemm
from rca.bench.ledger import OperatorChange, OperatorLedger
from rca.bench.matter import Matter
from rca.bench.model import BenchRun
from rca.bench.words import change, side_time, time
from rca.verdict import Cause, Status

_ACCOUNTS_FOR = 0.5
"""Share of the change that new, gone and differently often called operators have to account for."""

_LEAST = 0.02
"""Share of the time from which an operator counts where all are asked whether they changed alike."""

_ALIKE = 0.15
"""Operators whose times grew by one factor, within this share of it, tell of a clock and not of a program."""

_COVERED = 0.6

_OTHER_KERNELS = "other kernels stand for another device, another library version, or another program"
_MOST = 4


def causes(m: Matter, status: Status) -> tuple[Cause, ...]:
    """Name the causes of a change, best first; none where there is no change to explain."""
    if status not in ("slower", "faster"):
        return ()
    hardware, software = _hardware(m), _software(m)
    named = [cause for cause in (hardware, software) if cause] or [_unexplained(m)]
    return tuple(replace(cause, rank=rank) for rank, cause in enumerate(named, start=1))


def _cause(m: Matter, name: str, next_check: str) -> Cause:
    """Return a cause that still lacks its evidence."""
    return Cause(
        id=name,
        rank=1,
        confidence=None,
        latent=False,
        device="GPU" if m.main is not None and m.main.time == "device" else "Host",
        follows="",
        metrics=(),
        evidence_for=(),
        evidence_against=(),
        missing=_missing(m),
        looks_like="",
        next_check=next_check,
    )


def _hardware(m: Matter) -> Cause | None:
    found = tuple(difference.text for difference in m.differences if difference.kind == "hardware")
    if not found:
        return None
    return replace(_cause(m, "hardware_change", "run both on one machine: rca bench run"), evidence_for=found)


def _software(m: Matter) -> Cause | None:
    stated = tuple(difference.text for difference in m.differences if difference.kind != "hardware")
    telling = [ledger for ledger in (m.main, m.device, m.host) if ledger and accounts_for(ledger) >= _ACCOUNTS_FOR]
    if not telling and not stated:
        return None
    ledger = telling[0] if telling else m.main
    seen = _of_operators(m, ledger) if ledger else ()
    if m.main and ledger is not m.main:
        seen += _of_operators(m, m.main)
    return replace(
        _cause(m, "software_change", _next_check(m, ledger)),
        device="GPU" if ledger and ledger.time == "device" else "Host",
        follows="hardware_change" if any(d.kind == "hardware" for d in m.differences) else "",
        metrics=tuple(entry.name for entry in ledger.large()[:_MOST]) if ledger else (),
        evidence_for=(*seen, *stated) if telling else (*stated, *seen),
        evidence_against=tuple(_against(m, ledger, bool(telling))),
    )


def accounts_for(ledger: OperatorLedger) -> float:
    """Return the share of the change that new, gone and differently often called operators account for; 0 against it.

    A kernel that is new or gone does not count: its name holds the device's architecture, tile sizes and library version.
    """
    if not ledger.change_us:
        return 0.0
    counting = [entry for entry in ledger.entries if ledger.rows != KERNEL or entry.why == "calls"]
    return max(sum(entry.by_calls_us for entry in counting) / ledger.change_us, 0.0)


def replaced(ledger: OperatorLedger) -> float:
    """Return the share of the change that new and gone operators alone account for."""
    if not ledger.change_us or ledger.rows == KERNEL:
        return 0.0
    return max(sum(entry.change_us for entry in ledger.entries if entry.why in ("new", "gone")) / ledger.change_us, 0.0)


def _of_operators(m: Matter, ledger: OperatorLedger) -> tuple[str, ...]:
    """Say what ate and what gave time, the reason for copies right behind them."""
    sentences = []
    for entry in ledger.large()[:_MOST]:
        sentences.append(_sentence(m, ledger, entry))
        why = _why_copies(m, entry)
        if why:
            sentences.append(why)
    return tuple(sentences)


def _sentence(m: Matter, ledger: OperatorLedger, entry: OperatorChange) -> str:
    what = f"{entry.name} (matrix multiplication)" if is_gemm(entry.name) else entry.name
    if entry.normal_us is not None and entry.abnormal_us is not None:
        word = "more" if entry.change_us > 0 else "less"
        times = f"{side_time(entry.normal_us, m.normal)} → {side_time(entry.abnormal_us, m.abnormal)}"
        calls = _calls(entry)
        return f"{what} takes {time(abs(entry.change_us), m.rounded)} {word} {ledger.time} time ({times}){calls}"
    is_new = entry.normal_us is None
    run, other, verb = (m.abnormal, "normal", "takes") if is_new else (m.normal, "abnormal", "took")
    shown = (entry.abnormal_us if is_new else entry.normal_us) or 0.0
    total = ledger.abnormal_us if is_new else ledger.normal_us
    number = entry.abnormal_calls if is_new else entry.normal_calls
    of = f"{side_time(shown, run)} of {side_time(total, run)} {ledger.time} time ({shown / total:.0%})"
    often = f" in {number:,} calls" if number else ""
    return f"{what} {verb} {of}{often}; {_lacking(m, entry, other)}"


def _lacking(m: Matter, entry: OperatorChange, other: str) -> str:
    if entry.at_most_us == 0:
        return f"the {other} side has none of it"
    least = side_time(entry.at_most_us, m.normal if other == "normal" else m.abnormal)
    return f"not among the rows of the {other} side's table, so at most {least} there"


def _calls(entry: OperatorChange) -> str:
    if entry.normal_calls is None or entry.abnormal_calls is None:
        return ""
    if entry.normal_calls == entry.abnormal_calls == 1:
        return " in one call"
    if entry.normal_calls == entry.abnormal_calls:
        return f" in the same {entry.normal_calls:,} calls"
    return f" in {entry.normal_calls:,} → {entry.abnormal_calls:,} calls"


def _why_copies(m: Matter, entry: OperatorChange) -> str:
    """Explain copies by dequantisation, only where the side that makes more of them says that it is quantised."""
    run = m.abnormal if entry.change_us > 0 else m.normal
    calls = (entry.abnormal_calls if entry.change_us > 0 else entry.normal_calls) or 0
    if not (is_copy(entry.name) and run.quantised) or run.table is None or calls < max(_multiplications(run), default=1):
        return ""
    why = "it copies at least as often as it multiplies, consistent with weights that are turned back into the type that is"
    return f"that side is quantised ({run.quantised}): {why} multiplied (dequantisation){_one_for_each(run)}"


def _multiplications(run: BenchRun) -> set[int]:
    """Return how often each of the operators that multiply was called, more than once."""
    if run.table is None:
        return set()
    multiplied = run.table.rows.filter(pl.col("name").is_in(["aten::mm", "aten::addmm", "aten::bmm"]))
    return set(multiplied["calls"].drop_nulls()) - {0, 1}


def _one_for_each(run: BenchRun) -> str:
    """Say which kernel ran once for every matrix multiplication, if one that is none itself did."""
    if run.table is None:
        return ""
    kernels = run.table.rows.filter((pl.col("kind") == KERNEL) & pl.col("calls").is_in(list(_multiplications(run))))
    kernels = kernels.filter(~pl.col("name").str.contains("^Mem(cpy|set)"))
    kernels = kernels.filter(~pl.col("name").map_elements(is_gemm, return_dtype=pl.Boolean)) if kernels.height else kernels
    if kernels.height == 0:
        return ""
    top = kernels.sort("self_device_us", descending=True).row(0, named=True)
    took = side_time(top["self_device_us"] or 0.0, run)
    return f"; one kernel that is none itself runs once for each of the {top['calls']:,} multiplications, {took} in all"


def _against(m: Matter, ledger: OperatorLedger | None, telling: bool) -> list[str]:
    found = []
    if ledger and not telling:
        share = accounts_for(ledger)
        found.append(f"new, gone and differently often called operators account for {share:.0%} of the change only")
    if m.device and m.host and ledger is m.device:
        rest = m.host.change_us - m.device.change_us
        if rest * m.host.change_us > 0 and abs(rest) > abs(m.host.change_us) / 2:
            whole = change(m.host.change_us, m.rounded)
            found.append(f"{change(rest, m.rounded)} of {whole} is time without work on the device")
    return found


def _missing(m: Matter) -> tuple[str, ...]:
    found = ["counters of the machine: clocks, power, other processes"]
    for ledger in (m.device, m.host):
        if ledger and max(ledger.residual_normal_us, ledger.residual_abnormal_us) > 2 * ledger.error_us:
            rest = (
                f"{side_time(ledger.residual_normal_us, m.normal)} and {side_time(ledger.residual_abnormal_us, m.abnormal)}"
            )
            found.append(f"{rest} of {ledger.time} time is in rows beyond the tables' limit")
    if m.normal.table is None or m.abnormal.table is None:
        found.append("an operator table on both sides")
    return tuple(found)


def _next_check(m: Matter, ledger: OperatorLedger | None) -> str:
    copies = ledger and any(is_copy(entry.name) and entry.change_us > 0 for entry in ledger.large())
    if copies and m.abnormal.quantised:
        return "rca bench run --quantize int8 --compile: a compiler can put the conversion into the multiplication"
    return "profile both with record_shapes=True and row_limit=-1, and compare the tables"


def _unexplained(m: Matter) -> Cause:
    ledger = m.main
    seen = _of_operators(m, ledger) if ledger else ()
    factor = uniform_factor(ledger) if ledger else None
    where = "device" if ledger and ledger.time == "device" else "CPU"
    looks_like = f"a lower clock of the {where}, another {where}, or work of others on it" if factor else ""
    if factor:
        seen = (f"all operators take {factor:.2f} x the time in as many calls", *seen)
        if m.normal.profiled is None or m.abnormal.profiled is None:
            looks_like += "; or a larger batch or a longer prompt, which calls do not show"
    if ledger and ledger.rows == KERNEL and any(entry.why in ("new", "gone") for entry in ledger.large()):
        looks_like = "; ".join([*([looks_like] if looks_like else []), _OTHER_KERNELS])
    next_check = "rca collect -o DIR -- rca bench run … on both sides, then rca compare of what was collected"
    return replace(
        _cause(m, "unexplained", next_check),
        metrics=tuple(entry.name for entry in ledger.large()[:_MOST]) if ledger else (),
        evidence_for=seen,
        looks_like=looks_like,
    )


def uniform_factor(ledger: OperatorLedger) -> float | None:
    """Return the factor by which operators that make up most of the time of both sides all changed, in as many calls.

    None where there is no such factor: an operator that counts on either side changed otherwise, or the total did.
    """
    totals = ledger.normal_us, ledger.abnormal_us
    counts = [e for e in ledger.entries if max((e.normal_us or 0) / totals[0], (e.abnormal_us or 0) / totals[1]) >= _LEAST]
    sums = sum(entry.normal_us or 0.0 for entry in counts), sum(entry.abnormal_us or 0.0 for entry in counts)
    if len(counts) < 2 or any(part < _COVERED * total for part, total in zip(sums, totals, strict=True)):
        return None
    factor = sums[1] / sums[0]
    ratios = [(entry.abnormal_us or 0.0) / entry.normal_us if entry.normal_us else 0.0 for entry in counts]
    alike = all(abs(ratio / factor - 1) <= _ALIKE for ratio in (*ratios, totals[1] / totals[0]))
    return factor if alike and all(entry.why == "duration" for entry in counts) else None
