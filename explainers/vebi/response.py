"""Compute how strongly each internal feature of a network responds to an image (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from explainers.guard import unchanged
from explainers.layers import Call, Layer, Watch, before_scores, laid_out, layers, value

Norm = Literal["squared_l2", "l2"]

NORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "squared_l2": lambda lengths: lengths.square(),
    "l2": lambda lengths: lengths,
}


@dataclass(frozen=True, order=True)
class Feature:
    """One channel of a convolution, ReLU or pooling, or one fully connected unit.

    Args:
        layer: name of the layer, e.g. "conv2".
        channel: channel within the layer, from 0.
    """

    layer: str
    channel: int


def responses(
    model: nn.Module, images: torch.Tensor, *, norm: Norm = "squared_l2", scores: str | None = "auto"
) -> torch.Tensor:
    """Return the norm of each feature's map as a share of its layer's total: the vector x of the paper.

    Args:
        model: any classifier; left unchanged.
        images: (N, 3, H, W) float32 in [0, 1].
        norm: norm of a channel's map, "squared_l2" or "l2".
        scores: the layer of the class scores; it is left out with all layers that follow it, see
            `layers.before_scores`.
    Returns:
        (N, m) float32, 0 or more; the columns of each layer sum to 1, or are all 0. Column k belongs to
        `responses.features(model, images)[k]`.
    Raises:
        UnknownNameError: if the model has no layer `scores`.
        ValueError: for an unknown `norm`.
    Source: Oramas et al. 2019, section 3.1. Departs: the paper says L2, its demo squares it.
    """
    with unchanged(model), torch.no_grad():
        return respond(model, images, norm, scores)[0]


def features(model: nn.Module, images: torch.Tensor, *, scores: str | None = "auto") -> tuple[Feature, ...]:
    """Return the feature of each column of `responses`, for the same arguments."""
    with unchanged(model), torch.no_grad():
        classes = model(images[:1]).shape[-1]
        return features_of(before_scores(layers(model, images), classes, scores))


responses.features = features  # type: ignore[attr-defined]


def features_of(of: tuple[Layer, ...]) -> tuple[Feature, ...]:
    """Return all features of the given layers, in order."""
    return tuple(Feature(layer.name, channel) for layer in of for channel in range(layer.channels))


def respond(
    model: nn.Module, images: torch.Tensor, norm: Norm, scores: str | None
) -> tuple[torch.Tensor, tuple[Layer, ...], torch.Tensor]:
    """Return responses (N, m), their layers and the logits, within `guard.unchanged`.

    The output of a layer is reduced to norms at once, so that no map is kept in memory.
    """
    parts: list[torch.Tensor] = []

    def note(call: Call) -> Any:
        output = call.run()
        parts.append(shares(value(output), norm))
        return output

    with Watch(note) as watch:
        logits = model(laid_out(images))
    of = before_scores(watch.seen, logits.shape[-1], scores)
    return torch.cat(parts[: len(of)], dim=1), of, logits


def shares(maps: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Return the norms (N, C) of the channels of maps (N, C, ...), divided by their sum; zeros stay zeros."""
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}")
    lengths = maps.abs() if maps.dim() == 2 else torch.linalg.vector_norm(maps.flatten(2), dim=2)
    norms = NORMS[norm](lengths)
    total = norms.sum(dim=1, keepdim=True)
    return norms / total.where(total > 0, 1)
