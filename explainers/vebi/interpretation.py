"""Show what the selected features respond to, as average images (paper section 4.1, figures 5 and 14)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from explainers.backward.backprop import backward, forward
from explainers.backward.stride_fix import Resample
from explainers.base import Loader
from explainers.guard import unchanged
from explainers.layers import Call, Layer, Watch, value
from explainers.maps import reduced, scaled, upsampled
from explainers.vebi.response import Norm, shares
from explainers.vebi.selected_features import Selected, Selection, SelectionError

# The panels of figure 14, and the stride fix of the heatmaps that guide them; None: upsampled forward maps.
GUIDES: dict[str, Resample | None] = {"upsampled_activations": None, "deconv_gb": "none", "vebi": "conv"}
_TOGETHER = 100  # heatmaps computed at once


@dataclass(frozen=True)
class Interpretation:
    """What one feature responds to, averaged over the training images where it responds most.

    Args:
        feature, layer: the feature and its layer.
        images: numbers of the images in the order of the loader, strongest response first.
        average: (3, h, w) in [0, 1], the mean of the patches in the feature's receptive field; (3, H, W)
            for a feature without a map.
        guided: by method, the mean of the same patches with pixels faded to white where the method's
            heatmap of the feature is low. Methods without a heatmap of the feature are left out.
    """

    feature: Selected
    layer: Layer
    images: tuple[int, ...]
    average: torch.Tensor
    guided: Mapping[str, torch.Tensor]


def interpret(
    model: nn.Module, loader: Loader, selection: Selection, *, top: int = 100, of_class: bool = False
) -> tuple[Interpretation, ...]:
    """Average the patches that each selected feature responds to most.

    Args:
        model: the model whose features were selected; left unchanged.
        loader: batches of training images (n, 3, H, W) in [0, 1] and labels (n,); read twice, and must
            yield the same images in the same order.
        selection: the result of `select`.
        top: images per feature.
        of_class: use only images of the feature's class.
    Returns:
        one interpretation per feature of `selection.features`, in this order.
    Raises:
        SelectionError: if the selection belongs to another model, or the loader shuffles.
    Source: Oramas et al. 2019, section 4.1, figures 5 and 14. Departs: where patches extend beyond the
        border, a pixel is averaged over the patches that contain it. The paper does not say how figure 14
        is guided; here pixels fade to white.
    """
    wanted = {_wanted(selected, of_class) for selected in selection.features}
    with unchanged(model), torch.no_grad():
        hits = _strongest(model, loader, selection, sorted(wanted, key=str), top)
    sums: dict[_Wanted, _Sums] = {}
    with unchanged(model):
        for images, rows_and_hits in _batches(loader, hits):
            for start in range(0, len(rows_and_hits), _TOGETHER):
                _add(sums, model, images, rows_and_hits[start : start + _TOGETHER], selection)
    interpretations = []
    for selected in selection.features:
        key = _wanted(selected, of_class)
        mine = sorted((hit for hit in hits if hit.wanted == key), key=lambda hit: (-hit.share, hit.image))
        patches = sums[key]
        interpretations.append(
            Interpretation(
                selected, selection.layer(selected), tuple(hit.image for hit in mine),
                patches.mean("average"),
                {name: patches.mean(name) for name in GUIDES if name in patches.totals},
            )
        )  # fmt: skip
    return tuple(interpretations)


@dataclass(frozen=True)
class _Wanted:
    """A feature to interpret, on the images of one class or (None) of all classes."""

    layer: int
    channel: int
    target: int | None


def _wanted(feature: Selected, of_class: bool) -> _Wanted:
    return _Wanted(feature.layer, feature.channel, feature.target if of_class else None)


@dataclass(frozen=True)
class _Hit:
    """One of the training images to which a feature responds most."""

    wanted: _Wanted
    image: int
    share: float
    place: tuple[int, int]


class _Sums:
    """Sums of patches that may extend beyond the border, and the number of patches with each pixel."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.totals: dict[str, torch.Tensor] = {}
        self._count = torch.zeros(size)

    def add(self, pictures: Mapping[str, torch.Tensor], window: tuple[int, int, int, int]) -> None:
        """Add the part of each picture (3, H, W) that is in the window (top, bottom, left, right)."""
        height, width = next(iter(pictures.values())).shape[1:]
        top, bottom, left, right = window
        rows = slice(max(top, 0), min(bottom, height))
        columns = slice(max(left, 0), min(right, width))
        inside = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        self._count[inside] += 1
        for name, picture in pictures.items():
            total = self.totals.setdefault(name, torch.zeros(3, *self._count.shape))
            total[:, inside[0], inside[1]] += picture[:, rows, columns].cpu()

    def mean(self, name: str) -> torch.Tensor:
        """Return the mean patch; a pixel that no patch contains is white."""
        return (self.totals[name] / self._count.clamp(min=1)).where(self._count > 0, 1.0)


