"""The verdict box as formatted cells: ledger, causes with for and against, what was not measured. Computes no statistic."""

from __future__ import annotations

from dataclasses import dataclass

from rca.api import Comparison
from rca.verdict import Cause, Ledger, duration
from rca.verdict.catalogue import BY_ID
from rca.verdict.ledger import Entry
from reports.cells import Table

MAX_CAUSES = 5
MAX_EVIDENCE = 4


@dataclass(frozen=True)
class CauseView:
    """One named cause."""

    title: str
    why: str
    evidence_for: tuple[str, ...]
    evidence_against: tuple[str, ...]
    missing: str
    looks_like: str
    next_check: str


@dataclass(frozen=True)
class VerdictView:
    """What leads a report, below status and headline."""

    work: str
    trust: str
    ledger: Table | None
    ledger_note: str
    causes: tuple[CauseView, ...]
    no_causes: str
    more_causes: str
    not_measured: tuple[str, ...]


def verdict_view(result: Comparison) -> VerdictView:
    """Format the verdict of a comparison."""
    verdict = result.verdict
    left_out = verdict.causes[MAX_CAUSES:]
    return VerdictView(
        work=verdict.work,
        trust=verdict.trust,
        ledger=_ledger(verdict.ledger) if verdict.ledger else None,
        ledger_note=_ledger_note(verdict.ledger) if verdict.ledger else "",
        causes=tuple(_cause(cause) for cause in verdict.causes[:MAX_CAUSES]),
        no_causes=_no_causes(result),
        more_causes=f"also named: {', '.join(cause.id for cause in left_out)}" if left_out else "",
        not_measured=verdict.not_measured,
    )


def cause_title(cause: Cause) -> str:
    """Name a cause with its device, its confidence and its standing: ``gpu_clock (GPU 7, latent)``."""
    about = [cause.device]
    if cause.confidence is not None:
        about.append(f"confidence {cause.confidence:.0%}")
    if cause.latent:
        about.append("latent")
    if cause.follows:
        about.append(f"follows {cause.follows}")
    return f"{cause.id} ({', '.join(about)})"


def _cause(cause: Cause) -> CauseView:
    entry = BY_ID.get(cause.id)
    return CauseView(
        title=cause_title(cause),
        why=entry.why if entry else "nothing in the catalogue accounts for the change; this is where the time went",
        evidence_for=cause.evidence_for[:MAX_EVIDENCE],
        evidence_against=cause.evidence_against[:MAX_EVIDENCE],
        missing="; ".join(cause.missing[:MAX_EVIDENCE]),
        looks_like=cause.looks_like,
        next_check=cause.next_check,
    )


def _ledger(ledger: Ledger) -> Table:
    rows = [
        (
            entry.text,
            duration(entry.normal_us),
            duration(entry.abnormal_us),
            signed(entry.change_us) + _interval(entry),
            f"{entry.change_us / ledger.change_us:.0%}" if ledger.change_us else "-",
        )
        for entry in ledger.entries
    ]
    if abs(ledger.residual_us) >= 1:
        share = f"{ledger.residual_us / ledger.change_us:.0%}" if ledger.change_us else "-"
        rows.append(("residual", "-", "-", signed(ledger.residual_us), share))
    normal, abnormal = (sum(getattr(entry, f"{side}_us") for entry in ledger.entries) for side in ("normal", "abnormal"))
    rows.append(("mean cycle", duration(normal), duration(abnormal), signed(ledger.change_us), "100%"))
    headers = ("Where the time goes, per cycle", "Normal", "Abnormal", "Δ, abnormal - normal (95 % CI)", "Share of Δ")
    return Table(headers, tuple(rows))


def _interval(entry: Entry) -> str:
    if entry.low_us is None or entry.high_us is None:
        return ""
    return f" ({signed(entry.low_us)} to {signed(entry.high_us)})"


def _ledger_note(ledger: Ledger) -> str:
    if ledger.timeline:
        return ""
    return (
        "From summed durations, not from a timeline: threads and streams overlap, so a part is cut to what the others left."
    )


def signed(us: float) -> str:
    """Write a change with its sign."""
    return ("+" if us >= 0 else "-") + duration(abs(us))


def _no_causes(result: Comparison) -> str:
    if result.verdict.status == "no_difference":
        return "none is named: no signal of the catalogue moved by as much as matters"
    if result.verdict.observations:
        return "none is named: of what was recorded on both sides, no signal of the catalogue moved by as much as matters"
    return "not judged: nothing was recorded on both sides that a cause could be told by"
