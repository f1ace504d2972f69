"""The comparability gate: the same anchor, the same phase, about the same work per cycle."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from rca.comparison.model import Gate
from rca.profile import Profile

MAX_WORK_RATIO = 2.0
"""Kernels (or host calls) per cycle may differ this much; beyond it the cycles are not the same kind of thing."""

MAX_BATCH_RATIO = 1.1
"""Median batches that differ more are matched by batch size."""

MIN_PHASE_CYCLES = 2
MIN_BATCH_CYCLES = 5
MIX_TOLERANCE = 0.10


@dataclass(frozen=True)
class Strata:
    """The cycles of both sides that are alike, in time order."""

    normal: pl.DataFrame
    abnormal: pl.DataFrame
    gate: Gate


def like_with_like(normal: Profile, abnormal: Profile) -> Strata:
    """Choose the cycles to compare, and say whether they may be compared at all.

    Of the phases that both sides have, the one with the most cycles is taken. Where its batch sizes differ, only cycles
    of the batch size that both sides share most are. Where nothing is alike, all cycles are returned with the reasons,
    so that what does not depend on the cycle can still be shown.
    """
    all_normal, all_abnormal = (p.rank.cycles.filter(pl.col("complete")) for p in (normal, abnormal))
    reasons: list[str] = []
    notes: list[str] = []
    if normal.rank.anchor != abnormal.rank.anchor:
        reasons.append(
            f"the sides are cut by different anchors: normal by {normal.rank.anchor}, abnormal by {abnormal.rank.anchor}; "
            "one cycle of each is not the same work"
        )
    phase = _common_phase(all_normal, all_abnormal)
    if phase is None:
        reasons.append(f"no phase is on both sides: normal {_mix(all_normal)}, abnormal {_mix(all_abnormal)}")
        chosen = all_normal, all_abnormal
    else:
        in_phase = pl.col("phase") == phase
        chosen = all_normal.filter(in_phase), all_abnormal.filter(in_phase)
        if _mix_differs(all_normal, all_abnormal):
            notes.append(f"the phase mix differs (normal {_mix(all_normal)}, abnormal {_mix(all_abnormal)})")
    chosen, label = _match_batch(*chosen, phase or "all", reasons, notes)
    facts = _work_per_cycle(normal, abnormal, *chosen)
    per_normal, per_abnormal = facts["normal_per_cycle"], facts["abnormal_per_cycle"]
    if isinstance(per_normal, float) and isinstance(per_abnormal, float) and min(per_normal, per_abnormal) > 0:
        ratio = max(per_normal / per_abnormal, per_abnormal / per_normal)
        if ratio > MAX_WORK_RATIO:
            reasons.append(
                f"a normal cycle holds {per_normal:,.0f} {facts['counted']}, an abnormal one {per_abnormal:,.0f}: "
                "not the same kind of cycle"
            )
    gate = Gate(not reasons, tuple(reasons), tuple(notes), label, facts)
    return Strata(*chosen, gate)


def _common_phase(normal: pl.DataFrame, abnormal: pl.DataFrame) -> str | None:
    counts = normal["phase"].value_counts().join(abnormal["phase"].value_counts(), on="phase", suffix="_2")
    fewest = pl.min_horizontal("count", "count_2")
    wanted = min(MIN_PHASE_CYCLES, normal.height, abnormal.height)
    best = counts.filter(fewest >= wanted).sort(fewest, "phase", descending=[True, False])
    return str(best["phase"][0]) if best.height else None


def _match_batch(
    normal: pl.DataFrame, abnormal: pl.DataFrame, label: str, reasons: list[str], notes: list[str]
) -> tuple[tuple[pl.DataFrame, pl.DataFrame], str]:
    medians = [side["batch"].median() for side in (normal, abnormal)]
    one, two = (float(m) if isinstance(m, (int, float)) else None for m in medians)
    if not one or not two or max(one / two, two / one) <= MAX_BATCH_RATIO:
        return (normal, abnormal), label
    counts = normal["batch"].value_counts().join(abnormal["batch"].value_counts(), on="batch", suffix="_2")
    fewest = pl.min_horizontal("count", "count_2")
    shared = counts.filter(fewest >= MIN_BATCH_CYCLES).sort(fewest, "batch", descending=[True, False])
    if shared.height == 0:
        reasons.append(
            f"the batches differ (median {one:g} requests per normal cycle, {two:g} per abnormal one) and no batch size "
            f"has {MIN_BATCH_CYCLES} cycles on both sides"
        )
        return (normal, abnormal), label
    batch = shared["batch"][0]
    notes.append(f"the batches differ (median {one:g} and {two:g}): only cycles of batch {batch} are compared")
    alike = tuple(side.filter(pl.col("batch") == batch) for side in (normal, abnormal))
    return (alike[0], alike[1]), f"{label}, batch {batch}"


def _work_per_cycle(
    normal: Profile, abnormal: Profile, normal_cycles: pl.DataFrame, abnormal_cycles: pl.DataFrame
) -> dict[str, float | str | None]:
    """Return the median number of kernels per cycle, or of host calls where neither side has GPU work."""
    on_gpu = any(p.rows["device"].str.starts_with("GPU").any() for p in (normal, abnormal))
    return {
        "counted": "GPU operations" if on_gpu else "host calls",
        "normal_per_cycle": _count_per_cycle(normal, normal_cycles, on_gpu),
        "abnormal_per_cycle": _count_per_cycle(abnormal, abnormal_cycles, on_gpu),
    }


def _count_per_cycle(profile: Profile, cycles: pl.DataFrame, on_gpu: bool) -> float | None:
    own = profile.rows.filter(pl.col("device").str.starts_with("GPU")) if on_gpu else profile.rows
    own = own.filter(pl.col("cycle").is_in(cycles["cycle"].to_list())).unique(["cycle", "function", "device"])
    median = own.group_by("cycle").agg(pl.col("count").sum())["count"].median()
    return float(median) if isinstance(median, (int, float)) else None


def _shares(cycles: pl.DataFrame) -> dict[str, float]:
    counts = cycles["phase"].value_counts(normalize=True, name="share").sort("phase")
    return dict(counts.iter_rows())


def _mix(cycles: pl.DataFrame) -> str:
    return ", ".join(f"{share:.0%} {phase}" for phase, share in _shares(cycles).items()) or "no cycle"


def _mix_differs(normal: pl.DataFrame, abnormal: pl.DataFrame) -> bool:
    one, two = _shares(normal), _shares(abnormal)
    return any(abs(one.get(phase, 0) - two.get(phase, 0)) > MIX_TOLERANCE for phase in one.keys() | two.keys())
