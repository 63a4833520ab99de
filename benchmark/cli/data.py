"""Commands that make, check, show and export datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.console import (
    JSON,
    PLATFORM,
    ROOT,
    SCHEDULER,
    SEED,
    VARIANT,
    VIEWS,
    WORKERS,
    GLPlatform,
    Regenerate,
    app,
    cores,
    numbers_of,
    say,
)


@app.command()
def generate(
    variant: VARIANT = "single-6c",
    root: ROOT = Path("data"),
    viewpoints: VIEWS = "",
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    seed: SEED = 0,
    platform: PLATFORM = GLPlatform.auto,
    twins: Annotated[bool, typer.Option("--twins", help="Also the part alone, and all but it.")] = False,
    factor: Annotated[
        list[str] | None,
        typer.Option("--factor", help="May be repeated: 'size=0.6', 'size=0.5..1'; see 'list factors'."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Draw a dataset, or complete or mend the one that is there.

    Example: an8flower generate --variant single-6c --factor background=textured --factor size=0.6
    """
    from an8flower import generate as draw
    from an8flower.drawing.factors import parse

    manifest = draw(
        root, variant, viewpoints=numbers_of(viewpoints, "--viewpoints"), workers=workers or cores(),
        scheduler=scheduler, seed=seed, platform=platform.value, twins=twins, factors=parse(factor or ()),
    )  # fmt: skip
    counts = manifest.table["kind"].value_counts().to_dict()
    result = {"folder": str(manifest.folder), "digest": manifest.digest, "files": counts}
    say(result, as_json, f"{manifest.folder}: {counts['frame']} frames, {counts['image']} images with masks")


@app.command()
def verify(
    variant: VARIANT = "single-6c",
    root: ROOT = Path("data"),
    regenerate: Annotated[Regenerate, typer.Option(help="Draw some or all frames again and compare.")] = (
        Regenerate.no
    ),
    platform: PLATFORM = GLPlatform.auto,
    as_json: JSON = False,
) -> None:
    """Hash every file of a dataset again; exits with 1 if one is missing, altered or extra.

    Example: an8flower verify --variant single-6c --root data --regenerate sample
    """
    from an8flower import verify as check
    from an8flower.manifest import command

    problems = check(root, variant, regenerate=regenerate.value, platform=platform.value)
    listed = [{"path": str(problem.path), "what": problem.what} for problem in problems]
    lines = [str(problem) for problem in problems] or [f"{root / variant}: every file is as recorded"]
    if any(problem.what in ("missing", "altered") for problem in problems):
        lines.append(f"run '{command(root, variant)}' to redraw what is missing or altered")
    say({"problems": listed}, as_json, "\n".join(lines))
    raise typer.Exit(1 if problems else 0)


@app.command()
def export(
    to: Annotated[str, typer.Option("--to", help="Format; see 'list exports'.")],
    target: Annotated[Path, typer.Option("--out", help="Folder to make; it may exist if it is empty.")],
    variant: VARIANT = "single-6c",
    root: ROOT = Path("data"),
    fold: Annotated[
        int | None, typer.Option("--fold", help="From 0 to 4: its training and test images apart.")
    ] = None,
    shard_images: Annotated[
        int | None, typer.Option("--shard-images", min=1, help="Images in a shard; webdataset only.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Write a generated dataset in another tool's format.

    Example: an8flower export --to coco --variant single-6c --root data --out exported/coco
    """
    from an8flower.export import export as write

    chosen = {} if shard_images is None else {"shard_images": shard_images}
    folder = write(root, variant, to, target, fold=fold, **chosen)
    result = {"folder": str(folder), "format": to, "variant": variant, "fold": fold}
    say(result, as_json, f"{folder}: {variant} as {to}")


@app.command()
def gallery(
    variant: VARIANT = "single-6c",
    root: ROOT = Path("data"),
    pictures: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")] = Path("docs/pictures"),
    platform: PLATFORM = GLPlatform.auto,
    as_json: JSON = False,
) -> None:
    """Draw pictures of a dataset: classes by viewpoints, derivatives, factors, and twins if there are.

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
