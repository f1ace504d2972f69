"""Room 1: files into events, counters and per-cycle rows. Public: `load`, `Capture`."""

from rca.capture.findings import Finding, Severity
from rca.capture.load import Progress, load, no_progress
from rca.capture.model import Capture, Reading, SourceFile

__all__ = ["Capture", "Finding", "Progress", "Reading", "Severity", "SourceFile", "load", "no_progress"]
