"""Figures of a board: IoU against the threshold, and a grid of heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import explainers as methods
from an8flower import An8Flower
from an8flower.gallery import save_figure
from an8flower.ground.text import one_line
from an8flower.protocol import Scheme
from benchmark.board.rows import ROLES, Leaderboard
from benchmark.measuring.cells import default_explainers
from benchmark.metrics import iou_auc
from benchmark.metrics.iou import CURVE_THRESHOLDS
from benchmark.models import models
from benchmark.setups import Setup
from benchmark.training.loader import TrainingBatches
from benchmark.training.weights import load_model, path_of
from explainers.vebi.figures import HEATMAP_COLOURS

_DASHES = {"method": "-", "floor": ":", "ceiling": "--"}
BAND = 12  # heatmaps in a line
NAMED = 10  # methods with their own colour
LABEL = 80  # characters of a name
_AS_TEXT: dict[Any, Any] = {"text.parse_math": False}  # a name may contain a dollar sign


@rc_context(_AS_TEXT)
def curves(board: Leaderboard, path: str | Path) -> Path:
    """Draw IoU against the threshold for each explainer, mean and standard deviation over folds.

    Args:
        board: the board whose records are drawn.
        path: the PNG to write.
    Returns:
        the path.
    """
    by_explainer: dict[str, list[list[float]]] = {}
    for record in board.source.records:
        if record.status != "failed" and record.curve:  # self-reported records have no curve
            by_explainer.setdefault(record.explainer, []).append(record.curve)
    rows = board.rows[board.rows["explainer"].isin(by_explainer)]
    figure = Figure(figsize=(10.4, 4.8), dpi=120, layout="constrained")
    close, whole = figure.subplots(1, 2, width_ratios=[2.4, 1])
    styles = _styles(rows)
    top = 0.0
    for row in reversed(list(rows.itertuples())):  # the best methods on top
        lines = 100 * np.array(by_explainer[row.explainer])
        mean, spread = lines.mean(axis=0), lines.std(axis=0)
        if row.role != "ceiling":
            top = max(top, (mean + spread).max())
        colour, width = styles[row.explainer]
        for axes in (close, whole):
            named = axes is close and width > 1
            label = f"{one_line(row.explainer, LABEL)} ({row.iou_auc:.1f})" if named else None
            axes.plot(CURVE_THRESHOLDS, mean, _DASHES[row.role], color=colour, label=label, linewidth=width)
            if width > 1:
                axes.fill_between(
                    CURVE_THRESHOLDS, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0
                )
    close.set(ylim=(0, 1.08 * top or 1), ylabel="IoU with the mask, %", title="without the ceilings")
    whole.set(ylim=(0, 102), title="all")
    for axes in (close, whole):
        axes.set(xlim=(0, 1), xlabel="threshold")
        axes.title.set_fontsize(9)
        axes.grid(alpha=0.25)
    figure.suptitle(
        f"{board.variant}, {board.model}: mean over test images, band: standard deviation over folds",
        fontsize=10,
    )
    handles, labels = close.get_legend_handles_labels()
    others = sum(width <= 1 for _, width in styles.values())
    figure.legend(
        handles[::-1], labels[::-1], loc="outside right upper",
        frameon=False, fontsize=7.5, title_fontsize=7.5,
        title="IoU-AUC, %" + (f"\n({others} more methods in grey)" if others else ""),
    )  # fmt: skip
    save_figure(figure, path)
    return Path(path)


def _styles(board_rows: pd.DataFrame) -> dict[str, tuple[Any, float]]:
    """Return colour and width of each line: colours for the best methods, grey for floors and ceilings."""
    styles: dict[str, tuple[Any, float]] = {}
    for role, rows in board_rows.groupby("role", sort=False):
        for k, name in enumerate(rows["explainer"]):
            if role != "method":
                styles[name] = (str(0.25 + 0.5 * k / len(rows)), 1.4)
            else:
                styles[name] = (colormaps["tab10"](k), 1.8) if k < NAMED else ("0.82", 0.8)
    return styles


@rc_context(_AS_TEXT)
def heatmap_grid(
    root: str | Path,
    variant: str,
    model: str,
    path: str | Path,
    *,
    explainers: Sequence[str] | None = None,
    fold: int = 0,
    seed: int = 0,
    scheme: Scheme = "interleaved",
    checkpoints: str | Path = "checkpoints",
    rows: int = 4,
) -> Path:
    """Draw test images with their mask, and the heatmap and score of each explainer.

    Args:
        root: folder that holds the dataset.
        variant: its name.
        model: name of the models, with the recipe unless it is plain; see `setups.model_name`.
        path: the PNG to write.
        explainers: names; by default all registered explainers that are not costly.
        fold, seed: of the test images and the trained model.
        scheme: how views are grouped into folds.
        checkpoints: folder with the trained weights.
        rows: number of images, spread over the classes and views.
    Returns:
        the path.
    Raises:
        DataFolderError: if data or weights are missing.
    """
    setup = Setup.of(variant, model, seed, fold)
    trained = load_model(path_of(checkpoints, setup), of=setup)
    size_px = models.get(setup.model).size_px
    test = An8Flower(
        root, variant, fold=fold, split="test", target=("label", "plant"), size_px=size_px, scheme=scheme
    )
    # A prime stride within each class gives each row another view, crop and rotation.
    share = len(test) / rows
    wanted = np.array([int(k * share) + (k * 37) % max(1, int(share)) for k in range(rows)])
    chosen = test.where(np.isin(np.arange(len(test)), wanted))
    batch = next(chosen.batches(rows))
    with torch.no_grad():
        targets = trained.model(batch.images).argmax(1)

    fitted = [methods.get(name) for name in explainers or default_explainers()]
    fitted.sort(key=lambda explainer: (list(ROLES).index(explainer.spec.role), explainer.name))
    train = An8Flower(root, variant, fold=fold, split="train", size_px=size_px, scheme=scheme)
    for explainer in fitted:
        explainer.fit(trained.model, TrainingBatches(train, masks=explainer.spec.needs_masks))
    bands = [fitted[start : start + BAND] for start in range(0, len(fitted), BAND)]
    wide = min(BAND, len(fitted)) + 1
    figure = Figure(
        figsize=(1.25 * wide, (1.25 * rows + 0.2) * len(bands) + 0.4), dpi=110, layout="constrained"
    )
    parts = figure.subfigures(len(bands), 1, squeeze=False)[:, 0]
    for part, band in zip(parts, bands, strict=True):
        grid = part.subplots(rows, wide, squeeze=False, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
        for k, axes in enumerate(grid[:, 0]):
            axes.imshow(batch.images[k].permute(1, 2, 0).numpy())
            axes.contour(batch.masks[k].numpy(), levels=[0.5], colors="white", linewidths=0.5)
            axes.set_ylabel(test.classes[int(targets[k])], fontsize=7)
        grid[0][0].set_title("image", fontsize=8)
        for explainer, column in zip(band, grid.T[1:], strict=False):
            heatmaps = explainer(
                trained.model, batch.images, targets, masks=batch.masks, object_masks=batch.object_masks
            ).numpy()
            scores = iou_auc(heatmaps, batch.masks.numpy())
            column[0].set_title(_wrapped(explainer.name), fontsize=7)
            for k, axes in enumerate(column):
                axes.imshow(heatmaps[k], cmap=HEATMAP_COLOURS)
                axes.contour(batch.masks[k].numpy(), levels=[0.5], colors="white", linewidths=0.5)
                axes.set_xlabel(f"{100 * scores[k]:.1f}", fontsize=7, labelpad=1)
        for axes in grid.flat:
            _bare(axes)
        for axes in grid[:, len(band) + 1 :].flat:
            axes.set_visible(False)
    between = ": " if wide > 5 else "\n"  # one line is too long for a narrow picture
    figure.suptitle(
        f"{variant}, {model}, fold {fold}{between}heatmaps, masks outlined, IoU-AUC in % below", fontsize=9
    )
    save_figure(figure, path)
    return Path(path)


def _wrapped(key: str) -> str:
    """Break a method's name into lines that are short enough for a title."""
    key = one_line(key, LABEL)
    for sign in (":", "@", "?", "&"):
        key = key.replace(sign, f"{sign}\n" if sign == ":" else f"\n{sign}")
    return key


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
