"""Tables of torch's ``key_averages()``, as vLLM writes them beside its traces (FORMATS.md §3.1): named as totals."""

from __future__ import annotations

import re

from rca.capture.findings import Finding, Severity
from rca.capture.model import Reading
from rca.capture.source import Probe, Source, alone

NAME = "op-table"
group = alone

_HEADER = re.compile(rb"^-{8,}[- ]*\r?\n\s*Name\s+Self CPU %\s+Self CPU\s", re.MULTILINE)


def matches(probe: Probe) -> bool:
    """Tell by its first two lines whether a file is such a table."""
    return _HEADER.search(probe.head) is not None


def read(source: Source) -> Reading:
    """Name what the file is; it holds no single events."""
    source.advance_whole(source.path)
    text = "a table of totals per operator (key_averages): no cycles can be cut from it; the trace beside it is read instead"
    return Reading(meta={"table": "key_averages"}, findings=(Finding("summary_only", text, Severity.INFO),))
