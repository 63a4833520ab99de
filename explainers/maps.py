"""Turn the result of a method into a heatmap: reduce channels, scale, upsample."""

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
    """Reduce a signal on the pixels to one channel, in the same way for every gradient-like method.

    Args:
        signal: (N, 3, H, W), signed.
        how: "l2", the norm over the channels; "positive_l2", the norm after clipping negative values to
            0, as in the demo of Oramas et al. 2019; "abs", the largest absolute value.
    Returns:
        (N, H, W), 0 or more.
    Raises:
        ValueError: for another `how`.
    """
    if how not in REDUCTIONS:
        raise ValueError(f"reduce must be one of {', '.join(REDUCTIONS)}; got {how!r}")
    return REDUCTIONS[how](signal)


def scaled(maps: torch.Tensor) -> torch.Tensor:
    """Scale each map of (..., H, W) to [0, 1] by its minimum and maximum; a constant map becomes 0."""
    low = maps.amin(dim=(-2, -1), keepdim=True)
    span = maps.amax(dim=(-2, -1), keepdim=True) - low
    return (maps - low) / span.where(span > 0, 1)


def upsampled(maps: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Resize maps (N, h, w) to the size of `images`, bilinear with half-pixel centres."""
    size = images.shape[-2:]
    return functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
