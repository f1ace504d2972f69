"""What every text report shows, as formatted cells: one value for markdown, Jira and the terminal. Computes no statistic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from rca.api import Comparison
from rca.comparison import RankComparison
from rca.verdict import duration
from rca.version import COMPARISON_SCHEMA, __version__
from reports.cells import Table
from reports.cells import plain as _plain
from reports.names import NameIndex
from reports.verdict_view import VerdictView, verdict_view

REPORTING_SUSPICION = 10
"""Suspicion from which the reference calls a change significant; used for Key Findings as it does."""

MAX_FINDINGS = 3
MAX_COUNTERS = 12
MAX_CHANGED = 12
_QUANTILES = (
    (0.0, "min"),
    (0.05, "5 %"),
    (0.25, "25 %"),
    (0.5, "median"),
    (0.75, "75 %"),
    (0.95, "95 %"),
    (1.0, "max"),
)

_DIRECTION = "abnormal - normal"
"""In every header of a difference: readers have taken before/after tables the wrong way round."""

STATUS_WORDS = {
    "slower": "SLOWER",
    "faster": "FASTER",
    "no_difference": "NO SIGNIFICANT DIFFERENCE",
    "not_comparable": "NOT COMPARABLE",
    "insufficient_data": "TOO LITTLE DATA",
}


@dataclass(frozen=True)
class Finding:
    """One Key Finding: a function whose share of the cycle moved, and the counters that moved with it."""

    function: str
    device: str
    sentence: str
    metrics: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RankView:
    """The seed report's sections for one rank."""

    heading: str
    summary: Table
    quantiles: Table
    phases: Table | None
    overview: tuple[str, ...]
    changed: Table | None
    findings: tuple[Finding, ...]
    counters: Table | None
    detail: Table
    detail_note: str
    functions: tuple[str, ...]
    """Full names: those that the prose may mention, then those of the detailed table's rows."""
    mentioned: int
    no_findings: str


@dataclass(frozen=True)
class View:
    """Everything a text report shows. ``index`` has the full names behind shortened ones."""

    title: str
    status: str
    headline: str
    reasons: tuple[str, ...]
    verdict: VerdictView
    warnings: tuple[str, ...]
    overview: Table | None
    ranks: tuple[RankView, ...]
    legend: tuple[tuple[str, str], ...]
    index: NameIndex
    provenance: Table
    version: str


def view(result: Comparison) -> View:
    """Format a comparison."""
    index = NameIndex(n for rank in result.ranks for n in (*rank.rows["function"], *rank.functions["function"]))
    verdict = result.verdict
    ordered = sorted(result.ranks, key=lambda rank: rank.role != verdict.role)  # the one that the headline is about first
    sides = side_names(result)
    return View(
        title=f"Cross Performance Comparison: {sides[0]} vs {sides[1]} ({_pids(result)})",
        status=STATUS_WORDS[verdict.status],
        headline=verdict.headline,
        reasons=_reasons(result),
        verdict=verdict_view(result),
        warnings=result.warnings,
        overview=_rank_overview(result) if len(ordered) > 1 else None,
        ranks=tuple(_rank_view(rank, index, len(ordered) > 1) for rank in ordered),
        legend=_LEGEND,
        index=index,
        provenance=Table(
            ("Side", "File", "Format", "Bytes", "SHA-256"),
            tuple(
                (side, file.path, file.format, f"{file.size_bytes:,}", file.sha256[:16])
                for side, capture in (("normal", result.normal), ("abnormal", result.abnormal))
                for file in capture.files
            ),
            frozenset({1}),
        ),
        version=f"rca {__version__}, {COMPARISON_SCHEMA}",
    )


def _reasons(result: Comparison) -> tuple[str, ...]:
    """Return why ranks cannot be compared, less what the headline says."""
    several = len(result.ranks) > 1
    named = [(f"{rank.role}: " if several else "", reason) for rank in result.ranks for reason in rank.gate.reasons]
    return tuple(dict.fromkeys(role + reason for role, reason in named if several or reason not in result.verdict.headline))


