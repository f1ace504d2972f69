"""Room 2: captures into cycles. Public: `choose` an anchor for both sides, `cut` each side with it."""

from rca.cycles.anchors import Anchor, choose
from rca.cycles.segment import CYCLES, Rank, cut

__all__ = ["CYCLES", "Anchor", "Rank", "choose", "cut"]
