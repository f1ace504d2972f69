"""When the host began each event: GPU work counts from the call that launched it."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rca.capture.tables import GPU_KINDS

CALL_KINDS = ("runtime", "driver")
LAUNCH_COLUMNS = ("start_ns", "kind", "correlation", "file")
"""What `begun_ns` needs."""


def begun_ns(own: pl.DataFrame) -> NDArray[Any]:
    """Return ns for each event of one process: GPU work when it was launched, all else when it started.

    The launches of all GPU work must be among the events; work without one counts from its own start. A correlation id is
    unique in one file's process.
    """
    launches = (
        own.lazy()
        .filter(pl.col("kind").is_in(list(CALL_KINDS)) & pl.col("correlation").is_not_null())
        .select("file", "correlation", launched_ns="start_ns")
        .unique(["file", "correlation"], keep="first", maintain_order=True)
    )
    on_gpu = own["kind"].is_in(list(GPU_KINDS))
    gpu = own.lazy().filter(on_gpu).select("file", "correlation", "start_ns")
    launched = gpu.join(launches, on=["file", "correlation"], how="left", maintain_order="left")
    begun = own["start_ns"].to_numpy().copy()
    begun[on_gpu.to_numpy()] = launched.select(pl.coalesce("launched_ns", "start_ns")).collect().to_series().to_numpy()
    return np.asarray(begun)
