"""The command that tests whether trained models use the discriminative part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from benchmark.cli.console import out, say
from benchmark.cli.options import (
    CHECKPOINTS,
    DEVICE,
    FOLDS,
    JSON,
    MODEL,
    PLATFORM,
    RECIPE,
    RESULTS,
    ROOT,
    SCHEDULER,
    SEED,
    TABLES,
    VARIANT,
    WORKERS,
    Device,
    GLPlatform,
    folds_of,
    processes,
)


def certify(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    recipe: RECIPE = "plain",
    folds: FOLDS = "",
    seed: SEED = 0,
    tables: TABLES = False,
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    results: RESULTS = Path("runs"),
    workers: WORKERS = None,
    scheduler: SCHEDULER = None,
    device: DEVICE = Device.cpu,
    platform: PLATFORM = GLPlatform.auto,
    as_json: JSON = False,
) -> None:
    """Test whether trained models use the discriminative part.

    Each model classifies its test images without the part, with the part
    only, with the part of another class, and after interventions that no
    training shows. The twins that are needed are drawn first if they are
    missing. See docs/certificate.md.
    The exit status is 1 if a model is not certified.

    Example: an8flower certify --variant single-6c --model an8net
    """
    from benchmark.certificate.certifying import certify_all, draw_twins
    from benchmark.plan import Plan
    from benchmark.setups import model_name

    count = processes(workers, device)
    plan = Plan().with_(
        variants=(variant,), models=(model,), recipes=(recipe,), folds=folds_of(folds), seeds=(seed,),
        root=root, checkpoints=checkpoints, results=results, device=device.value, certificate=True,
        tables=tables,
    )  # fmt: skip
    data_root = plan.data_root(recipe)
    draw_twins(data_root, variant, workers=count, scheduler=scheduler, platform=platform.value)
    records = certify_all(plan, workers=count, scheduler=scheduler)
    certified = all(record["certified"] for record in records)
    if as_json:
        say({"certified": certified, "certificates": records}, True, "")
    else:
        _show(f"{model_name(model, recipe)} on {variant}", records)
    raise typer.Exit(int(not certified))


def _show(what: str, records: list[dict[str, Any]]) -> None:
    table = Table(title=f"{what}: use of the part, in percent of the test images", title_justify="left")
    for heading in ("fold", "images", "necessity", "expected", "sufficiency", "swap", "pass all"):
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
    out.print(_by_picture(records))
    for record in records:
        if not record["certified"]:
            out.print(
                f"fold {record['fold']} is not certified: {record['reason']}",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip


def _by_picture(records: list[dict[str, Any]]) -> Table:
    """Return what all models answer to each kind of picture, the worst of the folds."""
    title = "by picture, worst fold: + shows the part, - does not; * no training shows it"
    table = Table(title=title, title_justify="left")
    for heading in ("picture", "class kept, %", "probability", "5 % quantile", "limit"):
        table.add_column(heading, justify="left" if heading == "picture" else "right", overflow="fold")
    for k, one in enumerate(records[0]["kept"]):
        every = [record["kept"][k] for record in records]
        least = {
            name: min(entry[name] for entry in every) for name in ("share", "probability", "probability_5")
        }
        table.add_row(
            f"+ {one['picture']}{'*' if one['held_out'] else ''}", f"{100 * least['share']:.1f}",
            f"{least['probability']:.3f}", f"{least['probability_5']:.3f}", "",
        )  # fmt: skip
    for k, one in enumerate(records[0]["without"]):
        most = max(max(record["without"][k][name] for name in ("own", "largest")) for record in records)
        table.add_row(
            f"- {one['picture']}{'*' if one['held_out'] else ''}",
            "",
            f"{most:.3f}",
            "",
            f"{one['limit']:.3f}",
        )
    return table
