"""The detailed CSV equals the reference implementation's own output, for every scenario that was published with it."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rca.api import compare
from reports.tables import comparison_csv

RANK_OF = {"gpu_memory_squeeze_out_NVLink": 923229, "gpu_memory_squeeze_out_PCIe": 90816}
SCENARIOS = (
    "cpu_compute_squeeze_out",
    "cpu_frequency_reduction",
    "gpu_instability",
    "gpu_memory_squeeze_out_NVLink",
    "gpu_memory_squeeze_out_PCIe",
)
KEY = ["Function Name", "Metric Name", "Device"]


def own_csv(folder: Path) -> pl.DataFrame:
    table = pl.read_csv(
        io.StringIO(comparison_csv(compare(folder / "normal", folder / "abnormal"))), infer_schema_length=None
    )
    if folder.name in RANK_OF:
        table = table.filter(pl.col("PID") == RANK_OF[folder.name]).drop("Rank", "PID")
    return table


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_csv_equals_reference(shared_data: Path, scenario: str) -> None:
    folder = shared_data / "sglang-a100" / scenario
    reference = pl.read_csv(folder / "reference_comparison.csv", infer_schema_length=None)
    # the reference puts the pids into its headers when a server was restarted; ours stay the same
    reference = reference.rename({name: re.sub(r"_pid_\d+", "", name) for name in reference.columns})
    own = own_csv(folder)
    assert own.columns[: len(reference.columns)] == reference.columns
    assert own.height == reference.height
    joined = reference.with_row_index("row").join(own.with_row_index("own_row"), on=KEY, suffix=" own", how="inner")
    assert joined.height == reference.height

    for column in reference.columns[3:]:
        theirs = joined[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        ours = joined[f"{column} own"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        assert (np.isnan(theirs) == np.isnan(ours)).all(), column
        difference = np.abs(theirs - ours)
        limit = np.maximum(1e-6, 1e-6 * np.abs(theirs))
        if (
            column == "U-test p(μ)"
        ):  # samples of these rows tie only up to float rounding; scipy then counts the ties otherwise
            limit = np.where(difference > limit, 0.03 * theirs, limit)
        assert (np.isnan(theirs) | (difference <= limit)).all(), (column, np.nanmax(difference))

    score = joined.sort("own_row")["Suspicion Score"].to_numpy()
    assert (np.diff(score) <= 1e-6).all(), "the order differs by more than exact ties"


def test_both_ranks_are_compared(shared_data: Path) -> None:
    result = compare(*(shared_data / "sglang-a100/gpu_memory_squeeze_out_NVLink" / s for s in ("normal", "abnormal")))
    assert [(rank.role, rank.normal.pid, rank.abnormal.pid) for rank in result.ranks] == [
        ("GPU 6", 923228, 923228),
        ("GPU 7", 923229, 923229),
    ]


def test_different_anchors_are_not_comparable(shared_data: Path) -> None:
    from reports.ticket import render

    result = compare(*(shared_data / "sglang-a100/cpu_frequency_reduction" / s for s in ("normal", "abnormal")))
    assert result.verdict.status == "not_comparable"
    assert result.ranks[0].cycle_time.ratio is None
    text = render(result)
    opening = text[: text.index("## 1.")]
    assert "NOT COMPARABLE" in opening
    assert "Scheduler.run\\_batch" in opening or "Scheduler.run_batch" in opening
    assert "Qwen3DecoderLayer" in opening
    assert "93.9" not in text
