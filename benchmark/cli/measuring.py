"""Commands that train models, score explainers, and build the board."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from benchmark.cli.console import (
    CHECKPOINTS,
    DEVICE,
    EXPLAINERS,
    FOLDS,
    GIB,
    JSON,
    METRICS,
    MODEL,
    PLATFORM,
    RESULTS,
    RETRY,
    ROOT,
    SCHEDULER,
    SECONDS,
    SEED,
    TABLES,
    VARIANT,
    VIEWS,
    WORKERS,
    Device,
    GLPlatform,
    app,
    folds_of,
    notes,
    numbers_of,
    out,
    processes,
    say,
)

if TYPE_CHECKING:
    from benchmark.board.rows import Leaderboard
    from benchmark.plan import Plan
    from benchmark.preview import Preview


@app.command()
def train(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    folds: FOLDS = "",
    seed: SEED = 0,
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    device: DEVICE = Device.cpu,
    as_json: JSON = False,
) -> None:
    """Train a model on each fold; stopped, it goes on after the last epoch, and trained folds are kept.

    Example: an8flower train --variant single-6c --model an8net --folds 0,1
    """
    from benchmark.plan import Plan
    from benchmark.running import train_all
    from benchmark.training.figure import training_curves
    from benchmark.training.weights import weights_path

    plan = Plan().with_(
        variants=(variant,), models=(model,), folds=folds_of(folds), seeds=(seed,), root=root,
        checkpoints=checkpoints, device=device.value,
    )  # fmt: skip
    records = train_all(plan, workers=processes(workers, device), scheduler=scheduler)
    done = [
        {
            "fold": setup.fold,
            "weights": str(weights_path(checkpoints, variant, model, setup.fold, seed)),
            "test_accuracy": record["test_accuracy"],
            "epochs": record["epochs"],
        }
        for setup, record in records.items()
    ]
    lines = [
        f"fold {fold['fold']}: test accuracy {fold['test_accuracy']:.2%} "
        f"after {fold['epochs']} epochs, {fold['weights']}"
        for fold in done
    ]
    folder = weights_path(checkpoints, variant, model, 0, seed).parent
    picture = training_curves(checkpoints, variant, model, folder / "training.png", seed=seed)
    say({"folds": done, "files": [str(picture)]}, as_json, "\n".join([*lines, f"wrote {picture}"]))


@app.command()
def evaluate(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    explainer: EXPLAINERS = None,
    metric: METRICS = None,
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    results: RESULTS = Path("runs"),
    folds: FOLDS = "",
    seed: SEED = 0,
    seconds: SECONDS = 600.0,
    gib: GIB = 8.0,
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    device: DEVICE = Device.cpu,
    retry_failed: RETRY = False,
    tables: TABLES = False,
    as_json: JSON = False,
) -> None:
    """Explain and score every test image; what was measured before on equal terms is kept.

    Example: an8flower evaluate --explainer grad_cam --explainer grad_cam@conv1 --folds 0
    """
    from benchmark import evaluate as measure

    records = measure(
        root,
        variant,
        model,
        explainers=explainer,
        metrics=metric,
        folds=folds_of(folds),
        seed=seed,
        checkpoints=checkpoints,
        results=results,
        limit_s=seconds,
        limit_gib=gib,
        device=device.value,
        workers=processes(workers, device),
        scheduler=scheduler,
        retry_failed=retry_failed,
        tables=tables,
    )
    lines = [_line(record) for record in records]
    say({"records": records}, as_json, "\n".join(lines))
    raise typer.Exit(_status(records))


@app.command()
def leaderboard(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    results: RESULTS = Path("runs"),
    certified_only: Annotated[
        bool,
        typer.Option("--certified-only", help="Score the images that pass the certificate alone."),
    ] = False,
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            help="Which trained models, if the folder holds records of several; by default those with "
            "the most explainers. The command prints their names.",
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Build the board from the records: terminal, CSV, Markdown, JSON and the IoU curves.

    Example: an8flower leaderboard --variant single-6c --model an8net
    """
    from benchmark import leaderboard as build
    from benchmark.board.figures import curves
    from benchmark.board.text import board_command, write_board

    board = build(results, variant, model, certified_only=certified_only, models=models)
    written: list[Path] = []
    missing = []
    try:
        written += write_board(board, results, board_command(board, results, models))
        if not certified_only:  # curves are of all images
            written.append(curves(board, results / variant / model / "curves.png"))
    except OSError as error:  # shown all the same
        missing.append(f"the board could not be written to {results}: {error.strerror}")
    _say_boards([board], written, as_json, missing=missing)


