"""The model parameter randomisation test: an explanation must change if the model's weights are shuffled."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmark.metrics.base import Case, MetricSpec, Scores, metrics
from explainers.guard import unchanged


def model_randomisation(case: Case, *, seed: int = 0) -> Scores:
    """Return |Spearman's rank correlation| of a heatmap with that of the model with shuffled weights.

    The absolute value is taken because a reversed map still depends more on the image than on what the model
    has learnt. The signs within a map count, since higher means more relevant. What a method has learnt in
    `fit` is not changed: the metric asks how much its maps depend on the model that they explain.

    Args:
        case: the batch that was explained.
        seed: of the shuffling; all images share one shuffled model.
    Returns:
        (N,) float64 in [0, 1], lower is better; 0 if the map of the shuffled model is constant, since it has
        nothing in common with the other one; NaN if the explained map is constant, or if one of the two holds
        NaN or an infinity.
    Source: Adebayo et al. 2018, arXiv 1810.03292, section 3.1, all layers at once, which is the last
        step of its cascade. Departs: weights are shuffled within each tensor instead of drawn again, see
        `shuffled`.
    """
    before = case.heatmaps.detach().cpu().numpy()
    if not len(before):
        return np.zeros(0)
    model = shuffled(case.model, seed=seed)
    with unchanged(model):
        after = case.explain(model, case.images, case.targets).detach().cpu().numpy()
    return np.array([_likeness(a.ravel(), b.ravel()) for a, b in zip(before, after, strict=True)])


def shuffled(model: nn.Module, *, seed: int) -> nn.Module:
    """Return a copy of `model`, in eval mode, with the values of each parameter in random order.

    The scale of the weights is kept, so that signals neither vanish nor explode in any architecture, and no
    rule per kind of layer is needed. An untrained model stays a model from the same random distribution.
    """
    with unchanged(model):
        copy = deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copy.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return copy


metrics.add(
    MetricSpec(
        "model_randomisation",
        model_randomisation,
        source="Adebayo et al. 2018, arXiv 1810.03292",
        higher_is_better=False,
        kind="faithfulness",
    )
)


def _likeness(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    if not (np.isfinite(before).all() and np.isfinite(after).all()) or before.min() == before.max():
        return float("nan")
    if after.min() == after.max():
        return 0.0
    return float(min(1.0, abs(np.corrcoef(_ranks(before), _ranks(after))[0, 1])))


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return ranks from 1; equal values share the mean of their ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[which])
