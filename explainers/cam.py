"""Class activation maps: weighted sums of a layer's channels."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from an8flower.ground.memo import is_shared, once
from explainers.backward.backprop import forward
from explainers.base import explainer
from explainers.layers import forward_from, named
from explainers.maps import upsampled

_RESIZE = "bilinear, half-pixel centres"


@explainer(
    source="Selvaraju et al. 2017, arXiv 1610.02391",
    reduction="weighted sum of the channels, ReLU",
    resize=_RESIZE,
)
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
    activations, gradients = score_gradients(model, images, targets, layer)
    weights = gradients.mean(dim=(2, 3))
    return upsampled(_summed(weights, activations).relu(), images)


@explainer(
    source="Chattopadhyay et al. 2018, arXiv 1710.11063",
    reduction="weighted sum of the channels, ReLU",
    resize=_RESIZE,
)
def grad_cam_pp(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, layer: str = "last_conv"
) -> torch.Tensor:
    """Grad-CAM++: as Grad-CAM, with positive gradients weighted by how little of the map each stands for.

    Args:
        model, images, targets, layer: as `grad_cam`.
    Returns:
        (N, H, W) float32, 0 or more.
    Raises:
        ValueError: if the layer has no map.
    Source: Chattopadhyay et al. 2018, eq. 10 and 19, for the exponential of the class score, which
        cancels. Departs: numerator and denominator of their weight, g^2 / (2 g^2 + sum(A) g^3), are
        divided by g^2, so that small gradients are not lost to underflow; it is 0 where g is 0.
    """
    activations, gradients = score_gradients(model, images, targets, layer)
    below = 2 + activations.sum(dim=(2, 3), keepdim=True) * gradients
    alpha = torch.where((gradients != 0) & (below != 0), 1 / below, 0)
    weights = (alpha * gradients.relu()).sum(dim=(2, 3))
    return upsampled(_summed(weights, activations).relu(), images)


@explainer(
    source="Jiang et al. 2021, doi 10.1109/TIP.2021.3089943",
    reduction="sum of the channels, each weighted pixel by pixel, ReLU",
    resize=_RESIZE,
)
def layer_cam(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, layer: str = "last_conv"
) -> torch.Tensor:
    """LayerCAM: the channels weighted by their positive gradient at each place.

    Args:
        model, images, targets, layer: as `grad_cam`.
    Returns:
        (N, H, W) float32, 0 or more.
    Raises:
        ValueError: if the layer has no map.
    Source: Jiang et al. 2021, eq. 5 and 6; without their scaling by tanh, which is for fusing layers.
    """
    activations, gradients = score_gradients(model, images, targets, layer)
    return upsampled((gradients.relu() * activations).sum(dim=1).relu(), images)


def score_gradients(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, layer: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's activations and the gradient of each image's class score by them, both (N, K, h, w).

    Raises:
        UnknownNameError: if the model has no such layer.
        ValueError: if the layer has no map.
    """
    make = partial(_score_gradients, model, images, targets, layer)
    return once(f"score gradients, {layer}", make, model, images, targets)


def _score_gradients(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, layer: str
) -> tuple[torch.Tensor, torch.Tensor]:
    together = is_shared(model, images)
    if together:
        trace = forward(model, images, ["logits"])
        trace.follow("gradient", "none")
        found = named(trace.layers, layer)
        logits, activations = trace.outputs["logits"], trace.outputs[found.name]
    else:
        logits, activations, found = forward_from(model, images, layer)
    if len(found.shape) != 3:
        raise ValueError(f"layer {layer!r} is fully connected and has no map; name a convolution")
    score = logits.gather(1, targets[:, None]).sum()
    (gradients,) = torch.autograd.grad(score, activations, retain_graph=together)
    return activations.detach(), gradients


def _summed(weights: torch.Tensor, activations: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nc,nchw->nhw", weights, activations)
