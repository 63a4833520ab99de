"""What a metric is: a pure function of heatmaps and masks, or of a case, one number an image."""

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
    """A batch that was explained, for metrics that ask the model or the method again.

    Args:
        model: the classifier, left unchanged.
        explain: model, images and targets to heatmaps, as the method that is measured gives them.
        images: (N, 3, H, W) float32 in [0, 1].
        targets: (N,) int64, the classes explained.
        heatmaps: (N, H, W) float32, what `explain` gave for just these.
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
        compute: to (N,) float64, NaN where undefined: of heatmaps (N, H, W) and masks (N, H, W) bool for
            the kind "localisation", of a `Case` for the kind "faithfulness".
        source: paper, and arXiv number.
        higher_is_better: which way to sort.
        bounds: least and greatest possible value.
        kind: "localisation" compares with the mask and is measured by default; "faithfulness" asks
            model and method again, costs many passes, and is measured when named.
    """

    name: str
    compute: Callable[..., Scores]
    source: str
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    kind: Kind = "localisation"


metrics: Registry[MetricSpec] = Registry("metric", package="benchmark.metrics", group="an8flower.metrics")
