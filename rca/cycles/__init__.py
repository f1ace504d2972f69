"""Room 2: captures into cycles. Public: `choose` an anchor for both sides, `cut` each side with it."""

from rca.cycles.anchors import Candidate, anchor_named, candidates, choose, known_anchors
from rca.cycles.grammar import Anchor
from rca.cycles.odd import outlying_cycles, warm_up_cycles
from rca.cycles.segment import CYCLES, Rank, cut

__all__ = [
    "CYCLES",
    "Anchor",
    "Candidate",
    "Rank",
    "anchor_named",
    "candidates",
    "choose",
    "cut",
    "known_anchors",
    "outlying_cycles",
    "warm_up_cycles",
]
