"""Counter events of a Chrome trace into the counters table."""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from rca.capture.readers.chrome_events import Columns, joined
from rca.capture.readers.chrome_table import number_in
from rca.capture.tables import COUNTERS, HOST, empty

_GPU = re.compile(r"(?:CAT_XPU_|GPU |device:?\s*\(?)(\d+)")
_TRAILING_NUMBER = re.compile(r"^(.*?)_(\d{1,18}(?:\.\d+)?(?:e[+-]?\d{1,2})?)$")


def counters_table(columns: Columns, base_ns: int) -> pl.DataFrame:
    """Return all counter values in the `COUNTERS` schema; units are not stated in such files."""
    if not columns.samples:
        return empty(COUNTERS)
    code = joined(columns.samples, "series")
    series = pl.DataFrame(
        [_identity(*key) for key in columns.codes["series"]],  # type: ignore[misc]
        schema={"metric": pl.String, "device": pl.String, "pid": pl.Int64},
        orient="row",
    )
    samples = pl.DataFrame({"ts_ns": joined(columns.samples, "ts") + base_ns, "value": joined(columns.samples, "value")})
    return (
        samples.hstack(series[code].get_columns())
        .filter(pl.col("value").is_finite())
        .with_columns(unit=pl.lit(""))
        .select(pl.col(key).cast(dtype) for key, dtype in COUNTERS.items())
    )


def _identity(name: str, key: str, pid: Any, tid: Any) -> tuple[str, str, int | None]:
    """Return metric, device and pid of a series from what its events say (FORMATS.md §7.1, §1.4).

    ``process_cpu_usage_2300005`` is of one process, ``cpu_frequency_3`` of one core; GPUs are named by the tid
    (``CAT_XPU_7``) or the pid (``GPU 3 Counters``).
    """
    metric = name if key in ("value", "") else f"{name}.{key}" if name else key
    gpu = _GPU.search(str(tid)) or _GPU.search(str(pid))
    device = f"GPU {gpu.group(1)}" if gpu else HOST
    numbered = _TRAILING_NUMBER.match(metric)
    if metric.startswith("process_"):
        if numbered:
            return numbered.group(1), device, round(float(numbered.group(2)))
        return metric, device, number_in(pid)
    if metric.startswith("cpu_") and numbered and not gpu:
        return numbered.group(1), f"CPU {numbered.group(2)}", None
    return metric, device, None
