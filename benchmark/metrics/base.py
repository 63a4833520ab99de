"""The definition of a metric: a pure function of heatmaps and masks, or of a `Case`; one score per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from an8flower.ground.registry import Registry

Scores = NDArray[np.float64]
Kind = Literal["localisation", "faithfulness"]


@dataclass(frozen=True)
class Case:
    """An explained batch, for metrics that call the model or the method again.

    Args:
        model: the classifier, left unchanged.
        explain: the measured method: takes model, images and targets, returns heatmaps.
        images: (N, 3, H, W) float32 in [0, 1].
        targets: (N,) int64, the classes explained.
        heatmaps: (N, H, W) float32, what `explain` returned for these images and targets.
    """

    model: nn.Module
    explain: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
    images: torch.Tensor
    targets: torch.Tensor
    heatmaps: torch.Tensor


@dataclass(frozen=True)
class MetricSpec:
    """One metric.

    Args:
        name: registry key, the function's name.
        compute: returns (N,) float64, NaN where undefined. The kind "localisation" takes heatmaps (N, H, W)
            and masks (N, H, W) bool; the kind "faithfulness" takes a `Case`.
        source: paper, and arXiv number.
        higher_is_better: whether a higher score is better.
        bounds: smallest and largest possible score.
        kind: "localisation" compares with the mask and is measured by default; "faithfulness" calls model
            and method again, needs many passes, and is measured only when it is named.
    """

    name: str
    compute: Callable[..., Scores]
    source: str
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    kind: Kind = "localisation"


metrics: Registry[MetricSpec] = Registry("metric", package="benchmark.metrics", group="an8flower.metrics")
