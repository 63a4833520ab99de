"""Fit a model to lessons, epoch by epoch; an interrupted training continues where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from an8flower import An8Flower
from an8flower.ground.progress import progress
from benchmark.device import device_holding, halving
from benchmark.models import SubtractMean
from benchmark.training.lessons import LessonBatch, Lessons
from benchmark.training.recipes import Recipe
from benchmark.training.state import TrainingState, momenta_of, read_state, set_momenta, write_state


def fit(
    model: nn.Module,
    data: An8Flower,
    recipe: Recipe,
    seed: int,
    state_path: Path,
    terms: dict[str, Any],
    report: Callable[[float], None] | None,
) -> list[dict[str, float]]:
    """Train a model in place; it ends with the weights of the epoch with the lowest validation loss.

    Args:
        model: an untrained model, on the device where to train.
        data: the training views of a fold.
        recipe: how to train.
        seed: seed of the initial weights, the order of the images and layers that draw random numbers.
        state_path: file to which the state is written after each epoch, and from which it is read if it
            belongs to a training with equal terms.
        terms: all that the result depends on, including "identity".
        report: called with the number of finished epochs, also between epochs, instead of a progress bar.
    Returns:
        loss and accuracy on fitted and validation pictures, one entry per epoch; empty for a model without
        parameters to train, which is left as it is.
    Raises:
        DataFolderError: if a lesson needs twins that are missing.
        ValueError: for too few views, or a loss that is NaN or infinite.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return []
    fitted, validation = (Lessons(part, recipe.lessons) for part in fit_and_validation(data, recipe))
    state = read_state(state_path, terms)
    if state is None:
        # Weights and mean are computed on the CPU, so that every device starts with the same values.
        place = device_holding(model)
        initialise(model.cpu(), generator=torch.Generator().manual_seed(seed))
        _set_mean(model, data, recipe.batch)
        model.to(place)
    else:
        model.load_state_dict(state.weights)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(
        model.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay
    )
    curve, best = ([], _copied(model)) if state is None else (state.curve, state.best)
    if state is not None:
        set_momenta(optimiser, model, state.momenta)
    rng = np.random.default_rng(seed)
    for _ in curve:
        fitted.skip(rng)  # the random numbers of an epoch that is finished

    with _reported(terms["identity"], report) as notify:
        while not _ended(curve, recipe):
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * recipe.decay ** len(curve)
            with _own_randomness(device_holding(model), seed, len(curve)):
                epoch = _epoch(model, fitted, recipe, rng, optimiser, partial(_further, notify, len(curve)))
            epoch |= _validated(model, validation, recipe.batch)
            _require_finite(epoch, len(curve) + 1, recipe)
            curve.append(epoch)
            if epoch["validation_loss"] == min(entry["validation_loss"] for entry in curve):
                best = _copied(model)
            state = TrainingState(model.state_dict(), best, momenta_of(optimiser, model), curve)
            write_state(state_path, state, terms)
            notify(len(curve))
    model.load_state_dict(best)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return curve


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
    """Return the share of images whose predicted class is correct, in [0, 1]."""
    model.eval()
    place = device_holding(model)
    right = sum(
        int((model(b.images.to(place)).argmax(1).cpu() == b.labels).sum()) for b in data.batches(batch)
    )
    return right / len(data)


def fit_and_validation(data: An8Flower, recipe: Recipe) -> tuple[An8Flower, An8Flower]:
    """Split a training fold by view into images to fit and images for validation.

    Raises:
        ValueError: if the fold has fewer than two views.
    """
    views = sorted(set(data.table["view"]))
    if len(views) < 2:
        raise ValueError(
            f"training needs at least two views, one of them for validation; fold {data.fold} of "
            f"{data.manifest.folder} has {len(views)}"
        )
    held_out = data.table["view"].isin(views[:: recipe.validation_every])
    return data.where(~held_out), data.where(held_out)


def _epoch(
    model: nn.Module,
    data: Lessons,
    recipe: Recipe,
    rng: np.random.Generator,
    optimiser: torch.optim.Optimizer,
    advance: Callable[[float], None],
) -> dict[str, float]:
    """Train on all pictures once; return the mean loss, and the accuracy on those with a label.

    Args:
        advance: called with the share of the pictures that is done, in (0, 1].
    """
    model.train()
    total, right, seen, at_once = 0.0, 0, 0, recipe.batch
    for batch in data.batches(recipe.batch, rng=rng):
        gradients = partial(_gradients, model, optimiser, batch)
        (loss, hits), at_once = halving(at_once, gradients)
        optimiser.step()
        total += loss
        right += hits
        seen += len(batch.labels)
        advance(seen / len(data))
    return {"train_loss": total / len(data), "train_accuracy": right / data.labelled}