def _rank_overview(result: Comparison) -> Table:
    rows = []
    for rank in result.ranks:
        time = rank.cycle_time
        shift = (
            f"{time.ratio.estimate - 1:+.1%} ({time.ratio.low - 1:+.1%} to {time.ratio.high - 1:+.1%})"
            if time.ratio
            else "-"
        )
        numbers = (_plain(time.normal_us), _plain(time.abnormal_us), shift, _plain(time.p_value))
        rows.append((rank.role, f"{time.n_normal}, {time.n_abnormal}", *numbers, "yes" if rank.gate.ok else "no"))
    headers = (
        "Rank",
        "Cycles",
        "Normal median (us)",
        "Abnormal median (us)",
        f"Shift, {_DIRECTION} (95 % CI)",
        "p",
        "Comparable",
    )
    return Table(headers, tuple(rows))


def side_names(result: Comparison) -> tuple[str, str]:
    """Name the sides by the last part of their paths, with the folder above where those agree."""
    paths = [result.normal.path.resolve(), result.abnormal.path.resolve()]
    names = [path.name for path in paths]
    if names[0] == names[1] or set(names) == {"normal", "abnormal"}:
        names = ["/".join(path.parts[-2:]) for path in paths]
    return names[0], names[1]


def _pids(result: Comparison) -> str:
    sides = [", ".join(str(getattr(rank, side).pid) for rank in result.ranks) for side in ("normal", "abnormal")]
    return f"Normal PID:{sides[0]} vs Abnormal PID:{sides[1]}" if result.ranks else "counters only"


def _rank_view(rank: RankComparison, index: NameIndex, several: bool) -> RankView:
    suspicious = rank.rows.filter(pl.col("suspicion") > REPORTING_SUSPICION)["function"].unique(maintain_order=True)
    mentioned = (*_shifted(rank)["function"].head(MAX_FINDINGS), *suspicious.head(MAX_FINDINGS), *_most_changed(rank))
    return RankView(
        heading=f"{rank.role} (normal PID {rank.normal.pid}, abnormal PID {rank.abnormal.pid})" if several else "",
        summary=_summary(rank),
        quantiles=_quantiles(rank),
        phases=_phases(rank),
        overview=_overview(rank, index),
        changed=_changed(rank, index) if rank.gate.ok else None,
        findings=_findings(rank, index) if rank.gate.ok else (),
        counters=_counters(rank),
        detail=_detail(rank, index),
        detail_note=(
            f"{rank.rows_left_out} functions have no counter and so, as in the reference, no row here; their times are in "
            "the JSON's functions[]."
            if rank.rows_left_out
            else ""
        ),
        functions=(*mentioned, *rank.rows["function"]),
        mentioned=len(mentioned),
        no_findings=(
            f"No row has a Suspicion Score above {REPORTING_SUSPICION}."
            if rank.gate.ok
            else "None: shares of cycles that are not the same work cannot be set against each other."
        ),
    )