@app.command()
def run(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PLAN.toml]",
            help="What to do, see docs/running.md; options given beside it count more.",
            show_default=False,
        ),
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="May be repeated; single-6c by default.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="May be repeated; an8net by default.")
    ] = None,
    explainer: EXPLAINERS = None,
    metric: METRICS = None,
    folds: FOLDS = "",
    seed: Annotated[
        list[int] | None,
        typer.Option("--seed", min=0, help="Of the training; may be repeated; 0 by default."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder of the data; 'data' by default.")
    ] = None,
    checkpoints: Annotated[
        Path | None, typer.Option("--checkpoints", help="Of trained weights; 'checkpoints' by default.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option("--results", help="Of records and boards; 'runs' by default.")
    ] = None,
    viewpoints: VIEWS = "",
    drawing_seed: Annotated[
        int | None, typer.Option("--drawing-seed", min=0, help="Of the plant's shape; 0 by default.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.1, help="What a method may take for a call; 600.")
    ] = None,
    gib: Annotated[
        float | None, typer.Option("--gib", min=0.1, help="What a method may allocate for a call; 8.")
    ] = None,
    certificate: Annotated[
        bool | None,
        typer.Option(
            "--certificate/--no-certificate",
            help="Test whether the models use the part at all; as the plan says by default.",
        ),
    ] = None,
    device: Annotated[Device | None, typer.Option("--device", help="Where models run; cpu.")] = None,
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    retry_failed: RETRY = False,
    tables: TABLES = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show what would be done, and what is there already.")
    ] = False,
    platform: PLATFORM = GLPlatform.auto,
    as_json: JSON = False,
) -> None:
    """All of it: draw, train, explain, score, and print the boards. Done work is re-used.

    Example: an8flower run --variant single-6c --model an8net
    """
    from benchmark.plan import Plan, read_plan
    from benchmark.preview import preview
    from benchmark.running import carry_out

    whole = (Plan() if file is None else read_plan(file)).with_(
        variants=variant, models=model, explainers=explainer, metrics=metric, folds=folds_of(folds),
        seeds=seed, root=root, checkpoints=checkpoints, results=results,
        viewpoints=numbers_of(viewpoints, "--viewpoints"), drawing_seed=drawing_seed, limit_s=seconds,
        limit_gib=gib, certificate=certificate, device=device and device.value,
        tables=tables or None,
    )  # fmt: skip
    if plan:
        _say_preview(whole, preview(whole), as_json)
        return
    done = carry_out(
        whole, workers=processes(workers, Device(whole.device)), scheduler=scheduler,
        retry_failed=retry_failed, platform=platform.value,
    )  # fmt: skip
    _say_boards(done.boards, done.files, as_json, seconds=done.seconds, missing=done.notes)
    raise typer.Exit(_status(done.records))


def _status(records: list[dict[str, Any]]) -> int:
    return int(any(record["status"] != "ok" for record in records))


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
        out.print(f"{variant}: {there} of {wanted} views drawn", highlight=False)
    for (variant, model), (there, wanted) in seen.trained.items():
        out.print(f"{variant} {model}: {there} of {wanted} trained", highlight=False)
    for (variant, model), (there, wanted) in seen.certified.items():
        out.print(f"{variant} {model}: {there} of {wanted} certificates made", highlight=False)
    states = ("done", "failed", "changed", "new")
    taken = max(len(f"{row['variant']}{row['model']}") for row in cells) + len("".join(states)) + 22
    room = max(out.width - taken, 16)
    table = Table(title="cells: folds x seeds", title_justify="left")
    for heading in ("variant", "model", "explainer"):
        table.add_column(heading, no_wrap=True)
    for state in states:
        table.add_column(state, justify="right")
    for row in cells:
        counts = (str(row[state] or "") for state in states)
        table.add_row(row["variant"], row["model"], broken(row["explainer"], room), *counts)
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
        + (f", {sums['failed']} failed before and wait for --retry-failed" if sums["failed"] else ""),
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _say_boards(
    boards: list[Leaderboard],
    written: list[Path],
    as_json: bool,
    *,
    seconds: dict[str, float] | None = None,
    missing: Sequence[str] = (),
) -> None:
    from benchmark.board.published import published
    from benchmark.board.terminal import to_table
    from benchmark.board.text import left_out, summary

    if as_json:
        rows = [
            {"variant": board.variant, "model": board.model, **row}
            for board in boards
            for row in json.loads(board.rows.to_json(orient="records"))
        ]
        notices = [line for board in boards for line in left_out(board)] + list(missing)
        files = [str(path) for path in written]
        say({"rows": rows, "files": files, "seconds": seconds, "left_out": notices}, True, "")
        return
    for board in boards:
        theirs = published(board)
        out.print(to_table(board, out.width, published=theirs))
        for line in [*summary(board), *([theirs.relation] if theirs else [])]:
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        for line in left_out(board):
            notes.print(line, markup=False, soft_wrap=True)
        for row in board.rows.itertuples():
            if row.failed:
                notes.print(f"failed: {row.explainer}: {row.failed}", markup=False, soft_wrap=True)
    for line in missing:
        notes.print(line, markup=False, soft_wrap=True)
    if written:
        listed = "wrote " + "\n      ".join(str(path) for path in written)
        out.print(listed, markup=False, highlight=False, soft_wrap=True)
    if seconds:
        stages = ", ".join(f"{stage} {one:.0f} s" for stage, one in seconds.items())
        out.print(f"took {sum(seconds.values()):.0f} s: {stages}", highlight=False)


def _line(record: dict[str, Any]) -> str:
    seed = f" seed {record['seed']}" if record["seed"] else ""
    about = f"{record['explainer']} fold {record['fold']}{seed}"
    if record["status"] == "failed":
        return f"{about}: failed: {record['reason']}"
    shown = [f"{name} {_figure(value)}" for name, value in record["scores"].items() if name != "iou_auc"]
    if "iou_auc" in record["scores"]:
        shown = [f"IoU-AUC {_figure(record['scores']['iou_auc'])}"]
    note = f"; {record['reason']}" if record["reason"] else ""
    return f"{about}: {', '.join(shown)} on {record['images']} images{note}"


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f} %"
