"""Per-cycle profiles: ``result_perf_data.csv`` of the LatencyPrism DeepDive pipeline (FORMATS.md §7.6).

The capture was cut into cycles and reduced to β, μ and σ before it reached us; there are no events behind it.
"""

from __future__ import annotations

import polars as pl

from rca.capture.findings import Finding
from rca.capture.model import Reading
from rca.capture.readers.csv_table import integers, nanoseconds, numbers, read_text_columns
from rca.capture.source import Probe, Source, alone
from rca.capture.tables import CYCLE_ROWS, NO_METRIC
from rca.errors import InputError

NAME = "cycle-profile"
group = alone

REQUIRED = (
    "cycle",
    "pid",
    "beta_pct",
    "function_name",
    "metric_name",
    "device",
    "mu_pct",
    "duration",
    "anchor_name",
    "anchor_dur_us",
    "cycle_start_ts",
)
_TELLING = {"beta_pct", "function_name", "mu_pct", "anchor_name", "anchor_dur_us", "cycle_start_ts"}


def matches(probe: Probe) -> bool:
    """Tell from a file's first line whether it is (or was meant to be) a per-cycle profile."""
    return len(_TELLING.intersection(probe.csv_columns)) >= 2


def read(source: Source) -> Reading:
    """Read one file.

    Raises:
        InputError: a column is missing or holds what it must not, or a cycle has no positive duration.
    """
    path = source.path
    source.advance_whole(path)
    table = read_text_columns(path, REQUIRED)
    cycle_us = numbers(path, table, "anchor_dur_us")
    nanoseconds(path, "anchor_dur_us", cycle_us, 1000)
    if (not_positive := cycle_us <= 0).any():
        row = int(not_positive.arg_max() or 0)
        raise InputError(path, f"line {row + 2}: anchor_dur_us is {cycle_us[row]:g}, a cycle must last", "export again")
    findings = []
    duration = numbers(path, table, "duration")
    if negative := int((duration < 0).sum()):
        findings.append(Finding("bad_values", f"{negative:,} rows have a negative duration"))
    rows = pl.DataFrame(
        {
            "pid": integers(path, table, "pid"),
            "cycle": integers(path, table, "cycle"),
            "function": table["function_name"].fill_null("(no name)"),
            "metric": table["metric_name"].fill_null(NO_METRIC),
            "device": table["device"].fill_null(NO_METRIC),
            "kind": table["func_type"].fill_null("unknown") if "func_type" in table.columns else None,
            "beta_pct": numbers(path, table, "beta_pct"),
            "mu_pct": numbers(path, table, "mu_pct", nullable=True),
            "sigma_pct": numbers(path, table, "sigma_pct", nullable=True) if "sigma_pct" in table.columns else None,
            "duration_us": duration,
            "count": integers(path, table, "instances_count") if "instances_count" in table.columns else None,
            "interpolation": table["interpolation_status"] if "interpolation_status" in table.columns else None,
            "anchor": table["anchor_name"].fill_null("(not stated)"),
            "cycle_us": cycle_us,
            "cycle_start_ns": nanoseconds(path, "cycle_start_ts", numbers(path, table, "cycle_start_ts"), 1000),
            "file": 0,
        }
    ).select(pl.col(key).cast(dtype) for key, dtype in CYCLE_ROWS.items())
    rows, dropped = _without_repeats(rows)
    if dropped:
        text = f"{dropped:,} rows repeat a (pid, cycle, function, device, metric) seen before; left out"
        findings.append(Finding("bad_values", text))
    return Reading(cycle_rows=rows, findings=tuple(findings))


def _without_repeats(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    key = ["pid", "cycle", "function", "device", "metric"]
    unique = rows.unique(subset=key, keep="first", maintain_order=True)
    return unique, rows.height - unique.height