def _summary(rank: RankComparison) -> Table:
    stratum = "" if rank.gate.stratum in ("unknown", "all") else f", {rank.gate.stratum} only"
    compare = rank.gate.ok
    mean = list(rank.distribution.row(-1)[1:])
    compared = [rank.cycle_time.n_normal, rank.cycle_time.n_abnormal]
    median = [rank.cycle_time.normal_us, rank.cycle_time.abnormal_us]
    total = [rank.normal.cycles.height, rank.abnormal.cycles.height]
    per_cycle = [rank.gate.facts["normal_per_cycle"], rank.gate.facts["abnormal_per_cycle"]]
    ratio = rank.cycle_time.ratio
    rows = [
        ("Anchor", rank.normal.anchor, rank.abnormal.anchor, "-", "-"),
        ("Total Cycles", *(f"{n:,}" for n in total), f"{total[1] - total[0]:,}", "-"),
        (
            f"Cycles compared{stratum}",
            *(f"{n:,}" for n in compared),
            f"{compared[1] - compared[0]:,}",
            "-",
        ),
        ("Avg Cycle Time (us)", *_pair(mean, compare)),
        ("Median Cycle Time (us)", *_pair(median, compare)),
        (
            "Shift of cycle time, Hodges-Lehmann (95 % CI)",
            "-",
            "-",
            "-",
            f"{ratio.estimate - 1:+.2%} ({ratio.low - 1:+.2%} to {ratio.high - 1:+.2%})" if ratio else "-",
        ),
        (f"Median {rank.gate.facts['counted']} per cycle", *(_plain(v) for v in per_cycle), "-", "-"),
    ]
    coverage = [rank.normal.coverage, rank.abnormal.coverage]
    if any(share is not None for share in coverage):
        rows.insert(1, ("Recorded time in cycles", _share(coverage[0]), _share(coverage[1]), "-", "-"))
    return Table(("Metric", "Normal", "Abnormal", "Δ (abnormal - normal)", "Change (%)"), tuple(rows))


def _pair(values: Sequence[float], compare: bool) -> tuple[str, str, str, str]:
    one, two = values
    if not compare:
        return f"{one:,.2f}", f"{two:,.2f}", "not comparable", "-"
    return f"{one:,.2f}", f"{two:,.2f}", f"{two - one:,.2f}", f"{two / one - 1:+.2%}" if one else "-"


def _quantiles(rank: RankComparison) -> Table:
    rows = []
    for q, one, two in rank.distribution.iter_rows():
        label = "mean" if q is None else _QUANTILE_NAMES.get(q, f"{q:.0%}")
        rows.append((label, *_pair((one, two), rank.gate.ok)))
    return Table(("Quantile", "Normal Time (us)", "Abnormal Time (us)", "Δ (abnormal - normal, us)", "Δ (%)"), tuple(rows))


_QUANTILE_NAMES = {0.0: "min", 0.5: "median", 1.0: "max"}


def _phases(rank: RankComparison) -> Table | None:
    if rank.phases.height < 2:
        return None
    rows = tuple(
        (
            row["phase"],
            *(_plain(row[column]) for column in ("n_normal", "n_abnormal", "normal_us", "abnormal_us")),
            "not tested"
            if row["ratio"] is None
            else f"{row['ratio'] - 1:+.1%} ({row['low'] - 1:+.1%} to {row['high'] - 1:+.1%})",
            _plain(row["p_value"]),
        )
        for row in rank.phases.iter_rows(named=True)
    )
    headers = (
        "Phase",
        "Normal cycles",
        "Abnormal cycles",
        "Normal median (us)",
        "Abnormal median (us)",
        f"Shift, {_DIRECTION} (95 % CI)",
        "p",
    )
    return Table(headers, rows)


def _shifted(rank: RankComparison) -> pl.DataFrame:
    """Return the functions whose time per cycle changed, the largest shift first; none where cycles are not alike."""
    changed = (pl.col("q") < 0.05) & (pl.col("shift_us") != 0)
    return rank.functions.filter(changed) if rank.gate.ok else rank.functions.clear()


def _overview(rank: RankComparison, index: NameIndex) -> tuple[str, ...]:
    paragraphs = []
    shifted = _shifted(rank)
    if not rank.gate.ok:
        paragraphs.append(
            "The cycles of the two sides are not the same work, so shares of a cycle (β) and times per cycle below are "
            "not evidence of a change. Counters (μ) do not depend on the cycle and can be read."
        )
    elif shifted.height:
        parts = [
            f"{_code(row['function'], index)} {_signed_us(row['shift_us'])} "
            f"({_signed_us(row['shift_low_us'])} to {_signed_us(row['shift_high_us'])})"
            for row in shifted.head(MAX_FINDINGS).iter_rows(named=True)
        ]
        paragraphs.append(
            f"{shifted.height} of {rank.functions.height} functions take a different time per cycle (q < 0.05); the "
            f"largest shifts, with 95 % intervals: {'; '.join(parts)}."
        )
    else:
        paragraphs.append(f"None of {rank.functions.height} functions takes a different time per cycle (q < 0.05).")
    if rank.any_difference_p is not None and rank.gate.ok:
        paragraphs.append(f"Over all functions at once (max-statistic permutation test): p = {rank.any_difference_p:.3g}.")
    return tuple(paragraphs)


