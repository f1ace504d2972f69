"""Pictures for tickets that take no HTML, each as SVG and PNG: file name to bytes. Computes no statistic.

Equal results make equal bytes, with one version of matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rca.api import Comparison
from rca.bench import BenchComparison, BenchRun
from rca.startup import StartupComparison, StartupReport
from rca.sweep import Result
from reports.plots.cycles import cycles_sheet
from reports.plots.effects import functions_sheet, metrics_sheet
from reports.plots.runs import (
    run_comparison_sheets,
    run_sheets,
    startup_comparison_sheets,
    startup_sheets,
    sweep_sheets,
)
from reports.plots.sheet import Sheet
from reports.plots.verdict import verdict_sheet


def captures(result: Comparison) -> dict[str, bytes]:
    """Draw a comparison of captures: ``verdict``, ``cycles``, ``metrics`` and ``functions``, as far as there is something.

    ``verdict`` is always there, and says why if the others are not.
    """
    return _drawn(
        {
            "verdict": verdict_sheet(result),
            "cycles": cycles_sheet(result),
            "metrics": metrics_sheet(result),
            "functions": functions_sheet(result),
        }
    )


def startups(found: StartupReport | StartupComparison) -> dict[str, bytes]:
    """Draw start-ups: ``starts`` and ``responses`` of a report; ``verdict`` and ``starts`` of a comparison."""
    return _drawn(startup_sheets(found) if isinstance(found, StartupReport) else startup_comparison_sheets(found))


def sweep(result: Result) -> dict[str, bytes]:
    """Draw a grid: a picture per parameter that was varied, named by it, and ``effects``."""
    return _drawn(sweep_sheets(result))


def model_runs(found: BenchComparison | Sequence[BenchRun]) -> dict[str, bytes]:
    """Draw model runs: ``runs`` of a report; ``verdict`` and ``more`` of a comparison. Empty where nothing can be drawn."""
    return _drawn(run_comparison_sheets(found) if isinstance(found, BenchComparison) else run_sheets(found))


def _drawn(sheets: Mapping[str, Sheet | None]) -> dict[str, bytes]:
    return {f"{name}.{kind}": data for name, sheet in sheets.items() if sheet for kind, data in sheet.drawn().items()}
