"""How far the verdicts can be trusted: every labelled capture compared, beside baselines on the same ones.

    python -m benchmarks.verdict CASES [CASES ...] --reference FOLDER -o benchmarks/lab/verdict.md

CASES are folders that ``rca lab run`` wrote; FOLDER holds the reference data's scenarios (``<scenario>/{normal,abnormal}``).
With ``--calibrate`` the counts that confidence is taken from are written anew from the first folder of cases; the others
then show how well it holds for cases that it was not counted on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

from lab.baselines import N_SIGMA, ROBUST, SUSPICION, rankings
from lab.case import cases_in, read_truth
from lab.measures import Share, share_of
from lab.score import ERROR, Case, Named, cells_of, noise_of
from rca import api
from rca.errors import RcaError
from rca.verdict.catalogue import BY_ID, UNEXPLAINED
from rca.verdict.reliability import FILE, grade

REFERENCE = {
    # scenario: the true cause, and the counters of what was tampered with (FORMATS.md §7.8)
    "cpu_compute_squeeze_out": ("cpu_contention", ("host_cpu_usage",)),
    "cpu_frequency_reduction": ("cpu_frequency", ("cpu_frequency",)),
    "gpu_instability": ("gpu_clock", ("gpu_sm_frequency",)),
    "gpu_memory_squeeze_out_NVLink": ("nvlink_contention", ("gpu_link_transmit", "gpu_link_receive")),
    "gpu_memory_squeeze_out_PCIe": ("pcie_contention", ("gpu_pcie_transmit", "gpu_pcie_receive")),
}
NO_RESOURCE = ("workload_shift", "software_change", "hardware_change", "capture_artifact", UNEXPLAINED)
METHODS = ("rca", N_SIGMA, ROBUST, SUSPICION)
CONFIDENCE_EDGES = (0.0, 0.7, 0.85, 0.92, 1.0)


@dataclass(frozen=True)
class Judged:
    """A labelled case, what was made of it, and the grade of the evidence for the cause that was named first."""

    folder: str
    case: Case
    grade: str

    @property
    def faulty(self) -> bool:
        """Whether it has a fault; else it is an undisturbed pair."""
        return self.case.truth.fault is not None

    def right(self, method: str) -> bool:
        """Whether a method puts the true cause first."""
        return self.case.position(method) == 1


def main() -> None:
    """Compare everything and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", type=Path)
    parser.add_argument("--reference", type=Path, help="folder of the reference scenarios")
    parser.add_argument("-o", "--out", type=Path, help="write the report here instead of to stdout")
    parser.add_argument("--calibrate", action="store_true", help=f"write rca/verdict/{FILE} from the first folder of cases")
    options = parser.parse_args()
    if options.calibrate:
        _calibrate(_judge_all(options.cases[0]))
    judged = [one for folder in options.cases for one in _judge_all(folder)]
    text = "\n".join([*_head(judged), *_reference(options.reference), *_folders(judged), *_reliability(judged)]) + "\n"
    if options.out:
        options.out.write_text(text, "utf-8")
    else:
        sys.stdout.write(text)


def _judge_all(folder: Path) -> list[Judged]:
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:  # polars' threads do not survive a fork
        return list(pool.map(_judge, [(folder, case) for case in cases_in(folder)]))


def _judge(where: tuple[Path, Path]) -> Judged:
    folder, path = where
    truth, name = read_truth(path), path.relative_to(folder).as_posix()
    try:
        found = api.compare(path / "normal", path / "abnormal")
    except RcaError as error:
        return Judged(folder.name, Case(name, truth, ERROR, str(error), (), {}), "")
    verdict = found.verdict
    first: dict[str, Named] = {}
    for cause in verdict.causes:
        first.setdefault(cause.id, Named(cause.id, cause.latent, cause.confidence))
    case = Case(name, truth, verdict.status, None, tuple(first.values()), rankings(found))
    judgement = next((one for one in verdict.judgements if one.named), None)
    return Judged(folder.name, case, grade(judgement) if judgement else "")


def _effects(own: Sequence[Judged]) -> dict[str, tuple[float, bool]]:
    """Return for each faulty case of one folder the effect of its cell (0.1 is 10 %), and whether it is measurable."""
    faults = [one.case for one in own if one.faulty]
    limits = {noise.workload: noise.limit for noise in noise_of([one.case.truth for one in own])}
    by_key = {(cell.workload, cell.fault, cell.severity): cell for cell in cells_of(faults, limits)}
    effects = {}
    for case in faults:
        cell = by_key[case.truth.workload, str(case.truth.fault), case.truth.severity or 0.0]
        size = math.inf if cell.log_ratio is None else math.expm1(abs(cell.log_ratio))
        effects[case.name] = (size, cell.measurable)
    return effects


def _that_count(own: Sequence[Judged]) -> list[Judged]:
    """Return the cases of one folder that tell right from wrong: undisturbed pairs, and faults with a measurable effect."""
    effects = _effects(own)
    return [one for one in own if not one.faulty or effects[one.case.name][1]]


def _calibrate(own: Sequence[Judged]) -> None:
    """Count, for each cause and grade, how often it was named first and how often rightly."""
    counted: dict[str, dict[str, list[int]]] = {}
    cases = _that_count(own)
    for one in cases:
        if one.case.first and one.case.first.id != UNEXPLAINED:
            cell = counted.setdefault(one.case.first.id, {}).setdefault(one.grade, [0, 0])
            cell[0] += one.right("rca")
            cell[1] += 1
    source = (
        f"{len(cases)} labelled captures of servers and loops on CPUs (benchmarks/lab); causes of GPUs are not calibrated"
    )
    table = {"source": source, "causes": {cause: dict(sorted(counted[cause].items())) for cause in sorted(counted)}}
    file = Path(__file__).parent.parent / "rca/verdict" / FILE
    file.write_text(json.dumps(table, indent=1) + "\n", "utf-8")


