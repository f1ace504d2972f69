"""Where in the files each finding is seen: the cycle that shows it best, as file, start and length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from rca.capture import Capture
from rca.comparison import RankComparison
from rca.comparison.robust import time_per_cycle
from rca.cycles import outlying_cycles
from rca.pictures.excerpt import shown_cycles
from rca.pictures.model import SIDES, CycleOf, Place, SideName
from rca.verdict import Cause, Verdict

MAX_FUNCTIONS = 25
MAX_OUTLIERS = 8
MAX_Q = 0.05


_WORDS = {"median": "a typical cycle", "worst": "the longest cycle"}


def places(captures: dict[SideName, Capture], ranks: Sequence[RankComparison], verdict: Verdict) -> tuple[Place, ...]:
    """Return where the findings of a comparison are seen, in the order of the report.

    A cause or a part of the ledger is shown by the cycle in which it took most, a function by the one in which it took
    longest, both on the side that has more of it; a cause without a counter per cycle by a typical cycle of each side and
    the longest abnormal one.
    """
    found: list[Place] = []
    for rank in sorted(ranks, key=lambda rank: rank.role != verdict.role):
        finder = _Finder(captures, rank)
        leading = rank.role == verdict.role
        for side in SIDES:
            found += [finder.at("headline", _WORDS[of.which], side, of.cycle) for of in shown_cycles(rank, side)]
        if leading:
            found += [place for cause in verdict.causes for place in _of_cause(finder, cause)]
            found += _of_ledger(finder, verdict)
        found += _of_functions(finder)
        found += _of_outliers(finder)
    return tuple(found)


class _Finder:
    """The cycles of one rank, by side and number."""

    def __init__(self, captures: dict[SideName, Capture], rank: RankComparison) -> None:
        self.rank = rank
        self._captures = captures
        self._timed = {
            side: own.from_events or bool((own.rank.cycles["start_ns"] != 0).any())
            for side, own in zip(SIDES, rank.profiles, strict=True)
        }
        self._cycles = {
            (side, row["cycle"]): row
            for side, own in zip(SIDES, (rank.normal, rank.abnormal), strict=True)
            for row in own.cycles.iter_rows(named=True)
        }

    def compared(self, side: SideName) -> pl.DataFrame:
        return self.rank.compared.filter(pl.col("side") == side)

    def at(self, finding: str, text: str, side: SideName, cycle: int) -> Place:
        row = self._cycles[side, cycle]
        capture = self._captures[side]
        file, facts = capture.files[row["file"]], capture.meta[row["file"]]
        added = facts.get("added_ns")
        return Place(
            finding=finding,
            text=text,
            side=side,
            role=self.rank.role,
            cycle=cycle,
            file=file.path,
            file_sha256=file.sha256,
            ts_ns=row["start_ns"],
            dur_ns=row["end_ns"] - row["start_ns"],
            file_ts_us=None if added is None or not self._timed[side] else (row["start_ns"] - added) / 1000,
        )


def _of_cause(finder: _Finder, cause: Cause) -> Iterator[Place]:
    finding = f"cause:{cause.id}:{cause.device}"
    seen = _extreme_of_counter(finder, cause)
    if seen is not None:
        metric, cycle = seen
        yield finder.at(finding, f"{metric} is furthest from normal here", "abnormal", cycle)
        return
    for side in SIDES:
        shown = shown_cycles(finder.rank, side)
        yield from (
            finder.at(finding, _WORDS[of.which], side, of.cycle)
            for of in shown
            if of.which == "median" or side == "abnormal"
        )


def _extreme_of_counter(finder: _Finder, cause: Cause) -> tuple[str, int] | None:
    """Return the cause's first counter that differs, and the abnormal cycle where it is furthest from normal."""
    moved = finder.rank.metrics.filter((pl.col("q") < MAX_Q) & (pl.col("shift") != 0))
    for metric in cause.metrics:
        own = moved.filter(pl.col("metric") == metric)
        devices = [device for device in (cause.device, *own["device"]) if device in set(own["device"])]
        if not devices:
            continue
        row = own.filter(pl.col("device") == devices[0]).row(0, named=True)
        values = _per_cycle(finder, metric, devices[0])
        if values.height:
            sign = 1 if row["shift"] > 0 else -1
            first = values.sort(pl.col("value") * sign, "cycle", descending=[True, False])
            return metric, first["cycle"][0]
    return None


