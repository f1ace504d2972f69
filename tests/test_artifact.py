"""When the way of recording is named as a cause."""

from __future__ import annotations

from rca.capture import Finding, Severity
from rca.verdict import Recording
from rca.verdict.artifact import artifact

STALL = Finding("profiler_stall", "the profiler held up the program")
SMALL = Finding("profiler_overhead", "takes 1.2%", Severity.INFO)
LARGE = Finding("profiler_overhead", "takes 40%", Severity.WARNING)


def test_nothing_found_is_no_cause() -> None:
    assert artifact(Recording(), 1) is None


def test_what_one_side_alone_suffered_from_is_evidence() -> None:
    cause = artifact(Recording(normal=(), abnormal=(STALL,)), 2)
    assert cause is not None
    assert (cause.id, cause.rank) == ("capture_artifact", 2)
    assert cause.evidence_for == ("abnormal side only: the profiler held up the program",)


def test_what_both_sides_suffered_from_is_none() -> None:
    assert artifact(Recording(normal=(STALL,), abnormal=(STALL,)), 1) is None


def test_what_hardly_matters_is_none() -> None:
    assert artifact(Recording(normal=(), abnormal=(SMALL,)), 1) is None


def test_a_little_on_one_side_does_not_excuse_a_lot_on_the_other() -> None:
    cause = artifact(Recording(normal=(SMALL,), abnormal=(LARGE,)), 1)
    assert cause is not None
    assert cause.evidence_for == ("abnormal side only: takes 40%",)


def test_findings_that_take_no_time_are_none() -> None:
    assert artifact(Recording(abnormal=(Finding("no_wall_clock", "unknown clock"),)), 1) is None


def test_other_settings_are_evidence() -> None:
    cause = artifact(Recording(settings=(Finding("settings_differ", "with_stack was on in one"),)), 1)
    assert cause is not None
    assert cause.evidence_for == ("with_stack was on in one",)
