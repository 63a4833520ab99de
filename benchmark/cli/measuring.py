"""Commands that train models and score explainers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from benchmark.cli.console import say
from benchmark.cli.options import (
    CHECKPOINTS,
    DEVICE,
    EXPLAINERS,
    FOLDS,
    JSON,
    LIMIT_GIB,
    LIMIT_S,
    METRICS,
    MODEL,
    RECIPE,
    RESULTS,
    RETRY_FAILED,
    ROOT,
    SCHEDULER,
    SEED,
    TABLES,
    VARIANT,
    WORKERS,
    Device,
    folds_of,
    processes,
)

if TYPE_CHECKING:
    from benchmark.record import Record


def train(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    recipe: RECIPE = "plain",
    folds: FOLDS = "",
    seed: SEED = 0,
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    device: DEVICE = Device.cpu,
    as_json: JSON = False,
) -> None:
    """Train a model on each fold.

    Folds that are trained already are kept.
    If training was stopped, it continues after the last finished epoch.

    Example: an8flower train --variant single-6c --model an8net --folds 0,1
    """
    from benchmark.plan import Plan
    from benchmark.running import train_all
    from benchmark.setups import model_name
    from benchmark.training.figure import training_curves

    plan = Plan().with_(
        variants=(variant,), models=(model,), recipes=(recipe,), folds=folds_of(folds), seeds=(seed,),
        root=root, checkpoints=checkpoints, device=device.value,
    )  # fmt: skip
    records = train_all(plan, workers=processes(workers, device), scheduler=scheduler)
    done = [
        {
            "fold": setup.fold,
            "weights": str(plan.weights_path(setup)),
            "test_accuracy": record["test_accuracy"],
            "epochs": record["epochs"],
        }
        for setup, record in records.items()
    ]
    lines = [
        f"fold {fold['fold']}: test accuracy {fold['test_accuracy']:.2%} "
        f"{f'after {count} epochs' if (count := fold['epochs']) else 'with fixed weights'}, {fold['weights']}"
        for fold in done
    ]
    picture = plan.weights_path(next(plan.setups())).with_name("training.png")
    name = model_name(model, recipe)
    written = []
    try:
        written.append(str(training_curves(checkpoints, variant, name, picture, seed=seed)))
        lines.append(f"wrote {picture}")
    except OSError as error:  # e.g. in a folder that cannot be written to; the models are trained even so
        lines.append(f"{picture} could not be drawn: {error.strerror}")
    say({"folds": done, "files": written}, as_json, "\n".join(lines))


def evaluate(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    recipe: RECIPE = "plain",
    explainer: EXPLAINERS = None,
    metric: METRICS = None,
    folds: FOLDS = "",
    seed: SEED = 0,
    retry_failed: RETRY_FAILED = False,
    tables: TABLES = False,
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    results: RESULTS = Path("runs"),
    limit_s: LIMIT_S = 600.0,
    limit_gib: LIMIT_GIB = 8.0,
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    device: DEVICE = Device.cpu,
    as_json: JSON = False,
) -> None:
    """Explain and score all test images.

    Cells that were measured before under the same conditions are kept.
    The exit status is 1 if an explainer failed or gave invalid heatmaps.

    Example: an8flower evaluate --explainer grad_cam --explainer grad_cam@conv1 --folds 0
    """
    from benchmark import evaluate as measure
    from benchmark.record import to_json

    records = measure(
        root,
        variant,
        model,
        recipe=recipe,
        explainers=explainer,
        metrics=metric,
        folds=folds_of(folds),
        seed=seed,
        checkpoints=checkpoints,
        results=results,
        limit_s=limit_s,
        limit_gib=limit_gib,
        device=device.value,
        workers=processes(workers, device),
        scheduler=scheduler,
        retry_failed=retry_failed,
        tables=tables,
    )
    lines = [_line(record) for record in records]
    say({"records": [to_json(record) for record in records]}, as_json, "\n".join(lines))
    raise typer.Exit(exit_status(records))


def exit_status(records: list[Record]) -> int:
    """Return 1 if a cell failed or is invalid, else 0."""
    return int(any(record.status != "ok" for record in records))


def _line(record: Record) -> str:
    about = f"{record.explainer} {record.place}"
    if record.status == "failed":
        return f"{about}: failed: {record.reason}"
    shown = [f"{name} {_figure(value)}" for name, value in record.scores.items() if name != "iou_auc"]
    if "iou_auc" in record.scores:
        shown = [f"IoU-AUC {_figure(record.scores['iou_auc'])}"]
    note = f"; {record.reason}" if record.reason else ""
    return f"{about}: {', '.join(shown)} on {record.images} images{note}"


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f} %"
