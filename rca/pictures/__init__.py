"""Room after the verdict: what is drawn of a comparison, and where in the files a finding is seen. Draws nothing itself.

Public: `distributions` (curves of cycle times), `places` (file, ts, dur of every finding), `typical_and_worst` with
`excerpt` (events of single cycles), `stacks` (call trees of both sides).
"""

from rca.pictures.density import distributions
from rca.pictures.model import (
    CycleOf,
    Distribution,
    Excerpt,
    Lane,
    Pictures,
    Place,
    RankPictures,
    SideCurve,
    SideName,
    Stacks,
)

__all__ = [
    "CycleOf",
    "Distribution",
    "Excerpt",
    "Lane",
    "Pictures",
    "Place",
    "RankPictures",
    "SideCurve",
    "SideName",
    "Stacks",
    "distributions",
]
