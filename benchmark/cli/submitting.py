"""Commands that pack a method for others, verify what others have packed, and put it on the board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from benchmark.cli.console import (
    CHECKPOINTS,
    DEVICE,
    FOLDS,
    GIB,
    JSON,
    RESULTS,
    ROOT,
    SECONDS,
    WORKERS,
    Device,
    app,
    cores,
    folds_of,
    out,
    say,
)

if TYPE_CHECKING:
    from benchmark.plan import Plan

board = typer.Typer(
    name="board",
    help="Methods of others on the board.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(board)

FILE = Annotated[
    Path, typer.Argument(metavar="FILE", help="As 'an8flower submit' wrote it.", show_default=False)
]
RUN_CODE = Annotated[
    bool,
    typer.Option("--run-code", help="Run a plug-in's method on this machine: foreign code, read it first."),
]
TOLERANCE = Annotated[
    float | None,
    typer.Option(
        "--tolerance", min=0, help="By how much a score may differ; 1e-6 for heatmaps, 1e-3 for plug-ins."
    ),
]


@app.command()
def submit(
    explainer: Annotated[
        str | None,
        typer.Option("--explainer", help="The method, as 'evaluate' takes it.", show_default=False),
    ] = None,
    heatmaps: Annotated[
        bool, typer.Option("--heatmaps", help="Pack its heatmaps, computed now, instead of the method.")
    ] = False,
    heatmaps_from: Annotated[
        Path | None,
        typer.Option(
            "--heatmaps-from", help="Pack your own: fold<k>.npz in this folder, see docs/submit.md."
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Computed heatmaps as float16: half the size.")
    ] = False,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="May be repeated; single-6c by default.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="May be repeated; an8net by default.")
    ] = None,
    folds: FOLDS = "",
    seed: Annotated[
        list[int] | None,
        typer.Option("--seed", min=0, help="Of the training; may be repeated; 0 by default."),
    ] = None,
    about: Annotated[
        Path | None, typer.Option("--about", help="TOML file with the metadata below; options count more.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="On the board; the explainer's by default.")] = "",
    authors: Annotated[list[str] | None, typer.Option("--authors", help="May be repeated, one each.")] = None,
    paper: Annotated[str, typer.Option("--paper", help="With its arXiv number, or 'none'.")] = "",
    code: Annotated[str, typer.Option("--code", help="Address of the code, or 'none'.")] = "",
    commit: Annotated[str, typer.Option("--commit", help="Of the code, or 'none'.")] = "",
    hardware: Annotated[str, typer.Option("--hardware", help="This machine by default.")] = "",
    command: Annotated[
        str, typer.Option("--command", help="That made it; by default the one in the records, or this one.")
    ] = "",
    licence: Annotated[str, typer.Option("--licence", help="Of the method's code.")] = "",
    contact: Annotated[str, typer.Option("--contact", help="Whom to ask.")] = "",
    note: Annotated[str, typer.Option("--note", help="What else to know.")] = "",
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    results: RESULTS = Path("runs"),
    device: DEVICE = Device.cpu,
    output: Annotated[
        Path | None, typer.Option("--out", help="The file to write; NAME.an8sub.zip by default.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Pack a method, or heatmaps, with metadata and the scores that are claimed, into one file.

    Example: an8flower submit --explainer my.py:my_method --authors "A. Author" --paper none
    --code https://example.org/my --commit 1234567
    """
    from benchmark.plan import Plan
    from benchmark.submission.form import SUFFIX
    from benchmark.submission.metadata import about as metadata
    from benchmark.submission.metadata import command as this_command
    from benchmark.submission.packing import pack_heatmaps, pack_plugin
    from explainers import get

    if (explainer is None) == (heatmaps_from is None):
        raise typer.BadParameter("name either the --explainer, or a folder with --heatmaps-from")
    key = get(explainer).key if explainer else ""
    given: dict[str, Any] = {
        "name": name, "authors": authors, "paper": paper, "code": code, "commit": commit,
        "hardware": hardware, "command": command, "licence": licence, "contact": contact, "note": note,
    }  # fmt: skip
    computed = heatmaps or heatmaps_from is not None
    said = metadata(given, about, {"name": key, "command": this_command() if computed else ""})
    plan = Plan().with_(
        variants=variant, models=model, folds=folds_of(folds), seeds=seed, root=root, results=results,
        explainers=[explainer] if explainer else None, checkpoints=checkpoints, device=device.value,
    )  # fmt: skip
    path = output or Path(said.method.name.replace("/", "-") + SUFFIX)
    if computed:
        packed = pack_heatmaps(path, said, plan, folder=heatmaps_from, half=half)
    else:
        packed = pack_plugin(path, said, plan)
    claims = packed.described.claims
    result = {
        "file": str(path), "sha256": packed.sha256, "kind": packed.described.kind, "name": said.method.name,
        "cells": [claim.entries() for claim in claims],
    }  # fmt: skip
    lines = [f"{claim.setup}: claims IoU-AUC {_figure(claim.scores['iou_auc'])}" for claim in claims]
    mebibytes = path.stat().st_size / 2**20
    lines += [f"wrote {path}, {mebibytes:.1f} MiB; try it with 'an8flower verify-submission {path}'"]
    say(result, as_json, "\n".join(lines))


