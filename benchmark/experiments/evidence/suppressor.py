"""Relevance on pot and background if these help to read the colour of the petals, and if they do not.

Run

    python -m benchmark.experiments.evidence.suppressor

It draws single-6c under a coloured light that varies from view to view, trains a model on fold 0 of these
images, and explains both this model and the plain one, each on its own test images of the same views, where
both are right. And it measures whether a model uses the light: how many answers change if pot and background
alone get another light. It writes results/suppressor/suppressor.json and the same numbers as Markdown tables
next to it. docs/dataset.md says what a right explanation is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import nn

import explainers
from an8flower import An8Flower
from an8flower.drawing.stage import GAMMA, light_tint
from an8flower.ground import files
from an8flower.ground.text import error_line
from an8flower.protocol import PART_IDS, Split
from benchmark.measuring.cells import default_explainers
from benchmark.models import models
from benchmark.plan import Plan
from benchmark.running import draw_all, train_all
from benchmark.setups import PLAIN, Setup
from benchmark.training.loader import TrainingBatches
from benchmark.training.weights import load_model

RECIPE = "suppressor"
BATCH = 50
PLACES = ("part", "pot", "background", "rest of the plant")
SATURATION = 0.85  # of the light of the recipe
TURN_DEG = 120.0  # between the hue of an image and that of the other light
# What gets another light; the part keeps its own, but in the last case.
RELIT = {
    "pot": ("pot",),
    "background": ("background",),
    "pot and background": ("pot", "background"),
    "all but the part": ("pot", "background", "rest of the plant"),
    "all": PLACES,
}


@dataclass(frozen=True)
class Shares:
    """Where the positive relevance of a method is, as shares of all of it, mean over images.

    Args:
        method: name of the explainer.
        neutral, coloured: shares in the order of `PLACES`, for the plain model under neutral light, and for
            the model of the coloured light; each sums to 1, but for maps without positive values.
    """

    method: str
    neutral: tuple[float, ...]
    coloured: tuple[float, ...]


def shares(name: str, model: nn.Module, test: An8Flower, training: An8Flower) -> tuple[float, ...]:
    """Return the shares of the positive relevance of a method on part, pot, background and the rest.

    Args:
        name: of the explainer.
        model: classifier in eval mode.
        test: images with the targets "label", "plant" and "parts".
        training: images for methods that learn.
    """
    explainer = explainers.get(name)
    explainer.fit(model, TrainingBatches(training, masks=explainer.spec.needs_masks))
    sums = []
    for batch in test.batches(BATCH):
        with torch.no_grad():
            predicted = model(batch.images).argmax(1)
        truths = {"masks": batch.masks, "object_masks": batch.object_masks}
        known = {truth: truths[truth] for truth in explainer.spec.truths}
        heatmaps = explainer(model, batch.images, predicted, **known).numpy().clip(min=0)
        sums.append(_by_place(heatmaps, batch.masks.numpy(), _parts(test, batch.rows)))
    return tuple(np.concatenate(sums).mean(axis=0).tolist())


def changed_answers(model: nn.Module, test: An8Flower, *, saturation: float) -> dict[str, float]:
    """Return the share of the images whose answer changes if a place gets another light, by place of `RELIT`.

    Args:
        model: classifier in eval mode.
        test: images with the targets "label", "plant" and "parts", under neutral light or of the recipe.
        saturation: of the other light, whose hue is `TURN_DEG` from that of the image.
    """
    changed = dict.fromkeys(RELIT, 0)
    for batch in test.batches(BATCH):
        with torch.no_grad():
            before = model(batch.images).argmax(1)
        places = _places(batch.masks.numpy(), _parts(test, batch.rows))
        table = test.table.iloc[batch.rows]
        coloured = "light_hue" in table
        hues = table["light_hue"].to_numpy() if coloured else np.zeros(len(table))
        for name, chosen in RELIT.items():
            region = np.logical_or.reduce([places[:, PLACES.index(place)] for place in chosen])
            pictures = np.stack([
                relit(image, mask, (hue, saturation if coloured else 0.0), (hue + TURN_DEG, saturation))
                for image, mask, hue in zip(batch.images.numpy(), region, hues, strict=True)
            ])  # fmt: skip
            with torch.no_grad():
                after = model(torch.from_numpy(pictures)).argmax(1)
            changed[name] += int((after != before).sum())
    return {name: count / len(test) for name, count in changed.items()}


def relit(
    image: NDArray[np.float32],
    region: NDArray[np.bool_],
    light: tuple[float, float],
    other: tuple[float, float],
) -> NDArray[np.float32]:
    """Return an image whose pixels in a region are as under another light.

    Light is a factor on linear colours, so its effect can be divided out, but for highlights.

    Args:
        image: (3, H, W) sRGB in [0, 1].
        region: (H, W).
        light, other: hue in degrees and saturation, of the image and of the result.
    """
    tints = [
        light_tint({"light_hue": hue % 360, "light_saturation": saturation})
        for hue, saturation in (light, other)
    ]
    ratio = (tints[1] / tints[0]) ** (1 / GAMMA)
    return np.where(region, np.clip(image * ratio[:, None, None], 0, 1), image).astype(np.float32)


def _places(masks: NDArray[np.bool_], parts: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (N, 4, H, W), which pixels are at each of `PLACES`."""
    pot, background = (parts == PART_IDS["pot"]) & ~masks, (parts == PART_IDS["background"]) & ~masks
    return np.stack([masks, pot, background, ~(masks | pot | background)], axis=1)


