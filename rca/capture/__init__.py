"""Room 1: files into events, counters and per-cycle rows. Public: `load.load`, and the types below.

Imported on first use: worker processes that decode traces need this package, and not polars.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rca.capture.discover import Listing
    from rca.capture.findings import Finding, Severity
    from rca.capture.load import Progress
    from rca.capture.model import Capture, Reading, SourceFile

_MODULE_OF = {
    "Capture": "model",
    "Finding": "findings",
    "Listing": "discover",
    "Progress": "load",
    "Reading": "model",
    "Severity": "findings",
    "SourceFile": "model",
}

__all__ = [
    "Capture",
    "Finding",
    "Listing",
    "Progress",
    "Reading",
    "Severity",
    "SourceFile",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"rca.capture.{_MODULE_OF[name]}"), name)
