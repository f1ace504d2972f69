"""Room after the verdict: what is drawn of a comparison, and where in the files a finding is seen. Draws nothing itself.

Public: `distributions` (curves of cycle times), `places` (file, ts, dur of every finding), `picture_side` and
`picture_ranks` (events of single cycles, call trees), `function_quantiles`.
"""

from rca.pictures.density import distributions
from rca.pictures.events import SidePictures, picture_ranks, picture_side
from rca.pictures.functions import QUANTILES, function_quantiles
from rca.pictures.model import (
    SIDES,
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
from rca.pictures.places import place_of_cycle, places

__all__ = [
    "QUANTILES",
    "SIDES",
    "CycleOf",
    "Distribution",
    "Excerpt",
    "Lane",
    "Pictures",
    "Place",
    "RankPictures",
    "SideCurve",
    "SideName",
    "SidePictures",
    "Stacks",
    "distributions",
    "function_quantiles",
    "picture_ranks",
    "picture_side",
    "place_of_cycle",
    "places",
]
