"""Guided class activation maps: a CAM multiplied by guided backprop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from an8flower.ground.memo import sharing
from explainers.backward.backprop import class_scores_back
from explainers.base import explainer
from explainers.cam import grad_cam, grad_cam_pp
from explainers.maps import Reduction, reduced

_HOW = "l2 norm over the 3 channels of guided backprop (reduce=), times the map"
_RESIZE = "the map: bilinear, half-pixel centres"


@explainer(source="Selvaraju et al. 2017, arXiv 1610.02391", reduction=_HOW, resize=_RESIZE)
def guided_grad_cam(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    layer: str = "last_conv",
    reduce: Reduction = "l2",
) -> torch.Tensor:
    """Guided Grad-CAM: multiply guided backprop of the class score by upsampled Grad-CAM.

    Args:
        model, images, targets, layer: as for `cam.grad_cam`.
        reduce: how three channels become one, see `maps.reduced`.
    Returns:
        (N, H, W) float32, 0 or more.
    Raises:
        ValueError: if the layer has no map.
    Source: Selvaraju et al. 2017, section 3.2.
    """
    return _guided(grad_cam, model, images, targets, layer, reduce)


@explainer(source="Chattopadhyay et al. 2018, arXiv 1710.11063", reduction=_HOW, resize=_RESIZE)
def guided_grad_cam_pp(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    layer: str = "last_conv",
    reduce: Reduction = "l2",
) -> torch.Tensor:
    """Guided Grad-CAM++: multiply guided backprop of the class score by upsampled Grad-CAM++.

    Args:
        model, images, targets, layer, reduce: as for `guided_grad_cam`.
    Returns:
        (N, H, W) float32, 0 or more.
    Raises:
        ValueError: if the layer has no map.
    Source: Chattopadhyay et al. 2018, section 3.3.
    """
    return _guided(grad_cam_pp, model, images, targets, layer, reduce)


def _guided(
    cam: Callable[..., torch.Tensor],
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    layer: str,
    reduce: Reduction,
) -> torch.Tensor:
    with sharing(model, images, targets):  # both use one forward pass
        where = cam(model, images, targets, layer=layer)
        # The CAM is 0 or more, so it makes no difference whether the signal is reduced before or after.
        return reduced(class_scores_back(model, images, targets, relu="guided"), reduce) * where
