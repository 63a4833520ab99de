"""The command that writes the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.console import notes, say
from benchmark.cli.options import (
    CHECKPOINTS,
    FILES,
    JSON,
    OUTPUT,
    RESULTS,
    ROOT,
    SHOWN_MODELS,
    SHOWN_RECIPES,
    SHOWN_VARIANTS,
)


def report(
    variant: SHOWN_VARIANTS = None,
    model: SHOWN_MODELS = None,
    recipe: SHOWN_RECIPES = None,
    gallery: Annotated[
        bool, typer.Option("--gallery/--no-gallery", help="Show each explainer's heatmaps of some images.")
    ] = True,
    results: RESULTS = Path("runs"),
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    size_results: Annotated[
        Path | None,
        typer.Option(
            "--size-results",
            metavar="FOLDER",
            rich_help_panel=FILES,
            show_default="'size' in the results folder",
            help="Results on plants of several sizes.",
        ),
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            rich_help_panel=OUTPUT,
            show_default="report.html in the results folder",
            help="HTML file to write.",
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Write an HTML report of all results.

    It is one page that works offline: sortable tables, curves, heatmaps,
    certificates, and the record of each row. The dataset and the weights are
    needed only for heatmaps that are not in the results folder yet.

    Example: an8flower report --results runs --out report.html
    """
    from benchmark.report import write_report

    written = write_report(
        results, path, variants=variant, models=model, recipes=recipe, root=root, checkpoints=checkpoints,
        size=size_results, gallery=gallery,
    )  # fmt: skip
    for note in written.notes:
        notes.print(note, markup=False, soft_wrap=True)
    boards = [{"variant": variant, "model": model} for variant, model in written.boards]
    shown = ", ".join(f"{variant} {model}" for variant, model in written.boards)
    text = f"wrote {written.path} ({written.bytes / 1e6:.1f} MB): {shown}"
    content = {
        "path": str(written.path), "bytes": written.bytes, "boards": boards, "notes": list(written.notes)
    }  # fmt: skip
    say(content, as_json, text)
