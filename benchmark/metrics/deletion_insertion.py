"""Deletion and insertion: what the class's probability does while pixels go or come, most relevant first.

Treatment, the same in both: pixels change in equal shares, from none to all. Pixels of equal relevance
change in an order that is drawn once for each size of map and scattered evenly, so that no side of the
image is favoured; a constant map thus scores what chance does. A map with NaN or an infinity orders
nothing and scores NaN. Each image is scored by itself, so a score does not depend on the batch.

A classifier that must name a class names one for the picture without pixels too: images of that class
keep their probability whatever the map. Compare methods on the same images, not one class with another.
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
    """The area under the target's probability while pixels become grey, the most relevant first.

    Args:
        case: the batch that was explained.
        steps: equal shares in which the pixels go.
        fill: what they become, in all three channels. A grey value says nothing of any class. The image's
            own mean would: its tint tells the colour of the plant, which may be the class.
    Returns:
        (N,) float64 in [0, 1], lower is better; NaN for an invalid map.
    Raises:
        ValueError: for less than 1 step, or heatmaps that do not fit the images.
    Source: Petsiuk et al. 2018, arXiv 1806.07421, section 4.1. Departs: grey of the input's range where the
        paper has zero after its model's preprocessing, which is about the same, but asks nothing of a model.
    """
    return _areas(case, case.images, torch.full_like(case.images, fill), steps)


def insertion(case: Case, *, steps: int = STEPS, blur: float = 0.1) -> Scores:
    """The area under the target's probability while pixels of a blurred image become sharp again.

    Args:
        case: the batch that was explained.
        steps: equal shares in which the pixels come, the most relevant first.
        blur: standard deviation of the Gaussian blur, as a fraction of the image's side. It must hide the
            class, or nothing is left to insert: on single-6c, an8net gives the target 0.99 at the 5 pixels
            of 224 of the paper's code, 0.88 at a twentieth of the side and 0.51 at a tenth.
    Returns:
        (N,) float64 in [0, 1], higher is better; NaN for an invalid map.
    Raises:
        ValueError: for less than 1 step, a blur not in (0, 0.2], or heatmaps that do not fit the images.
    Source: Petsiuk et al. 2018, arXiv 1806.07421, section 4.1. Departs: the paper does not say how much blur;
        its code takes less, which hides texture, but here colour may be the class.
    """
    return _areas(case, blurred(case.images, blur), case.images, steps)


def blurred(images: torch.Tensor, blur: float) -> torch.Tensor:
    """Images (N, 3, H, W) after a Gaussian blur, their borders mirrored.

    Args:
        blur: standard deviation as a fraction of each side, in (0, 0.2]; cut off at four of them.
    """
    if not 0 < blur <= 0.2:
        raise ValueError(f"blur must be more than 0 and at most 0.2; got {blur}")
    down, across = (_blurring(size, blur).to(images.device) for size in images.shape[2:])
    # One image after the other, as a product of many may round otherwise than that of one.
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
    """For each image the area under its curve, while pixels of `before` become those of `after`."""
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
    """The target's probability after each step, (steps + 1,), in batches of a size that does not grow."""
    shares = torch.arange(steps + 1, device=places.device) * places.numel() // steps
    together = max(1, CPU_PIECE_PX // places.numel())
    chances = []
    for part in torch.split(shares, together):
        changed = (places < part[:, None, None])[:, None]
        logits = case.model(laid_out(torch.where(changed, after, before)))
        chances.append(logits.double().softmax(dim=1)[:, case.targets[k]])
    return torch.cat(chances).cpu().numpy()


def _places(heatmap: NDArray[np.float32]) -> NDArray[np.int64]:
    """(H, W), each pixel's place in the order of relevance, 0 for the most relevant."""
    scattered = _scattered(heatmap.size)
    order = scattered[np.argsort(-heatmap.reshape(-1)[scattered], kind="stable")]
    places = np.empty(heatmap.size, np.int64)
    places[order] = np.arange(heatmap.size)
    return places.reshape(heatmap.shape)


def _blurring(size: int, blur: float) -> torch.Tensor:
    """(size, size) float64, what each blurred pixel of a line takes of each sharp one."""
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
    """The order of pixels that are equally relevant."""
    return np.random.default_rng(0).permutation(pixels)
