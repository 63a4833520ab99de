"""The model's parameter test: a heatmap that is the same for a model that knows nothing explains none."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmark.metrics.base import Case, MetricSpec, Scores, metrics
from explainers.guard import unchanged


def model_randomisation(case: Case, *, seed: int = 0) -> Scores:
    """How alike a heatmap and that of the model with shuffled weights are: |Spearman's rank correlation|.

    The absolute value, as a map that turned upside down still depends on the image more than on what the
    model learnt. Signs within a map count, as higher means more relevant. What a method learnt in `fit`
    stays as it is: the question is what its maps take from the model that they are said to explain.

    Args:
        case: the batch that was explained.
        seed: of the one shuffled model, the same for all images.
    Returns:
        (N,) float64 in [0, 1], lower is better; 0 if the map of the shuffled model is constant, as nothing of
        the other is left in it; NaN if the explained map is constant, or one of the two holds NaN or an
        infinity.
    Source: Adebayo et al. 2018, arXiv 1810.03292, section 3.1, all layers at once, the last step of its
        cascade. Departs: weights are shuffled within each tensor instead of drawn anew, see `shuffled`.
    """
    before = case.heatmaps.detach().cpu().numpy()
    if not len(before):
        return np.zeros(0)
    model = shuffled(case.model, seed=seed)
    with unchanged(model):
        after = case.explain(model, case.images, case.targets).detach().cpu().numpy()
    return np.array([_likeness(a.ravel(), b.ravel()) for a, b in zip(before, after, strict=True)])


def shuffled(model: nn.Module, *, seed: int) -> nn.Module:
    """A copy of `model`, in eval mode, with the values of every parameter in another order.

    Their scale stays, so that signals neither die nor blow up in any architecture, without a rule for each
    kind of layer; a model that was drawn at random and never trained stays a model drawn from the same.
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
    """Ranks from 1; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[which])
