"""The pipeline: load, choose an anchor, cut, profile, pair, compare, decide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rca.capture import Capture, Progress
from rca.capture.load import load, no_progress
from rca.comparison import RankComparison, compare_ranks, pair
from rca.cycles import Rank, choose, cut
from rca.errors import InputError, TooLittleDataError
from rca.profile import Profile, build, estimate_cores
from rca.stats.robust import outliers
from rca.verdict import Verdict, decide


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`: everything that a report shows.

    Attributes:
        normal: the baseline capture.
        abnormal: the capture that is compared with it.
        ranks: one comparison per rank that is on both sides, in order of role.
        verdict: what it comes to.
        warnings: what was skipped, guessed or odd, for the reader.
    """

    normal: Capture
    abnormal: Capture
    ranks: tuple[RankComparison, ...]
    verdict: Verdict
    warnings: tuple[str, ...]


def compare(
    normal: Path | str, abnormal: Path | str, *, cycle: str | None = None, progress: Progress = no_progress
) -> Comparison:
    """Compare two captures.

    Args:
        normal: folder or file of the good side.
        abnormal: folder or file of the side in question.
        cycle: name of the span that starts a cycle, or a regular expression that finds it; by default the engines' own.
        progress: called as files are read.

    Raises:
        InputError: a side cannot be read.
        TooLittleDataError: a side has no cycle.
        UsageError: ``cycle`` is not a regular expression.
    """
    captures = {"normal": load(Path(normal), progress), "abnormal": load(Path(abnormal), progress)}
    for capture in captures.values():
        if capture.counters.height and not capture.events.height and not capture.cycle_rows.height:
            raise InputError(capture.path, "holds only counters, no trace", "expected traces, or result_perf_data.csv")
    anchors = choose(captures["normal"], captures["abnormal"], cycle)
    cuts = {side: cut(capture, anchors.get(side)) for side, capture in captures.items()}
    for side, ranks in cuts.items():
        if not any(rank.cycles["complete"].any() for rank in ranks):
            raise TooLittleDataError(captures[side].path, "holds no complete cycle", "capture for longer")
    cores = max(estimate_cores(capture.counters) for capture in captures.values())
    profiles = {side: [build(captures[side], rank, cores) for rank in ranks] for side, ranks in cuts.items()}
    pairs, unpaired = pair(profiles["normal"], profiles["abnormal"])
    if not pairs:
        roles = {side: ", ".join(rank.role for rank in ranks) for side, ranks in cuts.items()}
        raise TooLittleDataError(
            captures["abnormal"].path, f"shares no rank with {normal}: {roles['normal']} against {roles['abnormal']}"
        )
    compared = [compare_ranks(*sides) for sides in pairs]
    same = captures["normal"].digest == captures["abnormal"].digest
    warnings = [*_same_files(captures), *unpaired, *dict.fromkeys(note for c in compared for note in c.gate.notes)]
    for side, capture in captures.items():
        remarks = (*map(str, capture.findings), *_left_out(capture, cuts[side]), *_counter_remarks(capture, profiles[side]))
        warnings += [f"{side}: {text}" for text in (*remarks, *_cycle_remarks(cuts[side]))]
    return Comparison(
        normal=captures["normal"],
        abnormal=captures["abnormal"],
        ranks=tuple(compared),
        verdict=decide(compared, same),
        warnings=tuple(warnings),
    )


def _same_files(captures: dict[str, Capture]) -> list[str]:
    normal, abnormal = (set(capture.digest) for capture in captures.values())
    if normal == abnormal:
        return ["both sides hold the same files: this compares a capture with itself"]
    return [f"{len(normal & abnormal)} file(s) are the same on both sides"] if normal & abnormal else []


def _left_out(capture: Capture, ranks: list[Rank]) -> list[str]:
    """Name what was read but takes no part."""
    traces = capture.events["file"].unique().sort().to_list()
    if capture.cycle_rows.height:
        return [f"{len(traces)} trace(s) left out: its per-cycle profiles are compared"] if traces else []
    used = {file for rank in ranks for file in rank.files}
    return [f"{capture.files[file].path}: no cycle in it; left out" for file in traces if file not in used]


def _counter_remarks(capture: Capture, profiles: list[Profile]) -> list[str]:
    """Say when counters were recorded but cannot be used."""
    if capture.counters.height == 0 or capture.events.height == 0:
        return []
    if all(profile.counters.height == 0 for profile in profiles):
        return ["no counter sample lies within the traces' cycles: were both recorded at the same time, by the same clock?"]
    sampled = {d for d in capture.counters["device"].cast(pl.String).unique() if d.startswith("GPU ")}
    used = {d for profile in profiles for d in profile.rows["device"].unique() if d.startswith("GPU ")}
    if sampled and used and not sampled & used:
        where = f"counters of {', '.join(sorted(sampled))}, kernels on {', '.join(sorted(used))}"
        return [f"{where}: no GPU counter is used (traces count GPUs within their process, see CUDA_VISIBLE_DEVICES)"]
    return []


def _cycle_remarks(ranks: list[Rank]) -> list[str]:
    """Name the cycles that take no part, and those that stick out (they do take part)."""
    remarks = []
    left_out = pl.concat([rank.cycles.filter(~pl.col("complete")) for rank in ranks])
    if left_out.height:
        why = left_out["note"].replace("", "no duration").value_counts().sort("note")
        reasons = ", ".join(f"{n} {note}" for note, n in why.iter_rows())
        remarks.append(f"{left_out.height} cycle(s) left out: {reasons}")
    for rank in ranks:
        for (phase,), cycles in sorted(rank.cycles.filter("complete").group_by("phase")):
            odd = cycles.filter(outliers(cycles["duration_us"].to_numpy()))["cycle"].to_list()
            if odd:
                kind = "" if phase == "unknown" else f" {phase}"
                shown = ", ".join(str(number) for number in odd[:8]) + (" …" if len(odd) > 8 else "")
                first = "; the first ones may be warm-up" if min(odd) <= 2 else ""
                numbers = f"{len(odd)} of {cycles.height}{kind} cycles are outliers (cycle {shown}); kept{first}"
                remarks.append(f"{rank.role}: {numbers}" if len(ranks) > 1 else numbers)
    return remarks
