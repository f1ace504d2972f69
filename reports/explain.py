"""How the catalogue judged one cause, named or not: what ``rca compare --explain CAUSE`` prints."""

from __future__ import annotations

from rca.api import Comparison
from rca.verdict import duration
from rca.verdict.catalogue import BY_ID, CATALOGUE, EITHER, UNEXPLAINED, Sign
from rca.verdict.judge import describe

_WAY = {1: "up", -1: "down", EITHER: "either way"}


def causes() -> tuple[str, ...]:
    """Return the ids that can be asked for."""
    return (*(entry.id for entry in CATALOGUE), UNEXPLAINED)


def explanation(result: Comparison, cause: str) -> str:
    """Return the text for one of `causes`."""
    if cause == UNEXPLAINED:
        return _unexplained(result)
    entry = BY_ID[cause]
    found = next((one for one in result.verdict.judgements if one.id == cause), None)
    lines = [f"{cause}: {entry.why}", ""]
    if found is None:
        lines.append("Not judged: both sides are the same capture.")
        return "\n".join(lines) + "\n"
    place = next((named.rank for named in result.verdict.causes if named.id == cause), None)
    standing = f"Named, rank {place}" if place else "Not named"
    about = [f"on {found.device}"] if place else []
    about += ["latent"] if found.latent else []
    about += [f"follows {found.follows}"] if found.follows else []
    lines.append(f"{standing}{', ' if about else ''}{', '.join(about)}.")
    lines += _listed("For", found.evidence_for) + _listed("Against", found.evidence_against)
    lines += ["", "Signs that the catalogue looks for:"]
    seen = {one.signal: one for one in sorted(result.verdict.observations, key=lambda one: one.device == found.device)}
    for sign in entry.signs:
        own = seen.get(sign.signal)
        grade = "decisive" if sign.decisive else "supporting"
        moved = "not measured on both sides" if own is None else _moved(own.moved, own.strength) + ": " + describe(own)
        lines.append(f"  - {sign.signal.replace('_', ' ')}, {_WAY[sign.direction]} ({grade}): {moved}")
    for kind in entry.facts:
        lines.append(f"  - a stated fact: {kind.replace('_', ' ')} differs (decisive)")
    lines += _listed("Would be ranked below", [f"{one.cause}: {one.text}" for one in entry.symptom_of])
    if entry.looks_like:
        lines += ["", f"Looks the same: {entry.looks_like}."]
    lines += ["", f"Next check: {entry.next_check}"]
    return "\n".join(lines) + "\n"


def _moved(moved: int, strength: float) -> str:
    if moved:
        return f"moved {'up' if moved > 0 else 'down'}"
    return "did not move by as much as matters" if strength < 1 else "moved, but not surely"


def _listed(title: str, items: tuple[str, ...] | list[str]) -> list[str]:
    return ["", f"{title}:", *(f"  - {item}" for item in items)] if items else []


def _unexplained(result: Comparison) -> str:
    verdict = result.verdict
    lines = [f"{UNEXPLAINED}: the cycle time differs, and nothing in the catalogue accounts for it", ""]
    named = any(cause.id == UNEXPLAINED for cause in verdict.causes)
    lines.append("This is the answer here." if named else "This is not the answer here: " + verdict.headline)
    if verdict.ledger:
        lines += ["", "Where the time went, per cycle:"]
        lines += [
            f"  - {entry.text}: {duration(entry.normal_us)} → {duration(entry.abnormal_us)}"
            for entry in verdict.ledger.entries
        ]
    lines += _listed("Not measured on both sides", verdict.not_measured)
    return "\n".join(lines) + "\n"


def catalogue_table() -> str:
    """Return the whole catalogue as a markdown table, for the documentation."""
    rows = ["| cause | why | decisive signs | supporting | follows from |", "|---|---|---|---|---|"]
    for entry in CATALOGUE:
        signs = {decisive: [_sign(sign) for sign in entry.signs if sign.decisive is decisive] for decisive in (True, False)}
        stated = [f"stated: another {kind.replace('_', ' ')}" for kind in entry.facts]
        parents = list(dict.fromkeys(parent.cause for parent in entry.symptom_of))
        cells = (f"`{entry.id}`", entry.why, "; ".join([*stated, *signs[True]]), "; ".join(signs[False]), ", ".join(parents))
        rows.append(f"| {' | '.join(cell or '–' for cell in cells)} |")
    return "\n".join(rows) + "\n"


def _sign(sign: Sign) -> str:
    condition = f" (else: {sign.otherwise})" if sign.otherwise else ""
    return f"{sign.signal.replace('_', ' ')} {_WAY[sign.direction]}{condition}"
