"""How much relevance is in the mask: its share of the total, and its share of the most relevant pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from benchmark.metrics.base import MetricSpec, Scores, metrics
from benchmark.metrics.ranked import Ranked, score_ranked

TOP_PX = 1000
"""Number of pixels that `top_k_intersection` takes in an image of `SIDE_PX` x `SIDE_PX`."""

SIDE_PX = 250
"""Side of the dataset's images; lengths in pixels are scaled from it to the map's size."""


def relevance_mass(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Return the share of the positive relevance in the mask: sum of h+ over S / sum of h+, h+ = max(h, 0).

    Negative values count as 0. Ties do not matter. A map without positive values scores 0; a constant map
    therefore scores 0, or the mask's share of the pixels if the constant is positive. An empty mask gives
    NaN, an invalid map 0. The score depends on the zero point of the method: adding a constant to a map
    changes it.

    Chance: the mask's share of the pixels.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1].
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Arras et al. 2022 (arXiv 2003.07258), relevance mass accuracy, which is defined for positive maps.
        Departs: signed maps are clipped at 0, one of several ways of the paper to make them positive.

    >>> relevance_mass([[[-5, 3], [1, 0]]], [[[True, True], [False, False]]])
    array([0.75])
    """
    return score_ranked(_mass, heatmaps, masks)


def relevance_rank(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Return the share in the mask of the K most relevant pixels, K = |S| the mask's number of pixels.

    Negative values are ordinary values. If only some of the pixels that tie at the border are among the K,
    the expected number of hits counts, as if ties were broken at random. A constant map therefore scores the
    mask's share of the pixels. An empty mask gives NaN, an invalid map 0.

    Chance: the mask's share of the pixels.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1].
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Arras et al. 2022 (arXiv 2003.07258), relevance rank accuracy; the paper does not treat ties.

    >>> relevance_rank([[[7, 3], [3, 0]]], [[[True, True], [False, False]]])
    array([0.75])
    """
    return score_ranked(lambda one: one.hits_among(one.part) / one.part, heatmaps, masks)


def top_k_intersection(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Return the share in the mask of the k most relevant pixels, k = 1000 in an image of 250 x 250 pixels.

    In a map of H x W, k = 1000 H W / 250^2, rounded (half up), at least 1: 201 for 112 x 112. If the mask is
    smaller than k, no map scores more than |S| / k. Negative values are ordinary values. Ties at the border
    count with the expected number of hits, as in `relevance_rank`, so a constant map scores the mask's share
    of the pixels. An empty mask gives NaN, an invalid map 0.

    Chance: the mask's share of the pixels.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1].
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Theiner et al. 2021 (arXiv 2104.14995) as in Quantus (Hedström et al. 2022, arXiv 2202.06861),
        whose k is 1000 whatever the size of the map.

    >>> top_k_intersection([[[7, 3], [3, 0]]], [[[True, True], [False, False]]])
    array([1.])
    """
    return score_ranked(_top, heatmaps, masks)


def _mass(one: Ranked) -> float:
    positive = np.maximum(one.values, 0)
    total = float(positive @ one.tied)
    return float(positive @ one.tied_hits) / total if total else 0.0


def _top(one: Ranked) -> float:
    k = top_k(one.pixels)
    return one.hits_among(k) / k


def top_k(pixels: float) -> int:
    """Return the k of `top_k_intersection` for a map with this number of pixels."""
    return max(1, int(TOP_PX * pixels / SIDE_PX**2 + 0.5))


metrics.add(MetricSpec("relevance_mass", relevance_mass, source="Arras et al. 2022, arXiv 2003.07258"))
metrics.add(MetricSpec("relevance_rank", relevance_rank, source="Arras et al. 2022, arXiv 2003.07258"))
metrics.add(
    MetricSpec("top_k_intersection", top_k_intersection, source="Theiner et al. 2021, arXiv 2104.14995")
)
