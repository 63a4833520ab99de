"""Training of a model on one fold, and the weights on disk with their record."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from an8flower import An8Flower, files
from an8flower.folds import Scheme
from an8flower.manifest import DataFolderError, Manifest
from an8flower.progress import progress
from benchmark.models import ModelSpec, SubtractMean, models

SCHEMA_VERSION = 1
PACKAGES = ("an8flower", "numpy", "torch")


@dataclass(frozen=True)
class Recipe:
    """How to train.

    SGD with momentum on the training views of a fold but a few, whose loss decides when to stop.

    Args:
        epochs: at most this many.
        batch: images a step.
        learning_rate, momentum, weight_decay: of SGD.
        validation_every: each n-th training view is held out for validation.
        enough_loss: stop once the validation loss is below this.
        patience: or once it has not fallen for this many epochs.
    Source: epochs, batch, momentum and weight decay as in Oramas et al. 2019 and MatConvNet's
        MNIST example; the rest is this project's.
    """

    epochs: int = 30
    batch: int = 100
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    validation_every: int = 8
    enough_loss: float = 0.001
    patience: int = 5


@dataclass(frozen=True)
class Trained:
    """A trained model and its record, as on disk.

    Args:
        model: in eval mode.
        record: variant, fold, seed, accuracy, loss curve, versions, digests.
    """

    model: nn.Module
    record: dict[str, Any]


def weights_path(checkpoints: str | Path, variant: str, model: str, fold: int) -> Path:
    """Where the weights of one fold lie; their record is beside them as .json."""
    return Path(checkpoints) / variant / model / f"fold{fold}.safetensors"


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
) -> Trained:
    """Train one model on one fold, or load it if that was done before on the same data.

    Args:
        root: folder that holds the dataset.
        variant: e.g. "single-6c".
        model: registered architecture.
        fold: whose test views are kept away, from 0 to 4.
        checkpoints: folder for weights and records.
        seed: of initial weights and order of the images.
        recipe: how to train; `Recipe()` by default.
        folds: how views are grouped into folds.
    Returns:
        the model with the lowest validation loss and its record, both also on disk.
    Raises:
        UnknownNameError: for an unknown model or variant.
        DataFolderError: if the dataset is damaged.
    """
    spec = models.get(model)
    recipe = recipe or Recipe()
    data = An8Flower(root, variant, fold=fold, split="train", size_px=spec.size_px, folds=folds)
    path = weights_path(checkpoints, variant, model, fold)
    wanted = _identity(spec, data.manifest, fold, seed, recipe, folds)
    if path.exists() and _record(path).get("identity") == wanted:
        return load_model(path)

    generator = torch.Generator().manual_seed(seed)
    network = initialise(_built(spec, len(data.classes)), generator=generator)
    _set_mean(network, data, recipe.batch)
    curve = _fit(
        network,
        data,
        recipe,
        np.random.default_rng(seed),
        f"train {model} fold {fold}, at most {recipe.epochs} epochs",
    )
    test = An8Flower(root, variant, fold=fold, split="test", size_px=spec.size_px, folds=folds)
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    data_bytes = safetensors.torch.save(weights)
    record = {
        "schema_version": SCHEMA_VERSION,
        "identity": wanted,
        "classes": list(data.classes),
        "epochs": len(curve),
        "curve": curve,
        "test_accuracy": accuracy(network, test, recipe.batch),
        "weights_sha256": hashlib.sha256(data_bytes).hexdigest(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    files.write(path, data_bytes)
    files.write_json(path.with_suffix(".json"), record)
    return Trained(network.eval(), record)


def load_model(path: str | Path) -> Trained:
    """The model whose weights are at `path` (a .safetensors file) with its record.

    Raises:
        DataFolderError: if weights or record are missing, altered, or do not fit each other.
    """
    path = Path(path)
    record = _record(path)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != record.get("weights_sha256"):
        raise DataFolderError(f"{path} is not the file that its record describes; delete it and train again")
    network = _built(models.get(record["identity"]["model"]), len(record["classes"]))
    network.load_state_dict(safetensors.torch.load(data))
    return Trained(network.eval(), record)


def initialise(model: nn.Module, *, generator: torch.Generator) -> nn.Module:
    """Draw weights from `generator` (He et al. 2015, arXiv 1502.01852, fan-in) and zero the biases."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


