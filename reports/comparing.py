"""Everything that `rca compare` can write of what it compared, whatever that was: captures, start-up logs or model runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rca.api import Comparison
from rca.bench import BenchComparison
from rca.capture import Capture, Progress
from rca.capture.load import no_progress
from rca.pictures import SideName
from rca.startup import StartupComparison
from rca.verdict import Status
from reports import (
    bench,
    bench_data,
    bench_html,
    document,
    machine,
    page,
    perfetto,
    plots,
    startup,
    startup_html,
    tables,
    terminal,
    ticket,
)


@dataclass(frozen=True)
class Shown:
    """A comparison that is ready to be written.

    Attributes:
        status: of its verdict.
        warnings: for stderr.
        texts: what makes each kind of text: ``md``, ``json``, ``csv``, and what only folders get.
        folder: names of the files in a folder of reports, and the kind of each.
        plots: draws the pictures: their bytes by file name.
        traces: writes a trace per side into a folder (over what is there, if told to), and returns their paths; None where
            there are none to write.
        summary: prints the answer on a terminal, and the files that were written.
    """

    status: Status
    warnings: tuple[str, ...]
    texts: Mapping[str, Callable[[], str]]
    folder: Mapping[str, str]
    plots: Callable[[], Mapping[str, bytes]]
    traces: Callable[[Path, bool], list[Path]] | None
    summary: Callable[[list[Path]], None]


def of_captures(
    result: Comparison,
    target: str,
    sides: Mapping[SideName, Path],
    progress: Progress = no_progress,
    shown_as: Callable[[Capture], Capture] | None = None,
) -> Shown:
    """Return what can be written of two captures.

    Args:
        result: the comparison, redacted if that was asked for.
        target: where the report will be pasted.
        sides: where the captures are; traces are written from their events.
        progress: called as they are read once more.
        shown_as: what redacted the comparison, for the events.
    """
    texts = {
        "md": lambda: ticket.render(result, target),
        "json": lambda: machine.comparison_json(result),
        "csv": lambda: tables.comparison_csv(result),
        "cycles": lambda: tables.cycles_csv(result),
        "html": lambda: page.page(result),
    }
    return Shown(
        status=result.verdict.status,
        warnings=result.warnings,
        texts=texts,
        folder={_report(target): "md", **_CAPTURES_FOLDER},
        plots=lambda: plots.captures(result),
        traces=lambda folder, force: perfetto.write_traces(result, sides, folder, progress, force, shown_as),
        summary=lambda written: terminal.summary(result, written),
    )


def of_startups(result: StartupComparison, target: str) -> Shown:
    """Return what can be written of two sides' start-ups."""
    made = startup.comparison_document(result)
    texts = {
        "md": lambda: document.markdown(made, target),
        "json": lambda: startup.comparison_json(result),
        "csv": lambda: startup.comparison_csv(result),
        "html": lambda: startup_html.comparison_page(result),
    }
    return Shown(
        status=result.compared.status,
        warnings=result.warnings,
        texts=texts,
        folder={_report(target): "md", "report.html": "html", "report.json": "json", "phases.csv": "csv"},
        plots=lambda: plots.startups(result),
        traces=None,
        summary=lambda written: document.show(made, written),
    )


def of_model_runs(result: BenchComparison, target: str) -> Shown:
    """Return what can be written of two model runs."""
    made = bench.comparison_document(result)
    texts = {
        "md": lambda: document.markdown(made, target),
        "json": lambda: bench_data.comparison_json(result),
        "csv": lambda: bench_data.comparison_csv(result),
        "html": lambda: bench_html.comparison_page(result),
    }
    return Shown(
        status=result.verdict.status,
        warnings=result.warnings,
        texts=texts,
        folder={_report(target): "md", "report.html": "html", "report.json": "json", "operators.csv": "csv"},
        plots=lambda: plots.model_runs(result),
        traces=None,
        summary=lambda written: document.show(made, written),
    )


_CAPTURES_FOLDER = {"report.html": "html", "report.json": "json", "comparison.csv": "csv", "cycles.csv": "cycles"}


def _report(target: str) -> str:
    return "report.jira.txt" if target == "jira" else "report.md"
