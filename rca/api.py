"""The pipeline: load, choose an anchor, cut, profile, pair, compare, decide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rca.cache import Summary
from rca.capture import Capture, Progress
from rca.capture.health import compare_settings
from rca.capture.load import load, no_progress
from rca.comparison import RankComparison, compare_ranks, pair
from rca.cycles import Rank, outlying_cycles
from rca.errors import InputError, TooLittleDataError
from rca.inspection import Inspection, describe
from rca.pictures import Pictures, Place, SideName, SidePictures, picture_ranks, picture_side, places
from rca.profile import Profile, estimate_cores
from rca.side import Side, chosen_anchors
from rca.verdict import Verdict, decide, gather, known_cores

_KEPT_BYTES = 400_000_000
"""Of events on the normal side, some 5 million: for pictures of larger ones it is read twice, as both sides may not fit."""


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`: everything that a report shows.

    Attributes:
        normal: the baseline capture.
        abnormal: the capture that is compared with it.
        ranks: one comparison per rank that is on both sides, in order of role; none where a side holds only counters.
        verdict: what it comes to.
        warnings: what was skipped, guessed or odd, for the reader.
        places: where in the files each finding is seen.
        pictures: what is drawn from single events; None unless it was asked for.
    """

    normal: Capture
    abnormal: Capture
    ranks: tuple[RankComparison, ...]
    verdict: Verdict
    warnings: tuple[str, ...]
    places: tuple[Place, ...] = ()
    pictures: Pictures | None = None


def inspect(path: Path | str, *, cycle: str | None = None, progress: Progress = no_progress) -> Inspection:
    """Say what one capture holds and what is wrong with it; arguments as of `compare`.

    Raises:
        InputError: it cannot be read.
        UsageError: ``cycle`` is not a regular expression, or the capture was cut before.
    """
    return describe(load(Path(path), progress), cycle)


def compare(
    normal: Path | str,
    abnormal: Path | str,
    *,
    cycle: str | None = None,
    progress: Progress = no_progress,
    cached: bool = True,
    pictures: bool = False,
) -> Comparison:
    """Compare two captures.

    Args:
        normal: folder or file of the good side.
        abnormal: folder or file of the side in question.
        cycle: name of the span that starts a cycle, or a regular expression that finds it; by default the engines' own.
        progress: called as files are read.
        cached: keep what the captures were reduced to beside them, and use it (see `rca.cache`).
        pictures: also take the events of single cycles and the call trees, for `reports.page`; reads the files even where
            the cache could tell all else.

    Raises:
        InputError: a side cannot be read, or one has no trace and the other no counters.
        TooLittleDataError: a side has no cycle, and there are no counters to compare instead.
        UsageError: ``cycle`` is not a regular expression.
    """
    with Side(Path(normal), progress, cached) as one, Side(Path(abnormal), progress, cached) as two:
        sides: dict[SideName, Side] = {"normal": one, "abnormal": two}
        if any(side.only_counters for side in sides.values()):
            return _hosts_compared(sides, _without_traces(sides))
        try:
            return _compared(sides, cycle, pictures)
        except TooLittleDataError as problem:
            if any(side.summary.capture.counters.height == 0 for side in sides.values()):
                raise
            return _hosts_compared(sides, [str(problem)])


def _without_traces(sides: dict[SideName, Side]) -> list[str]:
    """Say which side was not cut into cycles; without counters on both sides there is nothing to compare."""
    lacking = [side for side in sides.values() if side.only_counters]
    for side in sides.values():
        if side.summary.capture.counters.height == 0:
            text = f"holds no counters, and {lacking[0].path} holds only counters: there is nothing to compare"
            raise InputError(side.path, text, "expected traces, or result_perf_data.csv, on both sides or counters on both")
    return [f"{side.path}: holds only counters, no trace; so only counters are compared" for side in lacking]


def _hosts_compared(sides: dict[SideName, Side], remarks: list[str]) -> Comparison:
    """Compare the counters alone: what they tell of the machines, where no cycle tells of the server."""
    captures = {side: own.summary.capture for side, own in sides.items()}
    settings = compare_settings(captures["normal"], captures["abnormal"])
    evidence = gather(
        captures["normal"], captures["abnormal"], [], settings, known_cores(captures["normal"], captures["abnormal"])
    )
    same = captures["normal"].digest == captures["abnormal"].digest
    warnings = [*_same_files(captures), *remarks, *map(str, settings)]
    warnings += [f"{side}: {finding}" for side, capture in captures.items() for finding in capture.findings]
    return Comparison(captures["normal"], captures["abnormal"], (), decide([], same, evidence), tuple(warnings))


