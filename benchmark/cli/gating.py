"""The command that tests whether heatmaps move to what a cheating model uses."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from an8flower.ground.text import printable
from benchmark.cli import completion
from benchmark.cli.console import out, say
from benchmark.cli.options import (
    EXPLAINERS,
    JSON,
    MODEL,
    PLAN_CHECKPOINTS,
    PLAN_RESULTS,
    PLAN_ROOT,
    VARIANT,
    WORKERS,
    Device,
    processes,
)


def gate(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="PLAN.toml",
            show_default=False,
            help="Plan whose explainers, factors, folders and limits are used; options override them.",
        ),
    ] = None,
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", metavar="NAME", autocompletion=completion.recipes,
            help="Recipe of the model that cheats, e.g. cheat_patch or cheat_pot.",
        ),
    ] = "cheat_patch",
    honest: Annotated[
        str,
        typer.Option(
            "--honest", metavar="NAME", autocompletion=completion.recipes,
            help="Recipe of the model that does not cheat.",
        ),
    ] = "certified",
    explainer: EXPLAINERS = None,
    fold: Annotated[int, typer.Option("--fold", metavar="N", min=0, max=4, help="Fold of the models.")] = 0,
    images: Annotated[
        int, typer.Option("--images", metavar="N", min=1, help="Largest number of images to explain.")
    ] = 300,
    root: PLAN_ROOT = None,
    checkpoints: PLAN_CHECKPOINTS = None,
    results: PLAN_RESULTS = None,
    workers: WORKERS = None,
    as_json: JSON = False,
) -> None:  # fmt: skip
    """Test whether heatmaps move to what a cheating model uses.

    One model is trained on images in which a coloured patch (or the pot)
    shows the class, too, and another one uses the part. A method passes if
    its relevance moves from the part to the patch. Boards show the result.
    See docs/certificate.md.

    Example: an8flower gate --variant single-6c --explainer grad_cam --explainer vebi
    """
    from benchmark.board.text import finite
    from benchmark.gating import measure_gate
    from benchmark.plan import Plan, read_plan

    plan = (Plan() if file is None else read_plan(file)).with_(
        variants=(variant,), models=(model,), folds=(fold,), explainers=explainer, root=root,
        checkpoints=checkpoints, results=results,
    )  # fmt: skip
    found, path = measure_gate(
        plan, recipe=recipe, honest=honest, images=images, workers=processes(workers, Device.cpu)
    )
    if as_json:
        rows = [{**asdict(row), "moved": row.moved, "passed": row.passed} for row in found.rows]
        content = {**asdict(found), "fault": found.fault, "rows": rows, "path": str(path)}
        say(finite(content), True, "")
        return
    table = Table(title=f"{variant} {model}: share of the cheat, %", title_justify="left")
    for heading in ("explainer", "honest", "cheating", "moved", "gate"):
        table.add_column(heading, justify="left" if heading in ("explainer", "gate") else "right")
    failed = [row for row in found.rows if row.reason]
    for row in sorted(set(found.rows) - set(failed), key=lambda row: -row.moved):
        shown = (f"{100 * share:.1f}" for share in (row.honest, row.cheating, row.moved))
        table.add_row(printable(row.explainer), *shown, "yes" if row.passed else "no")
    out.print(table)
    out.print(
        f"the cheating model's answer follows the cheat on {found.follows:.1%} of {found.images} images, "
        f"the honest one's on {found.honest_follows:.1%}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    out.print(
        f"explained: the {found.explained} images for which only the cheating model does so",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if found.fault:
        out.print(f"no method is judged by this gate: {found.fault}", highlight=False, soft_wrap=True)
    for row in failed:
        out.print(f"failed: {row.explainer}: {row.reason}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