def _per_cycle(finder: _Finder, metric: str, device: str) -> pl.DataFrame:
    """Return ``cycle, value`` of a counter in the abnormal cycles compared in which it was sampled."""
    profile = finder.rank.profiles[1]
    cycles = finder.compared("abnormal").sort("start_ns")
    if not profile.from_events:
        own = profile.rows.filter(
            (pl.col("metric") == metric) & (pl.col("device") == device) & pl.col("mu_pct").is_not_null()
        )
        weight = pl.col("duration_us") + 1e-9
        means = own.group_by("cycle").agg(value=(pl.col("mu_pct") * weight).sum() / weight.sum())
        return means.join(cycles.select("cycle"), on="cycle", how="semi").sort("cycle")
    samples = profile.counters.filter(
        (pl.col("metric").cast(pl.String) == metric)
        & (pl.col("device").cast(pl.String) == device)
        & (pl.col("pid").is_null() | (pl.col("pid") == profile.rank.pid))
    )
    at = np.searchsorted(cycles["start_ns"].to_numpy(), samples["ts_ns"].to_numpy(), side="right") - 1
    ends = cycles["end_ns"].to_numpy()
    inside = (at >= 0) & (samples["ts_ns"].to_numpy() < ends[np.maximum(at, 0)]) if len(ends) else at >= 0
    placed = samples.filter(pl.Series(inside)).with_columns(cycle=cycles["cycle"].gather(at[inside]))
    return placed.group_by("cycle").agg(value=pl.col("value").mean()).sort("cycle")


def _of_ledger(finder: _Finder, verdict: Verdict) -> Iterator[Place]:
    for entry in verdict.ledger.entries if verdict.ledger else ():
        if not entry.sure:
            continue
        side: SideName = "abnormal" if entry.change_us > 0 else "normal"
        own = finder.rank.parts.filter((pl.col("side") == side) & (pl.col("part") == entry.part))
        if own.height:
            most = own.sort("us", "cycle", descending=[True, False]).row(0, named=True)
            yield finder.at(f"ledger:{entry.part}", f"most time in this part: {most['us']:,.0f} us", side, most["cycle"])


def _of_functions(finder: _Finder) -> Iterator[Place]:
    rank = finder.rank
    if not rank.gate.ok:
        return
    changed = rank.functions.filter((pl.col("q") < MAX_Q) & (pl.col("shift_us") != 0)).head(MAX_FUNCTIONS)
    longest = {side: _longest(finder, side) for side in SIDES}
    for row in changed.iter_rows(named=True):
        side: SideName = "abnormal" if row["shift_us"] > 0 else "normal"
        cycle, took = longest[side].get((row["function"], row["device"]), (None, 0.0))
        if cycle is not None:
            text = f"took longest here: {took:,.1f} us"
            yield finder.at(f"function:{row['device']}:{row['function']}", text, side, cycle)


def _longest(finder: _Finder, side: SideName) -> dict[tuple[str, str], tuple[int, float]]:
    """Return the cycle in which each (function, device) took longest, and µs."""
    profile = finder.rank.profiles[SIDES.index(side)]
    own = time_per_cycle(profile, finder.compared(side))
    most = own.sort("duration_us", "cycle", descending=[True, False]).unique(
        ["function", "device"], keep="first", maintain_order=True
    )
    return {
        (row["function"], row["device"]): (row["cycle"], row["duration_us"])
        for row in most.select("function", "device", "cycle", "duration_us").iter_rows(named=True)
    }


def _of_outliers(finder: _Finder) -> Iterator[Place]:
    for side in SIDES:
        recorded = finder.rank.profiles[SIDES.index(side)].rank.cycles
        for phase, numbers in outlying_cycles(recorded).items():
            odd = recorded.filter(pl.col("cycle").is_in(numbers)).sort("duration_us", "cycle", descending=[True, False])
            for row in odd.head(MAX_OUTLIERS).iter_rows(named=True):
                kind = "" if phase == "unknown" else f" of {phase}"
                yield finder.at("outlier", f"an outlier{kind}: {row['duration_us']:,.0f} us", side, row["cycle"])


def place_of_cycle(of: CycleOf, places_: Sequence[Place], role: str) -> Place | None:
    """Return the place of a shown cycle among those of the headline."""
    own = (p for p in places_ if p.finding == "headline" and (p.side, p.role, p.cycle) == (of.side, role, of.cycle))
    return next(own, None)
