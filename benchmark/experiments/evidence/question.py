"""The picture at the top of the README: images, what decides their class, and what five methods show.

Run

    python -m benchmark.experiments.evidence.question
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from matplotlib.figure import Figure

import explainers
from an8flower import An8Flower
from an8flower.gallery import save_figure
from benchmark.metrics import iou_auc
from benchmark.models import models
from benchmark.training.loader import TrainingBatches
from benchmark.training.weights import load_model, weights_path
from explainers.vebi.figures import HEATMAP_COLOURS

METHODS = ("vebi", "guided_grad_cam", "gradient", "grad_cam", "sobel")
STEP = 37  # from one candidate image to the next: another view, crop and rotation


def draw(
    root: Path,
    variant: str,
    checkpoints: Path,
    *,
    classes: tuple[int, ...],
    methods: tuple[str, ...] = METHODS,
) -> Figure:
    """Draw one test image of fold 0 per row: image, mask, and each method's heatmap with its IoU-AUC.

    Args:
        root: folder that holds the dataset.
        variant: name of the variant.
        checkpoints: folder that holds the trained weights of an8net.
        classes: from 0, one per row.
        methods: names of explainers.
    """
    model = load_model(weights_path(checkpoints, variant, "an8net", 0)).model
    size_px = models.get("an8net").size_px
    test = An8Flower(root, variant, fold=0, split="test", size_px=size_px)
    labels = test.table["class"].to_numpy() - 1
    rows = [np.flatnonzero(labels == label) for label in classes]
    chosen = [row[STEP * (k + 1) % len(row)] for k, row in enumerate(rows)]
    batch = next(test.where(np.isin(np.arange(len(test)), chosen)).batches(len(chosen)))
    with torch.no_grad():
        targets = model(batch.images).argmax(1)
    train = An8Flower(root, variant, fold=0, split="train", size_px=size_px)

    figure = Figure(figsize=(9.6, 1.5 * len(classes) + 0.5), dpi=110, layout="constrained")
    grid = figure.subplots(len(classes), 2 + len(methods), squeeze=False)
    for k, (first, second) in enumerate(grid[:, :2]):
        first.imshow(batch.images[k].permute(1, 2, 0).numpy())
        first.set_xlabel(f"“{test.classes[int(targets[k])]}”", fontsize=9, labelpad=2)
        second.imshow(batch.masks[k].numpy(), cmap="gray")
    grid[0][0].set_title("image and\nprediction", fontsize=9)
    grid[0][1].set_title("what decides\nthe class", fontsize=9)
    for name, column in zip(methods, grid.T[2:], strict=True):
        explainer = explainers.get(name)
        explainer.fit(model, TrainingBatches(train, masks=explainer.spec.needs_masks))
        heatmaps = explainer(model, batch.images, targets).numpy()
        scores = iou_auc(heatmaps, batch.masks.numpy())
        kind = "" if explainer.spec.role == "method" else "\n(no network)"
        column[0].set_title(f"{name}{kind}", fontsize=9)
        for k, axes in enumerate(column):
            axes.imshow(heatmaps[k], cmap=HEATMAP_COLOURS)
            axes.contour(batch.masks[k].numpy(), levels=[0.5], colors="white", linewidths=0.6)
            axes.set_xlabel(f"IoU-AUC {100 * scores[k]:.0f} %", fontsize=9, labelpad=2)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    return figure


def main(
    root: Annotated[Path, typer.Option(help="Folder that holds the dataset.")] = Path("data"),
    checkpoints: Annotated[Path, typer.Option(help="Folder that holds the trained weights.")] = Path(
        "checkpoints"
    ),
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("docs/pictures/question.png"),
) -> None:
    """Draw the picture from fold 0 of single-6c."""
    save_figure(draw(root, "single-6c", checkpoints, classes=(1, 3)), out)


if __name__ == "__main__":
    typer.run(main)
