"""The pipeline: load, choose an anchor, cut, profile, pair, compare, decide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rca.capture import Capture, Progress, load, no_progress
from rca.comparison import RankComparison, compare_ranks, pair
from rca.cycles import Rank, choose, cut
from rca.errors import TooLittleDataError
from rca.profile import build
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
    anchors = choose(captures["normal"], captures["abnormal"], cycle)
    cuts = {side: cut(capture, anchors.get(side)) for side, capture in captures.items()}
    for side, ranks in cuts.items():
        if not any(rank.cycles["complete"].any() for rank in ranks):
            raise TooLittleDataError(captures[side].path, "holds no complete cycle", "capture for longer")
    profiles = {side: [build(captures[side], rank) for rank in ranks] for side, ranks in cuts.items()}
    pairs, unpaired = pair(profiles["normal"], profiles["abnormal"])
    if not pairs:
        roles = {side: ", ".join(rank.role for rank in ranks) for side, ranks in cuts.items()}
        raise TooLittleDataError(
            captures["abnormal"].path, f"shares no rank with {normal}: {roles['normal']} against {roles['abnormal']}"
        )
    compared = [compare_ranks(*sides) for sides in pairs]
    same = captures["normal"].digest == captures["abnormal"].digest
    return Comparison(
        normal=captures["normal"],
        abnormal=captures["abnormal"],
        ranks=tuple(compared),
        verdict=decide(compared, same),
        warnings=tuple(_warnings(captures, cuts, same) + unpaired + [n for c in compared for n in c.gate.notes]),
    )


def _warnings(captures: dict[str, Capture], cuts: dict[str, list[Rank]], same: bool) -> list[str]:
    warnings = [f"{side}: {note}" for side, capture in captures.items() for note in capture.notes]
    shared = {f.sha256 for f in captures["normal"].files} & {f.sha256 for f in captures["abnormal"].files}
    if same:
        warnings.insert(0, "both sides hold the same files: this compares a capture with itself")
    elif shared:
        warnings.insert(0, f"{len(shared)} file(s) are the same on both sides")
    for side, ranks in cuts.items():
        for rank in ranks:
            warnings += [f"{side}, {rank.role}: {text}" for text in _cycle_remarks(rank)]
    return warnings


def _cycle_remarks(rank: Rank) -> list[str]:
    """Name the cycles that take no part, and those that stick out (they do take part)."""
    left_out = rank.cycles.filter(~rank.cycles["complete"])
    remarks = []
    if left_out.height:
        why = left_out["note"].replace("", "no duration").value_counts().sort("note")
        remarks.append(f"{left_out.height} cycle(s) left out: " + ", ".join(f"{n} {note}" for note, n in why.iter_rows()))
    for (phase,), cycles in sorted(rank.cycles.filter("complete").group_by("phase")):
        odd = cycles.filter(outliers(cycles["duration_us"].to_numpy()))["cycle"].to_list()
        if odd:
            kind = "" if phase == "unknown" else f" {phase}"
            shown = ", ".join(str(number) for number in odd[:8]) + (" …" if len(odd) > 8 else "")
            first = "; the first ones may be warm-up" if min(odd) <= 2 else ""
            remarks.append(f"{len(odd)} of {cycles.height}{kind} cycles are outliers (cycle {shown}); kept{first}")
    return remarks
