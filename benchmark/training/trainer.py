"""Train a model on one fold; an interrupted training continues where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from an8flower import An8Flower
from an8flower.drawing.factors import parse
from an8flower.ground import files
from an8flower.ground.deprecated import warn_renamed
from an8flower.ground.versions import versions
from an8flower.manifest import DataFolderError, Manifest
from an8flower.protocol import Scheme
from an8flower.repair import command
from benchmark.device import device_of
from benchmark.models import models
from benchmark.setups import PLAIN
from benchmark.training.fitting import accuracy, fit
from benchmark.training.lessons import VERSION
from benchmark.training.recipes import Recipe, recipes
from benchmark.training.state import partial_path
from benchmark.training.weights import (
    AlteredWeightsError,
    Trained,
    built,
    intact_record,
    load_model,
    read_record,
    save_model,
    weights_path,
)

logger = logging.getLogger(__name__)


def train(
    root: str | Path,
    variant: str,
    model: str = "an8net",
    *,
    fold: int,
    checkpoints: str | Path = "checkpoints",
    seed: int = 0,
    recipe: Recipe | str = PLAIN,
    scheme: Scheme = "interleaved",
    device: str | torch.device = "cpu",
    report: Callable[[float], None] | None = None,
    folds: Scheme | None = None,
) -> Trained:
    """Train one model on one fold, or load it if it was trained before on the same data in the same way.

    Weights that were altered after they were written are trained again; a line of the log says so.

    An interrupted call can be repeated: it continues after the last complete epoch and ends in the same
    weights, bit for bit, as if it had not been interrupted (on the same device with as many threads).

    Args:
        root: folder that holds the dataset; for a recipe with factors, in a subfolder with its name.
        variant: e.g. "single-6c".
        model: registered architecture.
        fold: from 0 to 4; its test views are not used for training.
        checkpoints: folder for weights and records.
        seed: of initial weights and order of the images.
        recipe: how to train: the name of a registered recipe, or a `Recipe`.
        scheme: how views are grouped into folds.
        device: where to train, e.g. "auto".
        report: called with the number of finished epochs, also between epochs, instead of a progress bar.
        folds: deprecated name of `scheme`.
    Returns:
        the model with the lowest validation loss, on `device`, and its record, both also on disk.
    Raises:
        UnknownNameError: for an unknown model, variant or recipe.
        DataFolderError: if the dataset is damaged, or lacks the twins or factors that the recipe needs.
        WeightsError: if there is a record of weights that is damaged.
        BlockingIOError: if another process is training the same fold.
        ValueError: for a device that is not available, too few views, or a loss that is NaN.
    """
    if folds is not None:
        warn_renamed("train(folds=)", "train(scheme=)")
        scheme = folds
    spec, place = models.get(model), device_of(device)
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    root = recipe.data_root(root)
    data = An8Flower(root, variant, fold=fold, split="train", size_px=spec.size_px, scheme=scheme)
    _require_factors(data.manifest, recipe)
    path = weights_path(checkpoints, variant, model, fold, seed, recipe.name)
    identity = _identity(spec.name, data.manifest, fold, seed, recipe, scheme)
    if _trained(path, identity):
        return load_model(path, device=place)
    with files.locked(path.parent / ".locks" / path.stem):
        if _trained(path, identity):  # by who held the lock until now
            return load_model(path, device=place)
        if _names(path, identity):
            logger.warning("%s is not the file that its record describes, so it is trained again", path)
        for leftover in path.parent.glob(f".{path.stem}.*{files.TEMPORARY}"):
            leftover.unlink()  # a killed run's
        terms = {
            "identity": identity,
            "device": place.type,
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }
        # Opened before training, which would be in vain without test images.
        test = An8Flower(root, variant, fold=fold, split="test", size_px=spec.size_px, scheme=scheme)
        network = built(spec, len(data.classes))
        curve = fit(network.to(place), data, recipe, seed, partial_path(path), terms, report)
        record = {
            **terms,
            "classes": list(data.classes),
            "epochs": len(curve),
            "curve": curve,
            "test_accuracy": accuracy(network, test, recipe.batch),
        }
        record = save_model(path, network, record)
        partial_path(path).unlink(missing_ok=True)  # models without trainable weights have none
    return Trained(network.eval(), record)


def trained_record(
    path: str | Path,
    manifest: Manifest,
    model: str,
    *,
    fold: int,
    seed: int = 0,
    recipe: Recipe | str = PLAIN,
    scheme: Scheme = "interleaved",
) -> dict[str, Any] | None:
    """Return the record of the weights at `path`; None if `train` would give other weights.

    Args:
        path: as `weights_path` returns it.
        manifest: of the variant.
        model, fold, seed, recipe, scheme: as for `train`.
    Raises:
        WeightsError: if there is a record that is not readable.
    """
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    identity = _identity(model, manifest, fold, seed, recipe, scheme)
    return _trained(Path(path), identity)


def _require_factors(manifest: Manifest, recipe: Recipe) -> None:
    """Check that the images show what the recipe wants to be in them.

    Raises:
        DataFolderError: if a factor of the recipe is missing or has another value.
    """
    present = manifest.header["factors"]
    wanted = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in parse(recipe.factors).items()
    }
    if any(present.get(name) != value for name, value in wanted.items()):
        options = " ".join(f"--factor {text}" for text in recipe.factors)
        drawing = command(manifest.folder.parent, manifest.header["variant"])
        raise DataFolderError(
            f"{manifest.folder} was drawn without {', '.join(recipe.factors)}, which the recipe "
            f"{recipe.name!r} needs; remove it, then run '{drawing} {options}'"
        )


def _trained(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of weights that are intact and of this training, otherwise None."""
    with suppress(AlteredWeightsError):
        return intact_record(path) if _names(path, identity) else None
    return None


def _names(path: Path, identity: dict[str, Any]) -> bool:
    """Return whether there are weights whose record names this training."""
    # A run killed between the two files leaves weights without a record, which do not count.
    there = path.is_file() and path.with_suffix(".json").is_file()
    return there and read_record(path)["identity"] == identity


def _identity(
    model: str, manifest: Manifest, fold: int, seed: int, recipe: Recipe, scheme: Scheme
) -> dict[str, Any]:
    """All that decides what comes out of training."""
    twins = {"twins_digest": manifest.digest, "pictures_version": VERSION} if recipe.twins else {}
    return {
        "variant": manifest.header["variant"],
        "dataset_digest": manifest.images_digest,
        "model": model,
        "fold": fold,
        "folds": scheme,
        "seed": seed,
        "recipe": recipe.identity(),
        **twins,
    }
