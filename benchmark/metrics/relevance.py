"""How much relevance is in the mask: as mass, and among the most relevant pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from benchmark.metrics.base import MetricSpec, Scores, metrics
from benchmark.metrics.ranked import Ranked, score_ranked

TOP_PX = 1000
"""How many pixels `top_k_intersection` looks at in an image of `SIDE_PX` x `SIDE_PX`."""

SIDE_PX = 250
"""Side of the dataset's images; what is given in pixels is scaled from it to the map's size."""


def relevance_mass(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """The share of the positive relevance that is in the mask: sum of h+ over S / sum of h+, h+ = max(h, 0).

    Negatives count as 0. Ties do not matter. A map with nothing positive scores 0; so a constant
    map scores 0, or the mask's share if it is positive. An empty mask gives NaN, an invalid map 0.
    It depends on what a method calls zero: adding a constant to a map changes its score.

    Chance: the mask's share of the pixels.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1].
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Arras et al. 2022 (arXiv 2003.07258), relevance mass accuracy, whose maps are positive. Departs:
        signed maps are clipped at 0, one of several ways the paper has to make them positive.

    >>> relevance_mass([[[-5, 3], [1, 0]]], [[[True, True], [False, False]]])
    array([0.75])
    """
    return score_ranked(_mass, heatmaps, masks)


def relevance_rank(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Of the K most relevant pixels the share in the mask, K = |S| the mask's number of pixels.

    Negatives are values like others. Of pixels tied at the border only some are among the K: they
    count with the expected number, as if drawn by lot. So a constant map scores the mask's share of
    the pixels. An empty mask gives NaN, an invalid map 0.

    Chance: the mask's share of the pixels.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1].
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Arras et al. 2022 (arXiv 2003.07258), relevance rank accuracy; ties are not in it.

    >>> relevance_rank([[[7, 3], [3, 0]]], [[[True, True], [False, False]]])
    array([0.75])
    """
    return score_ranked(lambda one: one.hits_among(one.part) / one.part, heatmaps, masks)


def top_k_intersection(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Of the k most relevant pixels the share in the mask, k = 1000 in an image of 250 x 250 pixels.

    In a map of H x W it is k = 1000 H W / 250^2, rounded (half up), at least 1: 201 for 112 x 112. A
    mask smaller than k bounds the score by |S| / k, also for a perfect map. Negatives are values
    like others; ties at the border count with the expected number, as in `relevance_rank`, so a
    constant map scores the mask's share of the pixels. An empty mask gives NaN, an invalid map 0.

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
    """The k of `top_k_intersection` in a map of so many pixels."""
    return max(1, int(TOP_PX * pixels / SIDE_PX**2 + 0.5))


metrics.add(MetricSpec("relevance_mass", relevance_mass, source="Arras et al. 2022, arXiv 2003.07258"))
metrics.add(MetricSpec("relevance_rank", relevance_rank, source="Arras et al. 2022, arXiv 2003.07258"))
metrics.add(
    MetricSpec("top_k_intersection", top_k_intersection, source="Theiner et al. 2021, arXiv 2104.14995")
)
