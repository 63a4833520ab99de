"""Max-sensitivity: how far a heatmap moves when the image moves by less than the eye sees."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.metrics.base import Case, MetricSpec, Scores, metrics
from explainers.guard import unchanged


def max_sensitivity(case: Case, *, radius: float = 0.02, samples: int = 10, seed: int = 0) -> Scores:
    """The largest change of the heatmap among noisy copies of the image, relative to the heatmap.

    max over x' of ||e(x') - e(x)|| / ||e(x)||, with x' drawn evenly from the cube |x' - x| <= radius and
    the Euclidean norm over the pixels. The method is asked for the whole batch at once, a copy of each
    image at a time; so one that is handed what belongs to the batch, such as masks, can answer.

    Args:
        case: the batch that was explained.
        radius: of the cube; noisy pixels are not clipped to [0, 1].
        samples: noisy copies of each image.
        seed: of the noise, which depends on the image too, and on no other image of the batch.
    Returns:
        (N,) float64, 0 or more, lower is better; NaN for a heatmap that is all zero, and if it or one of a
        noisy copy holds NaN or an infinity.
    Raises:
        ValueError: if `samples` is less than 1 or `radius` is negative.
    Source: Yeh et al. 2019, arXiv 1901.09392, definition 2, relative to the map's own norm as in captum, so
        that methods of different scales can be compared; the maximum is one over samples, a lower bound.
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
            largest = np.maximum(largest, _norms(moved))  # hands NaN on
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
    """(N, H, W) to (N, H * W), all of a map NaN if any of it is not finite."""
    flat = heatmaps.detach().flatten(1).cpu().numpy().astype(np.float64)
    flat[~np.isfinite(flat).all(axis=1)] = np.nan
    return flat


def _norms(flat: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.square(flat).sum(axis=1)))
