"""Does a model serve some patients worse than others? Groups, gaps, and gaps without truth."""

from anatozoo.fairness.discovery import Agreement, SignAccuracy, crossed_gaps, gap_agreement
from anatozoo.fairness.frame import GroupFrame
from anatozoo.fairness.groups import Groups, make_groups
from anatozoo.fairness.pairs import Adjusted, Pair
from anatozoo.fairness.rows import OverRows

__all__ = [
    "Adjusted",
    "Agreement",
    "GroupFrame",
    "Groups",
    "OverRows",
    "Pair",
    "SignAccuracy",
    "crossed_gaps",
    "gap_agreement",
    "make_groups",
]
