"""The cause `capture_artifact`: the profiler, or the way of recording, made the difference."""

from __future__ import annotations

from dataclasses import dataclass

from rca.capture.findings import Finding, Severity
from rca.verdict.model import Cause

_SLOWS = ("profiler_stall", "profiler_overhead", "clock_jump", "settings_differ")
"""Findings of what takes time, or shifts times, in one recording and not in the other."""


@dataclass(frozen=True)
class Recording:
    """What was found about the recording of both sides, and about their settings together."""

    normal: tuple[Finding, ...] = ()
    abnormal: tuple[Finding, ...] = ()
    settings: tuple[Finding, ...] = ()


def artifact(recording: Recording, rank: int) -> Cause | None:
    """Return the cause, of the given rank, if one side's recording suffered from what the other's did not."""
    sides = {"normal": recording.normal, "abnormal": recording.abnormal}
    codes = {side: {f.code for f in findings if f.severity is not Severity.INFO} for side, findings in sides.items()}
    one_sided = codes["normal"] ^ codes["abnormal"]
    evidence = [
        f"{side} side only: {finding}"
        for side, findings in sides.items()
        for finding in findings
        if finding.code in one_sided.intersection(_SLOWS) and finding.severity is not Severity.INFO
    ]
    evidence += [str(finding) for finding in recording.settings if finding.severity is not Severity.INFO]
    if not evidence:
        return None
    return Cause(
        id="capture_artifact",
        rank=rank,
        confidence=None,
        latent=False,
        device="Host",
        metrics=(),
        evidence_for=tuple(evidence),
        evidence_against=(),
        missing=(),
        next_check="record both sides again with the same profiler settings, without stacks, and compare those",
    )
