"""Intersection over union as a function of the threshold: its exact area, its curve, its maximum.

Everything rests on one sort an image: with the pixels in ascending order, the pixels at or above
the k-th value are the last n - k of them, so one cumulative sum of the mask gives every IoU.

Treatment, the same in all three: heatmaps are taken as float32; a constant map scores 0; a map
with NaN or an infinity scores 0 (`invalid` tells which); an empty mask gives NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.metrics.base import MetricSpec, Scores, metrics

CURVE_THRESHOLDS: NDArray[np.float64] = np.arange(1, 101) / 100


def iou_auc(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """The area under IoU(t), t in (0, 1], of the min-max scaled heatmap; exact.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1]; 1 for a map that is its mask, 0 for a constant or invalid map,
        NaN for an empty mask.
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    Source: Oramas et al. 2019, section 4.3. Departs: the paper averages over given thresholds;
        IoU(t) is a step function, so its integral is a finite sum over the map's values.

    >>> iou_auc([[[0.0, 1.0], [0.0, 0.0]]], [[[False, True], [False, False]]])
    array([1.])
    """
    return np.array([_area(h, m) for h, m in _pairs(heatmaps, masks)])


def iou_curve(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """IoU at the thresholds 0.01, 0.02, ... 1.00 (`CURVE_THRESHOLDS`), for plots.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N, 100) float64; the rows mean what `iou_auc` says.
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    """
    return np.array([_on_grid(h, m) for h, m in _pairs(heatmaps, masks)]).reshape(-1, len(CURVE_THRESHOLDS))


def max_iou(heatmaps: ArrayLike, masks: ArrayLike) -> Scores:
    """The largest IoU over all thresholds in (0, 1]: the score with the best threshold known.

    Args:
        heatmaps: (N, H, W), higher = more relevant.
        masks: (N, H, W) bool.
    Returns:
        (N,) float64 in [0, 1]; special cases as in `iou_auc`.
    Raises:
        ValueError: if the shapes differ or are not (N, H, W).
    """
    return np.array([_largest(h, m) for h, m in _pairs(heatmaps, masks)])


def invalid(heatmaps: ArrayLike) -> NDArray[np.bool_]:
    """Which of (N, H, W) heatmaps hold NaN or an infinity; (N,) bool."""
    return np.asarray(~np.isfinite(np.asarray(heatmaps)).all(axis=(1, 2)))


metrics.add(MetricSpec("iou_auc", iou_auc, source="Oramas et al. 2019, section 4.3"))
metrics.add(MetricSpec("max_iou", max_iou, source="Oramas et al. 2019, section 4.3, best threshold"))

Steps = tuple[NDArray[np.float64], NDArray[np.float64]]
Pair = tuple[NDArray[np.float32], NDArray[np.bool_]]


def _pairs(heatmaps: ArrayLike, masks: ArrayLike) -> list[Pair]:
    maps, truth = np.asarray(heatmaps, np.float32), np.asarray(masks, bool)
    if maps.ndim != 3 or maps.shape != truth.shape:
        raise ValueError(f"heatmaps and masks must both be (N, H, W), got {maps.shape} and {truth.shape}")
    return [(h.reshape(-1), m.reshape(-1)) for h, m in zip(maps, truth, strict=True)]


def _steps(heatmap: NDArray[np.float32], mask: NDArray[np.bool_]) -> Steps | float:
    """The pixels' values ascending and IoU at each as threshold, or the score if there are none."""
    if not mask.any():
        return float("nan")
    if not np.isfinite(heatmap).all():
        return 0.0
    # Sorting value and mask bit as one integer is several times faster than an argsort. Floats
    # order like their bits once negatives are mirrored; + 0.0 makes -0.0 equal to 0.0.
    bits = (heatmap + np.float32(0)).view(np.int32)
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys = np.sort((ordered.astype(np.int64) << 1) | mask)
    ordered = (keys >> 1).astype(np.int32)
    values = (ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))).view(np.float32).astype(np.float64)
    if values[0] == values[-1]:
        return 0.0
    part = (keys & 1).astype(np.int32)
    size = np.int32(len(keys))
    hits = part.sum(dtype=np.int32) - np.cumsum(part, dtype=np.int32) + part  # at or above the k-th
    union = np.arange(size, 0, -1, dtype=np.int32) + part.sum(dtype=np.int32) - hits
    return values, hits / union


def _area(heatmap: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    steps = _steps(heatmap, mask)
    if isinstance(steps, float):
        return steps
    values, iou = steps
    # Of equal values only the first, whose set holds them all, has a step of its own.
    return float(np.diff(values) @ iou[1:] / (values[-1] - values[0]))


def _on_grid(heatmap: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    steps = _steps(heatmap, mask)
    if isinstance(steps, float):
        return np.full(len(CURVE_THRESHOLDS), steps)
    values, iou = steps
    scaled = (values - values[0]) / (values[-1] - values[0])
    return np.asarray(iou[np.searchsorted(scaled, CURVE_THRESHOLDS)])


def _largest(heatmap: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    steps = _steps(heatmap, mask)
    if isinstance(steps, float):
        return steps
    values, iou = steps
    return float(iou[1:][np.diff(values) > 0].max())
