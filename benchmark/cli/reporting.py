"""The command that writes the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.console import CHECKPOINTS, JSON, RESULTS, ROOT, app, notes, say


@app.command()
def report(
    results: RESULTS = Path("runs"),
    path: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The page; report.html in the results folder by default.", show_default=False
        ),
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="May be repeated; all there are by default.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="May be repeated; all there are by default.")
    ] = None,
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    size: Annotated[
        Path | None,
        typer.Option(
            "--size",
            help="Results with plants of several sizes; 'size' in the results folder by default.",
            show_default=False,
        ),
    ] = None,
    gallery: Annotated[
        bool, typer.Option("--gallery/--no-gallery", help="Show every method's heatmaps of some images.")
    ] = True,
    as_json: JSON = False,
) -> None:
    """Write one page that shows all of it: sortable table, curves, heatmaps, certificate, each row's record.

    It works offline, from the file. Heatmaps that are not kept in the results yet take data and weights.

    Example: an8flower report --results runs --out report.html
    """
    from benchmark.report import write_report

    written = write_report(
        results, path, variants=variant, models=model, root=root, checkpoints=checkpoints, size=size,
        gallery=gallery,
    )  # fmt: skip
    for note in written.notes:
        notes.print(note, markup=False, soft_wrap=True)
    boards = [{"variant": one, "model": other} for one, other in written.boards]
    shown = ", ".join(f"{one} {other}" for one, other in written.boards)
    text = f"wrote {written.path} ({written.bytes / 1e6:.1f} MB): {shown}"
    content = {
        "path": str(written.path), "bytes": written.bytes, "boards": boards, "notes": list(written.notes)
    }  # fmt: skip
    say(content, as_json, text)
