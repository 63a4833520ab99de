"""Two explainers in a package: a function, and a class that learns from training images."""

from __future__ import annotations

from typing import Self

import torch
from torch import nn

from explainers import explainer
from explainers.backward.backprop import class_scores_back
from explainers.base import Loader
from explainers.layers import forward_from
from explainers.maps import Reduction, reduced, upsampled


@explainer(
    source="Draelos and Carin 2020, arXiv 2011.08891",
    reduction="sum over the channels, negatives clipped",
    resize="bilinear, half-pixel centres",
)
def hi_res_cam(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, layer: str = "last_conv"
) -> torch.Tensor:
    """HiResCAM: activations times gradients at each position; Grad-CAM averages the gradients first.

    Args:
        model: any classifier.
        images: (N, 3, H, W) float32 in [0, 1].
        targets: (N,) int64, the classes to explain.
        layer: name of the layer whose activations are used, e.g. "conv2" or "relu1".
    Returns:
        (N, H, W) float32, 0 or more.
    Raises:
        ValueError: if the layer has no map.
    Source: Draelos and Carin 2020, section 3. Departs: negative values are clipped, as in Grad-CAM.
    """
    logits, activations, where = forward_from(model, images, layer)
    if not where.has_map:
        raise ValueError(f"layer {where.name!r} is fully connected and has no map; name a convolution")
    scores = logits.gather(1, targets[:, None]).sum()
    (gradients,) = torch.autograd.grad(scores, activations)
    return upsampled((gradients * activations).sum(dim=1).relu().detach(), images)


@explainer(
    source="Sundararajan et al. 2017, arXiv 1703.01365, from the mean training image",
    reduction="l2 norm over the 3 channels (reduce=)",
)
class gradients_from_mean:  # noqa: N801 (the name of the class is its name in the registry)
    """Integrated gradients with the mean training image as baseline.

    Integrated gradients explain the difference between the image and a baseline. With black, the usual
    baseline, every bright pixel is a difference. The mean of the training images belongs to no class.

    Args:
        steps: number of points on the path from the baseline to the image; 16 by default.
        reduce: how three channels are reduced to one, see `explainers.maps.reduced`.
    Raises:
        ValueError: if `steps` is less than 1.
    Source: Sundararajan et al. 2017, eq. 1 by the midpoint rule. Departs: the baseline; the l2 norm over the
        channels, as in the other gradient methods of this benchmark.
    """

    def __init__(self, *, steps: int = 16, reduce: Reduction = "l2") -> None:
        if steps < 1:
            raise ValueError(f"steps must be 1 or more; got {steps}")
        self.steps, self.reduce = steps, reduce

    def fit(self, model: nn.Module, loader: Loader) -> Self:
        """Compute the mean of the training images, batch by batch, to save memory."""
        total, count = torch.zeros((), dtype=torch.float64), 0
        for images, *_ in loader:
            total = total + images.sum(dim=0, dtype=torch.float64)
            count += len(images)
        self._baseline = total / count
        return self

    def __call__(self, model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return heatmaps (N, H, W) float32, 0 or more."""
        baseline = self._baseline.to(images)
        difference = images - baseline
        total = torch.zeros_like(images)
        for step in range(self.steps):
            point = baseline + (step + 0.5) / self.steps * difference
            total += class_scores_back(model, point, targets, relu="gradient")
        return reduced(difference * total / self.steps, self.reduce)