@app.command("verify-submission")
def verify_submission(
    file: FILE,
    run_code: RUN_CODE = False,
    tolerance: TOLERANCE = None,
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    seconds: SECONDS = 600.0,
    gib: GIB = 8.0,
    workers: WORKERS = None,
    device: DEVICE = Device.cpu,
    as_json: JSON = False,
) -> None:
    """Recompute the scores of a submission and compare; exits with 1 if they differ or cannot be had.

    Example: an8flower verify-submission my_method.an8sub.zip
    """
    from benchmark.submission.form import read_submission
    from benchmark.submission.verification import verify

    plan = _plan(root, checkpoints, Path("runs"), device, seconds, gib)
    report = verify(
        read_submission(file), plan, run_code=run_code, tolerance=tolerance, workers=workers or cores()
    )
    if as_json:
        say(report.to_dict(), True, "")
    else:
        about = report.submission.described
        whose = f"{about.method.name} by {', '.join(about.method.authors)}: {about.kind}"
        out.print(whose, markup=False, highlight=False, soft_wrap=True)
        table = Table()
        for heading in ("fold", "metric", "claimed", "recomputed"):
            table.add_column(heading, justify="left" if heading in ("fold", "metric") else "right")
        for cell in report.cells:
            for metric in cell.claim.scores:
                if metric in cell.scores:
                    figures = _figure(cell.claim.scores[metric]), _figure(cell.scores[metric])
                    table.add_row(str(cell.claim.setup), metric, *figures)
        if table.row_count:
            out.print(table)
        lines = list(report.problems)
        if report.unchecked:
            lines.append(f"not checked: {', '.join(report.unchecked)}")
        within = f"within {report.tolerance:g}"
        lines.append(f"verified: all scores are as claimed, {within}" if report.verified else "not verified")
        out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(int(not report.verified))


@board.command()
def add(
    file: FILE,
    self_reported: Annotated[
        bool, typer.Option("--self-reported", help="Verify nothing: add what is claimed, and say so.")
    ] = False,
    run_code: RUN_CODE = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of another file's row of the same name.")
    ] = False,
    tolerance: TOLERANCE = None,
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    results: RESULTS = Path("runs"),
    seconds: SECONDS = 600.0,
    gib: GIB = 8.0,
    workers: WORKERS = None,
    device: DEVICE = Device.cpu,
    as_json: JSON = False,
) -> None:
    """Put a submission on the board: verified here, or self-reported if you ask for that.

    Example: an8flower board add my_method.an8sub.zip
    """
    from benchmark.submission.adding import add as add_to
    from benchmark.submission.form import read_submission

    plan = _plan(root, checkpoints, results, device, seconds, gib)
    added = add_to(
        read_submission(file), plan, self_reported=self_reported, run_code=run_code, replacing=replace,
        tolerance=tolerance, workers=workers or cores(),
    )  # fmt: skip
    places = dict.fromkeys((cell.variant, cell.model) for cell in added.cells)
    lines = [
        f"{added.explainer} {'is already' if added.already else 'is now'} on the board as {added.status}, "
        f"{_folds(len(added.cells))}"
    ]
    if not added.already:
        lines += [
            f"next: an8flower leaderboard --variant {v} --model {m} --results {results}" for v, m in places
        ]
    result = {
        "explainer": added.explainer, "status": added.status, "already": added.already,
        "records": [str(cell.record_path) for cell in added.cells],
    }  # fmt: skip
    say(result, as_json, "\n".join(lines))


@board.command("list")
def list_submissions(results: RESULTS = Path("runs"), as_json: JSON = False) -> None:
    """List the submissions on the boards of a results folder.

    Example: an8flower board list
    """
    from benchmark.submission.adding import submissions_in

    found = submissions_in(results)
    lines = [
        f"{one['variant']} {one['model']}: {one['explainer']}, {one['status']}, {_folds(one['folds'])}, "
        f"by {', '.join(one['authors'])}; paper {one['paper']}; code {one['code']} at {one['commit']}"
        for one in found
    ]
    say({"submissions": found}, as_json, "\n".join(lines or [f"no submissions in {results}"]))


def _plan(root: Path, checkpoints: Path, results: Path, device: Device, seconds: float, gib: float) -> Plan:
    from dataclasses import replace

    from benchmark.plan import Plan

    plan = Plan().with_(root=root, checkpoints=checkpoints, results=results, device=device.value)
    return replace(plan, limit_s=seconds, limit_gib=gib)


def _folds(count: int) -> str:
    return f"{count} fold" + ("s" if count > 1 else "")


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6f}"
