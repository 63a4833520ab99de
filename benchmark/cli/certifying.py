"""The command that asks whether trained models go by the part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from benchmark.cli.console import (
    CHECKPOINTS,
    DEVICE,
    FOLDS,
    JSON,
    MODEL,
    PLATFORM,
    RESULTS,
    ROOT,
    SCHEDULER,
    SEED,
    TABLES,
    VARIANT,
    WORKERS,
    Device,
    GLPlatform,
    app,
    folds_of,
    out,
    processes,
    say,
)


@app.command()
def certify(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    results: RESULTS = Path("runs"),
    folds: FOLDS = "",
    seed: SEED = 0,
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    device: DEVICE = Device.cpu,
    platform: PLATFORM = GLPlatform.auto,
    tables: TABLES = False,
    as_json: JSON = False,
) -> None:
    """Do trained models go by the part that tells the classes? Exits with 1 if one does not.

    Each is asked about its test images without the part, with the part alone, and with another class's part;
    these twins are drawn first if they are missing. See docs/certificate.md.

    Example: an8flower certify --variant single-6c --model an8net
    """
    from benchmark.certificate.certifying import certify_all, draw_twins
    from benchmark.plan import Plan

    crew = processes(workers, device)
    draw_twins(root, variant, workers=crew, scheduler=scheduler, platform=platform.value)
    plan = Plan().with_(
        variants=(variant,), models=(model,), folds=folds_of(folds), seeds=(seed,), root=root,
        checkpoints=checkpoints, results=results, device=device.value, certificate=True,
        tables=tables,
    )  # fmt: skip
    records = certify_all(plan, workers=crew, scheduler=scheduler)
    certified = all(record["certified"] for record in records)
    if as_json:
        say({"certified": certified, "certificates": records}, True, "")
    else:
        _show(f"{model} on {variant}", records)
    raise typer.Exit(int(not certified))


def _show(what: str, records: list[dict[str, Any]]) -> None:
    table = Table(title=f"{what}: does it go by the part? Percent of the test images", title_justify="left")
    for heading in ("fold", "images", "necessity", "to reach", "sufficiency", "swap", "pass all"):
        table.add_column(heading, justify="right", overflow="fold")
    table.add_column("certified")
    for record in records:
        shares = record["shares"]
        names = ("necessity", "necessity_expected", "sufficiency", "swap", "passed")
        shown = (f"{100 * shares[name]:.1f}" for name in names)
        table.add_row(
            str(record["fold"]), str(shares["images"]), *shown, "yes" if record["certified"] else "no"
        )
    out.print(table)
    for record in records:
        if not record["certified"]:
            out.print(
                f"fold {record['fold']} is not certified: {record['reason']}",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
