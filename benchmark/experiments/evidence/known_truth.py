"""Score heatmaps of the two colour detectors, for which the pixels that decide are known for certain.

Run

    python -m benchmark.experiments.evidence.known_truth

It writes results/known_truth/known_truth.json and the same numbers as Markdown tables next to it.
docs/known_truth.md explains them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

import explainers
from an8flower import An8Flower
from an8flower.ground import files
from benchmark.metrics import iou_auc, metrics
from benchmark.models import models
from benchmark.models.deciding_pixels import deciding_pixels, matches, maximal_pixels, shapley_values
from benchmark.training.loader import TrainingBatches
from explainers.names import explainers_named

DETECTORS = ("colour_mean", "colour_max")
# In addition to all registered methods: Grad-CAM at each layer, and other libraries' methods.
MORE = (
    "vebi?top=2",
    "grad_cam@all",
    "captum:IntegratedGradients?n_steps=20",
    "captum:DeepLift",
    "captum:LRP",
    "captum:Occlusion",
    "zennit:EpsilonPlus",
    "zennit:EpsilonAlpha2Beta1",
    "zennit:ExcitationBackprop",
    "pytorch_grad_cam:EigenCAM",
    "pytorch_grad_cam:HiResCAM",
)
# The truths themselves, scored like heatmaps: what can be reached.
TRUTHS = ("deciding pixels", "exact Shapley values")
BATCH = 20


@dataclass(frozen=True)
class Row:
    """Mean scores of one method for one model, over images.

    Args:
        method: name of the explainer, or of a truth.
        role: "method", "floor" or "ceiling".
        iou_auc: IoU-AUC with the deciding pixels, in [0, 1].
        mass: share of the positive relevance on the deciding pixels.
        best_mass: share of the positive relevance on the pixels that match best.
        cosine: cosine between heatmap and exact Shapley values, in [-1, 1]; 0 for a map of zeros.
        part_iou_auc, part_mass: the first two with the mask of the part.
        zero: share of the heatmaps that are zero everywhere.
    """

    method: str
    role: str
    iou_auc: float
    mass: float
    best_mass: float
    cosine: float
    part_iou_auc: float
    part_mass: float
    zero: float


@dataclass(frozen=True)
class Overlap:
    """How the deciding pixels and the part's mask overlap, over all images of a class.

    Args:
        name: of the class.
        images: number of images.
        right: share of the images that are classified correctly.
        inside: share of the deciding pixels that are in the mask.
        covered: share of the mask's pixels that decide.
        fewest: number of deciding pixels in the image that has fewest.
        foreign: number of pixels, in all images, that match another class.
    """

    name: str
    images: int
    right: float
    inside: float
    covered: float
    fewest: int
    foreign: int


def cosines(maps: NDArray[np.floating], truths: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine between each map and its truth, both (N, H, W); 0 if one of them is zero everywhere.

    >>> cosines(np.array([[[2.0, 0.0]], [[0.0, 0.0]]]), np.array([[[1.0, 0.0]], [[1.0, 0.0]]])).tolist()
    [1.0, 0.0]
    """
    a, b = (np.asarray(each, np.float64).reshape(len(each), -1) for each in (maps, truths))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.divide((a * b).sum(1), lengths, out=np.zeros(len(a)), where=lengths > 0))


def study(
    model: nn.Module, test: An8Flower, training: An8Flower, names: Sequence[str]
) -> tuple[list[Row], dict[str, str]]:
    """Explain images of a colour detector and score the heatmaps by what decides.

    Args:
        model: `colour_mean` or `colour_max`.
        test: the images to explain, each for its class.
        training: images from which methods learn that need it.
        names: of explainers, as `explainers.get` reads them; "name@all" stands for every layer.
    Returns:
        one row per method and truth, sorted by IoU-AUC, and the errors of methods that failed, by name.
    """
    first = next(test.batches(1)).images
    failed: dict[str, Exception] = {}
    chosen = []
    for explainer in explainers_named(names, model, first):
        try:
            explainer.fit(model, TrainingBatches(training, masks=explainer.spec.needs_masks))
            chosen.append(explainer)
        except (explainers.ExplainerError, explainers.ModelError, ValueError) as error:
            failed[explainer.name] = error
    roles = dict.fromkeys(TRUTHS, "ceiling") | {one.name: one.spec.role for one in chosen}
    scores: dict[str, list[NDArray[np.float64]]] = {name: [] for name in roles}
    for part in test.batches(BATCH):
        decides = deciding_pixels(model, part.images).numpy()
        best, masks = maximal_pixels(model, part.images).numpy(), part.masks.numpy()
        shares = shapley_values(model, part.images, part.labels).numpy()
        maps = explainers.explain_many(
            chosen, model, part.images, part.labels,
            masks=part.masks, object_masks=part.object_masks, failed=failed,
        )  # fmt: skip
        truths = zip(TRUTHS, (decides.astype(np.float64), shares), strict=True)
        for name, heatmaps in (*truths, *((name, found.numpy()) for name, found in maps.items())):
            scores[name].append(_scores(heatmaps, decides, best, shares, masks))
    rows = [
        Row(name, roles[name], *(float(mean) for mean in np.concatenate(found, axis=1).mean(1)))
        for name, found in scores.items()
        if found and name not in failed
    ]
    rows.sort(key=lambda row: (-row.iou_auc, row.method))
    return rows, {name: f"{type(error).__name__}: {error}" for name, error in failed.items()}