def _head(judged: Sequence[Judged]) -> list[str]:
    pairs = sum(not one.faulty for one in judged)
    counts = f"{len(judged)} cases: {len(judged) - pairs} with a fault, {pairs} undisturbed pairs"
    return ["# Verdicts on labelled captures", "", f"{counts}. Made by `python -m benchmarks.verdict`.", ""]


def _reference(folder: Path | None) -> Iterator[str]:
    if folder is None:
        return
    yield from ("## The five scenarios of the reference data", "")
    yield "| scenario | sides | status | first cause | latent | first metric | cause | metric |"
    yield "|:--|:--|:--|:--|:--|:--|:--|:--|"
    for scenario, (cause, metrics) in REFERENCE.items():
        for sides in (("normal", "abnormal"), ("abnormal", "normal")):
            verdict = api.compare(*(folder / scenario / side for side in sides)).verdict
            first = verdict.causes[0] if verdict.causes else None
            metric = first.metrics[0] if first and first.metrics else "-"
            row = (
                scenario,
                "as recorded" if sides[0] == "normal" else "swapped",
                verdict.status,
                first.id if first else "none",
                "yes" if first and first.latent else "no",
                metric,
                "right" if first and first.id == cause else "WRONG",
                "right" if metric in metrics else "WRONG",
            )
            yield f"| {' | '.join(row)} |"
    yield ""


def _folders(judged: Sequence[Judged]) -> Iterator[str]:
    for folder in dict.fromkeys(one.folder for one in judged):
        own = [one for one in judged if one.folder == folder]
        yield from (f"## Cases of `{folder}`", "")
        yield from _accuracy(own)
        yield from _undisturbed(own)
        yield from _misses(own)


def _accuracy(own: Sequence[Judged]) -> Iterator[str]:
    effects = _effects(own)
    faults = [one for one in own if one.faulty]
    measurable = [one for one in faults if effects[one.case.name][1]]
    groups = {
        "effect of 10 % or more": [one for one in measurable if effects[one.case.name][0] >= 0.1],
        "effect of 3 to 10 %": [one for one in measurable if 0.03 <= effects[one.case.name][0] < 0.1],
        "all measurable": measurable,
        "not measurable (latent, if anything)": [one for one in faults if not effects[one.case.name][1]],
    }
    yield f"| true cause first | n | {' | '.join(METHODS)} |"
    yield "|:--|--:|" + "--:|" * len(METHODS)
    for name, cases in groups.items():
        if cases:
            cells = [_text(share_of([one.right(method) for one in cases])) for method in METHODS]
            yield f"| {name} | {len(cases)} | {' | '.join(cells)} |"
    yield ""
    others = [one for one in faults if one.case.truth.cause in ("workload_shift", "software_change")]
    blamed = [one for one in others if one.case.first and one.case.first.id not in NO_RESOURCE]
    if others:
        yield from (f"`workload_shift` and `software_change` blamed on hardware: {len(blamed)} of {len(others)}.", "")


def _undisturbed(own: Sequence[Judged]) -> Iterator[str]:
    pairs = [one.case for one in own if not one.faulty]
    if not pairs:
        return
    status = _text(share_of([case.status != "no_difference" for case in pairs]))
    named = _text(share_of([bool(case.causes) for case in pairs]))
    yield f"Undisturbed pairs (n = {len(pairs)}): another status than `no_difference` in {status}, a cause named in {named}."
    yield ""
    odd = [case for case in pairs if case.status != "no_difference" or case.causes]
    yield from (f"- {case.name}: {case.status}, {_causes(case)}" for case in odd)
    yield ""


def _misses(own: Sequence[Judged]) -> Iterator[str]:
    effects = _effects(own)
    missed = [one.case for one in own if one.faulty and effects[one.case.name][1] and not one.right("rca")]
    if missed:
        yield from ("Missed, of those with a measurable effect:", "")
        for case in missed:
            effect = f"{effects[case.name][0]:+.0%}"
            yield f"- {case.name} ({case.truth.cause}, effect {effect}): {case.status}, {_causes(case)}"
        yield ""


def _causes(case: Case) -> str:
    return ", ".join(cause.id + (" (latent)" if cause.latent else "") for cause in case.causes) or "no cause"


def _reliability(judged: Sequence[Judged]) -> Iterator[str]:
    """Show, for each confidence given, how often it was right: on the cases it was counted on, and on others."""
    folders = list(dict.fromkeys(one.folder for one in judged))
    yield from ("## Reliability of the confidence", "", f"Counted on `{folders[0]}`; the others were not used for it.", "")
    yield "| cases | confidence | given | right | share |"
    yield "|:--|:--|--:|--:|--:|"
    for folder in folders:
        own = _that_count([one for one in judged if one.folder == folder])
        for low, high in pairwise(CONFIDENCE_EDGES):
            given = [one for one in own if one.case.first and low <= (one.case.first.confidence or -1) < high]
            if given:
                share = share_of([one.right("rca") for one in given])
                yield f"| {folder} | {low:.0%} to {high:.0%} | {share.n} | {share.hits} | {_text(share)} |"
    without = sorted({one.case.first.id for one in judged if one.case.first and one.case.first.confidence is None})
    yield from ("", f"Without a number, for too few labelled cases: {', '.join(without) or 'none'}.", "")
    yield f"Causes that no case of these has: {', '.join(sorted(_without_case(judged)))}."


def _without_case(judged: Sequence[Judged]) -> set[str]:
    return set(BY_ID) - {str(one.case.truth.cause) for one in judged}


def _text(share: Share) -> str:
    return f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"


if __name__ == "__main__":
    main()
