"""The loop that fits a model to a fold's images, epoch by epoch, and goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
    """Train in place; leaves the weights of the epoch with the lowest validation loss.

    Args:
        model: as built, on the device where to train.
        data: the training views of a fold.
        recipe: how to train.
        seed: of initial weights, order of the images, and layers that draw.
        state_path: where the state is kept after each epoch, and read from if it was begun on equal terms.
        terms: what the outcome hangs on; with "identity".
        report: told how many epochs are done, whole ones and in between, instead of a progress bar.
    Returns:
        loss and accuracy on fitted and validation images, an entry an epoch.
    Raises:
        ValueError: for too few views, or a loss that is no number any more.
    """
    fitted, validation = fit_and_validation(data, recipe)
    state = read_state(state_path, terms)
    if state is None:
        # Drawn and averaged on the CPU: every device begins with the same weights.
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
        rng.permutation(len(fitted))  # the order of an epoch that is done

    with _reported(terms["identity"], report) as tell:
        while not _ended(curve, recipe):
            with _own_randomness(device_holding(model), seed, len(curve)):
                epoch = _epoch(model, fitted, recipe, rng, optimiser, partial(_further, tell, len(curve)))
            epoch |= _validated(model, validation, recipe.batch)
            _must_be_numbers(epoch, len(curve) + 1, recipe)
            curve.append(epoch)
            if epoch["validation_loss"] == min(one["validation_loss"] for one in curve):
                best = _copied(model)
            state = TrainingState(model.state_dict(), best, momenta_of(optimiser, model), curve)
            write_state(state_path, state, terms)
            tell(len(curve))
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
    """Share of images whose predicted class is the true one, in [0, 1]."""
    model.eval()
    place = device_holding(model)
    right = sum(
        int((model(b.images.to(place)).argmax(1).cpu() == b.labels).sum()) for b in data.batches(batch)
    )
    return right / len(data)


def fit_and_validation(data: An8Flower, recipe: Recipe) -> tuple[An8Flower, An8Flower]:
    """Part a training fold by view: what weights are fitted to, and what decides when to stop.

    Raises:
        ValueError: if it has one view only.
    """
    views = sorted(set(data.table["view"]))
    if len(views) < 2:
        raise ValueError(
            f"training needs two views or more, one of them for validation; fold {data.fold} of "
            f"{data.manifest.folder} has {len(views)}"
        )
    held_out = data.table["view"].isin(views[:: recipe.validation_every])
    return data.where(~held_out), data.where(held_out)


def _epoch(
    model: nn.Module,
    data: An8Flower,
    recipe: Recipe,
    rng: np.random.Generator,
    optimiser: torch.optim.Optimizer,
    advance: Callable[[float], None],
) -> dict[str, float]:
    """Go through all images once, telling of the share that is done; returns loss and accuracy on the way."""
    model.train()
    total, right, seen, at_once = 0.0, 0, 0, recipe.batch
    for batch in data.batches(recipe.batch, rng=rng):
        going_back = partial(_gradients, model, optimiser, batch.images, batch.labels)
        (loss, hits), at_once = halving(at_once, going_back)
        optimiser.step()
        total += loss
        right += hits
        seen += len(batch.labels)
        advance(seen / len(data))
    return {"train_loss": total / len(data), "train_accuracy": right / len(data)}


def _gradients(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    at_once: int,
) -> tuple[float, int]:
    """Gradients of a batch's mean loss, some images at once; returns its summed loss and right answers."""
    place = device_holding(model)
    optimiser.zero_grad()
    total, right = 0.0, 0
    for some, their_labels in zip(torch.split(images, at_once), torch.split(labels, at_once), strict=True):
        wanted = their_labels.to(place)
        logits = model(some.to(place, memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits, wanted)
        (loss * (len(some) / len(images))).backward()  # type: ignore[no-untyped-call]
        total += loss.item() * len(some)
        right += int((logits.argmax(1) == wanted).sum())
    return total, right


@contextmanager
def _reported(
    identity: dict[str, Any], report: Callable[[float], None] | None
) -> Iterator[Callable[[float], None]]:
    """Where the number of epochs that are done is told: to `report`, or on a bar of its own."""
    if report is not None:
        yield report
        return
    task = f"train {identity['model']} on {identity['variant']}, fold {identity['fold']}"
    with progress(task, 1, "models") as advance:
        yield lambda epochs: advance(0, epoch_note(epochs))
        advance(1)


def epoch_note(epochs: float) -> str:
    """How far training is, in words.

    >>> epoch_note(2.25), epoch_note(3)
    ('25 % of epoch 3', 'epoch 3 done')
    """
    whole, part = divmod(epochs, 1)
    return f"{100 * part:.0f} % of epoch {whole + 1:.0f}" if part else f"epoch {whole:.0f} done"


def _further(tell: Callable[[float], None], epochs: int, share: float) -> None:
    if share < 1:  # an epoch is done once it is validated and kept
        tell(epochs + share)


def _ended(curve: list[dict[str, float]], recipe: Recipe) -> bool:
    losses = [epoch["validation_loss"] for epoch in curve]
    if not losses or len(losses) >= recipe.epochs:
        return len(losses) >= recipe.epochs
    since_lowest = len(losses) - 1 - int(np.argmin(losses))
    return min(losses) < recipe.enough_loss or since_lowest >= recipe.patience


def _must_be_numbers(epoch: dict[str, float], number: int, recipe: Recipe) -> None:
    if not np.isfinite(list(epoch.values())).all():
        raise ValueError(
            f"training lost its way in epoch {number}: its loss is no number any more; "
            f"try a learning rate below {recipe.learning_rate:g}"
        )


@contextmanager
def _own_randomness(place: torch.device, seed: int, epoch: int) -> Iterator[None]:
    """Inside, layers that draw, such as dropout, do so by seed and epoch; outside nothing changes."""
    drawn = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    on_cuda = place.type == "cuda"
    # cuDNN chooses among algorithms, of which some add up in any order.
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
def _validated(model: nn.Module, data: An8Flower, batch: int) -> dict[str, float]:
    """Mean loss and share of right answers on images that nothing is fitted to."""
    model.eval()
    place = device_holding(model)
    total, right = 0.0, 0
    for part in data.batches(batch):
        wanted = part.labels.to(place)
        logits = model(part.images.to(place))
        total += functional.cross_entropy(logits, wanted, reduction="sum").item()
        right += int((logits.argmax(1) == wanted).sum())
    return {"validation_loss": total / len(data), "validation_accuracy": right / len(data)}
