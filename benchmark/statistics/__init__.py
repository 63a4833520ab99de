"""Statistics of a board: intervals, comparisons of methods, and the stability of their order.

All functions work on the table of `scores_by_view`. Views are the clusters: scores within a view are alike.
"""

from benchmark.statistics.agreement import Agreement, agreement
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
    "Agreement",
    "Friedman",
    "agreement",
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
