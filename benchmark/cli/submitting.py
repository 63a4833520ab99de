"""The command that packs a method, or its heatmaps, into one file for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.cli import completion
from benchmark.cli.console import say
from benchmark.cli.options import (
    CHECKPOINTS,
    DEVICE,
    FOLDS,
    JSON,
    MODELS,
    OUTPUT,
    RECIPES,
    RESULTS,
    ROOT,
    SEEDS,
    VARIANTS,
    Device,
    folds_of,
)

METADATA = "Metadata, as in the file given by --about"


def submit(
    explainer: Annotated[
        str | None,
        typer.Option(
            "--explainer",
            metavar="NAME",
            autocompletion=completion.explainers,
            show_default=False,
            help="Explainer to pack; a name as 'evaluate' takes it.",
        ),
    ] = None,
    heatmaps: Annotated[
        bool,
        typer.Option("--heatmaps", help="Pack the explainer's heatmaps, computed now, instead of its code."),
    ] = False,
    heatmaps_from: Annotated[
        Path | None,
        typer.Option(
            "--heatmaps-from",
            metavar="FOLDER",
            show_default=False,
            help="Pack your own heatmaps: a file fold<k>.npz for each fold, see docs/submit.md.",
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Pack computed heatmaps as float16, which halves the size.")
    ] = False,
    variant: VARIANTS = None,
    model: MODELS = None,
    recipe: RECIPES = None,
    folds: FOLDS = "",
    seed: SEEDS = None,
    about: Annotated[
        Path | None,
        typer.Option(
            "--about",
            metavar="FILE",
            rich_help_panel=METADATA,
            show_default=False,
            help="TOML file with the metadata below; options override its entries.",
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="TEXT",
            rich_help_panel=METADATA,
            show_default="the explainer's name",
            help="Name of the method on the board.",
        ),
    ] = "",
    authors: Annotated[
        list[str] | None,
        typer.Option(
            "--authors",
            metavar="NAME",
            rich_help_panel=METADATA,
            show_default=False,
            help="Author of the method; repeat the option for each author.",
        ),
    ] = None,
    paper: Annotated[
        str,
        typer.Option(
            "--paper",
            metavar="TEXT",
            rich_help_panel=METADATA,
            show_default=False,
            help="Paper with its arXiv number, or 'none'.",
        ),
    ] = "",
    code: Annotated[
        str,
        typer.Option(
            "--code",
            metavar="URL",
            rich_help_panel=METADATA,
            show_default=False,
            help="Address of the code, or 'none'.",
        ),
    ] = "",
    commit: Annotated[
        str,
        typer.Option(
            "--commit",
            metavar="HASH",
            rich_help_panel=METADATA,
            show_default=False,
            help="Commit of the code, or 'none'.",
        ),
    ] = "",
    hardware: Annotated[
        str,
        typer.Option(
            "--hardware",
            metavar="TEXT",
            rich_help_panel=METADATA,
            show_default="this machine",
            help="Machine that computed the scores.",
        ),
    ] = "",
    command: Annotated[
        str,
        typer.Option(
            "--command",
            metavar="TEXT",
            rich_help_panel=METADATA,
            show_default="the one in the records, or this one",
            help="Command that computed the scores.",
        ),
    ] = "",
    licence: Annotated[
        str,
        typer.Option(
            "--licence",
            metavar="TEXT",
            rich_help_panel=METADATA,
            show_default="none",
            help="Licence of the code.",
        ),
    ] = "",
    contact: Annotated[
        str,
        typer.Option(
            "--contact",
            metavar="TEXT",
            rich_help_panel=METADATA,
            show_default="none",
            help="Address for questions.",
        ),
    ] = "",
    note: Annotated[
        str,
        typer.Option(
            "--note",
            metavar="TEXT",
            rich_help_panel=METADATA,
            show_default="none",
            help="What else readers should know.",
        ),
    ] = "",
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    results: RESULTS = Path("runs"),
    device: DEVICE = Device.cpu,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            rich_help_panel=OUTPUT,
            show_default="NAME.an8sub.safetensors",
            help="File to write.",
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Pack a method, or its heatmaps, into one file for others.

    The file also holds metadata and the scores that you claim.
    --authors, --paper, --code and --commit are required, here or in the file
    given by --about.

    Example: an8flower submit --explainer my.py:my_method --authors "A. Author" --paper none
    --code https://example.org/my --commit 1234567
    """
    from benchmark.plan import Plan
    from benchmark.submission.file import SUFFIX
    from benchmark.submission.metadata import read_metadata, this_command
    from benchmark.submission.packing import pack_heatmaps, pack_plugin
    from explainers import get

    if (explainer is None) == (heatmaps_from is None):
        raise typer.BadParameter("give either --explainer or --heatmaps-from")
    full_name = get(explainer).name if explainer else ""
    options: dict[str, Any] = {
        "name": name, "authors": authors, "paper": paper, "code": code, "commit": commit,
        "hardware": hardware, "command": command, "licence": licence, "contact": contact, "note": note,
    }  # fmt: skip
    computed = heatmaps or heatmaps_from is not None
    defaults = {"name": full_name, "command": this_command() if computed else ""}
    metadata = read_metadata(options, about, defaults)
    plan = Plan().with_(
        variants=variant, models=model, recipes=recipe, folds=folds_of(folds), seeds=seed, root=root,
        results=results, explainers=[explainer] if explainer else None, checkpoints=checkpoints,
        device=device.value,
    )  # fmt: skip
    path = output or Path(metadata.method.name.replace("/", "-") + SUFFIX)
    if computed:
        packed = pack_heatmaps(path, metadata, plan, folder=heatmaps_from, half=half)
    else:
        packed = pack_plugin(path, metadata, plan)
    claims = packed.form.claims
    result = {
        "file": str(path), "sha256": packed.sha256, "kind": packed.form.kind, "name": metadata.method.name,
        "cells": [claim.to_json() for claim in claims],
    }  # fmt: skip
    lines = [f"{claim.setup}: claims IoU-AUC {figure(claim.scores['iou_auc'])}" for claim in claims]
    mebibytes = path.stat().st_size / 2**20
    lines += [f"wrote {path}, {mebibytes:.1f} MiB; check it with 'an8flower verify-submission {path}'"]
    say(result, as_json, "\n".join(lines))


def figure(value: float | None) -> str:
    """Return a score in [0, 1] as text.

    >>> figure(0.5), figure(None)
    ('0.500000', 'undefined')
    """
    return "undefined" if value is None else f"{value:.6f}"
