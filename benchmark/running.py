"""Carry out a plan: draw, train, certify, measure, and make the boards; finished work is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import explainers as methods
from an8flower import generate
from an8flower.drawing.factors import Range, Value, parse
from an8flower.drawing.gl import Platform
from an8flower.gallery import contact_sheet
from an8flower.ground.jobs import ATTEMPTS, Event, Job, Tell, WorkerDiedError, run_all
from an8flower.ground.progress import progress
from an8flower.manifest import TWINS, DataFolderError, Manifest, read_manifest, require_complete
from an8flower.protocol import VIEWPOINTS
from benchmark.board.figures import curves, heatmap_grid
from benchmark.board.model_set import models_of
from benchmark.board.rows import Leaderboard, leaderboard
from benchmark.board.text import board_command, write_board
from benchmark.certificate.certifying import certify_all
from benchmark.measuring.cells import with_datasets
from benchmark.measuring.harness import measure_all
from benchmark.measuring.identity import PROTOCOL_VERSION
from benchmark.plan import Plan
from benchmark.record import Json, Record
from benchmark.setups import PLAIN, Setup, parse_model_name
from benchmark.store import ResultsError
from benchmark.training.figure import training_curves
from benchmark.training.fitting import epoch_note
from benchmark.training.recipes import Recipe, recipes
from benchmark.training.trainer import train, trained_record


@dataclass(frozen=True)
class Done:
    """The result of a run.

    Args:
        trained: the record of each model, by setup.
        records: of all cells.
        boards: one per variant and model.
        files: boards and pictures that were written.
        seconds: wall time by stage: "draw", "train", "certify" if the plan asks for it, "measure", "picture".
        certificates: of the trained models, if the plan asks for them.
        notes: what could not be drawn, and why.
    """

    trained: dict[Setup, Json]
    records: list[Record]
    boards: list[Leaderboard]
    files: list[Path]
    seconds: dict[str, float] = field(default_factory=dict)
    certificates: list[Json] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def carry_out(
    plan: Plan,
    *,
    workers: int = 0,
    scheduler: str | None = None,
    retry_failed: bool = False,
    platform: Platform = "auto",
) -> Done:
    """Do everything that a plan asks for and that is not done yet.

    Args:
        plan: what to do.
        workers, scheduler, retry_failed: as in `benchmark.evaluate`.
        platform: off-screen GL to draw with.
    Raises:
        as `generate`, `train`, `certify_all` and `evaluate`.
    """
    seconds: dict[str, float] = {}
    with _timed("draw", seconds):
        draw_all(plan, workers=workers, scheduler=scheduler, platform=platform)
    with _timed("train", seconds):
        trained = train_all(plan, workers=workers, scheduler=scheduler)
    certificates: list[Json] = []
    if plan.certificate:
        with _timed("certify", seconds):
            certificates = certify_all(plan, workers=workers, scheduler=scheduler)
    with _timed("measure", seconds):
        records = measure_all(plan, workers=workers, scheduler=scheduler, retry_failed=retry_failed)
    with _timed("picture", seconds):
        boards = [_board(plan, trained, *place) for place in plan.boards()]
        written, notes = _pictures(plan, boards)
    return Done(trained, records, boards, written, seconds, certificates, notes)


@contextmanager
def _timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    begun = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - begun


def draw_all(plan: Plan, *, workers: int, scheduler: str | None, platform: Platform = "auto") -> None:
    """Draw the variants of a plan that are not complete."""
    for variant, recipe in plan.datasets():
        if known_data(plan, variant, recipe) is None:
            generate(
                plan.data_root(recipe), variant, viewpoints=plan.viewpoints or None, workers=max(1, workers),
                scheduler=scheduler, seed=plan.drawing_seed, platform=platform, twins=plan.twins,
                factors=_factors(plan, recipe),
            )  # fmt: skip


def _factors(plan: Plan, recipe: str) -> dict[str, Value | Range]:
    return parse((*plan.factors, *recipes.get(recipe).factors))


def known_data(plan: Plan, variant: str, recipe: str = PLAIN) -> Manifest | None:
    """Return the manifest of a dataset that has all that the plan asks for, by name and size of its files."""
    wanted = set(plan.viewpoints or range(1, VIEWPOINTS + 1))
    with suppress(DataFolderError):
        manifest = read_manifest(plan.data_root(recipe), variant)
        require_complete(manifest)
        header, twins = manifest.header, set(TWINS) if plan.twins else set()
        made = header["seed"], header["factors"]
        asked = plan.drawing_seed, json.loads(json.dumps(_factors(plan, recipe)))
        if wanted <= set(header["views"]) and made == asked and twins <= set(manifest.table["kind"]):
            return manifest
    return None


def train_all(
    plan: Plan, *, workers: int, scheduler: str | None, recipe: Recipe | None = None
) -> dict[Setup, Json]:
    """Train the models of a plan that are not trained yet on exactly this data; return a record for each.

    Args:
        plan, workers, scheduler: as for `carry_out`.
        recipe: how to train all of them; by default each as its recipe says.
    """
    setups = list(plan.setups())
    data = {setup: read_manifest(plan.data_root(setup.recipe), setup.variant) for setup in setups}
    records = {
        setup: known
        for setup in setups
        if (known := known_weights(plan, setup, recipe, data[setup])) is not None
    }
    waiting = [setup for setup in setups if setup not in records]
    if not waiting:
        return {setup: records[setup] for setup in setups}
    plan = plan.absolute()
    for _ in with_datasets(plan, waiting):  # resized once, not by each worker
        pass
    jobs = [
        Job(
            _train,
            {"plan": plan, "setup": setup, "recipe": recipe or recipes.get(setup.recipe)},
            attempts=ATTEMPTS,
        )
        for setup in waiting
    ]
    title = f"train {', '.join(plan.models)} on {', '.join(plan.variants)}"
    under_way: dict[Setup, str] = {}
    with progress(title, len(setups), "models", done=len(records)) as advance:

        def heard(job: Job, event: Event) -> None:
            setup: Setup = job.arguments["setup"]
            if event.kind == "told":
                under_way[setup] = f"{_short(plan, setup)}: {epoch_note(event.value)}"
            else:  # a job that is retried continues after the last complete epoch
                under_way.pop(setup, None)
            if event.kind == "done":
                records[setup] = event.value
            advance(int(event.kind == "done"), "; ".join(under_way.values()))

        try:
            run_all(jobs, heard, workers=workers, scheduler=scheduler)
        except WorkerDiedError as error:
            raise ResultsError(f"{error.job.arguments['setup']} cannot be trained: {error}") from None
    return {setup: records[setup] for setup in setups}


def _short(plan: Plan, setup: Setup) -> str:
    """Return the name of a model without what the title already says."""
    alone = len(plan.boards()) == len(plan.seeds) == 1
    return f"fold {setup.fold}" if alone else str(setup)


def known_weights(plan: Plan, setup: Setup, recipe: Recipe | None, data: Manifest) -> Json | None:
    """Return the record of weights that were trained on exactly this data in exactly this way."""
    return trained_record(
        plan.weights_path(setup), data, setup.model, fold=setup.fold, seed=setup.seed,
        recipe=recipe or setup.recipe, scheme=plan.scheme,
    )  # fmt: skip


def _train(tell: Tell, plan: Plan, setup: Setup, recipe: Recipe) -> Json:
    """Job: train one model and report each epoch."""
    trained = train(
        plan.root, setup.variant, setup.model, fold=setup.fold, seed=setup.seed, recipe=recipe,
        checkpoints=plan.checkpoints, scheme=plan.scheme, device=plan.device,
        report=tell,
    )  # fmt: skip
    return trained.record


def _board(plan: Plan, trained: Mapping[Setup, Json], variant: str, model: str) -> Leaderboard:
    """Return the board of the models that this run has trained or found."""
    mine = [
        record for setup, record in trained.items() if (setup.variant, setup.model_name) == (variant, model)
    ]
    return leaderboard(plan.results, variant, model, models=models_of(mine, PROTOCOL_VERSION))


def _pictures(plan: Plan, boards: Sequence[Leaderboard]) -> tuple[list[Path], list[str]]:
    """Write boards and pictures; a picture that exists is drawn again only if a cell is newer.

    Returns:
        the files, and one line for each that could not be written: a missing picture does not fail the run.
    """
    written: list[Path] = []
    notes: list[str] = []

    def draw(path: Path, make: Callable[[Path], object]) -> None:
        try:
            make(path)
        except Exception as error:
            notes.append(f"{path} could not be drawn: {type(error).__name__}: {error}")
        else:
            written.append(path)

    for variant, recipe in plan.datasets():
        of_recipe = (
            f"+{recipe}" if recipes.get(recipe).factors else ""
        )  # other images than those of the variant
        sheet = plan.results / variant / f"contact_sheet{of_recipe}.png"
        root = plan.data_root(recipe)
        draw(sheet, (lambda path: path) if sheet.exists() else partial(contact_sheet, root, variant))
    for board in boards:
        try:
            written += write_board(board, plan.results, board_command(board, plan.results))
        except OSError as error:
            where = error.filename or plan.results
            notes.append(f"the board could not be written: {where}: {error.strerror}")
        folder = plan.results / board.variant / board.model
        latest = max((path.stat().st_mtime for path in (folder / "records").rglob("*.json")), default=0.0)
        pictures: dict[str, Callable[[Path], Path]] = {
            "heatmaps.png": partial(_heatmaps, plan, board),
            "training.png": partial(
                training_curves,
                plan.checkpoints,
                board.variant,
                board.model,
                seed=plan.seeds[0],
                folds=plan.folds,
            ),
        }
        draw(folder / "curves.png", partial(curves, board))
        for name, make in pictures.items():
            path = folder / name
            # With several sets of models in the folder the picture may be of another one.
            fresh = path.exists() and path.stat().st_mtime >= latest and not board.source.others
            draw(path, (lambda path: path) if fresh else make)
    return written, notes


def _heatmaps(plan: Plan, board: Leaderboard, path: Path) -> Path:
    working = board.rows["explainer"][board.rows["failed"] == ""]
    drawable = [name for name in working if name in plan.explainers or name in methods.names()]
    return heatmap_grid(
        plan.data_root(parse_model_name(board.model)[1]), board.variant, board.model, path,
        explainers=drawable, fold=plan.folds[0],
        seed=plan.seeds[0], scheme=plan.scheme, checkpoints=plan.checkpoints,
    )  # fmt: skip