def _parts(test: An8Flower, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.stack([test[int(row)][1][2].numpy() for row in rows])


def _right(model: nn.Module, test: An8Flower) -> NDArray[np.bool_]:
    """Return for each image whether the model is right."""
    with torch.no_grad():
        return np.concatenate(
            [(model(batch.images).argmax(1) == batch.labels).numpy() for batch in test.batches(BATCH)]
        )


def _by_place(
    heatmaps: NDArray[np.float32], masks: NDArray[np.bool_], parts: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Return (N, 4), the shares of each heatmap at each of `PLACES`; zeros for a map without relevance."""
    places = _places(masks, parts)
    total = heatmaps.sum(axis=(1, 2), dtype=np.float64)[:, None]
    found = (heatmaps[:, None] * places).sum(axis=(2, 3), dtype=np.float64)
    return np.asarray(np.divide(found, total, out=np.zeros_like(found), where=total > 0))


def to_markdown(
    rows: Sequence[Shares], accuracy: dict[str, float], changed: dict[str, dict[str, float]], command: str
) -> str:
    """Return what was measured as two tables; the methods are sorted by the change on the pot."""
    lines = [
        f"Created by `{command}`. Test accuracy {100 * accuracy[PLAIN]:.1f} % under neutral light, and "
        f"{100 * accuracy[RECIPE]:.1f} % under the coloured light that varies.",
        "",
        "Answers that change if only this gets another light, in percent of the images:",
        "",
        "| what gets another light | model of neutral light | model of coloured light |",
        "|---|---:|---:|",
        *(
            f"| {name} | {100 * changed[PLAIN][name]:.1f} | {100 * changed[RECIPE][name]:.1f} |"
            for name in RELIT
        ),
        "",
        "Share of the positive relevance, in percent: under neutral light, then under the coloured light.",
        "",
        "| method | " + " | ".join(PLACES) + " |",
        "|---|" + "---:|" * len(PLACES),
    ]
    pot = PLACES.index("pot")
    for row in sorted(rows, key=lambda row: row.neutral[pot] - row.coloured[pot]):
        pairs = zip(row.neutral, row.coloured, strict=True)
        cells = (f"{100 * before:.1f}, {100 * after:.1f}" for before, after in pairs)
        lines.append(f"| `{row.method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _images(plan: Plan, setup: Setup, split: Split) -> An8Flower:
    return An8Flower(
        plan.data_root(setup.recipe), setup.variant, fold=setup.fold, split=split,
        size_px=models.get(setup.model).size_px, target=("label", "plant", "parts"),
    )  # fmt: skip


def main(
    variant: Annotated[str, typer.Option("--variant")] = "single-6c",
    model: Annotated[str, typer.Option("--model")] = "an8net",
    fold: Annotated[int, typer.Option("--fold")] = 0,
    every: Annotated[int, typer.Option("--every", help="Explain every n-th test image.", min=1)] = 7,
    explainer: Annotated[list[str] | None, typer.Option("--explainer")] = None,
    root: Annotated[Path, typer.Option("--root")] = Path("data"),
    checkpoints: Annotated[Path, typer.Option("--checkpoints")] = Path("checkpoints"),
    folder: Annotated[Path, typer.Option("--out")] = Path("results/suppressor"),
    workers: Annotated[int, typer.Option("--workers")] = 2,
) -> None:
    """Measure the relevance with and without a suppressor, and write both forms of the result."""
    plan = Plan(
        variants=(variant,), models=(model,), recipes=(PLAIN, RECIPE), folds=(fold,), root=root,
        checkpoints=checkpoints,
    )  # fmt: skip
    draw_all(plan, workers=workers, scheduler=None)
    records = train_all(plan, workers=workers, scheduler=None)
    accuracy = {setup.recipe: float(record["test_accuracy"]) for setup, record in records.items()}
    setups = [Setup(variant, model, 0, fold, recipe) for recipe in plan.recipes]
    networks = [load_model(plan.weights_path(setup), of=setup).model for setup in setups]
    tests = [_images(plan, setup, "test") for setup in setups]
    tests = [test.where(np.arange(len(test)) % every == 0) for test in tests]
    right = np.logical_and.reduce(list(map(_right, networks, tests)))
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    changed: dict[str, dict[str, float]] = {}
    for setup, network, test in zip(setups, networks, tests, strict=True):
        both_right, training = test.where(right), _images(plan, setup, "train")
        changed[setup.recipe] = changed_answers(network, both_right, saturation=SATURATION)
        for name in explainer or default_explainers():
            try:
                found.setdefault(name, {})[setup.recipe] = shares(name, network, both_right, training)
            except Exception as error:  # one faulty method must not end the others
                typer.echo(f"{name}: {error_line(error)}", err=True)
            else:
                typer.echo(f"{setup.recipe} {name}", err=True)
    rows = [Shares(name, both[PLAIN], both[RECIPE]) for name, both in found.items() if len(both) == 2]
    command = "python -m benchmark.experiments.evidence.suppressor"
    text = to_markdown(rows, accuracy, changed, command)
    content = {
        "command": command, "fold": fold, "every": every, "images": int(right.sum()), "accuracy": accuracy,
        "changed": changed, "places": PLACES, "rows": [asdict(row) for row in rows],
    }  # fmt: skip
    files.write_json(folder / "suppressor.json", content)
    files.write(folder / "suppressor.md", text.encode())
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
