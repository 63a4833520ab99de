"""How a model is trained, as data."""

from __future__ import annotations

from dataclasses import dataclass


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
