"""What a metric is: a pure function of heatmaps and masks, one number an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from an8flower.registry import Registry

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class MetricSpec:
    """One metric.

    Args:
        name: registry key, the function's name.
        compute: heatmaps (N, H, W) and masks (N, H, W) to (N,) float64; NaN where undefined.
        source: paper, and arXiv number.
        higher_is_better: which way to sort.
        bounds: least and greatest possible value.
    """

    name: str
    compute: Callable[[ArrayLike, ArrayLike], Scores]
    source: str
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)


metrics: Registry[MetricSpec] = Registry("metric", package="benchmark.metrics", group="an8flower.metrics")
