"""Everything that `rca compare` can write of what it compared, whatever that was: captures, start-up logs or model runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rca.api import Comparison
from rca.bench import BenchComparison
from rca.startup import StartupComparison
from rca.verdict import Status
from reports import bench, bench_data, document, machine, startup, startup_html, tables, terminal, ticket


@dataclass(frozen=True)
class Shown:
    """A comparison that is ready to be written.

    Attributes:
        status: of its verdict.
        warnings: for stderr.
        texts: what makes each kind of text: ``md``, ``json``, ``csv``, and what only folders get.
        folder: names of the files in a folder of reports, and the kind of each.
        summary: prints the answer on a terminal, and the files that were written.
    """

    status: Status
    warnings: tuple[str, ...]
    texts: Mapping[str, Callable[[], str]]
    folder: Mapping[str, str]
    summary: Callable[[list[Path]], None]


def of_captures(result: Comparison, target: str) -> Shown:
    """Return what can be written of two captures."""
    texts = {
        "md": lambda: ticket.render(result, target),
        "json": lambda: machine.comparison_json(result),
        "csv": lambda: tables.comparison_csv(result),
        "cycles": lambda: tables.cycles_csv(result),
    }
    folder = {_report(target): "md", "report.json": "json", "comparison.csv": "csv", "cycles.csv": "cycles"}
    return Shown(result.verdict.status, result.warnings, texts, folder, lambda written: terminal.summary(result, written))


def of_startups(result: StartupComparison, target: str) -> Shown:
    """Return what can be written of two sides' start-ups."""
    made = startup.comparison_document(result)
    sides = zip(("normal", "abnormal"), result.compared.typical, strict=True)
    typical = [(f"{side}, the start with the middle total: {start.name}", start) for side, start in sides]
    texts = {
        "md": lambda: document.markdown(made, target),
        "json": lambda: startup.comparison_json(result),
        "csv": lambda: startup.comparison_csv(result),
        "html": lambda: startup_html.page(made, typical),
    }
    folder = {_report(target): "md", "report.json": "json", "phases.csv": "csv", "report.html": "html"}
    return Shown(result.compared.status, result.warnings, texts, folder, lambda written: document.show(made, written))


def of_model_runs(result: BenchComparison, target: str) -> Shown:
    """Return what can be written of two model runs."""
    made = bench.comparison_document(result)
    texts = {
        "md": lambda: document.markdown(made, target),
        "json": lambda: bench_data.comparison_json(result),
        "csv": lambda: bench_data.comparison_csv(result),
    }
    folder = {_report(target): "md", "report.json": "json", "operators.csv": "csv"}
    return Shown(result.verdict.status, result.warnings, texts, folder, lambda written: document.show(made, written))


def _report(target: str) -> str:
    return "report.jira.txt" if target == "jira" else "report.md"
