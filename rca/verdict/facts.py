"""What the captures state, and health checks found, as facts that causes are judged by."""

from __future__ import annotations

from collections.abc import Sequence

from rca.capture.findings import Finding, Severity
from rca.verdict.scene import Fact

_SLOWS = ("profiler_stall", "profiler_overhead", "clock_jump", "settings_differ")
"""Findings of what takes time, or shifts times, in one recording and not in the other."""

_KIND_OF = {"hardware_differs": "hardware", "software_differs": "software", "engine_settings_differ": "engine_settings"}


def facts_of(normal: Sequence[Finding], abnormal: Sequence[Finding], differing: Sequence[Finding]) -> tuple[Fact, ...]:
    """Return the facts.

    Args:
        normal: what was found about the recording of the normal side.
        abnormal: of the other.
        differing: settings, versions and devices that differ between the sides.
    """
    sides = {"normal": normal, "abnormal": abnormal}
    codes = {side: {f.code for f in findings if f.severity is not Severity.INFO} for side, findings in sides.items()}
    one_sided = codes["normal"] ^ codes["abnormal"]
    facts = [
        Fact("recording", f"{side} side only: {finding}")
        for side, findings in sides.items()
        for finding in findings
        if finding.code in one_sided.intersection(_SLOWS) and finding.severity is not Severity.INFO
    ]
    for finding in differing:
        kind = _KIND_OF.get(finding.code) or ("recording" if finding.severity is not Severity.INFO else "")
        if kind:
            facts.append(Fact(kind, str(finding)))
    return tuple(facts)
