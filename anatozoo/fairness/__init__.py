"""Does a model serve some patients worse than others? Groups, gaps, and gaps without truth."""

from anatozoo.fairness.discovery import Agreement, crossed_gaps, gap_agreement
from anatozoo.fairness.frame import GroupFrame
from anatozoo.fairness.pairs import Adjusted, Pair

__all__ = ["Adjusted", "Agreement", "GroupFrame", "Pair", "crossed_gaps", "gap_agreement"]
