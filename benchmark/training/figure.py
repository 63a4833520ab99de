"""Draw training curves: loss and accuracy by epoch, one line per fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from an8flower.gallery import save_figure
from an8flower.protocol import FOLDS
from benchmark.setups import Setup
from benchmark.training.weights import path_of, read_record

# Colours of Okabe and Ito, which colour-blind readers can distinguish; their yellow is too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
PARTS: dict[str, dict[str, Any]] = {
    "train": {"linestyle": "--", "linewidth": 1.1},
    "validation": {"linestyle": "-", "linewidth": 1.6},
}
SAID = {"train": "train, mean over the epoch", "validation": "validation, after it"}
ENOUGH: dict[str, Any] = {"color": "0.5", "linestyle": ":", "linewidth": 1.0}


def training_curves(
    checkpoints: str | Path,
    variant: str,
    model: str,
    path: str | Path,
    *,
    seed: int = 0,
    folds: Sequence[int] | None = None,
) -> Path:
    """Draw training and validation loss and accuracy by epoch, with the epoch whose weights are kept.

    Args:
        checkpoints: folder of the weights, of which only the records are read.
        variant: e.g. "single-6c".
        model: the architecture, with the recipe unless it is plain; see `setups.model_name`.
        path: the PNG to write.
        seed: training seed of the models.
        folds: numbers of the folds, from 0 to 4; by default all that are trained.
    Returns:
        `path`.
    Raises:
        WeightsError: if a fold of `folds` is not trained, or no fold is, or a record is not readable.
    """
    setups = {
        fold: Setup.of(variant, model, seed, fold) for fold in (range(FOLDS) if folds is None else folds)
    }
    if folds is None:
        setups = {fold: one for fold, one in setups.items() if path_of(checkpoints, one).exists()} or setups
    records = {fold: read_record(path_of(checkpoints, one), of=one) for fold, one in setups.items()}
    figure = Figure(figsize=(10.4, 4.2), dpi=120, layout="constrained")
    figure.suptitle(f"{variant}, {model}: training, seed {seed}", fontsize=11)
    losses, accuracies = figure.subplots(1, 2)
    for fold, record in records.items():
        for axes, kind in ((losses, "loss"), (accuracies, "accuracy")):
            _draw(axes, record["curve"], kind, COLOURS[fold % len(COLOURS)])
    enough = {record["identity"]["recipe"]["enough_loss"] for record in records.values()}
    for loss in enough:
        losses.axhline(loss, **ENOUGH)
    losses.set(yscale="log", ylabel="loss (cross-entropy, nats)", title="loss")
    accuracies.set(ylabel="accuracy", title="accuracy")
    accuracies.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.title.set_fontsize(9)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    names = {fold: f"fold {fold}: {record['test_accuracy']:.1%} on test" for fold, record in records.items()}
    handles = [Line2D([], [], color=COLOURS[fold % len(COLOURS)], label=name) for fold, name in names.items()]
    handles += [Line2D([], [], color="0.3", label=SAID[part], **style) for part, style in PARTS.items()]
    handles += [
        Line2D([], [], color="0.3", marker="o", linestyle="", label="epoch whose weights are kept"),
        Line2D([], [], label="enough: training stops below", **ENOUGH),
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8)
    save_figure(figure, path)
    return Path(path)


def _draw(axes: Axes, curve: list[dict[str, float]], kind: str, colour: str) -> None:
    if not curve:  # a model with fixed weights is not trained
        return
    epochs = np.arange(1, len(curve) + 1)
    kept = int(np.argmin([epoch["validation_loss"] for epoch in curve]))
    for part, style in PARTS.items():
        values = np.array([epoch[f"{part}_{kind}"] for epoch in curve])
        axes.plot(epochs, values, color=colour, **style)
    # `values` are now those of validation, by which the epoch was chosen.
    axes.plot(epochs[kept], values[kept], "o", color=colour, markersize=6, markeredgecolor="white", zorder=3)
