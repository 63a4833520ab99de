"""The registry of architectures, which are built for a given number of classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from an8flower.ground.registry import Registry


@dataclass(frozen=True)
class ModelSpec:
    """One architecture.

    Args:
        name: registry key.
        build: takes the number of classes, returns an untrained model from (N, 3, size, size) float32 in
            [0, 1] to logits (N, classes); its first layer is the preprocessing.
        size_px: side of the square input, in pixels.
        source: where the architecture comes from.
    """

    name: str
    build: Callable[[int], nn.Module]
    size_px: int
    source: str


models: Registry[ModelSpec] = Registry("model", package="benchmark.models", group="an8flower.models")


class SubtractMean(nn.Module):
    """Preprocessing as a layer: subtract the mean image of the training fold.

    Args:
        size_px: side of the images in pixels; the mean is a buffer (3, size, size), zero until it is set.
    """

    mean: torch.Tensor

    def __init__(self, size_px: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, size_px, size_px))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Subtract the mean image from (N, 3, H, W) in [0, 1]."""
        return images - self.mean
