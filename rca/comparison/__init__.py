"""Room 4: two profiles into rows. Public: `pair` ranks, `compare_ranks`."""

from rca.comparison.compare import compare_ranks
from rca.comparison.model import Calibration, CycleTime, Gate, RankComparison
from rca.comparison.pairing import pair

__all__ = ["Calibration", "CycleTime", "Gate", "RankComparison", "compare_ranks", "pair"]
