"""Commands that draw, check, show and export datasets."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.console import say
from benchmark.cli.options import (
    DRAWING_SEED,
    JSON,
    OUTPUT,
    PLATFORM,
    ROOT,
    SCHEDULER,
    VARIANT,
    VIEWPOINTS,
    WORK,
    WORKERS,
    GLPlatform,
    Regenerate,
    cores,
    numbers_of,
)


def generate(
    variant: VARIANT = "single-6c",
    viewpoints: VIEWPOINTS = "",
    factor: Annotated[
        list[str] | None,
        typer.Option(
            "--factor",
            metavar="NAME=VALUE",
            autocompletion=completion.factors,
            show_default=False,
            help="Factor to vary, e.g. 'size=0.6' or 'size=0.5..1', see 'list factors'; may be repeated.",
        ),
    ] = None,
    twins: Annotated[
        bool,
        typer.Option("--twins", help="Also draw each plant with the part only, and without the part."),
    ] = False,
    drawing_seed: DRAWING_SEED = 0,
    root: ROOT = Path("data"),
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    platform: PLATFORM = GLPlatform.auto,
    as_json: JSON = False,
) -> None:
    """Draw a dataset, or complete or repair an existing one.

    Example: an8flower generate --variant single-6c --factor background=textured --factor size=0.6
    """
    from an8flower import generate as draw
    from an8flower.drawing.factors import parse

    manifest = draw(
        root, variant, viewpoints=numbers_of(viewpoints, "--viewpoints"), workers=workers or cores(),
        scheduler=scheduler, seed=drawing_seed, platform=platform.value, twins=twins,
        factors=parse(factor or ()),
    )  # fmt: skip
    counts = manifest.table["kind"].value_counts().to_dict()
    result = {"folder": str(manifest.folder), "digest": manifest.digest, "files": counts}
    say(result, as_json, f"{manifest.folder}: {counts['frame']} frames, {counts['image']} images with masks")


def verify(
    variant: VARIANT = "single-6c",
    regenerate: Annotated[
        Regenerate,
        typer.Option("--regenerate", rich_help_panel=WORK, help="Also draw frames again and compare them."),
    ] = Regenerate.no,
    root: ROOT = Path("data"),
    platform: PLATFORM = GLPlatform.auto,
    as_json: JSON = False,
) -> None:
    """Check every file of a dataset against its SHA-256.

    Manifest and resized images are checked, too. The exit status is 1 if a
    file is missing, altered or not part of the dataset.

    Example: an8flower verify --variant single-6c --root data --regenerate sample
    """
    from an8flower import verify as check
    from an8flower.manifest import SCHEMA_VERSION, DataFolderError, command, read_header

    problems = check(root, variant, regenerate=regenerate.value, platform=platform.value)
    listed = [{"path": str(problem.path), "what": problem.what} for problem in problems]
    lines = [str(problem) for problem in problems] or [f"{root / variant}: every file is as recorded"]
    header = None
    with suppress(DataFolderError):
        header = read_header(root / variant)
    again = command(root, variant, header)
    if any(problem.what.startswith(("missing", "altered")) for problem in problems):
        lines.append(f"run '{again}' to redraw what is missing or altered")
    elif header and header["schema_version"] < SCHEMA_VERSION:
        lines.append(f"run '{again}' to add a digest of the manifest itself, as datasets have since 0.2")
    if any(problem.what == "extra" for problem in problems):
        lines.append("delete the extra files, or move them away")
    say({"problems": listed}, as_json, "\n".join(lines))
    raise typer.Exit(1 if problems else 0)


def gallery(
    variant: VARIANT = "single-6c",
    root: ROOT = Path("data"),
    platform: PLATFORM = GLPlatform.auto,
    pictures: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", rich_help_panel=OUTPUT, help="Folder of the pictures.")
    ] = Path("docs/pictures"),
    as_json: JSON = False,
) -> None:
    """Draw overview pictures of a dataset.

    They show classes by views, derivatives, factors, and the twins if there
    are any.

    Example: an8flower gallery --variant single-6c --root data --out docs/pictures
    """
    from an8flower.gallery import contact_sheet, factors_sheet, twins_sheet
    from an8flower.manifest import read_manifest

    drawn = [
        contact_sheet(root, variant, pictures / f"{variant}.png"),
        factors_sheet(variant, pictures / f"{variant}_factors.png", platform=platform.value),
    ]
    if not read_manifest(root, variant).of_kind("part_only_frame").empty:
        drawn.append(twins_sheet(root, variant, pictures / f"{variant}_twins.png"))
    say({"files": [str(path) for path in drawn]}, as_json, "\n".join(f"wrote {path}" for path in drawn))


def export(
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="FORMAT", autocompletion=completion.exports, help="Format; see 'list exports'."
        ),
    ],
    variant: VARIANT = "single-6c",
    fold: Annotated[
        int | None,
        typer.Option(
            "--fold",
            metavar="N",
            show_default="no split",
            help="Split the images into the training and test images of this fold, from 0 to 4.",
        ),
    ] = None,
    shard_images: Annotated[
        int | None,
        typer.Option(
            "--shard-images",
            metavar="N",
            min=1,
            show_default="1000",
            help="Images per shard; webdataset only.",
        ),
    ] = None,
    root: ROOT = Path("data"),
    target: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            rich_help_panel=OUTPUT,
            help="Folder to create; it may exist if it is empty or has this very export.",
        ),
    ],
    as_json: JSON = False,
) -> None:
    """Write a dataset in another tool's format.

    Example: an8flower export --to coco --variant single-6c --root data --out exported/coco
    """
    from an8flower.export import export as write

    chosen = {} if shard_images is None else {"shard_images": shard_images}
    folder = write(root, variant, to, target, fold=fold, **chosen)
    result = {"folder": str(folder), "format": to, "variant": variant, "fold": fold}
    say(result, as_json, f"{folder}: {variant} as {to}")
