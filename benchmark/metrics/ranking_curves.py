"""Average precision and ROC-AUC of a heatmap as a detector of the mask's pixels.

Both depend only on the order of the pixels and treat equal pixels together, as scikit-learn does. Negative
values are ordinary values. A constant map scores at chance level. An empty mask gives NaN, an invalid map 0.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from benchmark.metrics.base import MetricSpec, Scores, metrics
from benchmark.metrics.ranked import Ranked, score_ranked


def average_precision(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Return the area under the stepwise precision-recall curve: the sum of (R_k - R_(k-1)) P_k.

    P_k and R_k are precision and recall of the pixels at or above the k-th highest distinct value. The
    trapezoidal rule is not used, since it overestimates. A mask that covers the whole image scores 1, which
    is its chance level.

    Chance: about the mask's share of the pixels; exactly this share for a constant map.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1].
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Davis and Goadrich 2006 for the curve; the sum is scikit-learn's `average_precision_score`.

    >>> average_precision([[[4, 3], [2, 1]]], [[[True, False], [True, False]]])
    array([0.83333333])
    """
    return score_ranked(_average_precision, heatmaps, masks)


def roc_auc(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Return the probability that a random pixel of the mask is above a random one outside it.

    A tie counts one half. The result equals the area under the ROC curve by the trapezoidal rule, and the
    Mann-Whitney statistic divided by |S| (n - |S|). The metric is lenient if masks are small: the many easy
    pixels far from the mask outweigh the few near it. A mask that covers the whole image gives NaN, like an
    empty one.

    Chance: 0.5 for any mask.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1].
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Fawcett 2006; ties as in scikit-learn's `roc_auc_score`.

    >>> roc_auc([[[4, 3], [3, 1]]], [[[True, False], [True, False]]])
    array([0.875])
    """
    return score_ranked(_roc_auc, heatmaps, masks)


def _average_precision(one: Ranked) -> float:
    return float(one.tied_hits @ (one.hits[:-1] / one.above[:-1])) / one.part


def _roc_auc(one: Ranked) -> float:
    outside = one.pixels - one.part
    if not outside:
        return float("nan")
    # For each pixel outside: the mask pixels that are higher, plus half of those with the same value.
    wins = (one.tied - one.tied_hits) @ (one.hits[:-1] + one.hits[1:])
    return float(wins) / (2 * one.part * outside)


metrics.add(
    MetricSpec("average_precision", average_precision, source="Davis and Goadrich 2006; scikit-learn")
)
metrics.add(MetricSpec("roc_auc", roc_auc, source="Fawcett 2006"))
