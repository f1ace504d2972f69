"""What is made of start-up logs: one side alone, or two against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rca.capture.load import Progress, no_progress
from rca.errors import TooLittleDataError
from rca.startup.causes import causes_of
from rca.startup.compare import SINGLE, Compared, compare
from rca.startup.model import KIND
from rca.startup.read import Startups, read
from rca.startup.respond import Outlier, Response, outliers, responses, varied
from rca.stats import robust
from rca.verdict import Cause


@dataclass(frozen=True)
class StartupReport:
    """Start-ups, what was varied between them, what responds to it, and what sticks out."""

    startups: Startups
    varied: tuple[str, ...]
    responses: tuple[Response, ...]
    outliers: tuple[Outlier, ...]


@dataclass(frozen=True)
class StartupComparison:
    """Two sides' start-ups, the changes between them, the sentence for a ticket's title, and the causes."""

    normal: Startups
    abnormal: Startups
    paths: tuple[Path, Path]
    compared: Compared
    headline: str
    trust: str
    causes: tuple[Cause, ...]
    warnings: tuple[str, ...]


def report(paths: list[Path], progress: Progress = no_progress) -> StartupReport:
    """Read start-up logs and relate their phases to what was varied.

    Raises:
        InputError: a path cannot be read, or no file is a start-up log.
    """
    startups = read(paths, progress)
    usable = startups.usable
    found = responses(usable)
    return StartupReport(startups, varied(usable), found, outliers(usable, found))


def compare_startups(normal: Path, abnormal: Path, progress: Progress = no_progress) -> StartupComparison:
    """Compare the start-ups of two folders or files.

    Raises:
        InputError: a side cannot be read, or holds no start-up log.
        TooLittleDataError: a side has no start that came so far that it can be compared.
    """
    sides = read([normal], progress), read([abnormal], progress)
    compared = compare(*sides)
    if isinstance(compared, str):
        raise TooLittleDataError(abnormal if sides[0].usable else normal, compared)
    causes = causes_of(compared)
    warnings = [f"{side}: {text}" for side, own in zip(("normal", "abnormal"), sides, strict=True) for text in own.remarks]
    warnings += [*_same(*sides), *_lone(compared), *_total_remark(compared)]
    return StartupComparison(
        *sides, (normal, abnormal), compared, _headline(compared, causes), _trust(compared), causes, tuple(warnings)
    )


def _same(normal: Startups, abnormal: Startups) -> list[str]:
    """Say when both sides hold the same starts."""
    phases = [{(*start.phases.items(), *start.parameters.items()) for start in own.starts} for own in (normal, abnormal)]
    if phases[0] == phases[1]:
        return ["both sides hold the same start-ups: this compares them with themselves"]
    return [f"{len(phases[0] & phases[1])} start-up(s) are the same on both sides"] if phases[0] & phases[1] else []


def _lone(compared: Compared) -> list[str]:
    """Name starts that are far from the others of their side: they alone may have had the trouble."""
    remarks = []
    for side, starts in (("normal", compared.normal), ("abnormal", compared.abnormal)):
        totals = np.array([start.phases[compared.total].seconds for start in starts])
        odd = robust.outliers(totals) & (np.abs(totals / np.median(totals) - 1) >= SINGLE)
        for start, total in zip(np.array(starts, dtype=object)[odd], totals[odd], strict=True):
            remarks.append(
                f"{side}: {start.name} takes {total:.1f} s, the start with the middle total {np.median(totals):.1f} s"
            )
    return remarks


def _total_remark(compared: Compared) -> list[str]:
    if compared.total == "actual_total_time":
        return []
    return ["the logs end at different points, or state their totals in different ways: total (sum) is compared"]


def _headline(compared: Compared, causes: tuple[Cause, ...]) -> str:
    if compared.status == "not_comparable":
        return "The sides cannot be compared: " + "; ".join(compared.reasons)
    total = compared.changes[compared.total]
    n = f"n = {len(compared.normal)} and {len(compared.abnormal)}"
    interval = ""
    if compared.p is not None:
        interval = f" (95 % CI {compared.ratio.low - 1:+.1%} to {compared.ratio.high - 1:+.1%}, p = {compared.p:.2g})"
    change = f"{compared.ratio.estimate - 1:+.1%}{interval}"
    text = f"Start-up {change}: mean {total.normal_s:.1f} s → {total.abnormal_s:.1f} s, {n}"
    if compared.reasons:
        text += "; " + "; ".join(compared.reasons)
    if not causes:
        return text
    first = causes[0]
    if first.id == "unexplained":
        return f"{text}; unexplained"
    where = f", {KIND[first.metrics[0]].title} first" if first.metrics and first.metrics[0] in KIND else ""
    return f"{text}; {'latent' if first.latent else 'first suspect'}: {first.id} ({first.device}){where}"


def _trust(compared: Compared) -> str:
    n = f"{len(compared.normal)} and {len(compared.abnormal)} starts"
    if compared.p is None:
        return f"{n}: no test is possible; repeat the start 3 times a side, better 5"
    return (
        f"{n}, each one value; Welch's t on the logarithms of the totals, wrong in 1 of 100 comparisons without a difference"
    )
