"""Train a model that cheats, certify it, and score heatmaps that are faithful to it.

Each class gets a patch of its own colour in a corner of the background. A model trained on such images may
use the patch, while the mask still marks the discriminative part.

Run `python -m benchmark.experiments.evidence.cheating`. single-6c must have its twins; its fold 0 is trained
first if necessary.
"""

from __future__ import annotations

import colorsys
import hashlib
import shutil
from collections.abc import Callable, Sequence
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
from benchmark.metrics import iou_auc
from benchmark.models import models
from benchmark.training.loader import TrainingBatches
from benchmark.training.recipes import Recipe
from benchmark.training.trainer import train

PATCH_PX = 40  # side of the patch in the 250 px images: 2.6 % of their area, about as much as the petals
PAINTED = ("image", "all_but_part")  # the patch is in the background, which the twin of the part lacks
METHODS = ("gradient", "grad_cam", "guided_grad_cam", "vebi")


@dataclass(frozen=True)
class Case:
    """The results for one model.

    Args:
        accuracy: accuracy on its test images.
        shares: its certificate.
        wrong: why it is not certified, as text; empty if it is.
        follows_patch: share of its test images that are classified as another class if they get the patch
            of that class and nothing else changes: how faithful a heatmap of the patch is.
        scores: mean IoU-AUC with the mask of the part, for each method, and for "patch", a heatmap that is
            1 on the patch and 0 elsewhere.
        on_patch: the same scores with the patch as the mask.
    """

    accuracy: float
    shares: Shares
    wrong: list[str]
    follows_patch: float
    scores: dict[str, float]
    on_patch: dict[str, float]


def paint(root: str | Path, variant: str, target: str | Path) -> Manifest:
    """Copy a dataset with twins, and paint a patch of the class's colour in a corner of the background.

    Args:
        root: folder that holds the variant's folder.
        variant: name of the variant.
        target: folder for the copy, which has the same name. Frames are not copied.
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
            of_parts = parts[_place(row)]
            ids = png.decode(read_verified(source, of_parts["path"], of_parts["sha256"]))
            image = png.decode(data)
            image[patch(ids)] = colours[int(str(row["class"])) - 1]
            data = png.encode(image)
        path = folder / str(row["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return hashlib.sha256(data).hexdigest(), len(data)

    with ThreadPoolExecutor() as pool:
        hashes_and_sizes = list(pool.map(copied, table.to_dict("records")))
    table["sha256"], table["size_bytes"] = zip(*hashes_and_sizes, strict=True)
    write_manifest(Manifest(folder, source.header, table))
    return read_manifest(target, variant)


def patch(part_ids: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels of the patch: the upper left corner, except where the plant covers it.

    Args:
        part_ids: (..., S, S) part ids, of images of any size.
    Returns:
        (..., S, S) bool.
    """
    size = part_ids.shape[-1]
    side = round(PATCH_PX * size / CROP_SIZE_PX)
    corner = np.zeros((size, size), bool)
    corner[:side, :side] = True
    return np.asarray(corner & (part_ids == PART_IDS["background"]))


def patch_colours(classes: int) -> NDArray[np.uint8]:
    """Return one colour per class, (classes, 3) uint8 RGB, with equally spaced hues."""
    hues = [colorsys.hsv_to_rgb(k / classes, 1, 1) for k in range(classes)]
    return np.array([[round(255 * channel) for channel in rgb] for rgb in hues], np.uint8)


def repainted(images: torch.Tensor, where: NDArray[np.bool_], classes: torch.Tensor, of: int) -> torch.Tensor:
    """Return images with the patch of other classes.

    Args:
        images: (N, 3, S, S).
        where: (N, S, S) bool, the pixels of the patch.
        classes: (N,) int64, the class whose patch each image gets.
        of: number of classes.
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
    """Certify a model and score its heatmaps.

    Args:
        model: a trained classifier.
        root, variant: folder that holds the dataset, and its variant.
        fold: fold whose test images are used, from 0 to 4.
        size_px: input size of the model.
        explained_by: names of explainers.
    """
    pictures = Twinned.of(root, variant, fold=fold, size_px=size_px)
    answers = certify(model, pictures)
    flags, classes = answers.flags, pictures.images.classes
    certificate = shares(flags, len(classes))
    test, training = (
        An8Flower(root, variant, fold=fold, split=split, size_px=size_px, target=("mask", "parts"))
        for split in ("test", "train")
    )
    fitted = [methods.get(name) for name in explained_by]
    for explainer in fitted:
        explainer.fit(model, TrainingBatches(training, masks=explainer.spec.needs_masks))
    follows: list[bool] = []
    scores: dict[str, list[float]] = {name: [] for name in ("patch", *explained_by)}
    on_patch: dict[str, list[float]] = {name: [] for name in scores}
    for part in test.batches(96):
        where = patch(np.stack([test[int(row)][1][1].numpy() for row in part.rows]))
        others = (part.labels + 1) % len(classes)
        with torch.no_grad():
            predicted = model(part.images).argmax(1)
            changed = model(repainted(part.images, where, others, len(classes))).argmax(1)
        follows += (changed == others).tolist()
        maps = {
            explainer.name: explainer(model, part.images, predicted, masks=part.masks).numpy()
            for explainer in fitted
        }
        for name, heatmaps in {"patch": where.astype(np.float32), **maps}.items():
            scores[name] += iou_auc(heatmaps, part.masks.numpy()).tolist()
            on_patch[name] += iou_auc(heatmaps, where).tolist()
    return Case(
        accuracy=float((flags["predicted"] == flags["class"] - 1).mean()),
        shares=certificate,
        wrong=list(answers.verdict(classes).failures),
        follows_patch=float(np.mean(follows)),
        scores={name: float(np.mean(values)) for name, values in scores.items()},
        on_patch={name: float(np.mean(values)) for name, values in on_patch.items()},
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

    def line(name: str, value: Callable[[Case], float]) -> None:
        table.add_row(name, *(f"{100 * value(case):.1f}" for case in cases.values()))

    line("test accuracy", lambda case: case.accuracy)
    line("necessity", lambda case: case.shares.necessity)
    line("sufficiency", lambda case: case.shares.sufficiency)
    line("swap", lambda case: case.shares.swap)
    line("images that pass", lambda case: case.shares.passed)
    line("follow another class's patch", lambda case: case.follows_patch)
    for name in ("patch", *METHODS):
        line(f"IoU-AUC of {name} with the part", lambda case, name=name: case.scores[name])  # type: ignore[misc]
    for name in ("patch", *METHODS):
        line(f"IoU-AUC of {name} with the patch", lambda case, name=name: case.on_patch[name])  # type: ignore[misc]
    console.print(table)
    for what, case in cases.items():
        console.print(f"{what}: {'; '.join(case.wrong) or 'certified'}", highlight=False, soft_wrap=True)


def _place(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(row[name] for name in ("class", "view", "crop", "rotation"))


if __name__ == "__main__":
    typer.run(main)
