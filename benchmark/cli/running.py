"""The command that carries out a plan, or shows what is left of it to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from an8flower.ground.text import printable
from benchmark.cli.boards import say_boards
from benchmark.cli.console import out, say
from benchmark.cli.measuring import exit_status
from benchmark.cli.options import (
    EXPLAINERS,
    FOLDS,
    JSON,
    METRICS,
    MODELS,
    PLAN_CHECKPOINTS,
    PLAN_DEVICE,
    PLAN_DRAWING_SEED,
    PLAN_LIMIT_GIB,
    PLAN_LIMIT_S,
    PLAN_RESULTS,
    PLAN_ROOT,
    PLATFORM,
    RECIPES,
    RETRY_FAILED,
    SCHEDULER,
    SEEDS,
    TABLES,
    VARIANTS,
    VIEWPOINTS,
    WORK,
    WORKERS,
    Device,
    GLPlatform,
    folds_of,
    numbers_of,
    processes,
)

if TYPE_CHECKING:
    from benchmark.plan import Plan
    from benchmark.preview import Preview


def run(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="PLAN.toml",
            show_default=False,
            help="Plan that says what to do; options override its entries. See docs/running.md.",
        ),
    ] = None,
    variant: VARIANTS = None,
    model: MODELS = None,
    recipe: RECIPES = None,
    explainer: EXPLAINERS = None,
    metric: METRICS = None,
    folds: FOLDS = "",
    seed: SEEDS = None,
    viewpoints: VIEWPOINTS = "",
    drawing_seed: PLAN_DRAWING_SEED = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", rich_help_panel=WORK, help="Only show what would be done and what is done already."
        ),
    ] = False,
    certificate: Annotated[
        bool | None,
        typer.Option(
            "--certificate/--no-certificate",
            rich_help_panel=WORK,
            show_default="no",
            help="Test whether the models use the discriminative part.",
        ),
    ] = None,
    retry_failed: RETRY_FAILED = False,
    tables: TABLES = False,
    root: PLAN_ROOT = None,
    checkpoints: PLAN_CHECKPOINTS = None,
    results: PLAN_RESULTS = None,
    limit_s: PLAN_LIMIT_S = None,
    limit_gib: PLAN_LIMIT_GIB = None,
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    device: PLAN_DEVICE = None,
    platform: PLATFORM = GLPlatform.auto,
    as_json: JSON = False,
) -> None:
    """Draw, train, explain, score, and print the boards.

    Finished work is reused, so that a stopped run continues where it was.
    The defaults below hold for what the plan does not set.
    The exit status is 1 if an explainer failed or gave invalid heatmaps.

    Example: an8flower run --variant single-6c --model an8net
    """
    from benchmark.plan import Plan, read_plan
    from benchmark.preview import preview
    from benchmark.running import carry_out

    whole = (Plan() if file is None else read_plan(file)).with_(
        variants=variant, models=model, recipes=recipe, explainers=explainer, metrics=metric,
        folds=folds_of(folds), seeds=seed, root=root, checkpoints=checkpoints, results=results,
        viewpoints=numbers_of(viewpoints, "--viewpoints"), drawing_seed=drawing_seed, limit_s=limit_s,
        limit_gib=limit_gib, certificate=certificate, device=device and device.value,
        tables=tables or None,
    )  # fmt: skip
    if plan:
        _say_preview(whole, preview(whole), as_json)
        return
    done = carry_out(
        whole, workers=processes(workers, Device(whole.device)), scheduler=scheduler,
        retry_failed=retry_failed, platform=platform.value,
    )  # fmt: skip
    say_boards(done.boards, done.files, as_json, seconds=done.seconds, problems=done.notes)
    raise typer.Exit(exit_status(done.records))


def _say_preview(plan: Plan, seen: Preview, as_json: bool) -> None:
    from benchmark.board.terminal import broken

    cells = seen.cells.to_dict("records")
    if as_json:
        drawn = {variant: {"there": a, "wanted": b} for variant, (a, b) in seen.drawn.items()}
        trained = [
            {"variant": v, "model": m, "there": a, "wanted": b} for (v, m), (a, b) in seen.trained.items()
        ]
        certificates = [
            {"variant": v, "model": m, "there": a, "wanted": b} for (v, m), (a, b) in seen.certified.items()
        ]
        say({"drawn": drawn, "trained": trained, "certificates": certificates, "cells": cells}, True, "")
        return
    for variant, (there, wanted) in seen.drawn.items():
        out.print(f"{variant}: {there} of {wanted} views are drawn", highlight=False)
    for (variant, model), (there, wanted) in seen.trained.items():
        out.print(f"{variant} {model}: {there} of {wanted} models are trained", highlight=False)
    for (variant, model), (there, wanted) in seen.certified.items():
        out.print(
            f"{variant} {model}: {there} of {wanted} models are tested for a certificate", highlight=False
        )
    states = ("done", "failed", "changed", "new")
    taken = max(len(f"{row['variant']}{row['model']}") for row in cells) + len("".join(states)) + 22
    room = max(out.width - taken, 16)
    table = Table(title="number of cells (folds x seeds) in each state", title_justify="left")
    for heading in ("variant", "model", "explainer"):
        table.add_column(heading, no_wrap=True)
    for state in states:
        table.add_column(state, justify="right")
    for row in cells:
        counts = (str(row[state] or "") for state in states)
        names = row["variant"], row["model"], broken(printable(row["explainer"]), room)
        table.add_row(*map(escape, names), *counts)
    out.print(table)
    sums = {state: int(seen.cells[state].sum()) for state in states}
    waiting = sums["changed"] + sums["new"]
    complete = all(there == wanted for stage in seen.stages() for there, wanted in stage.values())
    out.print(
        f"{sum(sums.values())} cells with {len(plan.metric_names())} metrics: "
        + (
            "nothing to do"
            if complete and not waiting
            else f"{sums['done']} are done, {waiting} would be measured"
        )
        + (f", {sums['failed']} failed before and need --retry-failed" if sums["failed"] else ""),
        highlight=False, soft_wrap=True,
    )  # fmt: skip
