"""Intersection over union as a function of the threshold: its exact area, its curve, its maximum.

All four metrics follow the same rules. Negative values are ordinary values, since maps are min-max scaled.
Equal values share one threshold. A constant map scores 0. A mask that covers the whole image is scored. An
empty mask gives NaN, and a map with NaN or an infinity scores 0 (see `benchmark.metrics.ranked`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.metrics.base import MetricSpec, Scores, metrics
from benchmark.metrics.ranked import Ranked, invalid, ranked, score_ranked

__all__ = ["CURVE_THRESHOLDS", "invalid", "iou_auc", "iou_auc_rank", "iou_curve", "max_iou"]

CURVE_THRESHOLDS: NDArray[np.float64] = np.arange(1, 101) / 100


def iou_auc(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Return the exact area under IoU(t), t in (0, 1], of the min-max scaled heatmap.

    With the scaled map's distinct values 0 = v_0 < ... < v_K = 1 it is the sum of
    (v_k - v_(k-1)) IoU(v_k), where IoU(t) is that of the mask and the pixels at or above t.

    Chance: for a mask that covers the share p of many pixels, the expected score of a map of independent
    uniform values is p / (1 - p) + (p / (1 - p))^2 ln p, for example 0.08 for p = 0.1. It depends on the
    distribution of the values.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1]; 1 for a map that equals its mask, 0 for a constant or invalid map,
        NaN for an empty mask.
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Oramas et al. 2019, section 4.3. Departs: the paper averages over a list of
        thresholds; IoU(t) is a step function, so its integral is a finite sum over the map's values.

    >>> iou_auc([[[0.0, 1.0], [0.0, 0.0]]], [[[False, True], [False, False]]])
    array([1.])
    """
    return score_ranked(lambda one: _area(one, one.values), heatmaps, masks)


def iou_auc_rank(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Return the same area for the map's ranks instead of its values, unaffected by gamma and outliers.

    Each pixel is replaced by its middle rank: the mean of the places 1 ... n that its value takes in
    ascending order, so that equal pixels stay equal. The ranks are min-max scaled like any map. A strictly
    increasing transformation of the map does not change the score, and a map with two values has the same
    score as with `iou_auc`.

    Why middle ranks: the weight of a step between two neighbouring values is then the number of pixels with
    these values. If distinct values were counted, the weight would depend on how finely the map is
    quantised. With the lowest or highest place of a tie, one large tie (such as the zeros of a ReLU) would
    count as if all its pixels were at one end of it.

    Chance: as in `iou_auc`, for any map of independent values without ties.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1]; special cases as in `iou_auc`.
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: ours (protocol, section 5), on Oramas et al. 2019, section 4.3.

    >>> mask = [[[False, True], [False, False]]]
    >>> iou_auc_rank([[[0, 8], [1, 2]]], mask), iou_auc_rank([[[0, 800], [10, 11]]], mask)
    (array([0.61111111]), array([0.61111111]))
    """
    # Counted from above, the middle place of a tie is the mean of its start and the start of the next one.
    return score_ranked(lambda one: _area(one, -(one.above[:-1] + one.above[1:]) / 2), heatmaps, masks)


def iou_curve(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Return IoU at the thresholds 0.01, 0.02, ... 1.00 (`CURVE_THRESHOLDS`), for plots.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N, 100) float64; special cases as in `iou_auc`.
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    """
    curves = np.empty((len(maps := ranked(heatmaps, masks)), len(CURVE_THRESHOLDS)))
    for curve, ranking in zip(curves, maps, strict=True):
        curve[:] = _on_grid(ranking) if isinstance(ranking, Ranked) else ranking
    return curves


def max_iou(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Return the largest IoU over all thresholds in (0, 1], the score at the best threshold.

    Chance: about the mask's share of the pixels, at a threshold that keeps nearly all of them.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1]; special cases as in `iou_auc`.
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Oramas et al. 2019, section 4.3, best threshold.

    >>> max_iou([[[0, 3], [2, 1]]], [[[False, True], [False, True]]])
    array([0.66666667])
    """
    return score_ranked(lambda one: 0.0 if one.is_constant else float(one.iou[1:].max()), heatmaps, masks)


def _area(one: Ranked, values: NDArray[np.float64]) -> float:
    """Return the area under the steps of IoU if the distinct pixels of `one` have these `values`."""
    if one.is_constant:
        return 0.0
    return float(np.diff(values) @ one.iou[1:] / (values[-1] - values[0]))


def _on_grid(one: Ranked) -> NDArray[np.float64] | float:
    if one.is_constant:
        return 0.0
    scaled = (one.values - one.values[0]) / (one.values[-1] - one.values[0])
    return np.asarray(one.iou[np.searchsorted(scaled, CURVE_THRESHOLDS)])


metrics.add(MetricSpec("iou_auc", iou_auc, source="Oramas et al. 2019, section 4.3"))
metrics.add(MetricSpec("iou_auc_rank", iou_auc_rank, source="ours, on Oramas et al. 2019, section 4.3"))
metrics.add(MetricSpec("max_iou", max_iou, source="Oramas et al. 2019, section 4.3, best threshold"))
