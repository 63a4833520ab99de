"""Select the features that predict the classes of training images (paper section 3.1)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import nn

from explainers.base import Loader
from explainers.guard import unchanged
from explainers.layers import Layer, layers
from explainers.vebi.lasso import Gram, MuLasso, solve
from explainers.vebi.response import Norm, features_of, respond
from explainers.vebi.selected_features import Selected, Selection, SelectionError

_TRIED = 8  # images for which the model must give the same logits twice


def select(
    model: nn.Module,
    loader: Loader,
    *,
    mu: float = 5.0,
    norm: Norm = "squared_l2",
    only_conv: bool = False,
    scores: str | None = "auto",
    tol: float = 1e-8,
) -> Selection:
    """Select a sparse set of features whose responses predict the classes of training images.

    Args:
        model: any classifier; left unchanged.
        loader: batches of images (n, 3, H, W) float32 in [0, 1] and labels (n,) int64; read once.
        mu: bound on the L1 norm of the weights of a class: 10 in the paper, 5 in its demo for an8Flower.
        norm: norm of a channel's map, see `responses`.
        only_conv: use only the outputs of convolutions, as the paper's OnlyConv.
        scores: the layer of the class scores; it is left out with all layers that follow it.
        tol: relative duality gap to reach.
    Raises:
        SelectionError: if the model or the images do not allow a selection; the message says why.
    Source: Oramas et al. 2019, section 3.1, eq. 1. Departs: only in the norm, see `responses`.
    """
    if not mu >= 0:
        raise SelectionError(f"mu must be 0 or more; got {mu}")
    gram, wanted = Gram(), np.zeros(0, dtype=bool)
    model_layers: tuple[Layer, ...] = ()
    before: tuple[Layer, ...] = ()  # the class scores
    with unchanged(model), torch.no_grad():
        for images, labels in loader:
            if not model_layers:
                model_layers, classes = _inspected(model, images)
            x, before, _ = respond(model, images, norm, scores)
            if not x.isfinite().all():
                raise SelectionError("layers of the model have NaN or infinite values on these images")
            if len(wanted) == 0:
                wanted = _wanted(before, only_conv)
            gram.partial_fit(x.T[wanted].cpu(), _one_hot(labels, classes, len(images)).T)
        if not model_layers:
            raise SelectionError("the loader has no images")
        counts = gram.squares.astype(int)
        _must_tell(counts)
        return _selection(
            solve(gram, mu=mu, tol=tol), gram, counts, model_layers, before, wanted,
            {"mu": float(mu), "norm": norm, "only_conv": only_conv, "scores": scores,
             "weights_sha256": weights_sha256(model)},
        )  # fmt: skip


def weights_sha256(model: nn.Module) -> str:
    """Return the SHA-256 of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _selection(
    solved: MuLasso, gram: Gram, counts: Any, every: tuple[Layer, ...], of: tuple[Layer, ...], wanted: Any,
    about: dict[str, Any],
) -> Selection:  # fmt: skip
    numbers = {layer.name: layer.number for layer in every}
    candidates = [one for one, taken in zip(features_of(of), wanted, strict=True) if taken]
    relevance = solved.weights * gram.cross / counts
    selected = [
        Selected(
            int(j), numbers[candidates[i].layer], candidates[i].channel, solved.weights[i, j], relevance[i, j]
        )
        for i, j in np.argwhere(solved.weights != 0)
    ]
    selected.sort(key=lambda one: (one.target, -one.relevance, one.layer, one.channel))
    return Selection(
        features=tuple(selected),
        layers=every,
        classes=len(counts),
        images=gram.count,
        gap=float(solved.gap.max()),
        **about,
    )


def _inspected(model: nn.Module, images: torch.Tensor) -> tuple[tuple[Layer, ...], int]:
    """Return the layers and the number of classes of a model, if it can be explained.

    Raises:
        SelectionError: if it cannot.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise SelectionError(f"the model's {name!r} has NaN or infinite values")
    first, again = model(images[:_TRIED]), model(images[:_TRIED])
    if not isinstance(first, torch.Tensor) or first.dim() != 2:
        what = tuple(first.shape) if isinstance(first, torch.Tensor) else type(first).__name__
        raise SelectionError(
            f"the model must return logits (N, C); it returned {what} for {len(images[:_TRIED])} images"
        )
    if not torch.equal(first, again):
        raise SelectionError(
            "the model returns different logits each time, in eval mode: does it have an active dropout?"
        )
    model_layers = layers(model, images)
    if not any(layer.has_map for layer in model_layers):
        raise SelectionError(
            "the model has no layer with a map larger than 1x1 (convolution, ReLU or pooling), so no heatmap"
        )
    return model_layers, first.shape[1]


def _wanted(of: tuple[Layer, ...], only_conv: bool) -> Any:
    taken = [layer.kind == "conv" or not only_conv for layer in of for _ in range(layer.channels)]
    if not any(taken):
        raise SelectionError(
            "the model has no layer to take features from before its class scores"
            + (", with only_conv" if only_conv else "")
        )
    return np.array(taken)


def _one_hot(labels: torch.Tensor, classes: int, images: int) -> Any:
    if labels.shape != (images,) or labels.is_floating_point():
        raise SelectionError(f"labels must be ({images},) integers; got {tuple(labels.shape)} {labels.dtype}")
    if labels.min() < 0 or labels.max() >= classes:
        raise SelectionError(
            f"labels range from {int(labels.min())} to {int(labels.max())}, but the model has {classes} "
            "classes"
        )
    return np.eye(classes)[labels.cpu().numpy()]


def _must_tell(counts: Any) -> None:
    if counts.sum() < len(counts):
        raise SelectionError(
            f"there are {counts.sum()} training images for {len(counts)} classes; at least one per class is "
            "needed"
        )
    absent = [str(k) for k in np.flatnonzero(counts == 0)]
    if absent:
        raise SelectionError(f"no training image of class {', '.join(absent[:10])}; every class needs one")