def _most_changed(rank: RankComparison) -> list[str]:
    if not rank.gate.ok:
        return []
    change = (pl.col("abnormal_mean_us") - pl.col("normal_mean_us")).abs()
    return rank.functions.sort(change, "function", descending=[True, False])["function"].head(MAX_CHANGED).to_list()


def _changed(rank: RankComparison, index: NameIndex) -> Table | None:
    """Return the functions whose mean time per cycle changed most: by the number of calls, and by the time of a call."""
    change = (pl.col("abnormal_mean_us") - pl.col("normal_mean_us")).alias("change")
    largest = (
        rank.functions.with_columns(change).filter(change != 0).sort(change.abs(), "function", descending=[True, False])
    )
    rows = tuple(
        (
            _name(row["function"], index),
            row["device"],
            _signed_us(row["change"]),
            _signed_us(row["count_effect_us"]),
            _signed_us(row["duration_effect_us"]),
            _calls(row["normal_count"], row["abnormal_count"]),
            _plain(row["q"]),
        )
        for row in largest.head(MAX_CHANGED).iter_rows(named=True)
    )
    headers = ("Function", "Device", "Δ mean per cycle", "by calls", "by time of a call", "Calls per cycle", "q (time)")
    return Table(headers, rows, frozenset({0})) if rows else None


def _calls(normal: float, abnormal: float) -> str:
    if normal and not abnormal:
        return f"{_plain(normal)}, removed"
    return f"{_plain(normal)} → {_plain(abnormal)}" if normal else f"{_plain(abnormal)}, added"


def _findings(rank: RankComparison, index: NameIndex) -> tuple[Finding, ...]:
    suspicious = rank.rows.filter(pl.col("suspicion") > REPORTING_SUSPICION)
    findings: list[Finding] = []
    for (function, device), rows in suspicious.group_by("function", "device", maintain_order=True):
        if len(findings) == MAX_FINDINGS:
            break
        top = rows.row(0, named=True)
        p_value = top["u_p_beta"]
        doubt = "significant" if p_value < 0.05 else "not significant"
        word = "increased" if top["delta_beta"] > 0 else "decreased"
        findings.append(
            Finding(
                function=_code(str(function), index),
                device=str(device),
                sentence=(
                    f"its share of the cycle (β) {word} from {top['beta_normal']:.2f}% to {top['beta_abnormal']:.2f}% "
                    f"({top['delta_beta']:+.2f} ppt; U-test p = {p_value:.3g}, {doubt} before correction)"
                ),
                metrics=tuple(
                    (row["metric"], f"{_plain(row['mu_normal'])} → {_plain(row['mu_abnormal'])}")
                    for row in rows.head(3).iter_rows(named=True)
                    if row["metric"] != "N/A" and row["delta_mu"] != 0
                ),
            )
        )
    return tuple(findings)


def _counters(rank: RankComparison) -> Table | None:
    if rank.metrics.height == 0:
        return None
    rows = tuple(
        (
            row["metric"],
            row["device"],
            *(_plain(row[column]) for column in ("normal", "abnormal")),
            f"{_plain(row['shift'])} ({_plain(row['shift_low'])} to {_plain(row['shift_high'])})",
            *(_plain(row[column]) for column in ("cliffs_delta", "q")),
            f"{row['effective_normal']:.0f}, {row['effective_abnormal']:.0f}",
        )
        for row in rank.metrics.head(MAX_COUNTERS).iter_rows(named=True)
    )
    headers = ("Counter", "Device", "Normal", "Abnormal", f"Shift, {_DIRECTION} (95 % CI)", "Cliff's δ", "q", "Effective n")
    return Table(headers, rows, frozenset({0}))


