"""What counts as a fact that a cause can be judged by."""

from __future__ import annotations

from rca.capture import Finding, Severity
from rca.verdict.facts import facts_of

STALL = Finding("profiler_stall", "the profiler held up the program")
SMALL = Finding("profiler_overhead", "takes 1.2%", Severity.INFO)
LARGE = Finding("profiler_overhead", "takes 40%", Severity.WARNING)


def kinds(*differing: Finding) -> list[str]:
    return [fact.kind for fact in facts_of((), (), differing)]


def test_nothing_found_is_no_fact() -> None:
    assert facts_of((), (), ()) == ()


def test_what_one_side_alone_suffered_from_is_a_fact() -> None:
    (fact,) = facts_of((), (STALL,), ())
    assert (fact.kind, fact.text) == ("recording", "abnormal side only: the profiler held up the program")


def test_what_both_sides_suffered_from_is_none() -> None:
    assert facts_of((STALL,), (STALL,), ()) == ()


def test_what_hardly_matters_is_none() -> None:
    assert facts_of((), (SMALL,), ()) == ()


def test_a_little_on_one_side_does_not_excuse_a_lot_on_the_other() -> None:
    (fact,) = facts_of((SMALL,), (LARGE,), ())
    assert fact.text == "abnormal side only: takes 40%"


def test_findings_that_take_no_time_are_none() -> None:
    assert facts_of((), (Finding("no_wall_clock", "unknown clock"),), ()) == ()


def test_what_differs_between_the_sides_is_told_apart() -> None:
    """Another GPU, another version and another switch of the profiler are three causes, not one."""
    assert kinds(Finding("hardware_differs", "another GPU")) == ["hardware"]
    assert kinds(Finding("software_differs", "another torch")) == ["software"]
    assert kinds(Finding("engine_settings_differ", "--enforce-eager", Severity.INFO)) == ["engine_settings"]
    assert kinds(Finding("settings_differ", "with_stack was on in one")) == ["recording"]
    assert kinds(Finding("settings_differ", "shapes were on in one", Severity.INFO)) == []
