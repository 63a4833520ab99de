"""Class activation maps: weighted sums of the channels of a layer."""

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
    """Grad-CAM: weight each channel by its mean gradient of the class score, sum, ReLU, upsample.

    Args:
        model: any classifier.
        images: (N, 3, H, W) float32 in [0, 1].
        targets: (N,) int64.
        layer: name of any layer with a map.
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
    """Grad-CAM++: weight each channel by a weighted sum of its positive gradients, sum, ReLU, upsample.

    The weight of a positive gradient decreases with the sum of the channel's activations.

    Args:
        model, images, targets, layer: as `grad_cam`.
    Returns:
        (N, H, W) float32, 0 or more.
    Raises:
        ValueError: if the layer has no map.
    Source: Chattopadhyay et al. 2018, eq. 10 and 19, for the exponential of the class score, which
        cancels. Departs: numerator and denominator of their weight, g^2 / (2 g^2 + sum(A) g^3), are
        divided by g^2, so that small gradients do not underflow; the weight is 0 where g is 0.
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
    """LayerCAM: weight each channel by its positive gradient at each position, sum, ReLU, upsample.

    Args:
        model, images, targets, layer: as `grad_cam`.
    Returns:
        (N, H, W) float32, 0 or more.
    Raises:
        ValueError: if the layer has no map.
    Source: Jiang et al. 2021, eq. 5 and 6; without their scaling by tanh, which serves to fuse layers.
    """
    activations, gradients = score_gradients(model, images, targets, layer)
    return upsampled((gradients.relu() * activations).sum(dim=1).relu(), images)


def score_gradients(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, layer: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a layer's activations and the gradients of the class scores with respect to them.

    Returns:
        activations and gradients, both (N, K, h, w).
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
        actual = named(trace.layers, layer)
        logits, activations = trace.outputs["logits"], trace.outputs[actual.name]
    else:
        logits, activations, actual = forward_from(model, images, layer)
    if len(actual.shape) != 3:
        raise ValueError(f"layer {layer!r} is fully connected and has no map; name a convolution")
    score = logits.gather(1, targets[:, None]).sum()
    (gradients,) = torch.autograd.grad(score, activations, retain_graph=together)
    return activations.detach(), gradients


def _summed(weights: torch.Tensor, activations: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nc,nchw->nhw", weights, activations)
