"""Floors that know nothing of the model, and ceilings that are handed the truth."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from explainers.base import explainer

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@explainer(source="floor: chance", role="floor", class_agnostic=True)
def random(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, seed: int = 0) -> torch.Tensor:
    """Uniform noise, drawn from the seed and the image, so that the same image gets the same map."""
    noise = [
        np.random.default_rng([seed, zlib.crc32(image.numpy().tobytes())]).random(image.shape[1:])
        for image in images.cpu().contiguous()
    ]
    return torch.from_numpy(np.stack(noise)).to(images)


@explainer(source="floor: photographers' habit", role="floor", class_agnostic=True)
def centre(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, sigma: float = 0.25
) -> torch.Tensor:
    """A Gaussian in the middle of the image; `sigma` is a fraction of the side."""
    height, width = images.shape[-2:]
    y = (torch.arange(height) + 0.5) / height - 0.5
    x = (torch.arange(width) + 0.5) / width - 0.5
    bump = torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * sigma**2))
    return bump.to(images).expand(len(images), -1, -1).clone()


@explainer(source="floor: Sobel and Feldman 1968", role="floor", class_agnostic=True)
def sobel(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Gradient magnitude of the image's luma: edges, whatever the model looks at."""
    luma = (images * images.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    across = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None]
    edges = functional.conv2d(functional.pad(luma, (1, 1, 1, 1), mode="replicate"), kernels)
    return edges.square().sum(dim=1).sqrt()


@explainer(source="ceiling: the ground truth", role="ceiling", needs_masks=True)
def oracle(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, masks: torch.Tensor
) -> torch.Tensor:
    """The ground-truth mask itself."""
    return masks.to(images)
