"""From what a method computes to a heatmap: three channels to one, scaling, upsampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch.nn import functional

Reduction = Literal["l2", "positive_l2", "abs"]

REDUCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "l2": lambda signal: signal.norm(dim=1),
    "positive_l2": lambda signal: signal.clamp(min=0).norm(dim=1),
    "abs": lambda signal: signal.abs().amax(dim=1),
}


def reduced(signal: torch.Tensor, how: Reduction = "l2") -> torch.Tensor:
    """A signal on the image as one map: the same for every gradient-like method.

    Args:
        signal: (N, 3, H, W), signed.
        how: "l2", the norm over the channels; "positive_l2", negatives clipped first, as in the
            demo of Oramas et al. 2019; "abs", the largest absolute value.
    Returns:
        (N, H, W), 0 or more.
    Raises:
        ValueError: for another `how`.
    """
    if how not in REDUCTIONS:
        raise ValueError(f"reduce must be one of {', '.join(REDUCTIONS)}; got {how!r}")
    return REDUCTIONS[how](signal)


def scaled(maps: torch.Tensor) -> torch.Tensor:
    """Maps (..., H, W), each min-max scaled to [0, 1]; a constant one to zeros."""
    low = maps.amin(dim=(-2, -1), keepdim=True)
    span = maps.amax(dim=(-2, -1), keepdim=True) - low
    return (maps - low) / span.where(span > 0, 1)


def upsampled(maps: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Maps (N, h, w) at the size of `images`, bilinear with half-pixel centres."""
    size = images.shape[-2:]
    return functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
