"""Commands that explain single images and show what a model's features respond to."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.console import say
from benchmark.cli.options import CHECKPOINT, DEVICE, JSON, OUTPUT, ROOT, Device

SHEET = 24  # the most images that one sheet shows


def explain(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images to explain.")],
    checkpoint: CHECKPOINT,
    explainer: Annotated[
        str,
        typer.Option(
            "--explainer",
            metavar="NAME",
            autocompletion=completion.selecting,
            help="Explainer that selects features: vebi, vebi_all, vebi_nearest, deconv_gb or "
            "upsampled_activations.",
        ),
    ] = "vebi",
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="CLASS",
            show_default="the predicted class",
            help="Class to explain, by name or by number from 0.",
        ),
    ] = None,
    top_features: Annotated[
        int, typer.Option("--top-features", metavar="N", min=1, help="Number of features shown per image.")
    ] = 3,
    root: ROOT = Path("data"),
    device: DEVICE = Device.cpu,
    folder: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FOLDER", rich_help_panel=OUTPUT, help="Folder of the pictures and JSON."
        ),
    ] = Path("explanations"),
    as_json: JSON = False,
) -> None:
    """Explain a model's predictions for given images.

    The result shows the predicted class, the features that support it most,
    and their heatmaps.

    Example: an8flower explain image.png --checkpoint checkpoints/single-6c/an8net/fold0.safetensors
    """
    from an8flower.gallery import save_figure
    from an8flower.ground import files
    from benchmark import explain_with_features

    explained = explain_with_features(
        images, checkpoint, root=root, explainer=explainer, target=target, top=top_features,
        device=device.value,
    )  # fmt: skip
    facts, written, stems = explained.facts(), [], Counter[str]()
    for k, path in enumerate(explained.paths):
        stems[path.stem] += 1
        stem = path.stem if stems[path.stem] == 1 else f"{path.stem}-{stems[path.stem]}"
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


def interpret(
    checkpoint: CHECKPOINT,
    top_images: Annotated[
        int, typer.Option("--top-images", metavar="N", min=1, help="Number of images averaged per feature.")
    ] = 100,
    of_class: Annotated[
        bool, typer.Option("--of-class", help="Average only images of the feature's own class.")
    ] = False,
    root: ROOT = Path("data"),
    device: DEVICE = Device.cpu,
    folder: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FOLDER", rich_help_panel=OUTPUT, help="Folder of the pictures and JSON."
        ),
    ] = Path("interpretation"),
    as_json: JSON = False,
) -> None:
    """Show what a model's selected features respond to.

    It writes the average image patch of each feature, on one sheet per class,
    and an overview.

    Example: an8flower interpret --checkpoint checkpoints/single-6c/an8net/fold0.safetensors
    """
    from an8flower.gallery import save_figure
    from an8flower.ground import files
    from benchmark.why import interpretation_of
    from explainers.vebi.figures import interpretation_overview, interpretation_sheet, selection_figure

    interpretations, selection, classes = interpretation_of(
        checkpoint, root=root, top=top_images, of_class=of_class, device=device.value
    )
    layers = len(selection.layers)
    figures = {
        "overview": interpretation_overview(interpretations, classes, layers),
        "selection": selection_figure(selection, classes),
    }
    for k, name in enumerate(classes):
        of_this_class = [shown for shown in interpretations if shown.feature.target == k]
        figures[f"class{k + 1}"] = interpretation_sheet(of_this_class, name, layers)
    written = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(written, figures.values(), strict=True):
        save_figure(figure, path)
    features = json.loads(selection.table().to_json(orient="records"))
    for row, interpretation in zip(features, interpretations, strict=True):
        row["class"], row["images"] = classes[row["class"]], list(interpretation.images)
    about = folder / "features.json"
    files.write_json(about, {"checkpoint": str(checkpoint), "mu": selection.mu, "features": features})
    text = "\n".join(
        [f"{len(features)} features of {len(classes)} classes", *(f"wrote {p}" for p in (*written, about))]
    )
    say({"features": features, "files": [str(path) for path in (*written, about)]}, as_json, text)


def _features(fact: dict[str, object]) -> str:
    features = fact["features"]
    assert isinstance(features, list)
    named = [f"{shown['layer']}/{shown['channel']} ({shown['relevance']:.2f})" for shown in features]
    return f"why {fact['target']}: {', '.join(named) or 'no feature supports it'}"
