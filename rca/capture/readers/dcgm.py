"""NVIDIA DCGM: what ``dcgmi dmon -e …`` prints, and CSV files with a column per field (``DCGM_FI_…``).

``dcgmi dmon`` prints no times: its samples are one period (1 s unless asked otherwise) apart, from a zero of their own.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from rca.capture.model import Reading
from rca.capture.readers.counter_units import DCGMI
from rca.capture.readers.counters_wide import read_wide, time_column
from rca.capture.readers.csv_table import read_text_columns
from rca.capture.readers.monitor_text import header_in, read_lines, tables, ticks
from rca.capture.source import Probe, Source, alone
from rca.errors import InputError

NAME = "dcgm"
group = alone

_HEADER = r"^#\s*Entity\s"
_ENTITY = r"^\s*GPU\s+(\d+)\s+\S"
_FIELD = "DCGM_FI_"


def matches(probe: Probe) -> bool:
    """Tell by the first lines."""
    if header_in(probe.head, _HEADER):
        return True
    return any(_FIELD in name for name in probe.csv_columns) and time_column(probe.csv_columns) is not None


def read(source: Source) -> Reading:
    """Read one file.

    Raises:
        InputError: it holds no samples of a GPU.
    """
    path = source.path
    source.advance_whole(path)
    lines, findings = read_lines(path)
    header = lines.str.contains(_HEADER)
    if not header.any():
        return read_wide(path, read_text_columns(path, ()))
    # a GPU's row has its name in two words, and only those rows are wanted: parts of GPUs would be counted twice
    entity = lines.str.replace(r"^\s*GPU\s+(\d+)", "$1")
    parts = tables(entity.filter(header | lines.str.contains(_ENTITY)), _HEADER)
    readings = []
    for part in parts:
        table = part.rename({"entity": "gpu"})
        table = table.select(ticks(table, ["gpu"]).cast(pl.String), *[name for name in table.columns if name != "id"])
        readings.append(read_wide(path, table, DCGMI))
    if not readings:
        raise InputError(path, "has a header but no row of a GPU")
    counters = pl.concat([reading.counters for reading in readings])
    return replace(readings[0], counters=counters, findings=findings + readings[0].findings)
