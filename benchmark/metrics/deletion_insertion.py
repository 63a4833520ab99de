"""Deletion and insertion: how the class's probability changes while pixels are removed or added.

Both change the pixels in equal steps, the most relevant first, from none to all. Pixels of equal relevance
change in a random order that is drawn once per map size, so that no side of the image is favoured; a
constant map therefore scores at chance level. A map with NaN or an infinity defines no order and scores
NaN. Each image is scored separately, so a score does not depend on the batch.

A classifier must predict some class even for an image without content, and images of that class keep their
probability whatever the map is. Compare methods on the same images; do not compare classes.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.metrics.base import Case, MetricSpec, Scores, metrics
from explainers.base import CPU_PIECE_PX
from explainers.guard import unchanged
from explainers.layers import laid_out

STEPS = 28  # of 112 x 112 pixels, 448 at a time


def deletion(case: Case, *, steps: int = STEPS, fill: float = 0.5) -> Scores:
    """Return the area under the target's probability while pixels turn grey, the most relevant first.

    Args:
        case: the batch that was explained.
        steps: number of equal steps in which the pixels are removed.
        fill: value of a removed pixel in all three channels. Grey contains no information on the class. The
            mean of the image would: its tint shows the colour of the plant, which may define the class.
    Returns:
        (N,) float64 in [0, 1], lower is better; NaN for an invalid map.
    Raises:
        ValueError: for less than 1 step, or heatmaps that do not fit the images.
    Source: Petsiuk et al. 2018, arXiv 1806.07421, section 4.1. Departs: removed pixels are grey in the
        input's range, where the paper sets zero after the model's preprocessing. Both are nearly equal, but
        grey does not depend on the model.
    """
    return _areas(case, case.images, torch.full_like(case.images, fill), steps)


def insertion(case: Case, *, steps: int = STEPS, blur: float = 0.1) -> Scores:
    """Return the area under the target's probability while pixels of a blurred image become sharp again.

    Args:
        case: the batch that was explained.
        steps: number of equal steps in which the pixels are inserted, the most relevant first.
        blur: standard deviation of the Gaussian blur, as a fraction of the image's side. The blur must hide
            the class, or there is nothing left to insert: on single-6c, an8net gives the target a
            probability of 0.99 with the blur of the paper's code (5 of 224 pixels), 0.88 with a twentieth
            of the side and 0.51 with a tenth.
    Returns:
        (N,) float64 in [0, 1], higher is better; NaN for an invalid map.
    Raises:
        ValueError: for less than 1 step, a blur not in (0, 0.2], or heatmaps that do not fit the images.
    Source: Petsiuk et al. 2018, arXiv 1806.07421, section 4.1. Departs: the paper does not state the
        blur; its code uses less, which hides texture, but here colour may define the class.
    """
    return _areas(case, blurred(case.images, blur), case.images, steps)


def blurred(images: torch.Tensor, blur: float) -> torch.Tensor:
    """Blur images (N, 3, H, W) with a Gaussian, mirrored at the borders.

    Args:
        blur: standard deviation as a fraction of each side, in (0, 0.2]; the kernel ends at four of them.
    """
    if not 0 < blur <= 0.2:
        raise ValueError(f"blur must be more than 0 and at most 0.2; got {blur}")
    down, across = (_blurring(size, blur).to(images.device) for size in images.shape[2:])
    # Image by image: a product of many may round differently from a product of one.
    each = [down @ image.double() @ across.T for image in torch.split(images, 1)]
    return torch.cat(each).to(images.dtype)


metrics.add(
    MetricSpec(
        "deletion",
        deletion,
        source="Petsiuk et al. 2018, arXiv 1806.07421",
        higher_is_better=False,
        kind="faithfulness",
    )
)
metrics.add(
    MetricSpec("insertion", insertion, source="Petsiuk et al. 2018, arXiv 1806.07421", kind="faithfulness")
)


def _areas(case: Case, before: torch.Tensor, after: torch.Tensor, steps: int) -> Scores:
    """Return for each image the area under its curve while pixels of `before` become those of `after`."""
    if steps < 1:
        raise ValueError(f"steps must be 1 or more; got {steps}")
    n, _, height, width = case.images.shape
    if case.heatmaps.shape != (n, height, width):
        raise ValueError(f"heatmaps must be {(n, height, width)}, got {tuple(case.heatmaps.shape)}")
    scores = np.full(n, np.nan)
    with unchanged(case.model), torch.no_grad():
        for k, heatmap in enumerate(case.heatmaps.cpu().numpy()):
            if np.isfinite(heatmap).all():
                places = torch.from_numpy(_places(heatmap)).to(case.images.device)
                curve = _curve(case, k, before[k], after[k], places, steps)
                scores[k] = np.trapezoid(curve, dx=1 / steps)
    return scores


def _curve(
    case: Case, k: int, before: torch.Tensor, after: torch.Tensor, places: torch.Tensor, steps: int
) -> NDArray[np.float64]:
    """Return the target's probability after each step, (steps + 1,), in batches of bounded size."""
    shares = torch.arange(steps + 1, device=places.device) * places.numel() // steps
    together = max(1, CPU_PIECE_PX // places.numel())
    chances = []
    for part in torch.split(shares, together):
        changed = (places < part[:, None, None])[:, None]
        logits = case.model(laid_out(torch.where(changed, after, before)))
        chances.append(logits.double().softmax(dim=1)[:, case.targets[k]])
    return torch.cat(chances).cpu().numpy()


def _places(heatmap: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return each pixel's place in the order of relevance, (H, W); 0 is the most relevant."""
    scattered = _scattered(heatmap.size)
    order = scattered[np.argsort(-heatmap.reshape(-1)[scattered], kind="stable")]
    places = np.empty(heatmap.size, np.int64)
    places[order] = np.arange(heatmap.size)
    return places.reshape(heatmap.shape)


def _blurring(size: int, blur: float) -> torch.Tensor:
    """Return the weights of the sharp pixels of a line in each blurred one, (size, size) float64."""
    sigma_px = blur * size
    reach = math.ceil(4 * sigma_px)
    offsets = np.arange(-reach, reach + 1)
    bell = np.exp(-0.5 * (offsets / sigma_px) ** 2)
    # Mirrored at the middle of the border pixels, which are not doubled: ... 2 1 0 1 2 ...
    period = max(1, 2 * size - 2)
    met = (np.arange(size)[:, None] + offsets) % period
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], np.minimum(met, period - met)), bell / bell.sum())
    return torch.from_numpy(matrix)


@lru_cache(maxsize=8)
def _scattered(pixels: int) -> NDArray[np.int64]:
    """Return the random order in which equally relevant pixels change."""
    return np.random.default_rng(0).permutation(pixels)
