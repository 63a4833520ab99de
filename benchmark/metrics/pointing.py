"""Pointing games: is a heatmap's maximum in the mask, or near it; how much energy is in the mask's box?"""

from __future__ import annotations

from functools import cache
from math import isqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.metrics.base import MetricSpec, Scores, metrics
from benchmark.metrics.ranked import Ranked, score_placed, score_ranked
from benchmark.metrics.relevance import SIDE_PX

TOLERANCE_PX = 15
"""Tolerance of `pointing_game_15px` in an image of `SIDE_PX` x `SIDE_PX`."""


def pointing_game(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Return 1 if the map's highest pixel is in the mask, else 0.

    If several pixels share the highest value, the score is the share of them in the mask, which is the
    expected score of a random choice among them: a map whose plateau only touches the mask does not score 1.
    A constant map has no maximum and scores 0. Negative values are ordinary values. An empty mask gives NaN,
    an invalid map 0.

    Chance: the mask's share of the pixels.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1].
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Zhang et al. 2016 (arXiv 1608.00507), without its tolerance; the paper does not treat ties.

    >>> pointing_game([[[0, 2], [2, 1]]], [[[False, True], [False, True]]])
    array([0.5])
    """
    return score_ranked(_pointing, heatmaps, masks)


def pointing_game_15px(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Return 1 if the map's highest pixel is at most 15 pixels from the mask, at 250 x 250 pixels, else 0.

    Distances are Euclidean, between the centres of pixels. In a map of H x W the tolerance is
    15 sqrt(H W) / 250 pixels, 6.72 for 112 x 112. Everything else is as in `pointing_game`.

    Chance: the share of the pixels that are in the mask or within the tolerance; far above the mask's share.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1].
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Zhang et al. 2016 (arXiv 1608.00507), whose tolerance is 15 pixels of their images.

    >>> off_mask = [[[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] * 17]
    >>> mask = [[[True] + [False] * 16] * 17]
    >>> pointing_game_15px(off_mask, mask), pointing_game_15px(off_mask, np.roll(mask, 3, axis=2))
    (array([0.]), array([1.]))
    """
    return score_placed(_pointing_near, heatmaps, masks)


def energy_pointing_game(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Return the share of the min-max scaled map's sum that is in the mask's bounding box.

    There are two differences from `relevance_mass`. The region is a box instead of the mask, so that a map
    that fills the space between petals loses nothing. Values are counted from the map's minimum instead of
    zero, so that negative values are low values and are not subtracted, and a background above the minimum
    lowers the score. Ties do not matter. A constant map is 0 everywhere after scaling and scores 0. An empty
    mask gives NaN, an invalid map 0.

    Chance: the box's share of the pixels.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1].
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Wang et al. 2020 (arXiv 1910.01279), section 4.3. Departs: the box is computed from the
        mask, not drawn by hand; there is one box also if the mask has several pieces.

    >>> energy_pointing_game([[[-1, 1, 2], [0, 0, -1]]], [[[False, True, False], [True, False, False]]])
    array([0.57142857])
    """
    return score_placed(_energy, heatmaps, masks)


def _pointing(one: Ranked) -> float:
    return 0.0 if one.is_constant else float(one.tied_hits[-1] / one.tied[-1])


def _pointing_near(heatmap: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    peaks = np.flatnonzero(heatmap == heatmap.max())
    if len(peaks) == heatmap.size:
        return 0.0
    y, x = np.divmod(peaks, heatmap.shape[1])
    rows, reach = disc(*heatmap.shape)
    margin = len(rows) // 2
    # Number of mask pixels left of each column: a row of the disc of any length then costs one subtraction.
    left = np.zeros((mask.shape[0] + 2 * margin, mask.shape[1] + 2 * margin + 1), np.int32)
    inside = left[margin : margin + mask.shape[0]]
    np.cumsum(np.pad(mask, ((0, 0), (margin, margin))), axis=1, out=inside[:, 1:])
    y, x = (y[:, None] + margin + rows), (x[:, None] + margin)
    return float((left[y, x + reach + 1] > left[y, x - reach]).any(axis=1).mean())


@cache
def disc(height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the disc of the tolerance in a map of this size: offsets of its rows, and half their lengths."""
    square = TOLERANCE_PX**2 * height * width  # scaled so that both sides are integers
    radius = isqrt(square // SIDE_PX**2)
    rows = np.arange(-radius, radius + 1)
    return rows, np.array([isqrt(square // SIDE_PX**2 - row**2) for row in rows.tolist()])


def _energy(heatmap: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    energy = heatmap.astype(np.float64) - heatmap.min()
    total = energy.sum()
    if not total:
        return 0.0
    y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    inside = energy[y[0] : y[-1] + 1, x[0] : x[-1] + 1].sum()
    return min(1.0, float(inside / total))  # the two sums round differently, so the ratio may exceed 1


metrics.add(MetricSpec("pointing_game", pointing_game, source="Zhang et al. 2016, arXiv 1608.00507"))
metrics.add(
    MetricSpec(
        "pointing_game_15px",
        pointing_game_15px,
        source="Zhang et al. 2016, arXiv 1608.00507, 15 px tolerance",
    )
)
metrics.add(
    MetricSpec("energy_pointing_game", energy_pointing_game, source="Wang et al. 2020, arXiv 1910.01279")
)
