"""What the scores of a board can bear: intervals, comparisons, and whether orders hold.

Everything works on one table, `scores_by_view`: viewpoints are the clusters, whose scores are alike within.
"""

from benchmark.statistics.comparisons import compared, compared_with_best, groups
from benchmark.statistics.intervals import intervals, normalised
from benchmark.statistics.ranks import (
    Friedman,
    critical_difference_diagram,
    friedman,
    orders_by,
    rank_stability,
    spearman,
)
from benchmark.statistics.views import by_arc, scores_by_view

__all__ = [
    "Friedman",
    "by_arc",
    "compared",
    "compared_with_best",
    "critical_difference_diagram",
    "friedman",
    "groups",
    "intervals",
    "normalised",
    "orders_by",
    "rank_stability",
    "scores_by_view",
    "spearman",
]
