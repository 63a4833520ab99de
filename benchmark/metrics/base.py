"""The definition of a metric: a pure function of heatmaps and masks, or of a `Case`; one score per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Literal, ParamSpec

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
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


P = ParamSpec("P")


def with_checked_masks(score: Callable[P, Scores]) -> Callable[P, Scores]:
    """Return a function of heatmaps and masks that first checks the masks.

    As booleans, NaN and -1 would count as part of a mask.

    Raises:
        ValueError: from the function, for masks that are neither bool nor 0 and 1, or 0 and 255.
    """

    @wraps(score)
    def checked(*args: P.args, **keywords: P.kwargs) -> Scores:
        masks = keywords.get("masks", args[1] if len(args) > 1 else None)
        _check_masks(masks)  # type: ignore[arg-type]
        return score(*args, **keywords)

    return checked


def _check_masks(masks: ArrayLike) -> None:
    array = np.asarray(masks)
    if array.dtype == bool or array.size == 0 or array.dtype == object:
        return
    if array.dtype.kind not in "iuf":
        raise ValueError(f"masks must be bool, not {array.dtype}")
    wrong = ~np.isin(array, (0, 1)) if array.max() != 255 else ~np.isin(array, (0, 255))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"masks must be bool, or 0 outside and 1 (or 255) inside; at {where} there is {array[where]}; "
            "write e.g. masks > 0.5"
        )


@dataclass(frozen=True)
class MetricSpec:
    """One metric.

    Args:
        name: registry key, the function's name.
        compute: returns (N,) float64, NaN where undefined. The kind "localisation" takes heatmaps (N, H, W)
            and masks (N, H, W) bool, which are checked first; the kind "faithfulness" takes a `Case`.
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

    def __post_init__(self) -> None:
        if self.kind == "localisation":
            object.__setattr__(self, "compute", with_checked_masks(self.compute))


metrics: Registry[MetricSpec] = Registry("metric", package="benchmark.metrics", group="an8flower.metrics")
