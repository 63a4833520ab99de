"""Drawing the gallery: a trained model, some of its test images, and what every method makes of them."""

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
from benchmark.measuring.model_and_images import BATCH, Subject
from benchmark.metrics import iou_auc
from benchmark.plan import Plan, Setup
from benchmark.report.gallery import Gallery, Picture, Strip, keep, kept
from benchmark.store import Record, ResultsError, key
from benchmark.training.loader import Images
from explainers import Explainer

PICTURES = 12
FOLD = 0
QUALITY = 80  # of the heatmaps' WebP; each is some 112 px wide
NOTHING = "No heatmaps are kept in the results, and data or weights to draw them from were not there."
STEP = 7  # through the crops and rotations of a view, so that all appear


def gallery_of(
    results: str | Path,
    variant: str,
    model: str,
    records: Sequence[Record],
    *,
    root: str | Path = "data",
    checkpoints: str | Path = "checkpoints",
) -> Gallery:
    """The gallery of fold 0: what is kept of it, and drawn anew what is not, if data and weights are there.

    Args:
        results, variant, model: whose records, and where the gallery is kept.
        records: of that variant and model.
        root: folder that holds the dataset.
        checkpoints: folder with the trained weights.
    """
    mine = {one["explainer"]: one for one in records if (one["fold"], one["seed"]) == (FOLD, 0)}
    mine = {
        name: one for name, one in mine.items() if one["status"] != "failed" and not one.get("submission")
    }
    left_out: dict[str, str] = {}
    for one in records:
        if one["explainer"] not in mine:
            left_out.setdefault(one["explainer"], _reason(one))
    if not mine:
        return Gallery(left_out=left_out, note="No method was measured on fold 0, whose images are shown.")
    digest = next(iter(mine.values()))["identity"]["dataset_digest"]
    gallery = kept(results, variant, model, digest, {name: one["key"] for name, one in mine.items()})
    missing = {name: one for name, one in mine.items() if name not in gallery.strips}
    if missing:
        try:
            scheme = next(iter(mine.values()))["identity"].get("folds", "interleaved")
            plan = replace(Plan(), root=Path(root), checkpoints=Path(checkpoints), scheme=scheme)
            subject = Subject.of(plan, Setup(variant, model, 0, FOLD), plants=True)
            if subject.test.manifest.images_digest != digest:
                raise DataFolderError(
                    f"{subject.test.manifest.folder} is not what the records were measured on"
                )
            rows = _shown(subject, gallery.pictures)
        except (DataFolderError, ResultsError, LookupError, OSError) as error:
            if not gallery.strips:
                return Gallery(note=NOTHING, cause=str(error))
            left_out |= dict.fromkeys(missing, "not kept, and no data or weights to draw it from")
            return replace(gallery, left_out=left_out, cause=str(error))
        gallery = _drawn(subject, gallery, rows, missing, left_out)
        keep(results, variant, model, gallery, [name for name in missing if name in gallery.strips])
    return replace(gallery, left_out=left_out)


def chosen(table: pd.DataFrame, count: int = PICTURES) -> list[int]:
    """Rows of a table of images, spread over classes, views, crops and rotations; the same ones each time.

    Args:
        table: with class, view, crop and rotation.
        count: how many at most.
    """
    classes, views = sorted(table["class"].unique()), sorted(table["view"].unique())
    found: list[int] = []
    for k in range(count):
        # A class meets other views in its next turn.
        of_class = table["class"] == classes[k * max(1, len(classes) // count) % len(classes)]
        of_view = table["view"] == views[(k * len(views) // count + k // len(classes)) % len(views)]
        rows = [row for row in np.flatnonzero(of_class & of_view).tolist() if row not in found]
        if rows:
            found.append(rows[(len(rows) // 2 + k * STEP) % len(rows)])
    return found


def _drawn(
    subject: Subject,
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
    every = []
    for name, record in missing.items():
        try:
            one = methods.get(name)
            if key(identity_of(one, subject.trained.record, record["identity"]["device"])) != record["key"]:
                left_out[name] = (
                    "its record is of other code, weights or data; 'an8flower evaluate' measures it anew"
                )
                continue
            loader = Images(subject.train, BATCH, masks=one.spec.needs_masks)
            every.append(one.fit(subject.trained.model, loader))
        except Exception as error:
            left_out[name] = f"cannot be built here: {error}"
    with progress(f"gallery {subject.test.variant}", len(every), "methods") as advance:
        strips = _strips(subject, batch, targets, every, missing, left_out)
        advance(len(every))
    return replace(gallery, strips={**gallery.strips, **strips})


def _shown(subject: Subject, pictures: Sequence[Picture]) -> list[int]:
    """The rows of the pictures that are kept, so that new heatmaps are of the same; else a choice."""
    table = subject.test.table
    places = zip(table["class"], table["view"], table["crop"], table["rotation"], strict=True)
    at = {place: row for row, place in enumerate(places)}
    number = {name: k for k, name in enumerate(subject.test.classes, start=1)}
    kept_at = [(number.get(one.label), one.view, one.crop, one.rotation) for one in pictures]
    rows = [at[place] for place in kept_at if place in at]
    if rows and (rows != sorted(rows) or len(rows) != len(pictures)):
        raise ResultsError("the kept pictures are not those of the data; delete the gallery folder")
    return rows or chosen(table)


def _strips(
    subject: Subject, batch: Batch, targets: torch.Tensor, every: Sequence[Explainer],
    records: Mapping[str, Record], left_out: dict[str, str],
) -> dict[str, Strip]:  # fmt: skip
    failed: dict[str, Exception] = {}
    maps = methods.explain_many(
        every, subject.trained.model, batch.images, targets, masks=batch.masks, object_masks=batch.plants,
        failed=failed,
    )  # fmt: skip
    left_out |= {name: f"failed here: {error}" for name, error in failed.items()}
    masks = batch.masks.numpy()
    return {
        name: Strip(
            name,
            str(records[name]["key"]),
            _webp(np.concatenate([_grey(one) for one in found.numpy()]), QUALITY),
            tuple(round(100 * float(score), 2) for score in iou_auc(found.numpy(), masks)),
        )
        for name, found in maps.items()
    }


def _pictures(
    subject: Subject, table: pd.DataFrame, batch: Batch, targets: torch.Tensor
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
    """The border of a mask (H, W) as an SVG path in pixels, through the middles of pixels' edges.

    >>> outline(np.eye(1, dtype=bool))
    'M0 0.5L0.5 0L1 0.5L0.5 1Z'
    """
    padded = np.pad(mask.astype(float), 1)
    lines = contour_generator(z=padded).lines(0.5)
    return "".join(
        "M" + "L".join(f"{x - 0.5:g} {y - 0.5:g}" for x, y in np.asarray(line)[:-1]) + "Z" for line in lines
    )


def _grey(heatmap: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scaled from least to greatest; black if it is constant, or holds NaN or infinities."""
    if not np.isfinite(heatmap).all() or heatmap.max() <= heatmap.min():
        return np.zeros(heatmap.shape, np.uint8)
    span = heatmap.astype(np.float64) - heatmap.min()
    return np.asarray(np.round(255 * span / span.max()), np.uint8)


def _webp(pixels: NDArray[np.uint8], quality: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(buffer, "WEBP", quality=quality, method=6)
    return base64.b64encode(buffer.getvalue()).decode()


def _reason(record: Record) -> str:
    if record.get("submission"):
        return "a submission, whose code is not run for a picture"
    return "failed on fold 0" if record["fold"] == FOLD else "not measured on fold 0"