_DETAIL = (
    ("Metric Name", "metric"),
    ("Device", "device"),
    ("Suspicion Score", "suspicion"),
    ("β normal (%)", "beta_normal"),
    ("β abnormal (%)", "beta_abnormal"),
    ("Δβ (abnormal - normal, %)", "delta_beta"),
    ("Z-Score (β)", "z_beta"),
    ("p-value (β)", "p_beta"),
    ("U-test p (β)", "u_p_beta"),
    ("μ normal", "mu_normal"),
    ("μ abnormal", "mu_abnormal"),
    ("Δμ (abnormal - normal)", "delta_mu"),
    ("Z-Score (μ)", "z_mu"),
    ("Z-Score (log_μ)", "z_log_mu"),
    ("p-value (μ)", "p_mu"),
    ("U-test p (μ)", "u_p_mu"),
)


def _detail(rank: RankComparison, index: NameIndex) -> Table:
    headers = (
        "Function Name",
        *(header for header, _ in _DETAIL),
        "Δ time per cycle (abnormal - normal, us) (95 % CI)",
        "Cliff's δ",
        "q (time)",
    )
    rows = tuple(
        (
            _name(row["function"], index),
            *(_cell(row[column]) for _, column in _DETAIL),
            f"{_plain(row['shift_us'])} ({_plain(row['shift_low_us'])} to {_plain(row['shift_high_us'])})",
            _cell(row["cliffs_delta"]),
            _cell(row["q_time"]),
        )
        for row in rank.rows.iter_rows(named=True)
    )
    return Table(headers, rows, frozenset({0}))


def _name(full: str, index: NameIndex) -> str:
    number = index.number.get(full)
    return index.short(full) + (f" [{number}]" if number else "")


def _code(full: str, index: NameIndex) -> str:
    return f"`{_name(full, index).replace('`', chr(39))}`"


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else _plain(value)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _signed_us(us: float) -> str:
    return "-" if math.isnan(us) else ("+" if us >= 0 else "-") + duration(abs(us))


_LEGEND = (
    (
        "β (Beta)",
        "time of a function in a cycle / duration of the cycle, in %; more than 100 % when threads or streams overlap",
    ),
    ("μ (Mu)", "time-weighted mean of a counter while the function ran (×100 for counters that are not percentages)"),
    ("Device", "where the function ran: Host or a GPU"),
    ("Δ, direction", "always abnormal - normal"),
    (
        "Z-Score",
        "(mean abnormal - mean normal) / standard deviation of normal; explodes where the normal side hardly varies",
    ),
    (
        "p-value, U-test p",
        "Welch t and Mann-Whitney U over rows, not corrected for the number of tests: about 1 in 20 is below 0.05 by chance",
    ),
    (
        "Suspicion Score",
        "|Δβ| * (|Z-Score(β)| + |Z-Score(log_μ)|); ranks rows, no evidence: captures that do not differ often score over 10",
    ),
    (
        "Δ time per cycle",
        "Hodges-Lehmann shift of the function's time per cycle, one value per cycle, with block-bootstrap interval",
    ),
    ("Cliff's δ", "P(abnormal > normal) - P(abnormal < normal) over cycles, -1 to 1"),
    (
        "q (time)",
        "Mann-Whitney p of the time per cycle with serial dependence counted, Benjamini-Hochberg over all functions",
    ),
    ("calls, time of a call", "the change of the mean time per cycle, split into how often and how long; the two sum to it"),
    ("latent", "the cause is there, but the cycle time does not show it (yet)"),
    ("follows", "another cause that is named brings its signs about"),
)
