"""Pictures of a measurement: IoU against the threshold, and heatmaps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import explainers as methods
from an8flower import An8Flower
from an8flower.dataset import Batch
from an8flower.folds import Scheme
from an8flower.gallery import save_figure
from benchmark.board import ROLES, leaderboard
from benchmark.loader import Images
from benchmark.metrics import iou_auc
from benchmark.metrics.iou import CURVE_THRESHOLDS
from benchmark.models import models
from benchmark.store import read_records
from benchmark.training import load_model, weights_path

_DASHES = {"method": "-", "floor": ":", "ceiling": "--"}
HEATMAP_COLOURS = "magma"  # perceptually uniform


def curves(results: str | Path, variant: str, model: str, path: str | Path) -> Path:
    """Draw IoU against the threshold for every explainer, mean and spread over folds.

    Args:
        results: folder of the records, which alone are read.
        path: the PNG to write.
    Raises:
        ResultsError: if there are no records.
    """
    by_explainer: dict[str, list[list[float]]] = {}
    for record in read_records(results, variant, model):
        if record["status"] == "ok":
            by_explainer.setdefault(record["explainer"], []).append(record["curve"])
    board = leaderboard(results, variant, model).rows
    board = board[board["explainer"].isin(by_explainer)]
    figure = Figure(figsize=(9.4, 4.2), dpi=120, layout="constrained")
    close, whole = figure.subplots(1, 2, width_ratios=[2.4, 1])
    colours = colormaps["tab10" if len(board) <= 10 else "tab20"]
    top = 0.0
    for k, row in enumerate(board.itertuples()):
        lines = 100 * np.array(by_explainer[row.explainer])
        mean, spread = lines.mean(axis=0), lines.std(axis=0)
        if row.role != "ceiling":
            top = max(top, (mean + spread).max())
        for axes in (close, whole):
            label = f"{row.explainer} ({row.iou_auc:.1f})" if axes is close else None
            axes.plot(CURVE_THRESHOLDS, mean, _DASHES[row.role], color=colours(k), label=label, linewidth=1.8)
            axes.fill_between(
                CURVE_THRESHOLDS, mean - spread, mean + spread, color=colours(k), alpha=0.2, linewidth=0
            )
    close.set(ylim=(0, 1.08 * top or 1), ylabel="IoU with the mask, %", title="without the ceilings")
    whole.set(ylim=(0, 102), title="all")
    for axes in (close, whole):
        axes.set(xlim=(0, 1), xlabel="threshold")
        axes.title.set_fontsize(9)
        axes.grid(alpha=0.25)
    figure.suptitle(f"{variant}, {model}: mean over test images, band = spread over folds", fontsize=10)
    figure.legend(title="IoU-AUC, %", loc="outside right upper", fontsize=8, title_fontsize=8, frameon=False)
    save_figure(figure, path)
    return Path(path)


def heatmap_grid(
    root: str | Path,
    variant: str,
    model: str,
    path: str | Path,
    *,
    explainers: Sequence[str] | None = None,
    fold: int = 0,
    scheme: Scheme = "interleaved",
    checkpoints: str | Path = "checkpoints",
    rows: int = 6,
) -> Path:
    """Draw test images with their mask and every explainer's heatmap and score.

    Args:
        root: folder that holds the dataset.
        path: the PNG to write.
        explainers: names; all registered ones by default.
        fold: whose test images and model are shown.
        scheme: how views are grouped into folds.
        checkpoints: folder with the trained weights.
        rows: number of images, spread over the classes and views.
    Raises:
        DataFolderError: if data or weights are missing.
    """
    trained = load_model(weights_path(checkpoints, variant, model, fold))
    size_px = models.get(model).size_px
    test = An8Flower(root, variant, fold=fold, split="test", size_px=size_px, folds=scheme)
    # Prime stride within each class's share: another view, crop and rotation in every row.
    share = len(test) / rows
    wanted = np.array([int(k * share) + (k * 37) % max(1, int(share)) for k in range(rows)])
    chosen = test.where(np.isin(np.arange(len(test)), wanted))
    batch = next(chosen.batches(rows))
    with torch.no_grad():
        targets = trained.model(batch.images).argmax(1)

    every = [methods.get(name) for name in explainers or methods.names()]
    every.sort(key=lambda one: (list(ROLES).index(one.spec.role), one.key))
    train = An8Flower(root, variant, fold=fold, split="train", size_px=size_px, folds=scheme)
    for one in every:
        one.fit(trained.model, Images(train))
    count = len(batch.labels)
    figure = Figure(figsize=(1.25 * (len(every) + 2), 1.25 * count + 0.5), dpi=110, layout="constrained")
    grid = figure.subplots(count, len(every) + 2, squeeze=False, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    for k, (left, second) in enumerate(grid[:, :2]):
        left.imshow(batch.images[k].permute(1, 2, 0).numpy())
        left.set_ylabel(test.classes[int(targets[k])], fontsize=7)
        second.imshow(batch.masks[k].numpy(), cmap="gray", interpolation="nearest")
    grid[0][0].set_title("image", fontsize=8)
    grid[0][1].set_title("mask", fontsize=8)
    for one, column in zip(every, grid.T[2:], strict=True):
        title, heatmaps, scores = _column(one, trained.model, batch, targets)
        column[0].set_title(title, fontsize=8)
        for k, axes in enumerate(column):
            axes.imshow(heatmaps[k], cmap=HEATMAP_COLOURS)
            axes.contour(batch.masks[k].numpy(), levels=[0.5], colors="white", linewidths=0.5)
            axes.set_xlabel(f"{100 * scores[k]:.1f}", fontsize=7, labelpad=1)
    for axes in grid.flat:
        _bare(axes)
    figure.suptitle(
        f"{variant}, {model}, fold {fold}: heatmaps, masks outlined, IoU-AUC in % below", fontsize=9
    )
    save_figure(figure, path)
    return Path(path)


def _column(
    explainer: methods.Explainer, model: torch.nn.Module, batch: Batch, targets: torch.Tensor
) -> tuple[str, NDArray[np.float32], NDArray[np.float64]]:
    masks = batch.masks if explainer.spec.needs_masks else None
    heatmaps = explainer(model, batch.images, targets, masks=masks).cpu().numpy()
    return explainer.key, heatmaps, iou_auc(heatmaps, batch.masks.numpy())


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
