"""Class activation maps: weighted sums of a layer's channels."""

from __future__ import annotations

import torch
from torch import nn

from explainers.base import explainer
from explainers.layers import forward_from
from explainers.maps import upsampled


@explainer(source="Selvaraju et al. 2017, arXiv 1610.02391")
def grad_cam(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, layer: str = "last_conv"
) -> torch.Tensor:
    """ReLU of the channels weighted by the mean gradient of the class score, upsampled.

    Args:
        model: any classifier.
        images: (N, 3, H, W) float32 in [0, 1].
        targets: (N,) int64.
        layer: where to look; any layer with a map.
    Returns:
        (N, H, W) float32, 0 or more.
    Raises:
        ValueError: if the layer has no map.
    Source: Selvaraju et al. 2017, eq. 1 and 2, on pre-softmax scores; bilinear upsampling.
    """
    logits, activations, found = forward_from(model, images, layer)
    if len(found.shape) != 3:
        raise ValueError(f"layer {layer!r} is fully connected and has no map; name a convolution")
    score = logits.gather(1, targets[:, None]).sum()
    (gradients,) = torch.autograd.grad(score, activations)
    weights = gradients.mean(dim=(2, 3))
    maps = torch.einsum("nc,nchw->nhw", weights, activations.detach())
    return upsampled(maps.relu(), images)
