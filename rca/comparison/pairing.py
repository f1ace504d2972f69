"""Which rank of the normal side is which rank of the abnormal side."""

from __future__ import annotations

from rca.profile import Profile

Pair = tuple[Profile, Profile]


def pair(normal: list[Profile], abnormal: list[Profile]) -> tuple[list[Pair], list[str]]:
    """Pair the ranks of two sides by role, never by pid or file order.

    A restarted server may sit on other GPUs: where no role is on both sides but their numbers agree, roles are paired in
    order, and a note says so.

    Returns:
        The pairs in order of role, and notes on what could not be paired.
    """
    by_role = {profile.rank.role: profile for profile in abnormal}
    pairs = [(own, by_role[own.rank.role]) for own in normal if own.rank.role in by_role]
    if not pairs and len(normal) == len(abnormal):
        pairs = list(zip(normal, abnormal, strict=True))
        roles = ", ".join(f"{n.rank.role} with {a.rank.role}" for n, a in pairs)
        return pairs, [f"no rank is on both sides by name; paired in order: {roles}"]
    paired = {own.rank.role for own, _ in pairs}
    return pairs, [
        f"{profile.rank.role} is on the {side} side only; left out"
        for side, profiles in (("normal", normal), ("abnormal", abnormal))
        for profile in profiles
        if profile.rank.role not in paired
    ]
