"""A model that cheats, its certificate, and the score of a heatmap that is true to it.

Each class gets a colour of its own in a corner of the background. A model trained on such images may go by
that patch; the mask still says that it goes by the part.

Run `python -m benchmark.experiments.evidence.cheating`; single-6c must have its twins. Its fold 0 is
trained first if it is not.
"""

from __future__ import annotations

import colorsys
import hashlib
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

import explainers as methods
from an8flower import An8Flower, png
from an8flower.manifest import TWINS, Manifest, read_manifest, read_verified, write_manifest
from an8flower.protocol import CROP_SIZE_PX, PART_IDS
from benchmark.certificate import Shares, Twinned, certify, shares
from benchmark.certificate.judging import failures
from benchmark.metrics import iou_auc
from benchmark.models import models
from benchmark.training.loader import Images
from benchmark.training.recipes import Recipe
from benchmark.training.trainer import train

PATCH_PX = 40  # side of the patch in the 250 px images: 2.6 % of them, about as much as the petals
PAINTED = ("image", "all_but_part")  # the patch is part of the background, which the part alone is without
METHODS = ("gradient", "grad_cam", "guided_grad_cam", "vebi")


@dataclass(frozen=True)
class Case:
    """What became of one model.

    Args:
        accuracy: on its test images.
        shares: its certificate.
        wrong: what the certificate finds wrong with it, in words.
        follows_patch: the share of its test images that, with another class's patch and all else as it was,
            are taken for that class: how true to the model a heatmap on the patch is.
        scores: for each method the mean IoU-AUC with the mask of the part, and for "patch" that of a heatmap
            that is 1 on the patch and 0 elsewhere.
        on_patch: the same with the patch for the mask.
    """

    accuracy: float
    shares: Shares
    wrong: list[str]
    follows_patch: float
    scores: dict[str, float]
    on_patch: dict[str, float]


