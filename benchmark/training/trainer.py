"""Training of a model on one fold, which goes on where it was stopped."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from an8flower import An8Flower
from an8flower.ground import files
from an8flower.manifest import Manifest
from an8flower.protocol import Scheme
from benchmark.device import device_of
from benchmark.models import models
from benchmark.training.fitting import accuracy, fit
from benchmark.training.recipes import Recipe
from benchmark.training.state import partial_path
from benchmark.training.weights import Trained, built, load_model, read_record, save_model, weights_path

PACKAGES = ("an8flower", "numpy", "torch")


def train(
    root: str | Path,
    variant: str,
    model: str = "an8net",
    *,
    fold: int,
    checkpoints: str | Path = "checkpoints",
    seed: int = 0,
    recipe: Recipe | None = None,
    folds: Scheme = "interleaved",
    device: str | torch.device = "cpu",
    report: Callable[[float], None] | None = None,
) -> Trained:
    """Train one model on one fold, or load it if that was done before on the same data.

    Stopped at any moment, the same call goes on after the last whole epoch, and ends in the same
    weights, bit for bit, as if it had not been stopped: on the same device with as many threads.

    Args:
        root: folder that holds the dataset.
        variant: e.g. "single-6c".
        model: registered architecture.
        fold: whose test views are kept away, from 0 to 4.
        checkpoints: folder for weights and records.
        seed: of initial weights and order of the images.
        recipe: how to train; `Recipe()` by default.
        folds: how views are grouped into folds.
        device: where, e.g. "auto".
        report: told how many epochs are done, whole ones and in between, instead of a progress bar.
    Returns:
        the model with the lowest validation loss, on `device`, and its record, both also on disk.
    Raises:
        UnknownNameError: for an unknown model or variant.
        DataFolderError: if the dataset is damaged.
        BlockingIOError: if another process trains this very fold.
        ValueError: for a device that is not there, too few views, or a loss that is no number any more.
    """
    spec, place = models.get(model), device_of(device)
    recipe = recipe or Recipe()
    data = An8Flower(root, variant, fold=fold, split="train", size_px=spec.size_px, folds=folds)
    path = weights_path(checkpoints, variant, model, fold, seed)
    identity = _identity(spec.name, data.manifest, fold, seed, recipe, folds)
    if _is_trained(path, identity):
        return load_model(path, device=place)
    with files.locked(path.parent / ".locks" / path.stem):
        if _is_trained(path, identity):  # by who held the lock until now
            return load_model(path, device=place)
        for leftover in path.parent.glob(f".{path.stem}.*{files.TEMPORARY}"):
            leftover.unlink()  # a killed run's
        terms = {
            "identity": identity,
            "device": place.type,
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        }
        network = built(spec, len(data.classes))
        curve = fit(network.to(place), data, recipe, seed, partial_path(path), terms, report)
        test = An8Flower(root, variant, fold=fold, split="test", size_px=spec.size_px, folds=folds)
        record = {
            **terms,
            "classes": list(data.classes),
            "epochs": len(curve),
            "curve": curve,
            "test_accuracy": accuracy(network, test, recipe.batch),
        }
        record = save_model(path, network, record)
        partial_path(path).unlink()
    return Trained(network.eval(), record)


def trained_record(
    path: str | Path,
    manifest: Manifest,
    model: str,
    *,
    fold: int,
    seed: int = 0,
    recipe: Recipe | None = None,
    folds: Scheme = "interleaved",
) -> dict[str, Any] | None:
    """The record of the weights at `path`; None if they are not what `train` would end in.

    Args:
        path: as `weights_path` gives it.
        manifest: of the variant.
        model, fold, seed, recipe, folds: as for `train`.
    Raises:
        DataFolderError: if there is a record that is not readable.
    """
    identity = _identity(model, manifest, fold, seed, recipe or Recipe(), folds)
    return read_record(path) if _is_trained(Path(path), identity) else None


def _is_trained(path: Path, identity: dict[str, Any]) -> bool:
    # A run killed between the two files leaves weights without a record: as good as none.
    there = path.is_file() and path.with_suffix(".json").is_file()
    return there and read_record(path).get("identity") == identity


def _identity(
    model: str, manifest: Manifest, fold: int, seed: int, recipe: Recipe, folds: Scheme
) -> dict[str, Any]:
    """All that decides what comes out of training."""
    return {
        "variant": manifest.header["variant"],
        "dataset_digest": manifest.images_digest,
        "model": model,
        "fold": fold,
        "folds": folds,
        "seed": seed,
        "recipe": asdict(recipe),
    }