def _strongest(
    model: nn.Module, loader: Loader, selection: Selection, wanted: list[_Wanted], top: int
) -> list[_Hit]:
    """Return the `top` images of each wanted feature, in one pass over the images."""
    names = {selection.layers[feature.layer - 1].name for feature in wanted}
    kept: dict[_Wanted, list[_Hit]] = {feature: [] for feature in wanted}
    begun = 0
    for images, labels in loader:
        measured = _measured(model, images, selection, names)
        for feature in wanted:
            strength, maps = measured[selection.layers[feature.layer - 1].name]
            values = strength[:, feature.channel].cpu()
            enough = kept[feature][-1].share if len(kept[feature]) == top else -1.0
            better = values > enough
            if feature.target is not None:
                better &= labels.cpu() == feature.target
            rows = better.nonzero()[:, 0].tolist()
            kept[feature] += [
                _Hit(feature, begun + row, float(values[row]), _place(maps[row, feature.channel]))
                for row in rows
            ]
            kept[feature] = sorted(kept[feature], key=lambda hit: (-hit.share, hit.image))[:top]
        begun += len(images)
    return [hit for hits in kept.values() for hit in hits]


def _measured(
    model: nn.Module, images: torch.Tensor, selection: Selection, names: set[str]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the shares (n, C) and maps (n, C, ...) of the named layers."""
    measured: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def note(call: Call) -> object:
        output = call.run()
        if call.name in names:
            maps = value(output)
            measured[call.name] = shares(maps, selection.norm), maps.clone()
        return output

    with Watch(note) as watch:
        model(images)
    selection.must_fit(watch.seen)
    return measured


def _place(channel: torch.Tensor) -> tuple[int, int]:
    """Return the row and column where the map of a channel is strongest; (0, 0) for a unit without a map."""
    if channel.dim() == 0:
        return 0, 0
    at = int(channel.abs().argmax())
    return at // channel.shape[1], at % channel.shape[1]


def _batches(loader: Loader, hits: list[_Hit]) -> Iterator[tuple[torch.Tensor, list[tuple[int, _Hit]]]]:
    """Yield the batches that have hits, with the row of each hit."""
    by_image: dict[int, list[_Hit]] = {}
    for hit in hits:
        by_image.setdefault(hit.image, []).append(hit)
    begun = 0
    for images, _ in loader:
        rows_and_hits = [(row, hit) for row in range(len(images)) for hit in by_image.get(begun + row, ())]
        begun += len(images)
        if rows_and_hits:
            yield images, rows_and_hits


def _add(
    sums: dict[_Wanted, _Sums],
    model: nn.Module,
    images: torch.Tensor,
    rows_and_hits: list[tuple[int, _Hit]],
    selection: Selection,
) -> None:
    """Add the patches of some hits to the sums, plain and guided by each method's heatmap."""
    rows = torch.tensor([row for row, _ in rows_and_hits])
    pictures = images[rows]
    guided = {
        name: _heatmaps(model, pictures, [hit for _, hit in rows_and_hits], selection, resample)
        for name, resample in GUIDES.items()
    }
    for k, (_, hit) in enumerate(rows_and_hits):
        layer = selection.layers[hit.wanted.layer - 1]
        field = layer.receptive_field
        shown = {"average": pictures[k]}
        for name, heatmaps in guided.items():
            if GUIDES[name] is not None or layer.has_map:
                shown[name] = 1 - heatmaps[k] * (1 - pictures[k])
        sums.setdefault(hit.wanted, _Sums(field.size_px)).add(shown, field.window(*hit.place))


def _heatmaps(
    model: nn.Module, images: torch.Tensor, hits: list[_Hit], selection: Selection, resample: Resample | None
) -> torch.Tensor:
    """Return the heatmap (n, H, W) of each image's own feature, in one pass for all layers."""
    channels: dict[str, torch.Tensor] = {}
    for k, hit in enumerate(hits):
        name = selection.layers[hit.wanted.layer - 1].name
        channels.setdefault(name, torch.full((len(hits),), -1, device=images.device))[k] = hit.wanted.channel
    with torch.set_grad_enabled(resample is not None):
        trace = forward(model, images, channels)
    _must_agree(trace.outputs, channels, hits, selection.norm)
    if resample is not None:
        return scaled(reduced(backward(trace, channels, resample=resample)))
    maps = torch.zeros_like(images[:, 0])
    for name, chosen in channels.items():
        if trace.outputs[name].dim() == 4:
            taken = (chosen >= 0).nonzero()[:, 0]
            maps[taken] = upsampled(trace.outputs[name][taken, chosen[taken]], images)
    return scaled(maps)


def _must_agree(
    outputs: Mapping[str, torch.Tensor], channels: Mapping[str, torch.Tensor], hits: list[_Hit], norm: Norm
) -> None:
    """Raise unless the second pass over the images shows the responses of the first."""
    for name, chosen in channels.items():
        strength = shares(outputs[name].detach(), norm)
        for k in (chosen >= 0).nonzero()[:, 0].tolist():
            if abs(float(strength[k, chosen[k]]) - hits[k].share) > 1e-4:
                raise SelectionError(
                    "the loader yields other images, or another order, the second time; it must not shuffle"
                )
