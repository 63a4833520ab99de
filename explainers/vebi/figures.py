"""Figures of the method: the selected features, explanations of images, and what features respond to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from explainers.layers import Layer
from explainers.vebi.explainer import Explanation
from explainers.vebi.interpretation import GUIDES, Interpretation
from explainers.vebi.selected_features import Selection

HEATMAP_COLOURS = "magma"  # perceptually uniform
# The paper's figure 6: layers with a map green, fully connected ones pink.
_GREEN, _PINK = "#1a7f37", "#c2348a"
_PANELS = {
    "upsampled_activations": "upsampled\nactivations",
    "deconv_gb": "Deconv + GB",
}


def explanation_figure(
    images: torch.Tensor,
    explanation: Explanation,
    layers: int,
    titles: Sequence[str],
    *,
    masks: Sequence[torch.Tensor | None] = (),
) -> Figure:
    """Draw the paper's figure 6: one row per image, with the features' heatmaps and their combination.

    Args:
        images: (N, 3, H, W) in [0, 1].
        explanation: the result of `Vebi.explain` for these images.
        layers: number of layers of the model, for the titles "layer 5/13".
        titles: (N,) text over each image: predicted label and confidence.
        masks: (H, W) bool for each image, outlined on the combination; None where it is not known.
    """
    count, top = explanation.heatmaps.shape[:2]
    figure = Figure(figsize=(1.7 * (top + 2) + 0.2, 1.95 * count + 0.3), dpi=110, layout="constrained")
    grid = figure.subplots(count, top + 2, squeeze=False, gridspec_kw={"wspace": 0.02, "hspace": 0.04})
    for k, line in enumerate(grid):
        picture = _picture(images[k])
        line[0].imshow(picture)
        line[0].set_title(titles[k], fontsize=8)
        for place, axes in enumerate(line[1:-1]):
            if place >= len(explanation.evidence[k]):
                axes.set_axis_off()
                continue
            evidence = explanation.evidence[k][place]
            axes.imshow(explanation.heatmaps[k, place].cpu().numpy(), cmap=HEATMAP_COLOURS, vmin=0, vmax=1)
            axes.set_title(
                f"layer {evidence.layer.number}/{layers}\n{evidence.layer.name}, {evidence.channel}",
                fontsize=8,
                color=_colour(evidence.layer),
            )
        line[-1].imshow(picture.mean(axis=2), cmap="gray", vmin=0, vmax=1.6)
        combined = explanation.combined[k].cpu().numpy()
        opacity = np.clip(combined * 1.2, 0.0, 1.0)
        line[-1].imshow(combined, cmap=HEATMAP_COLOURS, alpha=opacity, vmin=0, vmax=1)
        title = "combined" if explanation.evidence[k] else "no evidence for it"
        mask = masks[k] if masks else None
        if mask is not None and mask.any():
            line[-1].contour(mask.cpu().numpy(), levels=[0.5], colors="cyan", linewidths=0.8)
            title += "\nmask outlined"
        line[-1].set_title(title, fontsize=8)
    _bare(grid)
    return figure


def selection_figure(selection: Selection, classes: Sequence[str]) -> Figure:
    """Draw the layers of the selected features: their number per layer, and relevance by class and layer.

    Args:
        selection: the result of `select`.
        classes: names of the classes.
    """
    table = selection.table()
    candidates = selection.layers
    size = (0.62 * len(candidates) + 2.2, 0.3 * len(classes) + 2.6)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    bars, matrix = figure.subplots(2, 1, sharex=True, height_ratios=[1.2, 0.25 * len(classes) + 0.5])
    at = np.arange(len(candidates))
    for sign, shade in ((1, 1.0), (-1, 0.4)):
        counts = table[np.sign(table["weight"]) == sign]["layer_number"].value_counts()
        heights = [sign * int(counts.get(layer.number, 0)) for layer in candidates]
        colours = [_colour(layer) for layer in candidates]
        bars.bar(at, heights, color=colours, alpha=shade)
    bars.axhline(0, color="black", linewidth=0.6)
    bars.set_ylabel("features", fontsize=8)
    kinds = ((_GREEN, "with a map"), (_PINK, "fully connected"))
    bars.legend(
        handles=[Line2D([], [], color=colour, lw=5, label=kind) for colour, kind in kinds],
        title="above 0: for a class, below: against",
        loc="upper left",
        fontsize=7,
        title_fontsize=7,
        frameon=False,
    )
    relevance = np.zeros((len(classes), len(candidates)))
    for row in table.itertuples():
        relevance[row[1], row.layer_number - 1] += row.relevance
    limit = max(np.abs(relevance).max(), 1e-12)
    shown = matrix.imshow(relevance, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    matrix.set_xticks(at, [layer.name for layer in candidates], rotation=60, fontsize=7)
    matrix.set_yticks(range(len(classes)), classes, fontsize=7)
    figure.colorbar(shown, ax=matrix, label="relevance", fraction=0.03)
    figure.suptitle(f"{len(table)} selected features, μ = {selection.mu:g}", fontsize=9)
    return figure


def interpretation_sheet(interpretations: Sequence[Interpretation], name: str, layers: int) -> Figure:
    """Draw the features of one class, the most relevant first: average patches, plain and guided.

    Args:
        interpretations: those of one class.
        name: name of the class.
        layers: number of layers of the model.
    """
    panels = ["average", *GUIDES]
    count = max(1, len(interpretations))
    figure = Figure(figsize=(1.55 * len(panels) + 1.3, 1.6 * count + 0.7), dpi=110, layout="constrained")
    figure.suptitle(f"{name}: what its features respond to, most relevant first", fontsize=9)
    grid = figure.subplots(count, len(panels), squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    for title, axes in zip(panels, grid[0], strict=True):
        axes.set_title(_PANELS.get(title, title), fontsize=8)
    for shown, line in zip(interpretations, grid, strict=False):
        about = f"layer {shown.layer.number}/{layers}\n{shown.layer.name}, {shown.feature.channel}\n"
        line[0].set_ylabel(about + f"w = {shown.feature.weight:+.2f}", fontsize=7, color=_colour(shown.layer))
        for title, axes in zip(panels, line, strict=True):
            if title == "average":
                axes.imshow(_picture(shown.average))
            elif title in shown.guided:
                axes.imshow(_picture(shown.guided[title]))
            else:
                axes.text(0.5, 0.5, "has no map", ha="center", va="center", fontsize=7, color="gray")
                axes.set_aspect("equal")
    _bare(grid)
    return figure


def interpretation_overview(
    interpretations: Sequence[Interpretation], classes: Sequence[str], layers: int, *, shown: int = 6
) -> Figure:
    """Draw the paper's figure 5: one column per class, average patches of its most relevant features.

    Args:
        interpretations: those of all classes.
        classes: names of the classes.
        layers: number of layers of the model.
        shown: largest number of features per class, among those with positive weight.
    """
    by_class = [
        [each for each in interpretations if each.feature.target == k and each.feature.weight > 0][:shown]
        for k in range(len(classes))
    ]
    lines = max([1, *map(len, by_class)])
    figure = Figure(figsize=(1.3 * len(classes) + 0.2, 1.5 * lines + 0.7), dpi=110, layout="constrained")
    figure.suptitle("average patches of the features of each class, most relevant first", fontsize=9)
    grid = figure.subplots(lines, len(classes), squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    for name, mine, column in zip(classes, by_class, grid.T, strict=True):
        for axes in column[max(1, len(mine)) :]:
            axes.set_axis_off()
        for k, (drawn, axes) in enumerate(zip(mine, column, strict=False)):
            axes.imshow(_picture(drawn.average))
            axes.set_xlabel(f"layer {drawn.layer.number}/{layers}", fontsize=7, color=_colour(drawn.layer))
            if k == 0:
                axes.set_title(name, fontsize=8)
    _bare(grid)
    return figure


def _colour(layer: Layer) -> str:
    return _GREEN if layer.has_map else _PINK


def _picture(image: torch.Tensor) -> NDArray[np.float32]:
    picture: NDArray[np.float32] = image.detach().cpu().permute(1, 2, 0).clamp(0, 1).numpy()
    return picture


def _bare(grid: NDArray[Any]) -> None:
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