def overlaps(model: nn.Module, data: An8Flower) -> list[Overlap]:
    """Compare the deciding pixels with the mask, and count pixels that match another class.

    Args:
        model: `colour_mean` or `colour_max`.
        data: images, of classes that are petals.
    """
    found: dict[int, list[tuple[int, ...]]] = {}
    for part in data.batches(100):
        amounts = matches(model, part.images)
        with torch.no_grad():
            right = model(part.images).argmax(1) == part.labels
        hits = amounts > 0
        decides = hits.any(1)
        own = hits[torch.arange(len(hits)), part.labels]
        for k, label in enumerate(part.labels.tolist()):
            pixels = (decides[k], decides[k] & part.masks[k], part.masks[k], decides[k] & ~own[k])
            found.setdefault(label, []).append((int(right[k]), *(int(one.sum()) for one in pixels)))
    rows = []
    for label, each in sorted(found.items()):
        right_, decided, both, masked, foreign = np.array(each).T
        inside, covered = both.sum() / decided.sum(), both.sum() / masked.sum()
        rows.append(
            Overlap(
                data.classes[label], len(each), float(right_.mean()), float(inside), float(covered),
                int(decided.min()), int(foreign.sum()),
            )
        )  # fmt: skip
    return rows


def tables(results: dict[str, Any]) -> str:
    """Return the results, as they are in the JSON file, as Markdown."""
    lines = [
        "| class | images | right | deciding pixels in the mask | mask that decides | fewest pixels |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["overlaps"]:
        shares = " | ".join(f"{row[name]:.2%}" for name in ("right", "inside", "covered"))
        lines.append(f"| {row['name']} | {row['images']} | {shares} | {row['fewest']} px |")
    for name, rows in results["rows"].items():
        lines += [
            "",
            f"| {name} | IoU-AUC | mass | mass on best | cosine | part: IoU-AUC | part: mass |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row) for row in rows]
    return "\n".join(lines) + "\n"


def main(
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the dataset.")] = Path("data"),
    variant: Annotated[str, typer.Option("--variant", help="single-6c.")] = "single-6c",
    fold: Annotated[int, typer.Option("--fold", min=0, max=4)] = 0,
    every: Annotated[int, typer.Option("--every", min=1, help="Explain every n-th test image.")] = 41,
    names: Annotated[
        list[str] | None, typer.Option("--explainer", help="Measure only these; may be repeated.")
    ] = None,
    folder: Annotated[Path, typer.Option("--out", help="Where to write.")] = Path("results/known_truth"),
) -> None:
    """Explain the colour detectors with every method and compare the heatmaps with the known truth."""
    warnings.simplefilter("ignore", explainers.NoReLURuleWarning)
    logging.getLogger("explainers").setLevel(logging.ERROR)
    whole = An8Flower(root, variant, size_px=112)
    test, training = (
        An8Flower(root, variant, fold=fold, split=split, size_px=112, target=("mask", "plant"))
        for split in ("test", "train")
    )
    test = test.where(np.arange(len(test)) % every == 0)
    detectors = {name: models.get(name).build(len(whole.classes)).eval() for name in DETECTORS}
    results: dict[str, Any] = {
        "command": f"python -m benchmark.experiments.evidence.known_truth --fold {fold} --every {every}",
        "dataset_digest": whole.manifest.images_digest,
        "images": len(test),
        "overlaps": [asdict(row) for row in overlaps(detectors[DETECTORS[0]], whole)],
        "rows": {},
        "failed": {},
    }
    for name, model in detectors.items():
        rows, failed = study(model, test, training, names or [*explainers.names(), *MORE])
        results["rows"][name] = [asdict(row) for row in rows]
        results["failed"][name] = failed
    text = tables(results)
    files.write_json(folder / "known_truth.json", results)
    files.write(folder / "known_truth.md", text.encode())
    console = Console()
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    for name, failed in results["failed"].items():
        for method, reason in failed.items():
            console.print(f"{name}: {method} failed: {reason}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"wrote {folder}", highlight=False)


def _scores(
    heatmaps: NDArray[np.floating],
    decides: NDArray[np.bool_],
    best: NDArray[np.bool_],
    shares: NDArray[np.float64],
    masks: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return the scores (7, N) of `Row`, in its order."""
    mass = metrics.get("relevance_mass").compute
    zero = ~heatmaps.any(axis=(1, 2))
    return np.stack(
        [
            iou_auc(heatmaps, decides), mass(heatmaps, decides), mass(heatmaps, best),
            cosines(heatmaps, shares), iou_auc(heatmaps, masks), mass(heatmaps, masks), zero,
        ]
    )  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    name = row["method"] if row["method"] in TRUTHS else f"`{row['method']}`"
    note = "" if row["role"] == "method" else f" ({row['role']})"
    scores: Iterable[float] = (
        row[name] for name in ("iou_auc", "mass", "best_mass", "cosine", "part_iou_auc", "part_mass")
    )
    return f"| {name}{note} | " + " | ".join(f"{100 * score:.1f}" for score in scores) + " |"


if __name__ == "__main__":
    typer.run(main)