def _gradients(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: LessonBatch,
    at_once: int,
) -> tuple[float, int]:
    """Compute the gradients of a batch's mean loss, `at_once` images at a time.

    Returns:
        the summed loss and the number of correct predictions of pictures with a label.
    """
    place = device_holding(model)
    optimiser.zero_grad()
    total, right = 0.0, 0
    parts = (torch.split(tensor, at_once) for tensor in (batch.images, batch.labels, batch.weights))
    for images, labels, weights in zip(*parts, strict=True):
        wanted = labels.to(place)
        logits = model(images.to(place, memory_format=torch.channels_last))
        loss = loss_of(logits, wanted, weights.to(place))
        (loss * (len(images) / len(batch.images))).backward()  # type: ignore[no-untyped-call]
        total += loss.item() * len(images)
        right += int((logits.argmax(1) == wanted).sum())
    return total, right


def loss_of(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, reduction: str = "mean"
) -> torch.Tensor:
    """Return the loss of a batch.

    For a picture with a label it is the cross-entropy. For one without, it is the Kullback-Leibler divergence
    of the uniform distribution and the model's, which has the gradient of a cross-entropy with the uniform
    distribution as target, and the minimum 0.

    Args:
        logits: (n, C).
        labels: (n,) int64, from 0, or -1 for the uniform distribution.
        weights: (n,), the factor of each picture's loss.
        reduction: "mean" or "sum" over the pictures.
    Returns:
        a scalar.
    """
    if (labels >= 0).all() and (weights == 1).all():
        return functional.cross_entropy(logits, labels, reduction=reduction)
    logs = functional.log_softmax(logits, 1)
    crossed = -logs.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    diverging = -logs.mean(1) - log(logits.shape[1])
    total = (weights * torch.where(labels < 0, diverging, crossed)).sum()
    return total / len(labels) if reduction == "mean" else total


@contextmanager
def _reported(
    identity: dict[str, Any], report: Callable[[float], None] | None
) -> Iterator[Callable[[float], None]]:
    """Yield a function that receives the number of finished epochs: `report`, or a progress bar."""
    if report is not None:
        yield report
        return
    task = f"train {identity['model']} on {identity['variant']}, fold {identity['fold']}"
    with progress(task, 1, "models") as advance:
        yield lambda epochs: advance(0, epoch_note(epochs))
        advance(1)


def epoch_note(epochs: float) -> str:
    """Return the number of finished epochs as text.

    >>> epoch_note(2.25), epoch_note(3)
    ('25 % of epoch 3', 'epoch 3 done')
    """
    whole, part = divmod(epochs, 1)
    return f"{100 * part:.0f} % of epoch {whole + 1:.0f}" if part else f"epoch {whole:.0f} done"


def _further(notify: Callable[[float], None], epochs: int, share: float) -> None:
    if share < 1:  # an epoch is finished only after validation and saving
        notify(epochs + share)


def _ended(curve: list[dict[str, float]], recipe: Recipe) -> bool:
    losses = [epoch["validation_loss"] for epoch in curve]
    if not losses or len(losses) >= recipe.epochs:
        return len(losses) >= recipe.epochs
    since_lowest = len(losses) - 1 - int(np.argmin(losses))
    return min(losses) < recipe.enough_loss or since_lowest >= recipe.patience


def _require_finite(epoch: dict[str, float], number: int, recipe: Recipe) -> None:
    if not np.isfinite(list(epoch.values())).all():
        raise ValueError(
            f"training diverged in epoch {number}: the loss is NaN or infinite; "
            f"try a learning rate below {recipe.learning_rate:g}"
        )


@contextmanager
def _own_randomness(place: torch.device, seed: int, epoch: int) -> Iterator[None]:
    """Seed layers that draw random numbers, such as dropout, by seed and epoch inside the block."""
    drawn = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    on_cuda = place.type == "cuda"
    # Some of the algorithms that cuDNN may choose add values in varying order.
    exact = torch.backends.cudnn.flags(enabled=True, deterministic=True)
    with torch.random.fork_rng(devices=[place] if on_cuda else []), exact:
        torch.default_generator.manual_seed(drawn)
        if on_cuda:
            torch.cuda.manual_seed(drawn)
        yield


def _copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _set_mean(model: nn.Module, data: An8Flower, batch: int) -> None:
    layers = [module for module in model.modules() if isinstance(module, SubtractMean)]
    if layers:
        sums = torch.stack([b.images.sum(0, dtype=torch.float64) for b in data.batches(batch)])
        mean = sums.sum(0) / len(data)
        for layer in layers:
            layer.mean.copy_(mean)


@torch.inference_mode()
def _validated(model: nn.Module, data: Lessons, batch: int) -> dict[str, float]:
    """Return the mean loss on the validation pictures, and the accuracy on those with a label."""
    model.eval()
    place = device_holding(model)
    total, right = 0.0, 0
    for part in data.batches(batch):
        wanted = part.labels.to(place)
        logits = model(part.images.to(place))
        total += loss_of(logits, wanted, part.weights.to(place), "sum").item()
        right += int((logits.argmax(1) == wanted).sum())
    return {"validation_loss": total / len(data), "validation_accuracy": right / data.labelled}
