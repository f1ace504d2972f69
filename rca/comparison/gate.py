"""The comparability gate: the same anchor, the same phase, about the same work per cycle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from rca.comparison.model import Gate
from rca.profile import Profile

MAX_OPERATIONS_RATIO = 2.0
"""Kernels (or host calls) per cycle may differ this much; beyond it the cycles are not the same kind of thing."""

MAX_WORK_RATIO = 1.05
"""Mean or median batches (tokens, for prefill) that differ more are matched by size: a step of more work takes longer."""

MIN_PHASE_CYCLES = 2
MIN_MATCHED_CYCLES = 5
MIX_TOLERANCE = 0.10


@dataclass(frozen=True)
class Stratum:
    """Cycles of both sides that may be alike, in time order, and whether they are."""

    normal: pl.DataFrame
    abnormal: pl.DataFrame
    gate: Gate


def strata(normal: Profile, abnormal: Profile) -> list[Stratum]:
    """Return one stratum per phase that both sides have, the one with most cycles first.

    Where the work of a phase differs (batch, or tokens where a prompt is computed), only cycles of the size that both
    sides share most are in its stratum. Where no phase is shared, all cycles are returned with the reasons, so that what
    does not depend on the cycle can still be shown.
    """
    one, two = (p.rank.cycles.filter(pl.col("complete")) for p in (normal, abnormal))
    general = _reasons_for_all(normal, abnormal)
    shared = _shared_values(one, two, "phase", min(MIN_PHASE_CYCLES, one.height, two.height))
    mixes = f"normal {_mix(one)}, abnormal {_mix(two)}"
    if not shared:
        return [_stratum(normal, abnormal, one, two, "all", [*general, f"no phase is on both sides: {mixes}"], [])]
    notes = [f"the phase mix differs ({mixes}); phases are compared one by one"] if _mix_differs(one, two) else []
    found = []
    for phase in shared:
        in_phase = pl.col("phase") == phase
        found.append(_matched(normal, abnormal, one.filter(in_phase), two.filter(in_phase), str(phase), general, notes))
    return found


def _reasons_for_all(normal: Profile, abnormal: Profile) -> list[str]:
    reasons = []
    if normal.rank.anchor != abnormal.rank.anchor:
        reasons.append(
            f"the sides are cut by different anchors: normal by {normal.rank.anchor}, abnormal by {abnormal.rank.anchor}; "
            "one cycle of each is not the same work"
        )
    if normal.rank.ambiguous or abnormal.rank.ambiguous:
        role = normal.rank.role.split(" #")[0]
        reasons.append(f"several processes of one side are {role}: which is which on the other side cannot be told")
    return reasons


def _matched(
    normal: Profile,
    abnormal: Profile,
    one: pl.DataFrame,
    two: pl.DataFrame,
    phase: str,
    general: list[str],
    notes: list[str],
) -> Stratum:
    """Match the work of one phase; a phase whose work cannot be matched comes with the reason."""
    reasons, notes, label = list(general), list(notes), phase
    for work in ("tokens", "batch") if phase in ("prefill", "mixed") else ("batch",):
        if not _work_differs(one[work], two[work]):
            continue
        medians = [float(np.median(side[work].drop_nulls().to_numpy())) for side in (one, two)]
        typical = f"median {medians[0]:,g} and {medians[1]:,g} {_UNIT[work]} a cycle"
        shared = _shared_values(one, two, work, MIN_MATCHED_CYCLES)
        if not shared:
            reasons.append(
                f"{phase} cycles do different work ({typical}), and no size has {MIN_MATCHED_CYCLES} cycles on both sides"
            )
            break
        one, two = (side.filter(pl.col(work) == shared[0]) for side in (one, two))
        notes.append(f"the work of {phase} cycles differs ({typical}): only those of {shared[0]} {_UNIT[work]} are compared")
        label += f", {shared[0]} {_UNIT[work]}"
    return _stratum(normal, abnormal, one, two, label, reasons, notes)


_UNIT = {"batch": "requests", "tokens": "tokens"}


def _stratum(
    normal: Profile,
    abnormal: Profile,
    one: pl.DataFrame,
    two: pl.DataFrame,
    label: str,
    reasons: list[str],
    notes: list[str],
) -> Stratum:
    on_gpu = [profile.rows["device"].str.starts_with("GPU").any() for profile in (normal, abnormal)]
    counted = "GPU operations" if any(on_gpu) else "host calls"
    per_normal, per_abnormal = (
        _count_per_cycle(profile, cycles, any(on_gpu)) for profile, cycles in ((normal, one), (abnormal, two))
    )
    if any(on_gpu) and not all(on_gpu):
        missing = "abnormal" if on_gpu[0] else "normal"
        reasons = [*reasons, f"the {missing} side recorded no GPU work, the other did: the profiler saw only one of them"]
    elif per_normal and per_abnormal and max(per_normal / per_abnormal, per_abnormal / per_normal) > MAX_OPERATIONS_RATIO:
        numbers = f"a normal cycle holds {per_normal:,.0f} {counted}, an abnormal one {per_abnormal:,.0f}"
        reasons = [*reasons, f"{numbers}: not the same kind of cycle"]
    facts: dict[str, float | str | None] = {
        "counted": counted,
        "normal_per_cycle": per_normal,
        "abnormal_per_cycle": per_abnormal,
    }
    return Stratum(one, two, Gate(not reasons, tuple(reasons), tuple(notes), label, facts))


def _shared_values(one: pl.DataFrame, two: pl.DataFrame, column: str, at_least: int) -> list[str | int]:
    """Return the values of a column that both sides have often enough, the most frequent first."""
    counts = one[column].drop_nulls().value_counts().join(two[column].drop_nulls().value_counts(), on=column, suffix="_2")
    fewest = pl.min_horizontal("count", "count_2")
    return counts.filter(fewest >= max(at_least, 1)).sort(fewest, column, descending=[True, False])[column].to_list()


def _work_differs(one: pl.Series, two: pl.Series) -> bool:
    known = [side.drop_nulls().to_numpy() for side in (one, two)]
    if any(len(side) == 0 for side in known):
        return False
    typical = [(float(np.mean(side)), float(np.median(side))) for side in known]
    return any(max(a, b) > MAX_WORK_RATIO * min(a, b) for a, b in zip(*typical, strict=True))


def _count_per_cycle(profile: Profile, cycles: pl.DataFrame, on_gpu: bool) -> float | None:
    """Return the median number of kernels per cycle, or of host calls where neither side has GPU work."""
    own = profile.rows.filter(pl.col("device").str.starts_with("GPU")) if on_gpu else profile.rows
    counts = own.unique(["cycle", "function", "device"]).group_by("cycle").agg(pl.col("count").sum())
    if own["count"].null_count() == own.height or cycles.height == 0:
        return None
    per_cycle = cycles.select("cycle").join(counts, on="cycle", how="left")["count"].fill_null(0)
    return float(np.median(per_cycle.to_numpy()))


def _shares(cycles: pl.DataFrame) -> dict[str, float]:
    counts = cycles["phase"].value_counts(normalize=True, name="share").sort("phase")
    return dict(counts.iter_rows())


def _mix(cycles: pl.DataFrame) -> str:
    return ", ".join(f"{share:.0%} {phase}" for phase, share in _shares(cycles).items()) or "no cycle"


def _mix_differs(normal: pl.DataFrame, abnormal: pl.DataFrame) -> bool:
    one, two = _shares(normal), _shares(abnormal)
    return any(abs(one.get(phase, 0) - two.get(phase, 0)) > MIX_TOLERANCE for phase in one.keys() | two.keys())
