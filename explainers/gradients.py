"""Gradient-like methods: the class score, backpropagated to the pixels by several rules."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import nn

from explainers.backward.backprop import class_scores_back
from explainers.base import explainer
from explainers.maps import Reduction, reduced

_HOW = "l2 norm over the 3 channels (reduce=)"


@explainer(source="Simonyan et al. 2014, arXiv 1312.6034", reduction=_HOW)
def gradient(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, reduce: Reduction = "l2"
) -> torch.Tensor:
    """Compute the gradient of the class score with respect to the pixels.

    Args:
        model: any classifier.
        images: (N, 3, H, W) float32 in [0, 1].
        targets: (N,) int64.
        reduce: how three channels become one, see `maps.reduced`.
    Returns:
        (N, H, W) float32, 0 or more.
    Source: Simonyan et al. 2014, section 3. Departs: the l2 norm over the channels, as in all gradient-like
        methods here, where the paper takes the largest absolute value (reduce="abs").
    """
    return reduced(class_scores_back(model, images, targets, relu="gradient"), reduce)


@explainer(source="Shrikumar et al. 2016, arXiv 1605.01713", reduction=_HOW)
def input_x_gradient(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, reduce: Reduction = "l2"
) -> torch.Tensor:
    """Multiply the image by the gradient of the class score with respect to its pixels.

    Args:
        model, images, targets, reduce: as for `gradient`.
    Returns:
        (N, H, W) float32, 0 or more.
    Source: Shrikumar et al. 2016, section 2; with the image in [0, 1], since preprocessing is part of the
        model.
    """
    return reduced(images * class_scores_back(model, images, targets, relu="gradient"), reduce)


@explainer(source="Springenberg et al. 2015, arXiv 1412.6806", reduction=_HOW)
def guided_backprop(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, reduce: Reduction = "l2"
) -> torch.Tensor:
    """Guided backprop of the class score: ReLUs pass positive signals where they were active.

    Args:
        model, images, targets, reduce: as for `gradient`.
    Returns:
        (N, H, W) float32, 0 or more.
    Source: Springenberg et al. 2015, section 3.4.
    """
    return reduced(class_scores_back(model, images, targets, relu="guided"), reduce)


@explainer(source="Zeiler and Fergus 2014, arXiv 1311.2901", reduction=_HOW)
def deconvnet(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, reduce: Reduction = "l2"
) -> torch.Tensor:
    """Deconvnet of the class score: ReLUs pass positive signals, whether they were active or not.

    Args:
        model, images, targets, reduce: as for `gradient`.
    Returns:
        (N, H, W) float32, 0 or more.
    Source: Zeiler and Fergus 2014, section 2.1, from the class score.
    """
    return reduced(class_scores_back(model, images, targets, relu="deconvnet"), reduce)


@explainer(source="Smilkov et al. 2017, arXiv 1706.03825", reduction=_HOW, costly=True)
def smooth_grad(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
    reduce: Reduction = "l2",
) -> torch.Tensor:
    """SmoothGrad: average the gradient of the class score over noisy copies of the image.

    Args:
        model, images, targets, reduce: as for `gradient`.
        samples: number of noisy copies.
        noise: standard deviation of the noise, as a fraction of the image's range.
        seed: seed of the noise. The noise also depends on the image, but not on the rest of the batch.
    Returns:
        (N, H, W) float32, 0 or more.
    Raises:
        ValueError: if `samples` is less than 1.
    Source: Smilkov et al. 2017, eq. 1 with n = 50 and 15 % noise; noisy pixels are not clipped.
    """
    if samples < 1:
        raise ValueError(f"samples must be 1 or more; got {samples}")
    draws = [
        np.random.default_rng([seed, zlib.crc32(image.numpy().tobytes())])
        for image in images.cpu().contiguous()
    ]
    spread = noise * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)))[:, None, None, None]
    total = torch.zeros_like(images)
    for _ in range(samples):
        drawn = np.stack([rng.standard_normal(images.shape[1:], dtype=np.float32) for rng in draws])
        noisy = images + spread * torch.from_numpy(drawn).to(images)
        total += class_scores_back(model, noisy, targets, relu="gradient")
    return reduced(total / samples, reduce)
