"""Check what a method returns."""

from __future__ import annotations

from typing import Any

import torch

from explainers.errors import ExplainerError


def checked_heatmaps(name: str, heatmaps: Any, images: torch.Tensor, *, mixed: bool = False) -> torch.Tensor:
    """Return the heatmaps (N, H, W) float32 that a method returned.

    Args:
        name: name of the method, for messages.
        heatmaps: what it returned.
        images: (N, C, H, W), what it explained.
        mixed: the model computes in another floating type, which the heatmaps may have too.
    Raises:
        ExplainerError: if they are anything else.
    """
    expected = (images.shape[0], *images.shape[2:])
    if not isinstance(heatmaps, torch.Tensor):
        kind = type(heatmaps)
        what = "a NumPy array" if kind.__module__ == "numpy" else f"a {kind.__name__}"
        raise ExplainerError(name, "tensor", f"it returned {what}, not a torch.Tensor")
    if heatmaps.layout is not torch.strided:
        raise ExplainerError(
            name, "tensor", f"it returned a tensor of layout {heatmaps.layout}, not a dense one"
        )
    if tuple(heatmaps.shape) != expected:
        raise ExplainerError(name, "shape", f"it returned {tuple(heatmaps.shape)}, not {expected}")
    returned: torch.Tensor = heatmaps.float() if mixed and heatmaps.is_floating_point() else heatmaps
    if returned.dtype != torch.float32:
        raise ExplainerError(name, "dtype", f"it returned {returned.dtype}, not torch.float32")
    if returned.device != images.device:
        raise ExplainerError(name, "device", f"it returned {returned.device}, not {images.device}")
    if returned.requires_grad:
        raise ExplainerError(
            name, "detached", "its heatmaps carry a gradient graph; return heatmaps.detach()"
        )
    return returned


def all_zero(heatmaps: torch.Tensor) -> torch.Tensor:
    """Return for each heatmap whether it is zero everywhere, so that it shows nothing.

    Args:
        heatmaps: (N, H, W).
    Returns:
        (N,) bool.

    >>> int(all_zero(torch.zeros(3, 2, 2)).sum())
    3
    """
    return ~heatmaps.flatten(1).any(dim=1)
