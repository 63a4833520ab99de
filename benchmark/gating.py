"""Draw images with a cheat, train an honest and a cheating model, and measure the gate of all methods."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from an8flower import An8Flower
from an8flower.dataset import Target
from an8flower.ground.progress import progress
from an8flower.protocol import Split
from benchmark.gates.moving import IMAGES, gate
from benchmark.gates.records import gate_path, write_gate
from benchmark.gates.rows import Gate
from benchmark.measuring.cells import default_explainers
from benchmark.measuring.circumstances import circumstances
from benchmark.models import models
from benchmark.plan import Plan, PlanError
from benchmark.record import Json
from benchmark.running import draw_all, train_all
from benchmark.setups import Setup
from benchmark.training.recipes import recipes
from benchmark.training.weights import load_model
from explainers.names import explainers_named


def measure_gate(
    plan: Plan,
    *,
    recipe: str = "cheat_patch",
    honest: str = "certified",
    images: int = IMAGES,
    workers: int = 0,
) -> tuple[Gate, Path]:
    """Measure the gate of a plan's methods, and write it to the results.

    Args:
        plan: with one variant, one model and one fold; its recipes are not used.
        recipe: of the model that cheats; its images show a cheat.
        honest: recipe of the model that does not.
        images: number of images that are explained.
        workers: number of processes that draw and train.
    Returns:
        the gate, and the file in which it is.
    Raises:
        PlanError: if the plan has several variants, models or folds, the recipe has no cheat, or the honest
            one has one.
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

    honest_one, cheating_one = (load_model(both.weights_path(one), of=one).model for one in setups)
    test = data(setups[1], "test", "plant", "cheat")
    explainers = explainers_named(
        plan.explainers or default_explainers(), honest_one, next(test.batches(1)).images
    )
    title = f"gate {variant} {setups[1].model_name}"
    with progress(title, len(explainers), "methods") as advance:
        found = gate(
            honest_one,
            cheating_one,
            test,
            (data(setups[0], "train"), data(setups[1], "train")),
            explainers,
            images=images,
            limit_s=plan.limit_s,
            limit_gib=plan.limit_gib,
            done=advance,
        )
    path = gate_path(plan.results, variant, model, recipe)
    about: Json = {
        "variant": variant, "model": model, "recipe": recipe, "honest": honest, "fold": fold, "seed": seed,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), **circumstances("cpu"),
    }  # fmt: skip
    write_gate(path, found, about)
    return found, path


def _has_cheat(recipe: str) -> bool:
    return any(factor.startswith("cheat=") for factor in recipes.get(recipe).factors)