def paint(root: str | Path, variant: str, target: str | Path) -> Manifest:
    """Copy a dataset with twins, each class with a patch of its own colour in a corner of the background.

    Args:
        root: folder that holds the variant's folder.
        variant: its name.
        target: folder to make the copy in, under the same name. Whole frames are left out.
    Returns:
        the manifest of the copy.
    """
    source = read_manifest(root, variant)
    kinds = ["image", "mask", "parts", *TWINS]
    table = source.table[source.table["kind"].isin(kinds)].reset_index(drop=True)
    parts = {_place(row): row for row in source.of_kind("parts").to_dict("records")}
    colours = patch_colours(len(source.header["classes"]))
    folder = Path(target) / variant

    def copied(row: dict[str, object]) -> tuple[str, int]:
        data = read_verified(source, str(row["path"]), str(row["sha256"]))
        if row["kind"] in PAINTED:
            beside = parts[_place(row)]
            ids = png.decode(read_verified(source, beside["path"], beside["sha256"]))
            image = png.decode(data)
            image[patch(ids)] = colours[int(str(row["class"])) - 1]
            data = png.encode(image)
        path = folder / str(row["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return hashlib.sha256(data).hexdigest(), len(data)

    with ThreadPoolExecutor() as pool:
        made = list(pool.map(copied, table.to_dict("records")))
    table["sha256"], table["size_bytes"] = zip(*made, strict=True)
    write_manifest(Manifest(folder, source.header, table))
    return read_manifest(target, variant)


def patch(part_ids: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the patch is: the upper left corner, but behind whatever stands there.

    Args:
        part_ids: (..., S, S), of images of any size.
    Returns:
        (..., S, S) bool.
    """
    size = part_ids.shape[-1]
    side = round(PATCH_PX * size / CROP_SIZE_PX)
    corner = np.zeros((size, size), bool)
    corner[:side, :side] = True
    return np.asarray(corner & (part_ids == PART_IDS["background"]))


def patch_colours(classes: int) -> NDArray[np.uint8]:
    """(classes, 3) uint8 RGB, hues all round the circle."""
    hues = [colorsys.hsv_to_rgb(k / classes, 1, 1) for k in range(classes)]
    return np.array([[round(255 * one) for one in rgb] for rgb in hues], np.uint8)


def repainted(images: torch.Tensor, where: NDArray[np.bool_], classes: torch.Tensor, of: int) -> torch.Tensor:
    """Images with the patch of other classes.

    Args:
        images: (N, 3, S, S).
        where: (N, S, S), the patches.
        classes: (N,) int64, whose patch each gets.
        of: how many classes there are.
    """
    colours = torch.from_numpy(patch_colours(of))[classes].float() / 255
    return torch.where(torch.from_numpy(where)[:, None], colours[:, :, None, None], images)


def study(
    model: nn.Module,
    root: str | Path,
    variant: str,
    *,
    fold: int,
    size_px: int,
    explained_by: Sequence[str] = METHODS,
) -> Case:
    """Certify a model and score heatmaps of it."""
    pictures = Twinned.of(root, variant, fold=fold, size_px=size_px)
    flags = certify(model, pictures)
    classes = pictures.images.classes
    found = shares(flags, len(classes))
    test, training = (
        An8Flower(root, variant, fold=fold, split=split, size_px=size_px, target=("mask", "parts"))
        for split in ("test", "train")
    )
    explaining = [methods.get(name) for name in explained_by]
    for one in explaining:
        one.fit(model, Images(training, masks=one.spec.needs_masks))
    follows: list[bool] = []
    scores: dict[str, list[float]] = {name: [] for name in ("patch", *explained_by)}
    on_patch: dict[str, list[float]] = {name: [] for name in scores}
    for part in test.batches(96):
        where = patch(np.stack([test[int(row)][1][1].numpy() for row in part.rows]))
        others = (part.labels + 1) % len(classes)
        with torch.no_grad():
            predicted = model(part.images).argmax(1)
            answers = model(repainted(part.images, where, others, len(classes))).argmax(1)
        follows += (answers == others).tolist()
        maps = {one.key: one(model, part.images, predicted, masks=part.masks).numpy() for one in explaining}
        for name, heatmaps in {"patch": where.astype(np.float32), **maps}.items():
            scores[name] += iou_auc(heatmaps, part.masks.numpy()).tolist()
            on_patch[name] += iou_auc(heatmaps, where).tolist()
    return Case(
        accuracy=float((flags["predicted"] == flags["class"] - 1).mean()),
        shares=found,
        wrong=failures(found, flags, classes),
        follows_patch=float(np.mean(follows)),
        scores={name: float(np.mean(one)) for name, one in scores.items()},
        on_patch={name: float(np.mean(one)) for name, one in on_patch.items()},
    )


def main(
    root: Annotated[Path, typer.Option("--root", help="Folder of the data, with twins.")] = Path("data"),
    variant: Annotated[str, typer.Option("--variant")] = "single-6c",
    model: Annotated[str, typer.Option("--model")] = "an8net",
    fold: Annotated[int, typer.Option("--fold", min=0, max=4)] = 0,
    checkpoints: Annotated[Path, typer.Option("--checkpoints", help="Of the honest model.")] = Path(
        "checkpoints"
    ),
    folder: Annotated[Path, typer.Option("--out", help="For patched images and weights.")] = Path(
        "data/cheating"
    ),
    recipe_epochs: Annotated[int, typer.Option("--epochs", min=1)] = Recipe().epochs,
) -> None:
    """Train an honest model and a cheating one, certify both, and score heatmaps of both."""
    console = Console()
    recipe, size_px = Recipe(epochs=recipe_epochs), models.get(model).size_px
    shutil.rmtree(folder, ignore_errors=True)
    paint(root, variant, folder)
    honest = train(root, variant, model, fold=fold, checkpoints=checkpoints, recipe=recipe)
    cheat = train(folder, variant, model, fold=fold, checkpoints=folder / "checkpoints", recipe=recipe)
    cases = {
        "honest": study(honest.model, root, variant, fold=fold, size_px=size_px),
        "cheating": study(cheat.model, folder, variant, fold=fold, size_px=size_px),
    }
    table = Table(title=f"{model} on {variant}, fold {fold}, percent", title_justify="left")
    for heading in ("", *cases):
        table.add_column(heading, justify="right" if heading else "left")

    def line(name: str, values: Sequence[float]) -> None:
        table.add_row(name, *(f"{100 * one:.1f}" for one in values))

    every = list(cases.values())
    line("test accuracy", [one.accuracy for one in every])
    line("necessity", [one.shares.necessity for one in every])
    line("sufficiency", [one.shares.sufficiency for one in every])
    line("swap", [one.shares.swap for one in every])
    line("images that pass", [one.shares.passed for one in every])
    line("follow another class's patch", [one.follows_patch for one in every])
    for name in ("patch", *METHODS):
        line(f"IoU-AUC of {name} with the part", [one.scores[name] for one in every])
    for name in ("patch", *METHODS):
        line(f"IoU-AUC of {name} with the patch", [one.on_patch[name] for one in every])
    console.print(table)
    for what, one in cases.items():
        console.print(f"{what}: {'; '.join(one.wrong) or 'certified'}", highlight=False, soft_wrap=True)


def _place(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(row[name] for name in ("class", "view", "crop", "rotation"))


if __name__ == "__main__":
    typer.run(main)
