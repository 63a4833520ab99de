"""Draw what two models answer to an image and to the pictures that the certificate makes of it.

    python -m benchmark.experiments.evidence.certificate_figure

The figure at the top of docs/certificate.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray

from an8flower.gallery import save_figure
from an8flower.variants.colours import SIX_COLOURS
from benchmark.certificate import Twinned
from benchmark.certificate.answers import KEPT, shown
from benchmark.certificate.pictures import Pictures
from benchmark.models import models
from benchmark.setups import Setup
from benchmark.training.weights import load_model, path_of

NAMES = {
    "image": "the image", "part_only": "part only", "all_but_part": "all but the part",
    "swapped": "another part", "inpainted": "inpainted", "pot_texture": "pot texture",
    "foreign_colour": "foreign colour", "grey_plant": "grey plant", "textured": "textured",
    "shifted": "shifted", "recoloured": "recoloured",
}  # fmt: skip
MODELS = {"plain": "0.55", "certified": "#0072B2"}


def figure(
    pictures: dict[str, torch.Tensor], answers: dict[str, dict[str, NDArray[np.float64]]], classes: list[str]
) -> Figure:
    """Draw pictures in a row and below each the probabilities of the classes.

    Args:
        pictures: (3, H, W) in [0, 1], by name.
        answers: for each recipe and picture, (C,) probabilities.
        classes: their names.
    """
    drawn = Figure(
        figsize=(1.32 * len(pictures), 1 + 1.25 * (1 + len(answers))), dpi=110, layout="constrained"
    )
    axes = drawn.subplots(
        1 + len(answers), len(pictures), squeeze=False, height_ratios=[1.3, *[1] * len(answers)]
    )
    colours = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in SIX_COLOURS.values()]
    for column, (name, picture) in enumerate(pictures.items()):
        top = axes[0, column]
        top.imshow(picture.permute(1, 2, 0).numpy())
        top.set_title(NAMES[name], fontsize=8.5, color="black" if name in ("image", *KEPT) else "#a04000")
        top.axis("off")
        for row, (recipe, by_picture) in enumerate(answers.items(), 1):
            bars = axes[row, column]
            bars.bar(range(len(classes)), by_picture[name], color=colours, edgecolor="0.4", linewidth=0.5)
            bars.axhline(1 / len(classes), color="0.5", linestyle=":", linewidth=1)
            bars.set(ylim=(0, 1.02), xticks=[], yticks=[0, 1] if column == 0 else [])
            bars.spines[["top", "right"]].set_visible(False)
            if column == 0:
                bars.set_ylabel(f"{recipe}\nprobability", fontsize=8.5)
    return drawn


def main(
    variant: Annotated[str, typer.Option("--variant")] = "single-6c",
    model: Annotated[str, typer.Option("--model")] = "an8net",
    class_id: Annotated[int, typer.Option("--class", help="From 1.")] = 6,
    fold: Annotated[int, typer.Option("--fold")] = 0,
    root: Annotated[Path, typer.Option("--root")] = Path("data"),
    checkpoints: Annotated[Path, typer.Option("--checkpoints")] = Path("checkpoints"),
    path: Annotated[Path, typer.Option("--out")] = Path("docs/pictures/certificate.png"),
) -> None:
    """Draw the figure for one test image of a class, the one in the middle of its images."""
    asked = Twinned.of(root, variant, fold=fold, size_px=models.get(model).size_px)
    rows = np.flatnonzero((asked.images.table["class"] == class_id).to_numpy())
    group: Pictures = asked.pictures(rows[[len(rows) // 2]])
    made = {name: pictures[0] for name, pictures in shown(group).items()}
    order = [
        "image",
        "part_only",
        *KEPT[2:],
        "swapped",
        *[name for name in made if name not in ("image", *KEPT)],
    ]
    answers: dict[str, dict[str, NDArray[np.float64]]] = {}
    for recipe in MODELS:
        setup = Setup(variant, model, 0, fold, recipe)
        network = load_model(path_of(checkpoints, setup), of=setup).model
        with torch.no_grad():
            logits = network(torch.stack([made[name] for name in order])).double().softmax(1).numpy()
        answers[recipe] = dict(zip(order, logits, strict=True))
    drawn = figure({name: made[name] for name in order}, answers, list(asked.images.classes))
    save_figure(drawn, path)
    typer.echo(f"wrote {path}")


if __name__ == "__main__":
    typer.run(main)
