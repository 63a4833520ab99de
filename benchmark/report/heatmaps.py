"""Draw the gallery: test images of a trained model and the heatmaps of all methods."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image

import explainers as methods
from an8flower.dataset import Batch
from an8flower.ground.progress import progress
from an8flower.manifest import DataFolderError
from benchmark.measuring.identity import identity_of
from benchmark.measuring.model_and_images import BATCH, ModelAndImages
from benchmark.metrics import iou_auc
from benchmark.plan import Plan
from benchmark.record import Record
from benchmark.report.gallery import Gallery, Picture, Strip, keep, kept
from benchmark.setups import Setup
from benchmark.store import ResultsError, key
from benchmark.training.loader import TrainingBatches
from benchmark.training.weights import WeightsError
from explainers import Explainer

PICTURES = 12
FOLD = 0
QUALITY = 80  # WebP quality of the heatmaps, which are about 112 px wide
NOTHING = "The results contain no heatmaps, and data or weights to draw them from are missing."
STEP = 7  # step through the crops and rotations of a view, so that all of them appear


def gallery_of(
    results: str | Path,
    variant: str,
    model: str,
    records: Sequence[Record],
    *,
    root: str | Path = "data",
    checkpoints: str | Path = "checkpoints",
) -> Gallery:
    """Return the gallery of fold 0; draw and store heatmaps that are missing, if data and weights exist.

    Args:
        results, variant, model: the gallery is stored in `<results>/<variant>/<model>/gallery`.
        records: records of this variant and model.
        root: folder that holds the dataset.
        checkpoints: folder with the trained weights.
    """
    of_fold = [record for record in records if (record.fold, record.seed) == (FOLD, 0)]
    shown = {
        record.explainer: record for record in of_fold if record.status != "failed" and not record.submission
    }
    left_out: dict[str, str] = {}
    for record in records:
        if record.explainer not in shown:
            left_out.setdefault(record.explainer, _reason(record))
    if not shown:
        return Gallery(left_out=left_out, note="No method was measured on fold 0, whose images are shown.")
    digest = next(iter(shown.values())).identity["dataset_digest"]
    keys = {name: record.key for name, record in shown.items()}
    gallery = kept(results, variant, model, digest, keys)
    missing = {name: record for name, record in shown.items() if name not in gallery.strips}
    if missing:
        try:
            scheme = next(iter(shown.values())).identity.get("folds", "interleaved")
            plan = replace(Plan(), root=Path(root), checkpoints=Path(checkpoints), scheme=scheme)
            subject = ModelAndImages.load(plan, Setup.of(variant, model, 0, FOLD), object_masks=True)
            if subject.test.manifest.images_digest != digest:
                raise DataFolderError(
                    f"{subject.test.manifest.folder} is not the dataset that the records were measured on"
                )
            rows = _shown(subject, gallery.pictures)
        except (DataFolderError, WeightsError, ResultsError, LookupError, OSError) as error:
            if not gallery.strips:
                return Gallery(note=NOTHING, cause=str(error))
            left_out |= dict.fromkeys(missing, "not stored, and data or weights to draw it from are missing")
            return replace(gallery, left_out=left_out, cause=str(error))
        gallery = _drawn(subject, gallery, rows, missing, left_out)
        keep(results, variant, model, gallery, [name for name in missing if name in gallery.strips])
    return replace(gallery, left_out=left_out)


def chosen(table: pd.DataFrame, count: int = PICTURES) -> list[int]:
    """Choose rows of a table of images, spread over classes, views, crops and rotations; deterministic.

    Args:
        table: with class, view, crop and rotation.
        count: largest number of rows.
    """
    classes, views = sorted(table["class"].unique()), sorted(table["view"].unique())
    selected: list[int] = []
    for k in range(count):
        # When a class is used again, it gets other views.
        of_class = table["class"] == classes[k * max(1, len(classes) // count) % len(classes)]
        of_view = table["view"] == views[(k * len(views) // count + k // len(classes)) % len(views)]
        rows = [row for row in np.flatnonzero(of_class & of_view).tolist() if row not in selected]
        if rows:
            selected.append(rows[(len(rows) // 2 + k * STEP) % len(rows)])
    return selected


def _drawn(
    subject: ModelAndImages,
    gallery: Gallery,
    rows: Sequence[int],
    missing: Mapping[str, Record],
    left_out: dict[str, str],
) -> Gallery:
    part = subject.test.where(np.isin(np.arange(len(subject.test)), rows))
    batch = next(part.batches(len(part)))
    with torch.no_grad():
        targets = subject.trained.model(batch.images).argmax(1)
    if not gallery.pictures:
        pictures = _pictures(subject, part.table, batch, targets)
        gallery = replace(gallery, pictures=pictures, size_px=batch.images.shape[-1])
        gallery = replace(gallery, digest=subject.test.manifest.images_digest)
    fitted = []
    for name, record in missing.items():
        try:
            explainer = methods.get(name)
            if key(identity_of(explainer, subject.trained.record, record.identity["device"])) != record.key:
                left_out[name] = (
                    "its record belongs to other code, weights or data; run 'an8flower evaluate' again"
                )
                continue
            loader = TrainingBatches(subject.train, BATCH, masks=explainer.spec.needs_masks)
            fitted.append(explainer.fit(subject.trained.model, loader))
        except Exception as error:
            left_out[name] = f"cannot be built here: {error}"
    with progress(f"gallery {subject.test.variant}", len(fitted), "methods") as advance:
        strips = _strips(subject, batch, targets, fitted, missing, left_out)
        advance(len(fitted))
    return replace(gallery, strips={**gallery.strips, **strips})


def _shown(subject: ModelAndImages, pictures: Sequence[Picture]) -> list[int]:
    """Return the rows of the stored pictures, so that new heatmaps show the same images; else choose rows."""
    table = subject.test.table
    places = zip(table["class"], table["view"], table["crop"], table["rotation"], strict=True)
    at = {place: row for row, place in enumerate(places)}
    number = {name: k for k, name in enumerate(subject.test.classes, start=1)}
    kept_at = [
        (number.get(picture.label), picture.view, picture.crop, picture.rotation) for picture in pictures
    ]
    rows = [at[place] for place in kept_at if place in at]
    if rows and (rows != sorted(rows) or len(rows) != len(pictures)):
        raise ResultsError(
            "the stored pictures do not belong to the data; delete the 'gallery' folder next to the records"
        )
    return rows or chosen(table)


def _strips(
    subject: ModelAndImages, batch: Batch, targets: torch.Tensor, fitted: Sequence[Explainer],
    records: Mapping[str, Record], left_out: dict[str, str],
) -> dict[str, Strip]:  # fmt: skip
    failed: dict[str, Exception] = {}
    maps = methods.explain_many(
        fitted, subject.trained.model, batch.images, targets, masks=batch.masks,
        object_masks=batch.object_masks, failed=failed,
    )  # fmt: skip
    left_out |= {name: f"failed here: {error}" for name, error in failed.items()}
    masks = batch.masks.numpy()
    return {
        name: Strip(
            name,
            records[name].key,
            _webp(np.concatenate([_grey(heatmap) for heatmap in heatmaps.numpy()]), QUALITY),
            tuple(round(100 * float(score), 2) for score in iou_auc(heatmaps.numpy(), masks)),
        )
        for name, heatmaps in maps.items()
    }


def _pictures(
    subject: ModelAndImages, table: pd.DataFrame, batch: Batch, targets: torch.Tensor
) -> tuple[Picture, ...]:
    names = subject.test.classes
    images = (255 * batch.images.permute(0, 2, 3, 1)).round().to(torch.uint8).numpy()
    return tuple(
        Picture(
            label=names[row["class"] - 1],
            predicted=names[int(targets[k])],
            view=int(row["view"]),
            crop=int(row["crop"]),
            rotation=int(row["rotation"]),
            webp=_webp(images[k], 85),
            outline=outline(batch.masks[k].numpy()),
            area=round(100 * float(batch.masks[k].float().mean()), 2),
        )
        for k, row in enumerate(table.to_dict("records"))
    )


def outline(mask: NDArray[np.bool_]) -> str:
    """Return the outline of a mask (H, W) as an SVG path in pixels, through the centres of pixel edges.

    >>> outline(np.eye(1, dtype=bool))
    'M0 0.5L0.5 0L1 0.5L0.5 1Z'
    """
    padded = np.pad(mask.astype(float), 1)
    lines = contour_generator(z=padded).lines(0.5)
    return "".join(
        "M" + "L".join(f"{x - 0.5:g} {y - 0.5:g}" for x, y in np.asarray(line)[:-1]) + "Z" for line in lines
    )


def _grey(heatmap: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scale a heatmap to 0..255; all zero if it is constant or holds NaN or infinities."""
    if not np.isfinite(heatmap).all() or heatmap.max() <= heatmap.min():
        return np.zeros(heatmap.shape, np.uint8)
    span = heatmap.astype(np.float64) - heatmap.min()
    return np.asarray(np.round(255 * span / span.max()), np.uint8)


def _webp(pixels: NDArray[np.uint8], quality: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(buffer, "WEBP", quality=quality, method=6)
    return base64.b64encode(buffer.getvalue()).decode()


def _reason(record: Record) -> str:
    if record.submission:
        return "it is a submission, whose code is not run for the report"
    return "failed on fold 0" if record.fold == FOLD else "not measured on fold 0"