def _compared(sides: dict[SideName, Side], cycle: str | None, pictures: bool) -> Comparison:
    anchors = chosen_anchors(sides["normal"], sides["abnormal"], cycle)
    captures = {side: own.summary.capture for side, own in sides.items()}
    cores = max(estimate_cores(capture.counters) for capture in captures.values())
    profiles = {}
    for side, own in sides.items():
        profiles[side] = own.profiles(anchors.get(side), cores)
        if side == "normal" or not pictures:
            own.forget_events(above=_KEPT_BYTES if pictures else 0)
    pairs, unpaired = pair(profiles["normal"], profiles["abnormal"])
    if not pairs:
        roles = {side: ", ".join(profile.rank.role for profile in own) for side, own in profiles.items()}
        text = f"shares no rank with {captures['normal'].path}: {roles['normal']} against {roles['abnormal']}"
        raise TooLittleDataError(captures["abnormal"].path, text)
    compared = [compare_ranks(*both) for both in pairs]
    settings = compare_settings(captures["normal"], captures["abnormal"])
    same = captures["normal"].digest == captures["abnormal"].digest
    warnings = [*_same_files(captures), *unpaired, *dict.fromkeys(note for c in compared for note in c.gate.notes)]
    warnings += [str(finding) for finding in settings]
    for side, own in sides.items():
        remarks = (*_left_out(own.summary, profiles[side]), *_counter_remarks(own.summary, profiles[side]))
        cycles = _cycle_remarks([profile.rank for profile in profiles[side]])
        warnings += [f"{side}: {text}" for text in (*map(str, captures[side].findings), *remarks, *cycles)]
    evidence = gather(
        captures["normal"], captures["abnormal"], compared, settings, known_cores(captures["normal"], captures["abnormal"])
    )
    verdict = decide(compared, same, evidence)
    return Comparison(
        normal=captures["normal"],
        abnormal=captures["abnormal"],
        ranks=tuple(compared),
        verdict=verdict,
        warnings=tuple(warnings),
        places=places(captures, compared, verdict),
        pictures=_pictures(sides, compared) if pictures else None,
    )


def _pictures(sides: dict[SideName, Side], compared: list[RankComparison]) -> Pictures:
    taken: dict[SideName, SidePictures] = {}
    for side in ("abnormal", "normal"):  # the events of the abnormal side are there, those of the normal one if they are few
        taken[side] = picture_side(sides[side].capture, compared, side)
        sides[side].forget_events()
    return picture_ranks(compared, taken)


def _same_files(captures: dict[SideName, Capture]) -> list[str]:
    normal, abnormal = (set(capture.digest) for capture in captures.values())
    if normal == abnormal:
        return ["both sides hold the same files: this compares a capture with itself"]
    return [f"{len(normal & abnormal)} file(s) are the same on both sides"] if normal & abnormal else []


def _left_out(summary: Summary, profiles: list[Profile]) -> list[str]:
    """Name what was read but takes no part."""
    capture, traces = summary.capture, summary.traces
    if capture.cycle_rows.height:
        return [f"{len(traces)} trace(s) left out: its per-cycle profiles are compared"] if traces else []
    used = {file for profile in profiles for file in profile.rank.files}
    return [f"{capture.files[file].path}: no cycle in it; left out" for file in traces if file not in used]


def _counter_remarks(summary: Summary, profiles: list[Profile]) -> list[str]:
    """Say when counters were recorded but cannot be used."""
    capture = summary.capture
    if capture.counters.height == 0 or not summary.traces:
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
        for phase, odd in outlying_cycles(rank.cycles).items():
            count = rank.cycles.filter(pl.col("complete") & (pl.col("phase") == phase)).height
            kind = "" if phase == "unknown" else f" {phase}"
            shown = ", ".join(str(number) for number in odd[:8]) + (" …" if len(odd) > 8 else "")
            first = "; the first ones may be warm-up" if min(odd) <= 2 else ""
            numbers = f"{len(odd)} of {count}{kind} cycles are outliers (cycle {shown}); kept{first}"
            remarks.append(f"{rank.role}: {numbers}" if len(ranks) > 1 else numbers)
    return remarks
