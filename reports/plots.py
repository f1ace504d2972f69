"""Pictures for tickets that take no HTML, each as SVG and PNG: file name to bytes. Computes no statistic.

Equal results make equal bytes, with one version of matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping

from rca.api import Comparison
from reports.plots_captures import verdict_sheet
from reports.plots_cycles import cycles_sheet
from reports.plots_effects import functions_sheet, metrics_sheet
from reports.plots_sheet import Sheet


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


def _drawn(sheets: Mapping[str, Sheet | None]) -> dict[str, bytes]:
    return {f"{name}.{kind}": data for name, sheet in sheets.items() if sheet for kind, data in sheet.drawn().items()}
