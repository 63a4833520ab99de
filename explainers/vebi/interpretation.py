"""What the selected features look for: average images (paper section 4.1, figures 5 and 14)."""

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
from explainers.vebi.selection import Selected, Selection, SelectionError

# The panels of figure 14, and how the heatmap that guides each is made; None: the upsampled forward map.
GUIDES: dict[str, Resample | None] = {"upsampled_activations": None, "deconv_gb": "none", "vebi": "conv"}
_TOGETHER = 100  # heatmaps made at once


@dataclass(frozen=True)
class Interpretation:
    """What one feature responds to, averaged over the training images where it responds most.

    Args:
        feature, layer: which one.
        images: numbers of the images in the loader's order, strongest first.
        average: (3, h, w) in [0, 1], the mean of the patches that the feature sees; (3, H, W) for one
            without a map.
        guided: by method the same with each patch's pixels faded to white where the method's heatmap
            of the feature is low; a method that has no heatmap of the feature is missing.
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
        model: the one that was selected on; left unchanged.
        loader: of training images (n, 3, H, W) in [0, 1] and labels (n,); gone through twice and must give
            the same images in the same order.
        selection: of `select`.
        top: images a feature.
        of_class: take them from the feature's class alone.
    Returns:
        one for each of `selection.features`, in their order.
    Raises:
        SelectionError: if the selection is another model's, or the loader shuffles.
    Source: Oramas et al. 2019, section 4.1, figures 5 and 14. Departs: where a patch reaches over the
        border, the average is over the patches that have the pixel; how figure 14 is guided is not said
        in the paper, here by fading to white.
    """
    wanted = {_Wanted(one.layer, one.channel, one.target if of_class else None) for one in selection.features}
    with unchanged(model), torch.no_grad():
        hits = _strongest(model, loader, selection, sorted(wanted, key=str), top)
    sums: dict[_Wanted, _Sums] = {}
    with unchanged(model):
        for images, found in _batches(loader, hits):
            for at in range(0, len(found), _TOGETHER):
                _add(sums, model, images, found[at : at + _TOGETHER], selection)
    made = []
    for one in selection.features:
        key = _Wanted(one.layer, one.channel, one.target if of_class else None)
        mine = sorted((hit for hit in hits if hit.wanted == key), key=lambda hit: (-hit.share, hit.image))
        done = sums[key]
        made.append(
            Interpretation(
                one, selection.layer(one), tuple(hit.image for hit in mine), done.mean("average"),
                {name: done.mean(name) for name in GUIDES if name in done.totals},
            )
        )  # fmt: skip
    return tuple(made)


@dataclass(frozen=True)
class _Wanted:
    layer: int
    channel: int
    target: int | None


@dataclass(frozen=True)
class _Hit:
    """A training image among those where a feature responds most."""

    wanted: _Wanted
    image: int
    share: float
    place: tuple[int, int]


class _Sums:
    """Sums of patches that may reach over the border, and of how many had each pixel."""

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
        """The mean, white where no patch had the pixel."""
        return (self.totals[name] / self._count.clamp(min=1)).where(self._count > 0, 1.0)


def _strongest(
    model: nn.Module, loader: Loader, selection: Selection, wanted: list[_Wanted], top: int
) -> list[_Hit]:
    """The `top` images of each wanted feature, in one pass."""
    names = {selection.layers[one.layer - 1].name for one in wanted}
    kept: dict[_Wanted, list[_Hit]] = {one: [] for one in wanted}
    begun = 0
    for images, labels in loader:
        measured = _measured(model, images, selection, names)
        for one in wanted:
            strength, maps = measured[selection.layers[one.layer - 1].name]
            values = strength[:, one.channel].cpu()
            enough = kept[one][-1].share if len(kept[one]) == top else -1.0
            better = values > enough
            if one.target is not None:
                better &= labels.cpu() == one.target
            rows = better.nonzero()[:, 0].tolist()
            kept[one] += [
                _Hit(one, begun + row, float(values[row]), _place(maps[row, one.channel])) for row in rows
            ]
            kept[one] = sorted(kept[one], key=lambda hit: (-hit.share, hit.image))[:top]
        begun += len(images)
    return [hit for hits in kept.values() for hit in hits]


def _measured(
    model: nn.Module, images: torch.Tensor, selection: Selection, names: set[str]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def note(call: Call) -> object:
        output = call.run()
        if call.name in names:
            maps = value(output)
            found[call.name] = shares(maps, selection.norm), maps.clone()
        return output

    with Watch(note) as watch:
        model(images)
    selection.must_fit(watch.seen)
    return found


def _place(one: torch.Tensor) -> tuple[int, int]:
    """Where a channel's map is strongest; (0, 0) for a unit without a map."""
    if one.dim() == 0:
        return 0, 0
    at = int(one.abs().argmax())
    return at // one.shape[1], at % one.shape[1]


def _batches(loader: Loader, hits: list[_Hit]) -> Iterator[tuple[torch.Tensor, list[tuple[int, _Hit]]]]:
    """Batches that have hits, with each hit's row."""
    by_image: dict[int, list[_Hit]] = {}
    for hit in hits:
        by_image.setdefault(hit.image, []).append(hit)
    begun = 0
    for images, _ in loader:
        found = [(row, hit) for row in range(len(images)) for hit in by_image.get(begun + row, ())]
        begun += len(images)
        if found:
            yield images, found


def _add(
    sums: dict[_Wanted, _Sums],
    model: nn.Module,
    images: torch.Tensor,
    found: list[tuple[int, _Hit]],
    selection: Selection,
) -> None:
    """Add the patches of some hits, plain and guided by each method's heatmap."""
    rows = torch.tensor([row for row, _ in found])
    pictures = images[rows]
    guided = {
        name: _heatmaps(model, pictures, [hit for _, hit in found], selection, resample)
        for name, resample in GUIDES.items()
    }
    for k, (_, hit) in enumerate(found):
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
    """Each image's heatmap (n, H, W) of its own feature, in one pass for all layers."""
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
    """The second pass must see what the first saw."""
    for name, chosen in channels.items():
        strength = shares(outputs[name].detach(), norm)
        for k in (chosen >= 0).nonzero()[:, 0].tolist():
            if abs(float(strength[k, chosen[k]]) - hits[k].share) > 1e-4:
                raise SelectionError(
                    "the loader gives other images, or in another order, the second time; it must not shuffle"
                )
