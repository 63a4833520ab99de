"""Draw images with a cheat, train an honest and a cheating model, and measure the gate of all methods."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from an8flower import An8Flower
from an8flower.dataset import Target
from an8flower.drawing.factors import parse
from an8flower.ground.progress import progress
from an8flower.manifest_checks import cheat_of
from an8flower.protocol import Split
from benchmark.gates.moving import IMAGES, Pair, measured, opened
from benchmark.gates.records import gate_path, read_gate, write_gate
from benchmark.gates.rows import Gate, GateRow
from benchmark.measuring.cells import default_explainers
from benchmark.measuring.circumstances import circumstances
from benchmark.measuring.code_digest import code_digest
from benchmark.models import models
from benchmark.plan import Plan, PlanError
from benchmark.record import Json
from benchmark.running import draw_all, train_all
from benchmark.setups import Setup
from benchmark.store import ResultsError
from benchmark.training.recipes import recipes
from benchmark.training.weights import load_model
from explainers.names import explainers_named

GATE_VERSION = 1  # raise it if equal heatmaps no longer give an equal gate


def measure_gate(
    plan: Plan,
    *,
    recipe: str = "cheat_patch",
    honest: str = "certified",
    images: int = IMAGES,
    workers: int = 0,
) -> tuple[Gate, Path]:
    """Measure the gate of a plan's methods, and add it to the results.

    Methods that were measured before, with the same code on the same models and images, are not measured
    again.

    Args:
        plan: with one variant, one model and one fold; its recipes are not used.
        recipe: of the model that cheats; its images show a cheat.
        honest: recipe of the model that does not.
        images: largest number of images on which the models are asked.
        workers: number of processes that draw and train.
    Returns:
        the gate, and the file in which it is.
    Raises:
        PlanError: if the plan has several variants, models or folds, the recipe has no cheat, or the honest
            one has one.
        ValueError: if no test image is fit for a gate.
        as `generate` and `train`.
    """
    if len(plan.variants) != 1 or len(plan.models) != 1 or len(plan.folds) != 1:
        raise PlanError("a gate is measured on one variant, one model and one fold; name one of each")
    with_cheat = [name for name in recipes.names() if _has_cheat(name)]
    if not _has_cheat(recipe):
        raise PlanError(f"the recipe {recipe!r} has no cheat; those that have are {', '.join(with_cheat)}")
    if _has_cheat(honest):
        others = ", ".join(name for name in recipes.names() if name not in with_cheat)
        raise PlanError(f"the recipe {honest!r} of the honest model has a cheat; those without are {others}")
    both = replace(plan, recipes=(honest, recipe))
    draw_all(both, workers=workers, scheduler=None)
    train_all(both, workers=workers, scheduler=None)
    variant, model, fold, seed = plan.variants[0], plan.models[0], plan.folds[0], plan.seeds[0]
    setups = [Setup(variant, model, seed, fold, name) for name in (honest, recipe)]
    size_px = models.get(model).size_px

    def data(setup: Setup, split: Split, *target: Target) -> An8Flower:
        return An8Flower(
            both.data_root(setup.recipe), variant, fold=fold, split=split, scheme=plan.scheme,
            size_px=size_px, target=("label", *target),
        )  # fmt: skip

    trained = [load_model(both.weights_path(one), of=one) for one in setups]
    pair = Pair(
        trained[0].model,
        trained[1].model,
        data(setups[1], "test", "plant", "cheat"),
        data(setups[0], "train"),
        data(setups[1], "train"),
    )
    explainers = explainers_named(
        plan.explainers or default_explainers(), pair.honest, next(pair.test.batches(1)).images
    )
    found, rows = opened(pair, images=images)
    identity: Json = {
        **asdict(setups[1]),
        "honest": honest,
        "weights_sha256": trained[1].record["weights_sha256"],
        "honest_weights_sha256": trained[0].record["weights_sha256"],
        "dataset_digest": pair.test.manifest.images_digest,
        "images": images,
        "gate_version": GATE_VERSION,
    }
    about: Json = {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), **circumstances("cpu")
    }  # fmt: skip
    path = gate_path(plan.results, setups[1])
    known = {row.explainer: row for row in _known_rows(path, identity)}
    with progress(f"gate {variant} {setups[1].model_name}", len(explainers), "methods") as advance:
        for explainer in explainers:
            row = known.get(explainer.name)
            if row is None or row.reason or row.code_sha256 != code_digest(explainer.spec.build):
                known[explainer.name] = measured(
                    explainer, pair, rows, limit_s=plan.limit_s, limit_gib=plan.limit_gib
                )
                # After each method, so that an interrupted gate continues here.
                write_gate(path, replace(found, rows=tuple(known.values())), identity, about)
            advance(1)
    return replace(found, rows=tuple(known[explainer.name] for explainer in explainers)), path


def _known_rows(path: Path, identity: Json) -> tuple[GateRow, ...]:
    """Return the rows of a gate that is there already, if it is the same but for its methods."""
    with suppress(FileNotFoundError, ResultsError):
        found, its = read_gate(path)
        if its == identity:
            return found.rows
    return ()


def _has_cheat(recipe: str) -> bool:
    return cheat_of(parse(recipes.get(recipe).factors)) is not None
