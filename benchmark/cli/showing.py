"""Commands that explain single images and show what a model's features look for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.console import DEVICE, JSON, ROOT, Device, app, say

CHECKPOINT = Annotated[Path, typer.Option("--checkpoint", help="Weights (.safetensors) that 'train' wrote.")]
SHEET = 24  # images on the sheet of all


@app.command()
def explain(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures to explain.")],
    checkpoint: CHECKPOINT,
    root: ROOT = Path("data"),
    target: Annotated[
        str | None,
        typer.Option("--target", help="Class to explain, by name or number; else the predicted one."),
    ] = None,
    explainer: Annotated[
        str, typer.Option("--explainer", help="'vebi', 'vebi_all', 'vebi_nearest', 'deconv_gb', ...")
    ] = "vebi",
    top: Annotated[int, typer.Option("--top", min=1, help="Features an image.")] = 3,
    device: DEVICE = Device.cpu,
    folder: Annotated[Path, typer.Option("--out", help="Folder for pictures and JSON.")] = Path(
        "explanations"
    ),
    as_json: JSON = False,
) -> None:
    """Why does the model say so? Its label, the features it goes by, and where they look in the image.

    Example: an8flower explain image.png --checkpoint checkpoints/single-6c/an8net/fold0.safetensors
    """
    from an8flower.gallery import save_figure
    from an8flower.ground import files
    from benchmark import explain as explained_by

    explained = explained_by(
        images, checkpoint, root=root, explainer=explainer, target=target, top=top, device=device.value
    )
    facts, written, taken = explained.facts(), [], Counter[str]()
    for k, path in enumerate(explained.paths):
        taken[path.stem] += 1
        stem = path.stem if taken[path.stem] == 1 else f"{path.stem}-{taken[path.stem]}"
        picture, about = folder / f"{stem}.png", folder / f"{stem}.json"
        save_figure(explained[k].figure(), picture)
        files.write_json(about, facts[k])
        facts[k]["files"] = [str(picture), str(about)]
        written += [picture, about]
    if 1 < len(images) <= SHEET:
        written.append(folder / "all.png")
        save_figure(explained.figure(), written[-1])
    lines = [
        f"{fact['image']}: {fact['predicted']}, {fact['confidence']:.1%}; {_features(fact)}" for fact in facts
    ]
    say({"explanations": facts}, as_json, "\n".join([*lines, f"wrote {len(written)} files to {folder}"]))


@app.command()
def interpret(
    checkpoint: CHECKPOINT,
    root: ROOT = Path("data"),
    top: Annotated[int, typer.Option("--top", min=1, help="Images averaged for a feature.")] = 100,
    of_class: Annotated[
        bool, typer.Option("--of-class", help="Average images of the feature's own class alone.")
    ] = False,
    device: DEVICE = Device.cpu,
    folder: Annotated[Path, typer.Option("--out", help="Folder for pictures and JSON.")] = Path(
        "interpretation"
    ),
    as_json: JSON = False,
) -> None:
    """What do the features look for that tell the classes? Average patches, a sheet a class.

    Example: an8flower interpret --checkpoint checkpoints/single-6c/an8net/fold0.safetensors
    """
    from an8flower.gallery import save_figure
    from an8flower.ground import files
    from benchmark.why import interpretation_of
    from explainers.vebi.figures import interpretation_overview, interpretation_sheet, selection_figure

    interpretations, selection, classes = interpretation_of(
        checkpoint, root=root, top=top, of_class=of_class, device=device.value
    )
    layers = len(selection.layers)
    figures = {
        "overview": interpretation_overview(interpretations, classes, layers),
        "selection": selection_figure(selection, classes),
    }
    for k, name in enumerate(classes):
        mine = [one for one in interpretations if one.feature.target == k]
        figures[f"class{k + 1}"] = interpretation_sheet(mine, name, layers)
    written = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(written, figures.values(), strict=True):
        save_figure(figure, path)
    features = json.loads(selection.table().to_json(orient="records"))
    for row, one in zip(features, interpretations, strict=True):
        row["class"], row["images"] = classes[row["class"]], list(one.images)
    about = folder / "features.json"
    files.write_json(about, {"checkpoint": str(checkpoint), "mu": selection.mu, "features": features})
    text = "\n".join(
        [f"{len(features)} features of {len(classes)} classes", *(f"wrote {p}" for p in (*written, about))]
    )
    say({"features": features, "files": [str(path) for path in (*written, about)]}, as_json, text)


def _features(fact: dict[str, object]) -> str:
    features = fact["features"]
    assert isinstance(features, list)
    named = [f"{one['layer']}/{one['channel']} ({one['relevance']:.2f})" for one in features]
    return f"why {fact['target']}: {', '.join(named) or 'no feature speaks for it'}"
