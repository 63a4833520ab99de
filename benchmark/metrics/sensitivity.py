"""Max-sensitivity: how much a heatmap changes if invisible noise is added to the image."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.metrics.base import Case, MetricSpec, Scores, metrics
from explainers.guard import unchanged


def max_sensitivity(case: Case, *, radius: float = 0.02, samples: int = 10, seed: int = 0) -> Scores:
    """Return the largest change of the heatmap over noisy copies of the image, relative to the heatmap.

    max over x' of ||e(x') - e(x)|| / ||e(x)||, with x' drawn uniformly from the cube |x' - x| <= radius and
    the Euclidean norm over the pixels. The method is called for the whole batch, with one noisy copy of each
    image per call, so that methods that need data of the batch, such as masks, can be scored too.

    Args:
        case: the batch that was explained.
        radius: half the side of the cube; noisy pixels are not clipped to [0, 1].
        samples: number of noisy copies of each image.
        seed: of the noise, which also depends on the image, but not on the other images of the batch.
    Returns:
        (N,) float64, 0 or more, lower is better; NaN for a heatmap that is all zero, and if the heatmap of
        the image or of a noisy copy holds NaN or an infinity.
    Raises:
        ValueError: if `samples` is less than 1 or `radius` is negative.
    Source: Yeh et al. 2019, arXiv 1901.09392, definition 2, relative to the map's own norm as in Captum,
        so that methods of different scales can be compared. The maximum is taken over samples, so it is a
        lower bound.
    """
    if samples < 1 or radius < 0:
        raise ValueError(f"samples must be 1 or more and radius 0 or more; got {samples} and {radius}")
    draws = [
        np.random.default_rng([seed, zlib.crc32(image.numpy().tobytes())])
        for image in case.images.detach().cpu().contiguous()
    ]
    heatmaps = _flat(case.heatmaps)
    largest = np.zeros(len(heatmaps))
    with unchanged(case.model):
        for _ in range(samples if len(draws) else 0):
            noise = [rng.uniform(-radius, radius, case.images.shape[1:]).astype(np.float32) for rng in draws]
            noisy = case.images.detach() + torch.from_numpy(np.stack(noise)).to(case.images)
            moved = _flat(case.explain(case.model, noisy, case.targets)) - heatmaps
            largest = np.maximum(largest, _norms(moved))  # propagates NaN
    norms = _norms(heatmaps)
    return np.where(norms > 0, largest, np.nan) / np.where(norms > 0, norms, 1)


metrics.add(
    MetricSpec(
        "max_sensitivity",
        max_sensitivity,
        source="Yeh et al. 2019, arXiv 1901.09392",
        higher_is_better=False,
        bounds=(0.0, float("inf")),
        kind="faithfulness",
    )
)


def _flat(heatmaps: torch.Tensor) -> NDArray[np.float64]:
    """Flatten (N, H, W) to (N, H * W); a map that is not finite everywhere becomes all NaN."""
    flat = heatmaps.detach().flatten(1).cpu().numpy().astype(np.float64)
    flat[~np.isfinite(flat).all(axis=1)] = np.nan
    return flat


def _norms(flat: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.square(flat).sum(axis=1)))
