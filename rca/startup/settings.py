"""What the two sides were started with: versions and settings that differ in every start."""

from __future__ import annotations

import re

from rca.startup.scene import Scene

COSTS = re.compile(
    r"parallel|_size$|^(?:tp|pp|dp|ep)$|dtype|quant|eager|compil|graph|^max_|load_format|attention|spec|mem|backend|cache|layers"
)
"""Settings that change what a start has to do; others, as a name to serve under, are cheap."""

_MOST_SHOWN = 6


def versions(scene: Scene) -> str:
    """Say that the sides run different versions; empty where they do not, or where logs do not say."""
    sides = [sorted({s.version for s in own if s.version}) for own in (scene.compared.normal, scene.compared.abnormal)]
    if not all(sides) or set(sides[0]) & set(sides[1]):
        return ""
    return f"version {' or '.join(sides[0])} → {' or '.join(sides[1])}"


def settings(scene: Scene) -> list[str]:
    """Return settings that have one value in all starts of a side and another one in all of the other, costly ones first.

    A setting that only one side lists counts where versions agree: else it may be as old as the other version's default.
    """
    sides = scene.compared.normal, scene.compared.abnormal
    other_version = bool(versions(scene))
    found = []
    for name in sorted({name for own in sides for start in own for name in start.parameters}):
        values = [{start.parameters.get(name, "not given") for start in own} for own in sides]
        stated = all(name in start.parameters for own in sides for start in own)
        if all(len(own) == 1 for own in values) and values[0] != values[1] and (stated or not other_version):
            found.append((not COSTS.search(name), f"{name}: {values[0].pop()} → {values[1].pop()}"))
    return [text for _, text in sorted(found)]


def costly(scene: Scene) -> str:
    """Say in one line what differs that may cost time at the start; empty where nothing does."""
    differing = [text for text in settings(scene) if COSTS.search(text.partition(":")[0])]
    return "; ".join([text for text in (versions(scene), *differing) if text][:_MOST_SHOWN])
