"""The command `an8flower`."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    name="an8flower",
    help="Does this heatmap show what the network really uses? Draw the dataset, train, explain, score.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
INTERRUPTED = 130  # the exit status that shells expect after Ctrl-C

out = Console()
notes = Console(stderr=True, highlight=False)


class GLPlatform(StrEnum):
    auto = "auto"
    egl = "egl"
    osmesa = "osmesa"


class Regenerate(StrEnum):
    no = "no"
    sample = "sample"
    all = "all"


class What(StrEnum):
    explainers = "explainers"
    variants = "variants"
    factors = "factors"
    models = "models"
    metrics = "metrics"
    exports = "exports"


VARIANT = Annotated[str, typer.Option("--variant", help="Dataset variant; see 'list variants'.")]
MODEL = Annotated[str, typer.Option("--model", help="Architecture; see 'list models'.")]
ROOT = Annotated[Path, typer.Option("--root", help="Folder that holds a folder for each variant.")]
CHECKPOINTS = Annotated[Path, typer.Option("--checkpoints", help="Folder for trained weights.")]
RESULTS = Annotated[Path, typer.Option("--results", help="Folder for records, boards and pictures.")]
FOLDS = Annotated[str, typer.Option("--folds", help="Folds from 0 to 4, e.g. '0' or '0,2'; all by default.")]
EXPLAINERS = Annotated[
    list[str] | None,
    typer.Option("--explainer", help="May be repeated; 'grad_cam@conv1' names a layer. All by default."),
]
WORKERS = Annotated[int, typer.Option("--workers", min=1, help="Rendering processes.")]
SEED = Annotated[int, typer.Option("--seed", min=0, help="Of the plant's shape, or of the training.")]
PLATFORM = Annotated[GLPlatform, typer.Option("--platform", help="Off-screen OpenGL.")]
VIEWS = Annotated[str, typer.Option("--viewpoints", help="Views from 1 to 40, e.g. '1,2,3'; all by default.")]
JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """See the example in each command's help. 'an8flower run' does everything."""


