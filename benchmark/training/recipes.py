"""The recipe of a training, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How to train a model.

    SGD with momentum on the training views of a fold. Some of the views are held out; their loss decides
    when to stop.

    Args:
        epochs: largest number of epochs.
        batch: images per step.
        learning_rate, momentum, weight_decay: parameters of SGD.
        validation_every: every n-th training view is held out for validation.
        enough_loss: stop if the validation loss is below this value.
        patience: stop if the validation loss has not fallen for this number of epochs.
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
