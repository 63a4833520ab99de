"""A heatmap's pixels sorted by value: one sort per image, which most metrics share.

A metric that needs only the values and the mask uses `score_ranked`; one that needs the positions of pixels
uses `score_placed`. Both treat special cases alike: heatmaps are converted to float32; an empty mask gives
NaN; a map with NaN or an infinity scores 0 (`invalid` returns which maps these are).
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
    """One heatmap and its mask, as counts at each distinct value; ties are one entry.

    Args:
        values: (K,) float64, the distinct values in ascending order.
        above: (K + 1,) float64, integers: number of pixels at or above each value; the last entry is 0, for
            a threshold above all pixels.
        hits: (K + 1,) float64, integers: how many of these pixels are in the mask.
    """

    values: NDArray[np.float64]
    above: NDArray[np.float64]
    hits: NDArray[np.float64]

    @property
    def pixels(self) -> float:
        """Number of pixels."""
        return float(self.above[0])

    @property
    def part(self) -> float:
        """Number of pixels in the mask; at least 1."""
        return float(self.hits[0])

    @property
    def is_constant(self) -> bool:
        return len(self.values) == 1

    @property
    def tied(self) -> NDArray[np.float64]:
        """Number of pixels with each value, (K,)."""
        return np.asarray(self.above[:-1] - self.above[1:])

    @property
    def tied_hits(self) -> NDArray[np.float64]:
        """Number of pixels of the mask with each value, (K,)."""
        return np.asarray(self.hits[:-1] - self.hits[1:])

    @cached_property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of the mask with the pixels at or above each value, (K,)."""
        return np.asarray(self.hits[:-1] / (self.above[:-1] + self.part - self.hits[:-1]))

    def hits_among(self, k: float) -> float:
        """Return the expected number of mask pixels among the `k` highest, with ties broken at random."""
        # Of m pixels drawn from a group of ties, the expected number of hits is linear in m.
        return float(np.interp(k, self.above[::-1], self.hits[::-1]))


def ranked(heatmaps: ArrayLike, masks: ArrayLike) -> list[Ranked | float]:
    """Rank each heatmap, or return its score if there is nothing to rank: NaN or 0.

    Inside `an8flower.ground.memo.sharing(heatmaps, masks)` the work is done once for all metrics.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).

    >>> (ranking,) = ranked([[[0, 2], [2, 5]]], [[[False, True], [False, True]]])
    >>> ranking.values, ranking.above, ranking.hits
    (array([0., 2., 5.]), array([4., 3., 1., 0.]), array([2., 2., 1., 0.]))
    """
    return once("ranked", lambda: list(_each(_rank, heatmaps, masks)), heatmaps, masks)


def score_ranked(score: Callable[[Ranked], float], heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Score ranked heatmaps with a function of one of them; special cases as in the module's docstring."""
    # A ranking that no other metric needs is not kept: re-using warm memory halves the time.
    kept = is_shared(heatmaps, masks)
    maps = ranked(heatmaps, masks) if kept else _each(_rank, heatmaps, masks)
    return np.array([score(item) if isinstance(item, Ranked) else item for item in maps], np.float64)


Placed = Callable[[NDArray[np.float32], NDArray[np.bool_]], float]


def score_placed(score: Placed, heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """Score heatmaps with a function of one heatmap and its mask, both (H, W); special cases as above."""
    return np.array(list(_each(score, heatmaps, masks)), np.float64)


def invalid(heatmaps: ArrayLike) -> NDArray[np.bool_]:
    """Return which of the heatmaps (N, H, W) hold NaN or an infinity, (N,) bool."""
    return np.asarray(~np.isfinite(_as_float32(heatmaps)).all(axis=(1, 2)))


def _checked(heatmaps: ArrayLike, masks: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    maps, truth = _as_float32(heatmaps), np.asarray(masks, bool)
    if maps.ndim != 3 or maps.shape != truth.shape:
        raise ValueError(f"heatmaps and masks must both be (N, H, W), got {maps.shape} and {truth.shape}")
    return maps, truth


def _as_float32(heatmaps: ArrayLike) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a value too large for float32 becomes infinity, which is invalid
        return np.asarray(heatmaps, np.float32)


def _each(
    make: Callable[[NDArray[np.float32], NDArray[np.bool_]], T], heatmaps: ArrayLike, masks: ArrayLike
) -> Iterator[T | float]:
    """Yield `make(heatmap, mask)` for each pair; NaN for an empty mask, 0 for an invalid map."""
    for heatmap, mask in zip(*_checked(heatmaps, masks), strict=True):
        if not mask.any():
            yield float("nan")
        elif not np.isfinite(heatmap).all():
            yield 0.0
        else:
            yield make(heatmap, mask)


def _rank(heatmap: NDArray[np.float32], mask: NDArray[np.bool_]) -> Ranked:
    # Sorting value and mask bit as one number is several times faster than an argsort. A float32 stored as
    # float64 ends in 29 zero bits; with the mask in the last one the order changes only within ties.
    keys = heatmap.reshape(-1).astype(np.float64)
    bits = keys.view(np.int64)
    bits |= mask.reshape(-1)
    keys.sort()
    passed = np.cumsum(bits & 1)  # number of mask pixels up to each place
    bits &= -2
    last = np.flatnonzero(keys[1:] != keys[:-1])  # last place of each value except the highest
    above, hits = np.zeros((2, len(last) + 2))
    above[0], hits[0] = len(keys), passed[-1]
    above[1:-1], hits[1:-1] = len(keys) - 1 - last, passed[-1] - passed[last]
    return Ranked(np.append(keys[last], keys[-1]), above, hits)
