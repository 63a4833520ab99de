"""Heatmaps of one fold against its masks: the table and the record that measuring them here would give."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from an8flower.ground.memo import sharing
from benchmark.measuring.model_and_images import BATCH, Subject
from benchmark.measuring.scores import by_view, mean
from benchmark.metrics import iou_curve, metrics
from benchmark.metrics.iou import CURVE_THRESHOLDS
from benchmark.models import models
from benchmark.plan import Setup
from benchmark.store import Record
from benchmark.submission.arrays import COLUMNS, Images, Maps
from benchmark.training.loader import Images as Training
from explainers import Explainer

PACKAGES = ("an8flower", "numpy", "torch")


def localisation() -> tuple[str, ...]:
    """The metrics that heatmaps alone can be scored by."""
    return tuple(name for name in metrics.names() if metrics.get(name).kind == "localisation")


def images_of(subject: Subject, setup: Setup) -> Images:
    """What must be explained of a fold."""
    return Images(subject.test.table, models.get(setup.model).size_px, len(subject.test.classes))


def maps_of(explainer: Explainer, subject: Subject, *, half: bool = False) -> Maps:
    """A method's heatmaps of a fold's test images, for the classes that the model predicts.

    Args:
        explainer: fitted here if it learns.
        subject: the trained model and its images; with plants if the method needs them.
        half: as float16, each map divided by its largest absolute value first, so that none vanishes.
    Raises:
        ExplainerError: if the method gives no heatmaps.
    """
    explainer.fit(
        subject.trained.model,
        Training(subject.train, BATCH, masks=explainer.spec.needs_masks, device=subject.device),
    )
    parts, predicted = [], []
    for part in subject.batches(subject.together()):
        with torch.no_grad():
            targets = subject.trained.model(part.images).argmax(1)
        found = explainer(
            subject.trained.model, part.images, targets, masks=part.masks, object_masks=part.plants
        )
        parts.append(_halved(found.cpu().numpy()) if half else found.cpu().numpy())
        predicted.append(targets.cpu().numpy())
    return Maps(np.concatenate(parts), np.concatenate(predicted).astype(np.int64))


def predicted_by(subject: Subject) -> NDArray[np.int64]:
    """(N,) int64: the class that the model sees in each test image."""
    with torch.no_grad():
        found = [subject.trained.model(part.images).argmax(1) for part in subject.batches(subject.together())]
    return torch.cat(found).cpu().numpy().astype(np.int64)


def score(
    maps: Maps, subject: Subject, setup: Setup, explainer: str, names: Sequence[str]
) -> tuple[pd.DataFrame, Record]:
    """Scores of each image, and what a record says of them.

    Args:
        maps: in the order of the test images.
        subject, setup: whose fold they explain.
        explainer: what the table calls the method.
        names: metrics that compare with the mask.
    Returns:
        the table, as in the results folder, and the record's part from "status" to "timing".
    """
    about = subject.test.table[list(COLUMNS)].reset_index(drop=True)
    parts, curve = [], np.zeros(len(CURVE_THRESHOLDS))
    for part in subject.test.batches(BATCH):
        found, truth = maps.heatmaps[part.rows].astype(np.float32), part.masks.numpy()
        scores = about.iloc[part.rows].reset_index(drop=True)
        scores["label"], scores["predicted"] = part.labels.numpy(), maps.predicted[part.rows]
        scores["invalid"] = False  # what is not finite was refused
        with sharing(found, truth):
            for name in names:
                scores[name] = metrics.get(name).compute(found, truth)
            curve += np.nansum(iou_curve(found, truth), axis=0)
        parts.append(scores)
    table = pd.concat(parts, ignore_index=True)
    undefined = int(table["iou_auc"].isna().sum())
    for place, (name, value) in enumerate(
        {"explainer": explainer, "fold": setup.fold, "seed": setup.seed}.items()
    ):
        table.insert(place, name, value)
    return table, {
        "status": "ok",
        "cause": None,
        "reason": None,
        "images": len(table),
        "invalid": 0,
        "undefined": undefined,
        "accuracy": float((table["label"] == table["predicted"]).mean()),
        "scores": {name: mean(table[name]) for name in names},
        "views": by_view(table, list(names), subject.test.manifest.factors),
        "curve": (curve / max(1, len(table) - undefined)).tolist(),
        "cost": None,
        "timing": None,
    }


def circumstances(device: str) -> dict[str, Any]:
    """When, where and with what something was scored, as in a record."""
    return {
        "finished": now(),
        "host": {
            "device": device,
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that scores hang on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _halved(heatmaps: NDArray[np.float32]) -> NDArray[np.float16]:
    # Every score is the same for a map times a positive number.
    most = np.abs(heatmaps).max(axis=(1, 2), keepdims=True)
    return np.asarray(heatmaps / np.where(most > 0, most, 1), np.float16)
