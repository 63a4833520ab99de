"""Compute heatmaps of one fold, and score heatmaps against its masks as a measurement here would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from an8flower.ground.deprecated import renamed
from an8flower.ground.memo import sharing
from benchmark.measuring.model_and_images import BATCH, ModelAndImages
from benchmark.measuring.scores import by_class, by_view, mean
from benchmark.metrics import iou_curve, metrics
from benchmark.metrics.iou import CURVE_THRESHOLDS
from benchmark.models import models
from benchmark.record import Json
from benchmark.setups import Setup
from benchmark.submission.heatmaps import COLUMNS, Heatmaps, Images
from benchmark.training.loader import TrainingBatches
from explainers import Explainer


def localisation() -> tuple[str, ...]:
    """Return the names of the metrics that need heatmaps and masks alone."""
    return tuple(name for name in metrics.names() if metrics.get(name).kind == "localisation")


def images_of(loaded: ModelAndImages, setup: Setup) -> Images:
    """Return what must be explained of a fold."""
    return Images(loaded.test.table, models.get(setup.model).size_px, len(loaded.test.classes))


def explain(explainer: Explainer, loaded: ModelAndImages, *, half: bool = False) -> Heatmaps:
    """Compute the heatmaps of a fold's test images, for the classes that the model predicts.

    Args:
        explainer: fitted first if it learns.
        loaded: the trained model and its images; with object masks if the explainer needs them.
        half: as float16, each map divided by its largest absolute value first, so that none becomes 0.
    Raises:
        ExplainerError: if the explainer breaks a rule.
    """
    model = loaded.trained.model
    masks = explainer.spec.needs_masks
    explainer.fit(model, TrainingBatches(loaded.train, BATCH, masks=masks, device=loaded.device))
    maps, predicted = [], []
    for batch in loaded.batches(loaded.batch_size()):
        with torch.no_grad():
            targets = model(batch.images).argmax(1)
        heatmaps = explainer(
            model, batch.images, targets, masks=batch.masks, object_masks=batch.object_masks
        ).cpu()
        maps.append(_halved(heatmaps.numpy()) if half else heatmaps.numpy())
        predicted.append(targets.cpu().numpy())
    return Heatmaps(np.concatenate(maps), np.concatenate(predicted).astype(np.int64))


def predicted_by(loaded: ModelAndImages) -> NDArray[np.int64]:
    """Return (N,) int64: the class that the model predicts for each test image."""
    with torch.no_grad():
        predicted = [
            loaded.trained.model(batch.images).argmax(1) for batch in loaded.batches(loaded.batch_size())
        ]
    return torch.cat(predicted).cpu().numpy().astype(np.int64)


def score(
    heatmaps: Heatmaps, loaded: ModelAndImages, setup: Setup, explainer: str, names: Sequence[str]
) -> tuple[pd.DataFrame, Json]:
    """Score heatmaps against the masks of a fold's test images.

    Args:
        heatmaps: in the order of the test images.
        loaded, setup: the fold that they explain.
        explainer: name of the method in the table.
        names: metrics that compare a heatmap with its mask.
    Returns:
        the table of per-image scores, and the fields of a record that depend on them.
    """
    images = loaded.test.table[list(COLUMNS)].reset_index(drop=True)
    parts, curve = [], np.zeros(len(CURVE_THRESHOLDS))
    for batch in loaded.test.batches(BATCH):
        maps, masks = heatmaps.maps[batch.rows].astype(np.float32), batch.masks.numpy()
        scores = images.iloc[batch.rows].reset_index(drop=True)
        scores["label"], scores["predicted"] = batch.labels.numpy(), heatmaps.predicted[batch.rows]
        scores["invalid"] = False  # maps with NaN or infinities are refused before
        with sharing(maps, masks):
            for name in names:
                scores[name] = metrics.get(name).compute(maps, masks)
            curve += np.nansum(iou_curve(maps, masks), axis=0)
        parts.append(scores)
    table = pd.concat(parts, ignore_index=True)
    undefined = int(table["iou_auc"].isna().sum())
    table.insert(0, "explainer", explainer)
    table.insert(1, "fold", setup.fold)
    table.insert(2, "seed", setup.seed)
    return table, {
        "images": len(table),
        "undefined": undefined,
        "accuracy": float((table["label"] == table["predicted"]).mean()),
        "scores": {name: mean(table[name]) for name in names},
        "views": by_view(table, list(names), loaded.test.manifest.factors),
        "classes": by_class(table, list(names), loaded.test.classes),
        "curve": (curve / max(1, len(table) - undefined)).tolist(),
    }


def _halved(heatmaps: NDArray[np.float32]) -> NDArray[np.float16]:
    # Every score is the same for a heatmap times a positive number.
    most = np.abs(heatmaps).max(axis=(1, 2), keepdims=True)
    return np.asarray(heatmaps / np.where(most > 0, most, 1), np.float16)


__getattr__ = renamed(
    __name__,
    {
        "maps_of": "explain",
        "circumstances": "benchmark.measuring.circumstances.circumstances",
        "versions": "an8flower.ground.versions.versions",
    },
)
