"""The catalogue against what was seen: which causes are named, why, and why the others are not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from rca.capture.tables import HOST
from rca.verdict.catalogue import BY_ID, CATALOGUE, EITHER, Entry, Sign
from rca.verdict.observe import Observation
from rca.verdict.scene import Scene
from rca.verdict.signals import BY_ID as SIGNAL

FACT_STRENGTH = {"hardware": 1e6, "recording": 8.0, "software": 2.0, "engine_settings": 1.5}
"""What is stated is sure, but not how much it matters. Another device makes every number another one. Another version or
setting may do nothing: what it does shows in the calls of a cycle."""

LATENT_SHARE = 0.05
"""A cause whose parts of the ledger hold less than this of the change is not what changed the cycle."""


FULL = 10.0
"""Times the smallest change that matters, from which on a sign could not be clearer."""

HIDDEN_SHARE = 0.3
"""GPU work that grew by more than this share of the change may have been waited for in ways that no trace shows."""


@dataclass(frozen=True)
class Judgement:
    """What the catalogue makes of one cause on one device.

    Attributes:
        id: of the cause.
        device: where its strongest sign was seen.
        named: whether it is named.
        worse: +1 if the abnormal side has it, −1 if the normal one.
        strength: how many times the smallest change that matters its strongest decisive sign moved by.
        decisive: number of decisive signs that moved.
        latent: it is there, but the cycle does not show it.
        follows: id of the cause that brings its signs about, empty if none does.
        metrics: what its signs were read from, in the catalogue's order: what nobody but the cause moves comes first.
        evidence_for, evidence_against: sentences.
        missing: signs that were not measured on both sides.
    """

    id: str
    device: str
    named: bool
    worse: int
    strength: float
    decisive: int
    latent: bool
    follows: str
    metrics: tuple[str, ...]
    evidence_for: tuple[str, ...]
    evidence_against: tuple[str, ...]
    missing: tuple[str, ...]


def judge(scenes: Sequence[Scene]) -> tuple[Judgement, ...]:
    """Judge every cause of the catalogue.

    Args:
        scenes: one per rank, at least one; the one that the headline is about first.

    Returns:
        One judgement per cause: the named ones first, as they are ranked, then the others in the catalogue's order.
    """
    everywhere = {entry.id: [(_judged(entry, scene), scene) for scene in _views(entry, scenes)] for entry in CATALOGUE}
    best = [_strongest(found) for found in everywhere.values()]
    ranked = _ranked(_followed(best, everywhere))
    judgements = [one for one, _ in ranked]
    return tuple(
        replace(one, evidence_against=(*one.evidence_against, *_why_not_first(one, judgements))) for one in judgements
    )


def _views(entry: Entry, scenes: Sequence[Scene]) -> Iterable[Scene]:
    """Yield the scenes in which an entry is judged: each rank, on each of its GPUs, taken to be worse on either side."""
    for scene in scenes:
        gpus = sorted({device for _, device in scene.observations if device != HOST})
        for device in (gpus or [HOST]) if entry.per_gpu else [HOST]:
            for worse in {"slower": (1,), "faster": (-1,)}.get(scene.status, (1, -1)):
                yield replace(scene, device=device, worse=worse)


_Seen = tuple[Judgement, Scene]
"""A judgement and the scene that it was made in."""


def _strongest(found: Sequence[_Seen]) -> _Seen:
    best, scene = max(found, key=lambda one: (one[0].named, not one[0].latent, one[0].strength))  # the first of equals
    others = sorted({one.device for one, _ in found if one.named and one.device != best.device})
    if best.named and others:
        best = replace(best, evidence_for=(*best.evidence_for, f"the same on {', '.join(others)}"))
    return best, scene


def _judged(entry: Entry, scene: Scene) -> Judgement:
    decisive, supporting, against, missing = _read_signs(entry, scene)
    facts = [fact for fact in scene.facts if fact.kind in entry.facts] if entry.facts_when(scene) else []
    refuted = [one for one in entry.refuted_by if one.rule(scene)]
    named = bool(decisive or facts) and not any(one.final for one in refuted)
    strengths = [one.strength for one in decisive] + [FACT_STRENGTH[fact.kind] for fact in facts]
    side = [] if scene.worse > 0 or not (decisive or supporting) else ["it is the normal side that has it"]
    return Judgement(
        id=entry.id,
        device=decisive[0].device if decisive else HOST,
        named=named,
        worse=scene.worse,
        strength=max(strengths, default=0.0),
        decisive=len(decisive) + len(facts),
        latent=named and _is_latent(entry, scene),
        follows="",
        metrics=tuple(dict.fromkeys(metric for one in (*decisive, *supporting) for metric in one.metrics)),
        evidence_for=(*(fact.text for fact in facts), *map(describe, (*decisive, *supporting)), *side),
        evidence_against=(*against, *(one.text for one in refuted)),
        missing=tuple(missing),
    )


def _read_signs(entry: Entry, scene: Scene) -> tuple[list[Observation], list[Observation], list[str], list[str]]:
    """Sort the signs of an entry: decisive ones that moved, supporting ones, what speaks against it, what is missing."""
    decisive, supporting, against, missing = [], [], [], []
    for sign in entry.signs:
        seen = scene.seen(sign.signal)
        if seen is None:
            missing += [_what(sign)] if scene.lacks(sign.signal) else []
        elif not _as_predicted(sign, scene):
            if sign.decisive and scene.moved(sign.signal):
                against.append(f"moved the other way: {describe(seen)}")
        elif not sign.decisive:
            supporting.append(seen)
        elif sign.when is None or sign.when(scene):
            decisive.append(seen)
        else:
            against.append(f"{describe(seen)}: {sign.otherwise}")
    return decisive, supporting, against, missing


def _as_predicted(sign: Sign, scene: Scene) -> bool:
    moved = scene.moved(sign.signal)
    return moved != 0 and sign.direction in {EITHER, moved}


def _what(sign: Sign) -> str:
    signal = SIGNAL.get(sign.signal)
    return f"{signal.text} ({signal.metrics[0]})" if signal else sign.signal.replace("_", " ")


def _is_latent(entry: Entry, scene: Scene) -> bool:
    """Tell whether the cycle does not show a cause: it did not change, or the time was lost elsewhere."""
    if scene.status in ("not_comparable", "insufficient_data"):
        return False  # nobody knows
    if not scene.shows:
        return True
    if not entry.parts or scene.ledger is None or not scene.ledger.timeline:
        return False
    return scene.ledger.share(*entry.parts) < LATENT_SHARE and not (entry.per_gpu and _gpu_grew(scene))


def _gpu_grew(scene: Scene) -> bool:
    """Tell whether the GPU's work, hidden behind the host or not, grew by a good part of the change: then who knows."""
    if scene.rank is None or scene.ledger is None:
        return False
    own = scene.rank.functions.filter(pl.col("device") == scene.device)
    grown = float((own["abnormal_mean_us"] - own["normal_mean_us"]).sum())
    return grown / scene.ledger.change_us >= HIDDEN_SHARE if scene.ledger.change_us else False


