"""Commands that train models, score explainers, and build the board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from benchmark.cli.console import (
    CHECKPOINTS,
    EXPLAINERS,
    FOLDS,
    GIB,
    JSON,
    MODEL,
    PLATFORM,
    RESULTS,
    ROOT,
    SECONDS,
    SEED,
    VARIANT,
    VIEWS,
    WORKERS,
    GLPlatform,
    app,
    folds_of,
    notes,
    numbers_of,
    out,
    say,
)


@app.command()
def train(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    folds: FOLDS = "",
    seed: SEED = 0,
    as_json: JSON = False,
) -> None:
    """Train a model on each fold; folds trained before on the same data are kept.

    Example: an8flower train --variant single-6c --model an8net --folds 0,1
    """
    done = _train(variant, model, root, checkpoints, folds_of(folds), seed)
    lines = [
        f"fold {fold['fold']}: test accuracy {fold['test_accuracy']:.2%} "
        f"after {fold['epochs']} epochs, {fold['weights']}"
        for fold in done
    ]
    say({"folds": done}, as_json, "\n".join(lines))


@app.command()
def evaluate(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    explainer: EXPLAINERS = None,
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    results: RESULTS = Path("results"),
    folds: FOLDS = "",
    seconds: SECONDS = 600.0,
    gib: GIB = 8.0,
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
        folds=folds_of(folds),
        checkpoints=checkpoints,
        results=results,
        limit_s=seconds,
        limit_gib=gib,
    )
    lines = [_line(record) for record in records]
    say({"records": records}, as_json, "\n".join(lines))
    raise typer.Exit(1 if any(record["status"] != "ok" for record in records) else 0)


@app.command()
def leaderboard(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    results: RESULTS = Path("results"),
    as_json: JSON = False,
) -> None:
    """Build the board from the records: terminal, CSV, Markdown and the IoU curves.

    Example: an8flower leaderboard --variant single-6c --model an8net
    """
    _board(variant, model, results, as_json, [])


@app.command()
def run(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    explainer: EXPLAINERS = None,
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    results: RESULTS = Path("results"),
    viewpoints: VIEWS = "",
    folds: FOLDS = "",
    workers: WORKERS = 2,
    seed: SEED = 0,
    platform: PLATFORM = GLPlatform.auto,
    as_json: JSON = False,
) -> None:
    """All of it: draw, train, explain, score, and print the board. Done work is re-used.

    Example: an8flower run --variant single-6c --model an8net
    """
    from an8flower import generate as draw
    from an8flower.gallery import contact_sheet
    from benchmark import evaluate as measure
    from benchmark.figures import heatmap_grid

    wanted, views = folds_of(folds), numbers_of(viewpoints, "--viewpoints")
    draw(root, variant, viewpoints=views, workers=workers, seed=seed, platform=platform.value)
    trained = _train(variant, model, root, checkpoints, wanted, seed)
    records = measure(
        root, variant, model, explainers=explainer, folds=wanted, checkpoints=checkpoints, results=results
    )
    folder = results / variant
    working = list(dict.fromkeys(record["explainer"] for record in records if record["status"] == "ok"))
    first = trained[0]["fold"]
    pictures = [
        contact_sheet(root, variant, folder / "contact_sheet.png"),
        heatmap_grid(
            root, variant, model, folder / model / "heatmaps.png",
            explainers=working, fold=first, checkpoints=checkpoints,
        ),
    ]  # fmt: skip
    _board(variant, model, results, as_json, pictures)
    raise typer.Exit(1 if any(record["status"] != "ok" for record in records) else 0)


def _train(
    variant: str, model: str, root: Path, checkpoints: Path, folds: list[int] | None, seed: int
) -> list[dict[str, Any]]:
    from an8flower.folds import FOLDS
    from benchmark import train as fit
    from benchmark.training import weights_path

    done = []
    for fold in folds if folds is not None else range(FOLDS):
        record = fit(root, variant, model, fold=fold, checkpoints=checkpoints, seed=seed).record
        weights = str(weights_path(checkpoints, variant, model, fold))
        done.append({"fold": fold, "weights": weights, **{k: record[k] for k in ("test_accuracy", "epochs")}})
    return done


def _board(variant: str, model: str, results: Path, as_json: bool, pictures: list[Path]) -> None:
    from benchmark import leaderboard as build
    from benchmark.board import write_board
    from benchmark.figures import curves

    board = build(results, variant, model)
    written = write_board(board, results, f"an8flower leaderboard --variant {variant} --model {model}")
    written += [curves(results, variant, model, results / variant / model / "curves.png"), *pictures]
    if as_json:
        say(
            {"rows": json.loads(board.rows.to_json(orient="records")), "files": [str(p) for p in written]},
            True,
            "",
        )
        return
    out.print(board.to_table())
    for row in board.rows.itertuples():
        if row.failed:
            notes.print(f"failed: {row.explainer}: {row.failed}", markup=False, soft_wrap=True)
    out.print(
        "wrote " + "\n      ".join(str(path) for path in written),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _line(record: dict[str, Any]) -> str:
    about = f"{record['explainer']} fold {record['fold']}"
    if record["status"] != "ok":
        return f"{about}: failed: {' '.join(record['reason'].split())}"
    invalid = record["invalid"]
    note = f"; {invalid} maps fail 'finite': they have NaN or inf and score 0" if invalid else ""
    return f"{about}: IoU-AUC {100 * record['scores']['iou_auc']:.2f} % on {record['images']} images{note}"
