"""Perturbation methods: hide parts of the image and observe the class scores."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from explainers.base import explainer
from explainers.layers import laid_out


@explainer(
    source="Petsiuk et al. 2018, arXiv 1806.07421",
    reduction="one mask for the 3 channels",
    resize="masks: bilinear",
    costly=True,
)
def rise(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    samples: int = 1000,
    cells: int = 7,
    keep: float = 0.5,
    seed: int = 0,
) -> torch.Tensor:
    """RISE: average random smooth masks, weighted by the class probability of the masked image.

    Args:
        model: any classifier.
        images: (N, 3, H, W) float32 in [0, 1]; hidden pixels become black.
        targets: (N,) int64.
        samples: number of masks; all images share the same masks.
        cells: cells per side of a mask, before it is enlarged.
        keep: probability that a cell is visible, between 0 and 1 (exclusive).
        seed: seed of the masks.
    Returns:
        (N, H, W) float32, 0 or more.
    Raises:
        ValueError: if `samples` or `cells` is less than 1, or `keep` is not between 0 and 1.
    Source: Petsiuk et al. 2018, eq. 6 and section 3.2; 1 000 masks where the paper takes 4 000 or 8 000.
    """
    if samples < 1 or cells < 1 or not 0 < keep < 1:
        raise ValueError(
            f"samples and cells must be 1 or more and keep between 0 and 1; got {samples}, {cells}, {keep}"
        )
    rng = np.random.default_rng(seed)
    total = torch.zeros_like(images[:, 0])
    inside = laid_out(images)
    with torch.no_grad():
        for _ in range(samples):
            mask = _mask(rng, cells, keep, images)
            chance = model(inside * mask).softmax(dim=1).gather(1, targets[:, None])
            total += chance[:, :, None] * mask
    return total / (samples * keep)


def _mask(rng: np.random.Generator, cells: int, keep: float, images: torch.Tensor) -> torch.Tensor:
    """Draw a mask: random cells, enlarged bilinearly to one cell more than the image, randomly shifted."""
    height, width = images.shape[-2:]
    cell = (-(-height // cells), -(-width // cells))
    shown = torch.from_numpy(rng.random((1, 1, cells, cells)) < keep).to(images)
    size = ((cells + 1) * cell[0], (cells + 1) * cell[1])
    large = functional.interpolate(shown, size=size, mode="bilinear", align_corners=False)[0, 0]
    top, left = int(rng.integers(cell[0])), int(rng.integers(cell[1]))
    return large[top : top + height, left : left + width]
