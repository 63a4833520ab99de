"""Explain with the selected features (paper sections 3.2 and 3.3), and the variants it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import nn

from an8flower.ground.registry import UnknownNameError
from explainers.backward.backprop import Trace, backward, forward
from explainers.backward.stride_fix import Resample
from explainers.base import ExplainerSpec, Loader, registry
from explainers.guard import unchanged
from explainers.layers import Layer, layers
from explainers.maps import Reduction, reduced, scaled, upsampled
from explainers.vebi.feature_selection import select, weights_sha256
from explainers.vebi.response import Norm, shares
from explainers.vebi.selected_features import Selection, SelectionError

_PAPER = "Oramas et al. 2019, arXiv 1712.06302"
_GUIDED = (
    f"Springenberg et al. 2015, arXiv 1412.6806; Grün et al. 2016, arXiv 1606.07757; features of {_PAPER}"
)
_CACHED = 64


@dataclass(frozen=True)
class Evidence:
    """A feature that is evidence for a class in one image.

    Args:
        layer: the layer of the feature; its `number` counts from 1 to `len(selection.layers)`.
        channel: channel within the layer, from 0.
        relevance: weight times response, above 0.
    """

    layer: Layer
    channel: int
    relevance: float


@dataclass(frozen=True)
class Explanation:
    """The explanation of the targets for a batch of images.

    Args:
        targets: (N,) int64.
        evidence: for each image its top features, the most relevant first; may be empty.
        heatmaps: (N, top, H, W) float32 in [0, 1], one per feature in the same order; zeros where an image
            has fewer features.
        combined: (N, H, W) float32 in [0, 1], the pixelwise maximum of the heatmaps.
    """

    targets: torch.Tensor
    evidence: tuple[tuple[Evidence, ...], ...]
    heatmaps: torch.Tensor
    combined: torch.Tensor


class Vebi:
    """Select features on training images, then explain with those that are evidence for the class.

    Args:
        resample: the stride fix, see `backprop.backpropagate`. None shows the upsampled forward maps of
            the features instead of backpropagating.
        top: largest number of features per image, among those with positive relevance.
        reduce: how three channels become one, see `maps.reduced`.
        mu, norm, only_conv, scores: parameters of the selection, see `select`.
    """

    def __init__(
        self,
        *,
        resample: Resample | None = "conv",
        top: int = 3,
        reduce: Reduction = "l2",
        mu: float = 5.0,
        norm: Norm = "squared_l2",
        only_conv: bool = False,
        scores: str | None = "auto",
    ) -> None:
        if top < 1:
            raise ValueError(f"top must be 1 or more; got {top}")
        self.resample, self.top, self.reduce = resample, top, reduce
        self._how: dict[str, Any] = {"mu": mu, "norm": norm, "only_conv": only_conv, "scores": scores}
        self._selection: Selection | None = None

    @property
    def selection(self) -> Selection:
        """The selection that `fit` made. It can be set to one that was loaded from disk.

        Raises:
            SelectionError: before `fit`.
        """
        if self._selection is None:
            raise SelectionError("not fitted: call fit(model, loader) with training images first")
        return self._selection

    @selection.setter
    def selection(self, selection: Selection) -> None:
        self._selection = selection

    def fit(self, model: nn.Module, loader: Loader) -> Self:
        """Select the features on training images.

        Variants that differ only in how they draw heatmaps share one selection, if the loader has an
        attribute `digest` that identifies its content.

        Raises:
            SelectionError: as `select`.
        """
        content = getattr(loader, "digest", None)
        if content is None:
            self.selection = select(model, loader, **self._how)
            return self
        key = (content, weights_sha256(model), *self._how.values())
        if key not in _selections:
            while len(_selections) >= _CACHED:
                del _selections[next(iter(_selections))]
            _selections[key] = select(model, loader, **self._how)
        self.selection = _selections[key]
        return self

    def __call__(self, model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the combined heatmaps (N, H, W), within `guard.unchanged`."""
        return self._explain(model, images, targets).combined

    def explain(self, model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> Explanation:
        """Return the explanations in full: the features and a heatmap of each.

        Args:
            model: the model that was fitted, or one of the same architecture; left unchanged.
            images: (N, 3, H, W) float32 in [0, 1].
            targets: (N,) int64.
        Raises:
            SelectionError: if the explainer is not fitted, or the model has other layers.
        """
        with unchanged(model):
            return self._explain(model, images, targets)

    def _explain(self, model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> Explanation:
        selection = self.selection
        if len(targets) and int(targets.max()) >= selection.classes:
            raise SelectionError(
                f"target {int(targets.max())} does not exist: there are {selection.classes} classes"
            )
        chosen = _Chosen.of(selection)
        if not chosen.features:
            return _nothing(images, targets, self.top)
        keep = {layer.name for layer, _ in chosen.features}
        try:
            with torch.set_grad_enabled(self.resample is not None):
                trace = forward(model, images, keep)
        except UnknownNameError:
            selection.must_fit(layers(model, images))
            raise
        selection.must_fit(trace.layers)
        relevance, index = chosen.relevance(trace, selection.norm, targets).topk(
            min(self.top, len(chosen.features)), dim=1
        )
        index = index.where(relevance > 0, -1)
        maps = self._forward_maps if self.resample is None else self._backward_maps
        heatmaps = scaled(maps(trace, chosen, index, images))
        evidence = tuple(map(chosen.evidence, index.tolist(), relevance.tolist()))
        return Explanation(targets, evidence, heatmaps, heatmaps.amax(dim=1))

    def _backward_maps(
        self, trace: Trace, chosen: _Chosen, index: torch.Tensor, images: torch.Tensor
    ) -> torch.Tensor:
        """Backpropagate once per position in the ranking, each image from the layer of its own feature.

        The positions are ordered by depth: shallow features of all images share a backward pass, which
        is then cheap.
        """
        depth = torch.tensor([layer.number for layer, _ in chosen.features] + [0], device=index.device)
        order = depth[index].argsort(dim=1, descending=True, stable=True)
        by_depth = index.gather(1, order)
        maps = [
            self._gone_back(trace, channels) if channels else torch.zeros_like(images[:, 0])
            for channels in map(chosen.channels, by_depth.T)
        ]
        rows = torch.arange(len(images), device=images.device)[:, None]
        return torch.stack(maps, dim=1)[rows, order.argsort(dim=1)]

    def _gone_back(self, trace: Trace, channels: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return reduced(backward(trace, channels, resample=self.resample or "none"), self.reduce)

    def _forward_maps(
        self, trace: Trace, chosen: _Chosen, index: torch.Tensor, images: torch.Tensor
    ) -> torch.Tensor:
        maps = images.new_zeros(*index.shape, *images.shape[2:])
        for k, (layer, channel) in enumerate(chosen.features):
            rows, places = (index == k).nonzero(as_tuple=True)
            if len(rows) and layer.has_map:
                maps[rows, places] = upsampled(trace.outputs[layer.name].detach()[rows, channel], images)
        return maps


_selections: dict[tuple[Any, ...], Selection] = {}


@dataclass(frozen=True)
class _Chosen:
    """The distinct features of all classes, as (layer, channel), and their weights (D, C)."""

    features: tuple[tuple[Layer, int], ...]
    weights: torch.Tensor

    @classmethod
    def of(cls, selection: Selection) -> _Chosen:
        places = sorted({(selected.layer, selected.channel) for selected in selection.features})
        weights = torch.zeros(len(places), selection.classes)
        for selected in selection.features:
            weights[places.index((selected.layer, selected.channel)), selected.target] = selected.weight
        return cls(tuple((selection.layers[layer - 1], channel) for layer, channel in places), weights)

    def relevance(self, trace: Trace, norm: Norm, targets: torch.Tensor) -> torch.Tensor:
        """Return weight times response (N, D) of every feature for the target of each image."""
        parts: list[torch.Tensor] = []
        for layer, channels in self._by_layer().items():
            output = trace.outputs[layer].detach()
            parts.append(trace.once(("shares", layer, norm), partial(shares, output, norm))[:, channels])
        return torch.cat(parts, dim=1) * self.weights.to(parts[0])[:, targets].T

    def evidence(self, index: list[int], relevance: list[float]) -> tuple[Evidence, ...]:
        """Return the evidence in one image; an index of -1 stands for no feature."""
        ranked = [(*self.features[k], r) for k, r in zip(index, relevance, strict=True) if k >= 0]
        return tuple(Evidence(layer, channel, r) for layer, channel, r in ranked)

    def channels(self, index: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return the channels to backpropagate from, by layer, for one feature per image.

        Args:
            index: (N,) numbers of features, -1 for none.
        """
        by_layer: dict[str, torch.Tensor] = {}
        for image, k in enumerate(index.tolist()):
            if k >= 0:
                layer, channel = self.features[k]
                by_layer.setdefault(layer.name, torch.full_like(index, -1))[image] = channel
        return by_layer

    def _by_layer(self) -> dict[str, list[int]]:
        grouped: dict[str, list[int]] = {}
        for layer, channel in self.features:
            grouped.setdefault(layer.name, []).append(channel)
        return grouped


def _nothing(images: torch.Tensor, targets: torch.Tensor, top: int) -> Explanation:
    zeros = images.new_zeros(len(images), top, *images.shape[2:])
    return Explanation(targets, ((),) * len(images), zeros, zeros[:, 0])


# The explainers that share one selection and differ in how they draw its features.
_ROWS: dict[str, tuple[Resample | None, str, str]] = {
    "vebi": (
        "conv",
        _PAPER,
        "Ours: selected features, guided backprop, strided convolutions gone back at 1.",
    ),
    "vebi_all": (
        "all",
        _PAPER,
        "Ours with the stride fix at poolings too, the paper's text taken literally.",
    ),
    "vebi_nearest": ("nearest", _PAPER, "Ours with max-pooling undone by nearest up-sampling alone."),
    "deconv_gb": ("none", _GUIDED, "The same features gone back by guided backprop without the stride fix."),
    "upsampled_activations": (None, _PAPER, "The same features' forward maps, upsampled; FC ones skipped."),
}
_COMBINED = "each of the top features' maps scaled to [0, 1], then their pixelwise maximum"
for _name, (_resample, _source, _about) in _ROWS.items():
    _build = partial(Vebi, resample=_resample)
    _build.__doc__ = _about
    registry.add(
        ExplainerSpec(
            _name,
            _build,
            source=_source,
            needs_fit=True,
            reduction=_COMBINED
            if _resample is None
            else f"l2 norm over the 3 channels (reduce=), {_COMBINED}",
            resize="bilinear, half-pixel centres" if _resample is None else "",
        )
    )