def _followed(found: Sequence[_Seen], everywhere: Mapping[str, Sequence[_Seen]]) -> list[_Seen]:
    """Mark causes that follow from others: named ones, on the same device, that do not themselves follow from this one."""
    follows: dict[str, str] = {}
    named = {one.id: one for one, _ in found if one.named}
    marked = []
    for one, scene in found:
        for parent in BY_ID[one.id].symptom_of:
            there = named.get(parent.cause)
            back = follows.get(parent.cause) == one.id
            # a cause that is latent itself does not make the cycle slow through another one
            if not one.named or there is None or back or (there.latent and not one.latent) or not parent.rule(scene):
                continue
            if _on_one_device(one, [other for other, _ in everywhere[parent.cause] if other.named]):
                follows[one.id] = parent.cause
                why = f"may follow from {parent.cause}: {parent.text}"
                one = replace(one, follows=parent.cause, evidence_against=(*one.evidence_against, why))  # noqa: PLW2901
                break
        marked.append((one, scene))
    return marked


def _on_one_device(one: Judgement, parents: Sequence[Judgement]) -> bool:
    return any(HOST in (one.device, parent.device) or one.device == parent.device for parent in parents)


def _ranked(found: Sequence[_Seen]) -> list[_Seen]:
    order = {entry.id: place for place, entry in enumerate(CATALOGUE)}
    first = ("hardware_change",)  # no other number means anything then

    def key(seen: _Seen) -> tuple[object, ...]:
        one, scene = seen
        return (not one.named, one.latent, bool(one.follows), one.id not in first, -_weight(one, scene), order[one.id])

    return sorted(found, key=key)


def _weight(one: Judgement, scene: Scene) -> float:
    """Return what a cause is ranked by: the strength of its sign, and how much of the change lies where it takes its time.

    Strengths of different signals are only roughly comparable: beyond `FULL` they count alike.
    """
    parts = BY_ID[one.id].parts
    where = 1.0
    if parts and scene.ledger is not None and scene.ledger.timeline and not one.latent:
        where = min(max(scene.ledger.share(*parts), LATENT_SHARE), 1.0)
    return min(one.strength, FULL) * where


def _why_not_first(one: Judgement, ranked: Sequence[Judgement]) -> list[str]:
    first = ranked[0]
    if not one.named or one is first or one.follows:
        return []
    if one.latent and not first.latent:
        return [f"ranked below {first.id}: the cycle does not show it"]
    own, other = _times(one.strength), _times(first.strength)
    return [f"ranked below {first.id}: its strongest sign moved {own} the least that matters, that of {first.id} {other}"]


def _times(strength: float) -> str:
    return "without measure" if math.isinf(strength) else f"{strength:.3g} times"


def describe(one: Observation) -> str:
    """Write an observation as evidence: what moved, from where to where, how surely."""
    if one.signal == "changed_calls":
        return f"{one.abnormal:.3g} % of the calls of a cycle are on one side only or differ in number in every cycle"
    numbers = f"{_number(one.normal)} → {_number(one.abnormal)} {one.unit}"
    interval = f"shift {_number(one.shift, True)}, 95 % CI {_number(one.low, True)} to {_number(one.high, True)}"
    worth = f"effective n {one.effective[0]:.0f} and {one.effective[1]:.0f}"
    grade = f"q = {one.q:.2g}" if one.q < 0.05 or one.apart < 1 else "no overlap"
    return (
        f"{one.metrics[0]} on {one.device}: {one.text} {numbers} ({interval}, Cliff's δ {one.delta:+.2f}, {grade}, {worth})"
    )


def _number(value: float, sign: bool = False) -> str:
    plus = "+" if sign else ""
    return f"{value:{plus},.0f}" if 1000 <= abs(value) < 1e6 else f"{value:{plus}.3g}"