@app.command()
def generate(
    variant: VARIANT = "single-6c",
    root: ROOT = Path("data"),
    viewpoints: VIEWS = "",
    workers: WORKERS = 2,
    seed: SEED = 0,
    platform: PLATFORM = GLPlatform.auto,
    twins: Annotated[bool, typer.Option("--twins", help="Also the part alone, and all but it.")] = False,
    factor: Annotated[
        list[str] | None,
        typer.Option("--factor", help="May be repeated: 'size=0.6', 'size=0.5..1'; see 'list factors'."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Draw a dataset, or complete or mend the one that is there.

    Example: an8flower generate --variant single-6c --factor background=textured --factor size=0.6
    """
    from an8flower import generate as draw
    from an8flower.factors import parse

    manifest = draw(
        root, variant, viewpoints=_numbers(viewpoints, "--viewpoints"), workers=workers, seed=seed,
        platform=platform.value, twins=twins, factors=parse(factor or ()),
    )  # fmt: skip
    counts = manifest.table["kind"].value_counts().to_dict()
    result = {"folder": str(manifest.folder), "digest": manifest.digest, "files": counts}
    _say(result, as_json, f"{manifest.folder}: {counts['frame']} frames, {counts['image']} images with masks")


@app.command()
def verify(
    variant: VARIANT = "single-6c",
    root: ROOT = Path("data"),
    regenerate: Annotated[Regenerate, typer.Option(help="Draw some or all frames again and compare.")] = (
        Regenerate.no
    ),
    platform: PLATFORM = GLPlatform.auto,
    as_json: JSON = False,
) -> None:
    """Hash every file of a dataset again; exits with 1 if one is missing, altered or extra.

    Example: an8flower verify --variant single-6c --root data --regenerate sample
    """
    from an8flower import verify as check
    from an8flower.manifest import command

    problems = check(root, variant, regenerate=regenerate.value, platform=platform.value)
    listed = [{"path": str(problem.path), "what": problem.what} for problem in problems]
    lines = [str(problem) for problem in problems] or [f"{root / variant}: every file is as recorded"]
    if any(problem.what in ("missing", "altered") for problem in problems):
        lines.append(f"run '{command(root, variant)}' to redraw what is missing or altered")
    _say({"problems": listed}, as_json, "\n".join(lines))
    raise typer.Exit(1 if problems else 0)


@app.command()
def export(
    to: Annotated[str, typer.Option("--to", help="Format; see 'list exports'.")],
    target: Annotated[Path, typer.Option("--out", help="Folder to make; it may exist if it is empty.")],
    variant: VARIANT = "single-6c",
    root: ROOT = Path("data"),
    fold: Annotated[
        int | None, typer.Option("--fold", help="From 0 to 4: its training and test images apart.")
    ] = None,
    shard_images: Annotated[
        int | None, typer.Option("--shard-images", min=1, help="Images in a shard; webdataset only.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Write a generated dataset in another tool's format.

    Example: an8flower export --to coco --variant single-6c --root data --out exported/coco
    """
    from an8flower.export import export as write

    chosen = {} if shard_images is None else {"shard_images": shard_images}
    folder = write(root, variant, to, target, fold=fold, **chosen)
    result = {"folder": str(folder), "format": to, "variant": variant, "fold": fold}
    _say(result, as_json, f"{folder}: {variant} as {to}")


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
    done = _train(variant, model, root, checkpoints, _folds(folds), seed)
    lines = [
        f"fold {fold['fold']}: test accuracy {fold['test_accuracy']:.2%} "
        f"after {fold['epochs']} epochs, {fold['weights']}"
        for fold in done
    ]
    _say({"folds": done}, as_json, "\n".join(lines))


@app.command()
def evaluate(
    variant: VARIANT = "single-6c",
    model: MODEL = "an8net",
    explainer: EXPLAINERS = None,
    root: ROOT = Path("data"),
    checkpoints: CHECKPOINTS = Path("checkpoints"),
    results: RESULTS = Path("results"),
    folds: FOLDS = "",
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
        folds=_folds(folds),
        checkpoints=checkpoints,
        results=results,
    )
    lines = [_line(record) for record in records]
    _say({"records": records}, as_json, "\n".join(lines))
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

    wanted, views = _folds(folds), _numbers(viewpoints, "--viewpoints")
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


@app.command()
def gallery(
    variant: VARIANT = "single-6c",
    root: ROOT = Path("data"),
    pictures: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")] = Path("docs/pictures"),
    platform: PLATFORM = GLPlatform.auto,
    as_json: JSON = False,
) -> None:
    """Draw pictures of a dataset: classes by viewpoints, derivatives, factors, and twins if there are.

    Example: an8flower gallery --variant single-6c --root data --out docs/pictures
    """
    from an8flower.gallery import contact_sheet, factors_sheet, twins_sheet
    from an8flower.manifest import read_manifest

    drawn = [
        contact_sheet(root, variant, pictures / f"{variant}.png"),
        factors_sheet(variant, pictures / f"{variant}_factors.png", platform=platform.value),
    ]
    if not read_manifest(root, variant).of_kind("part_only_frame").empty:
        drawn.append(twins_sheet(root, variant, pictures / f"{variant}_twins.png"))
    _say({"files": [str(path) for path in drawn]}, as_json, "\n".join(f"wrote {path}" for path in drawn))


@app.command("list")
def list_names(what: Annotated[What, typer.Argument(help="What to list.")], as_json: JSON = False) -> None:
    """List what is registered, built in or plugged in.

    Example: an8flower list explainers
    """
    rows = _LISTS[what]()
    if as_json:
        _say({what.value: rows}, True, "")
        return
    table = Table(title=what.value, title_justify="left")
    for heading in rows[0]:
        table.add_column(heading)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    out.print(table)


def main() -> None:
    """Run the command; an error is one line, with its traceback only under --debug."""
    debug = "--debug" in sys.argv[1:]
    # Wherever it stands, so that a failed command can be repeated with it at the end.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a wrong option, Typer explains
            error.show()
            sys.exit(error.exit_code)
        if debug:
            raise
        notes.print(f"an8flower: {_one_line(error)}", markup=False, soft_wrap=True)
        sys.exit(1)
    if code == INTERRUPTED:  # some releases of Typer return it
        notes.print("interrupted: what is done is kept, the same command goes on from there", soft_wrap=True)
    sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        reason = _DISK.get(error.errno, (error.strerror or "failed").lower())
        return f"cannot use {error.filename or 'the output folder'}: {reason}"
    text = " ".join(str(error).split())
    expected = isinstance(error, ValueError | LookupError | OSError) or type(error).__name__ in (
        "NoGraphicsError",
        "MissingExtraError",
    )
    return text if expected and text else f"unexpected {type(error).__name__}: {text} (--debug shows where)"


_DISK = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder, what is done is kept",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose another folder",
    errno.EPERM: "permission denied; choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
}


def _say(result: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        out.print(text, markup=False, highlight=False, soft_wrap=True)


def _numbers(text: str, option: str) -> list[int] | None:
    if not text:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{option} takes numbers with commas between them, e.g. '1,2', not {text!r}"
        ) from None


def _folds(text: str) -> list[int] | None:
    from an8flower.folds import FOLDS

    numbers = _numbers(text, "--folds")
    for fold in numbers or []:
        if fold not in range(FOLDS):
            raise ValueError(
                f"--folds {text}: there is no fold {fold}, there are {FOLDS}, from 0 to {FOLDS - 1}"
            )
    return numbers


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
        _say(
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
        return f"{about}: failed: {record['reason']}"
    return f"{about}: IoU-AUC {100 * record['scores']['iou_auc']:.2f} % on {record['images']} images"


def _explainers() -> list[dict[str, str]]:
    from explainers import names, registry

    specs = [registry.get(name) for name in names()]
    return [
        {
            "name": spec.name,
            "role": spec.role,
            "needs": ", ".join(n for n, yes in (("fit", spec.needs_fit), ("masks", spec.needs_masks)) if yes),
            "parameters": ", ".join(f"{name}={value}" for name, value in spec.parameters.items()),
            "source": spec.source,
        }
        for spec in specs
    ]


def _variants() -> list[dict[str, str]]:
    from an8flower.variants import variants

    specs = [variants.get(name) for name in variants.names()]
    return [
        {"name": s.name, "classes": ", ".join(one.name for one in s.classes), "source": s.source}
        for s in specs
    ]


def _factors() -> list[dict[str, str]]:
    from an8flower.factors import FACTORS

    return [
        {"name": f.name, "default": str(f.default), "takes": f.allowed, "meaning": f.meaning}
        for f in FACTORS.values()
    ]


def _models() -> list[dict[str, str]]:
    from benchmark.models import models

    specs = [models.get(name) for name in models.names()]
    return [{"name": s.name, "input": f"{s.size_px} x {s.size_px} px", "source": s.source} for s in specs]


def _metrics() -> list[dict[str, str]]:
    from benchmark.metrics import metrics

    specs = [metrics.get(name) for name in metrics.names()]
    return [
        {
            "name": s.name,
            "range": f"{s.bounds[0]:g} to {s.bounds[1]:g}",
            "better": "higher" if s.higher_is_better else "lower",
            "source": s.source,
        }
        for s in specs
    ]


def _exports() -> list[dict[str, str]]:
    from an8flower.export import exports

    specs = [exports.get(name) for name in exports.names()]
    return [
        {"name": s.name, "extra": s.extra, "options": ", ".join(s.options), "source": s.source} for s in specs
    ]


_LISTS: dict[What, Callable[[], list[dict[str, str]]]] = {
    What.explainers: _explainers,
    What.variants: _variants,
    What.factors: _factors,
    What.models: _models,
    What.metrics: _metrics,
    What.exports: _exports,
}
