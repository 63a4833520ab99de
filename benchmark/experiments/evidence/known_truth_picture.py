"""The picture of docs/known_truth.md: heatmaps of the colour detectors beside the pixels that decide.

Run

    python -m benchmark.experiments.evidence.known_truth_picture
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from matplotlib.figure import Figure
from rich.console import Console

import explainers
from an8flower import An8Flower
from an8flower.gallery import save_figure
from benchmark.experiments.evidence.known_truth import DETECTORS
from benchmark.models import models
from benchmark.models.deciding_pixels import deciding_pixels, shapley_values
from benchmark.training.loader import TrainingBatches

METHODS = (
    "grad_cam", "guided_backprop", "gradient", "vebi?top=2", "vebi", "smooth_grad", "rise", "deconvnet",
)  # fmt: skip
CLASSES = (1, 6)  # red and pink petals
FEW_PX = 3  # a heatmap with so few pixels gets a ring around them, to be seen


def draw(root: Path, variant: str = "single-6c", methods: tuple[str, ...] = METHODS) -> Figure:
    """Draw one image of two classes for each detector: image, deciding pixels, exact shares, heatmaps.

    Args:
        root: folder that holds the dataset.
        variant: its variant.
        methods: names of explainers.
    """
    test, training = (
        An8Flower(root, variant, fold=0, split=split, size_px=112, target="label")
        for split in ("test", "train")
    )
    rows = [int(np.flatnonzero(test.table["class"] == number)[20]) for number in CLASSES]
    batch = next(test.where(np.isin(np.arange(len(test)), rows)).batches(len(rows)))
    columns = 3 + len(methods)
    figure = Figure(
        figsize=(1.15 * columns, 1.22 * len(rows) * len(DETECTORS)), dpi=110, layout="constrained"
    )
    grid = figure.subplots(len(rows) * len(DETECTORS), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    for k, name in enumerate(DETECTORS):
        model = models.get(name).build(len(test.classes)).eval()
        maps = {
            "decides": deciding_pixels(model, batch.images).float(),
            "exact shares": shapley_values(model, batch.images, batch.labels),
        }
        for method in methods:
            explainer = explainers.get(method).fit(model, TrainingBatches(training))
            maps[method] = explainer(model, batch.images, batch.labels)
        for j in range(len(rows)):
            line = grid[k * len(rows) + j]
            line[0].imshow(batch.images[j].permute(1, 2, 0).numpy())
            line[0].set_ylabel(name, fontsize=8)
            for axes, (title, found) in zip(line[1:], maps.items(), strict=True):
                axes.imshow(found[j].numpy(), cmap="magma", interpolation="nearest")
                marked = found[j].nonzero().numpy()
                if 0 < len(marked) <= FEW_PX:
                    axes.scatter(
                        marked[:, 1], marked[:, 0], s=90, facecolors="none", edgecolors="white", lw=0.8
                    )
                if k == j == 0:
                    axes.set_title(title, fontsize=8)
    return figure


def main(
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the dataset.")] = Path("data"),
    picture: Annotated[Path, typer.Option("--out", help="The PNG to write.")] = Path(
        "docs/pictures/known_truth.png"
    ),
) -> None:
    """Draw heatmaps of the colour detectors beside the pixels that decide."""
    save_figure(draw(root), picture)
    Console().print(f"wrote {picture}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
