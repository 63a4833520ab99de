"""Two explainers in a package of their own: a function, and a class that learns."""

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
    """HiResCAM: activations times gradients, place by place, where Grad-CAM averages the gradients first.

    Args:
        model: any classifier.
        images: (N, 3, H, W) float32 in [0, 1].
        targets: (N,) int64.
        layer: whose activations, a name as "conv2" or "relu1".
    Returns:
        (N, H, W) float32, 0 or more.
    Raises:
        ValueError: if the layer has no map.
    Source: Draelos and Carin 2020, section 3. Departs: negatives are clipped, as Grad-CAM does.
    """
    logits, activations, found = forward_from(model, images, layer)
    if not found.has_map:
        raise ValueError(f"layer {found.name!r} is fully connected and has no map; name a convolution")
    scores = logits.gather(1, targets[:, None]).sum()
    (gradients,) = torch.autograd.grad(scores, activations)
    return upsampled((gradients * activations).sum(dim=1).relu().detach(), images)


@explainer(
    source="Sundararajan et al. 2017, arXiv 1703.01365, from the mean training image",
    reduction="l2 norm over the 3 channels (reduce=)",
)
class gradients_from_mean:  # noqa: N801 (a registry key is the name of what it names)
    """Integrated gradients whose baseline is the mean training image.

    The path from a baseline to the image shows what the image adds to it. Black, the usual baseline, makes
    every bright pixel an addition; the mean of the training images is an image of no class in particular.

    Args:
        steps: points on the path at which the gradient is taken.
        reduce: three channels to one, see `explainers.maps.reduced`.
    Raises:
        ValueError: if `steps` is less than 1.
    Source: Sundararajan et al. 2017, eq. 1 by the midpoint rule. Departs: the baseline; the l2 norm over the
        channels, as this benchmark's other gradient-like methods.
    """

    def __init__(self, *, steps: int = 16, reduce: Reduction = "l2") -> None:
        if steps < 1:
            raise ValueError(f"steps must be 1 or more; got {steps}")
        self.steps, self.reduce = steps, reduce

    def fit(self, model: nn.Module, loader: Loader) -> Self:
        """Take the mean of the training images, batch by batch: not all have room in memory."""
        total, count = torch.zeros((), dtype=torch.float64), 0
        for images, *_ in loader:
            total = total + images.sum(dim=0, dtype=torch.float64)
            count += len(images)
        self._baseline = total / count
        return self

    def __call__(self, model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Heatmaps (N, H, W) float32, 0 or more."""
        baseline = self._baseline.to(images)
        way = images - baseline
        total = torch.zeros_like(images)
        for step in range(self.steps):
            point = baseline + (step + 0.5) / self.steps * way
            total += class_scores_back(model, point, targets, relu="gradient")
        return reduced(way * total / self.steps, self.reduce)