@torch.inference_mode()
def accuracy(model: nn.Module, data: An8Flower, batch: int = 100) -> float:
    """Share of images whose predicted class is the true one, in [0, 1]."""
    model.eval()
    right = sum(int((model(b.images).argmax(1) == b.labels).sum()) for b in data.batches(batch))
    return right / len(data)


def _built(spec: ModelSpec, classes: int) -> nn.Module:
    # PyTorch's own first weights come from the global generator; the caller's must stay as it is.
    with torch.random.fork_rng(devices=[]):
        return spec.build(classes)


def _identity(
    spec: ModelSpec, manifest: Manifest, fold: int, seed: int, recipe: Recipe, folds: Scheme
) -> dict[str, Any]:
    """All that decides what comes out of training."""
    return {
        "variant": manifest.header["variant"],
        "dataset_digest": manifest.digest,
        "model": spec.name,
        "fold": fold,
        "folds": folds,
        "seed": seed,
        "recipe": asdict(recipe),
    }


def _record(path: Path) -> dict[str, Any]:
    record = path.with_suffix(".json")
    if not path.is_file() or not record.is_file():
        raise DataFolderError(f"no trained model at {path}; run 'an8flower train' first")
    try:
        found: dict[str, Any] = json.loads(record.read_text())
    except ValueError as error:
        raise DataFolderError(f"{record} is not readable ({error}); delete it and train again") from error
    if found.get("schema_version") != SCHEMA_VERSION:
        raise DataFolderError(
            f"{record} has another schema version than {SCHEMA_VERSION}; delete it and train again"
        )
    return found


def _set_mean(model: nn.Module, data: An8Flower, batch: int) -> None:
    layers = [module for module in model.modules() if isinstance(module, SubtractMean)]
    if layers:
        sums = torch.stack([b.images.sum(0, dtype=torch.float64) for b in data.batches(batch)])
        mean = sums.sum(0) / len(data)
        for layer in layers:
            layer.mean.copy_(mean)


def _fit(
    model: nn.Module, data: An8Flower, recipe: Recipe, rng: np.random.Generator, task: str
) -> list[dict[str, float]]:
    """Train in place; leaves the weights of the epoch with the lowest validation loss."""
    held_out = sorted(set(data.table["view"]))[:: recipe.validation_every]
    fit, validation = (
        data.where(~data.table["view"].isin(held_out)),
        data.where(data.table["view"].isin(held_out)),
    )
    optimiser = torch.optim.SGD(
        model.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay
    )
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    curve: list[dict[str, float]] = []
    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with progress(task, recipe.epochs * len(fit), "images") as advance:
        for _ in range(recipe.epochs):
            model.train()
            total = right = 0.0
            for batch in fit.batches(recipe.batch, rng=rng):
                logits = model(batch.images.contiguous(memory_format=torch.channels_last))
                loss = functional.cross_entropy(logits, batch.labels)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total += loss.item() * len(batch.labels)
                right += int((logits.argmax(1) == batch.labels).sum())
                advance(len(batch.labels))
            losses = [*(epoch["validation_loss"] for epoch in curve), _loss(model, validation, recipe.batch)]
            curve.append(
                {
                    "train_loss": total / len(fit),
                    "train_accuracy": right / len(fit),
                    "validation_loss": losses[-1],
                    "validation_accuracy": accuracy(model, validation, recipe.batch),
                }
            )
            if losses[-1] == min(losses):
                best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            if (
                min(losses) < recipe.enough_loss
                or len(losses) - 1 - int(np.argmin(losses)) >= recipe.patience
            ):
                break
    model.load_state_dict(best)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return curve


@torch.inference_mode()
def _loss(model: nn.Module, data: An8Flower, batch: int) -> float:
    model.eval()
    batches: Iterable[float] = (
        functional.cross_entropy(model(b.images), b.labels, reduction="sum").item()
        for b in data.batches(batch)
    )
    return sum(batches) / len(data)
