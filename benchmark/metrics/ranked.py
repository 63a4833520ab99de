"""A heatmap's pixels in order of value: the one sort an image that most metrics are read from.

A metric that knows only values and the mask bit asks `score_ranked`; one that must know where pixels
are asks `score_placed`. Both treat what cannot be scored in the same way: heatmaps are taken as
float32; an empty mask gives NaN; a map with NaN or an infinity scores 0 (`invalid` tells which).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from an8flower.ground.memo import is_shared, once
from benchmark.metrics.base import Scores

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Ranked:
    """One heatmap against its mask, as counts at its distinct values; ties are one entry.

    Args:
        values: (K,) float64, the distinct values ascending.
        above: (K + 1,) float64, whole numbers: pixels at or above each value; then 0, for a threshold
            that none reaches.
        hits: (K + 1,) float64, whole numbers: those of them in the mask.
    """

    values: NDArray[np.float64]
    above: NDArray[np.float64]
    hits: NDArray[np.float64]

    @property
    def pixels(self) -> float:
        """How many pixels there are."""
        return float(self.above[0])

    @property
    def part(self) -> float:
        """How many of them are in the mask; at least 1."""
        return float(self.hits[0])

    @property
    def is_constant(self) -> bool:
        return len(self.values) == 1

    @property
    def tied(self) -> NDArray[np.float64]:
        """(K,): how many pixels have each value."""
        return np.asarray(self.above[:-1] - self.above[1:])

    @property
    def tied_hits(self) -> NDArray[np.float64]:
        """(K,): how many pixels of the mask have each value."""
        return np.asarray(self.hits[:-1] - self.hits[1:])

    @cached_property
    def iou(self) -> NDArray[np.float64]:
        """(K,): intersection over union of the mask and the pixels at or above each value."""
        return np.asarray(self.hits[:-1] / (self.above[:-1] + self.part - self.hits[:-1]))

    def hits_among(self, k: float) -> float:
        """Expected pixels of the mask among the `k` highest, if ties at the border are drawn by lot."""
        # Drawing m of a group of ties finds m times its share: a straight line between its ends.
        return float(np.interp(k, self.above[::-1], self.hits[::-1]))


def ranked(heatmaps: ArrayLike, masks: ArrayLike) -> list[Ranked | float]:
    """Every heatmap ranked, or its score where there is nothing to rank: NaN or 0.

    Inside `an8flower.ground.memo.sharing(heatmaps, masks)` the work is done once for all metrics.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).

    >>> (one,) = ranked([[[0, 2], [2, 5]]], [[[False, True], [False, True]]])
    >>> one.values, one.above, one.hits
    (array([0., 2., 5.]), array([4., 3., 1., 0.]), array([2., 2., 1., 0.]))
    """
    return once("ranked", lambda: list(_each(_rank, heatmaps, masks)), heatmaps, masks)


def score_ranked(score: Callable[[Ranked], float], heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """The (N,) scores of a function of ranked heatmaps; special cases as the module says."""
    # What nobody else will ask for is not kept: memory that is warm is half the time.
    kept = is_shared(heatmaps, masks)
    every = ranked(heatmaps, masks) if kept else _each(_rank, heatmaps, masks)
    return np.array([score(one) if isinstance(one, Ranked) else one for one in every], np.float64)


Placed = Callable[[NDArray[np.float32], NDArray[np.bool_]], float]


def score_placed(score: Placed, heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """The (N,) scores of a function of one heatmap (H, W) and its mask; special cases as the module says."""
    return np.array(list(_each(score, heatmaps, masks)), np.float64)


def invalid(heatmaps: ArrayLike) -> NDArray[np.bool_]:
    """Which of (N, H, W) heatmaps hold NaN or an infinity; (N,) bool."""
    return np.asarray(~np.isfinite(_as_float32(heatmaps)).all(axis=(1, 2)))


def _checked(heatmaps: ArrayLike, masks: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    maps, truth = _as_float32(heatmaps), np.asarray(masks, bool)
    if maps.ndim != 3 or maps.shape != truth.shape:
        raise ValueError(f"heatmaps and masks must both be (N, H, W), got {maps.shape} and {truth.shape}")
    return maps, truth


def _as_float32(heatmaps: ArrayLike) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what float32 cannot hold is an infinity, and so invalid
        return np.asarray(heatmaps, np.float32)


def _each(
    make: Callable[[NDArray[np.float32], NDArray[np.bool_]], T], heatmaps: ArrayLike, masks: ArrayLike
) -> Iterator[T | float]:
    """What `make` makes of each heatmap and mask; NaN for an empty mask, 0 for an invalid map."""
    for heatmap, mask in zip(*_checked(heatmaps, masks), strict=True):
        if not mask.any():
            yield float("nan")
        elif not np.isfinite(heatmap).all():
            yield 0.0
        else:
            yield make(heatmap, mask)


def _rank(heatmap: NDArray[np.float32], mask: NDArray[np.bool_]) -> Ranked:
    # Sorting value and mask bit as one number is several times faster than an argsort. A float32 in
    # float64 ends in 29 zero bits: with the mask in the last of them it sorts as before, but for ties.
    keys = heatmap.reshape(-1).astype(np.float64)
    bits = keys.view(np.int64)
    bits |= mask.reshape(-1)
    keys.sort()
    passed = np.cumsum(bits & 1)  # pixels of the mask up to each place
    bits &= -2
    last = np.flatnonzero(keys[1:] != keys[:-1])  # place of each value but the highest
    above, hits = np.zeros((2, len(last) + 2))
    above[0], hits[0] = len(keys), passed[-1]
    above[1:-1], hits[1:-1] = len(keys) - 1 - last, passed[-1] - passed[last]
    return Ranked(np.append(keys[last], keys[-1]), above, hits)
