"""The recipe of a training, as data, and the registry of recipes."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from an8flower.drawing.factors import parse
from an8flower.ground.registry import Registry, unknown

PictureName = Literal[
    "image",
    "part_only",
    "all_but_part",
    "part_on_colour",
    "covered",
    "tinted",
    "part_varied",
    "covered_varied",
]
Target = Literal["label", "uniform"]


@dataclass(frozen=True)
class Lesson:
    """One picture of each training image, and what the model is to answer to it.

    Args:
        picture: "image" for the image itself, "part_only" and "all_but_part" for its twins, or a picture made
            of these; see `benchmark.training.lessons.PICTURES`.
        target: "label" for the image's class; "uniform" for the probability 1/C of each of the C classes,
            for pictures that do not show the class.
        weight: factor of the loss of these pictures.
    Raises:
        UnknownNameError: for a picture that does not exist.
        ValueError: for a target that does not exist, or a weight that is not above 0.
    """

    picture: PictureName
    target: Target
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.picture not in get_args(PictureName):
            raise unknown("picture", self.picture, get_args(PictureName))
        if self.target not in get_args(Target):
            raise ValueError(
                f"the target of a lesson must be one of {', '.join(get_args(Target))}; got {self.target!r}"
            )
        if not (isinstance(self.weight, int | float) and 0 < self.weight < math.inf):
            raise ValueError(f"the weight of a lesson must be a number above 0; got {self.weight!r}")


# Least value of each whole number; without pictures for training or validation there is nothing to learn.
_LEAST = {"epochs": 1, "batch": 1, "validation_every": 2, "patience": 1}
PLAIN = (Lesson("image", "label"),)


@dataclass(frozen=True)
class Recipe:
    """How to train a model.

    SGD with momentum on the training views of a fold. Some of the views are held out; their loss decides
    when to stop.

    Args:
        epochs: largest number of epochs.
        batch: pictures per step.
        learning_rate, momentum, weight_decay: parameters of SGD.
        decay: factor on the learning rate after each epoch.
        validation_every: every n-th training view is held out for validation.
        enough_loss: stop if the validation loss is below this value.
        patience: stop if the validation loss has not fallen for this number of epochs.
        name: of the recipe; part of the names of folders.
        lessons: the pictures of each training image; an epoch has each of them once.
        factors: what varies in the images in addition to the class and to what a plan sets, e.g.
            ("cheat=patch",); see `an8flower.drawing.factors`.
        source: where the recipe comes from.
    Raises:
        ValueError: if the name cannot be that of a folder, a number or factor is not allowed, or no lesson
            has the target "label".
        UnknownNameError: for a factor that does not exist.

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
    name: str = "plain"
    lessons: tuple[Lesson, ...] = PLAIN
    factors: tuple[str, ...] = ()
    source: str = "Oramas et al. 2019"
    decay: float = 1.0

    def __post_init__(self) -> None:
        # Folders are called model+recipe, so that a name must not have "+" or "/".
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise ValueError(
                f"a recipe's name must have only letters, digits, '_', '-' and '.', and begin with a letter "
                f"or digit; got {self.name!r}"
            )
        for field, least in _LEAST.items():
            value = getattr(self, field)
            if type(value) is not int or value < least:
                raise ValueError(
                    f"recipe {self.name!r}: {field} must be a whole number from {least}; got {value!r}"
                )
        for field in ("learning_rate", "decay", "momentum", "weight_decay", "enough_loss"):
            value = getattr(self, field)
            positive = field in ("learning_rate", "decay")
            known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not known or value < 0 or (positive and value == 0):
                right = "above 0" if positive else "from 0"
                raise ValueError(f"recipe {self.name!r}: {field} must be a number {right}; got {value!r}")
        for field, kind in (("lessons", Lesson), ("factors", str)):
            values = getattr(self, field)
            if not isinstance(values, tuple) or not all(isinstance(value, kind) for value in values):
                raise ValueError(
                    f"recipe {self.name!r}: {field} must be a tuple of {kind.__name__}; got {values!r}"
                )
        if not any(lesson.target == "label" for lesson in self.lessons):
            raise ValueError(
                f"recipe {self.name!r}: at least one lesson must have the target 'label'; none has it"
            )
        parse(self.factors)

    @property
    def twins(self) -> bool:
        """Whether pictures are made of the twins of the images."""
        return any(lesson.picture != "image" for lesson in self.lessons)

    def data_root(self, root: str | Path) -> Path:
        """Return the folder that holds the datasets of this recipe: `root`, or a folder in it.

        A folder can hold one dataset of a variant, so images with other factors are in a folder of their own.
        """
        return Path(root) / self.name if self.factors else Path(root)

    def identity(self) -> dict[str, Any]:
        """Return all that decides what comes out of training, for JSON.

        Name and lessons are left out of plain training, so that weights of older releases stay known.
        """
        content = asdict(self)
        del content["source"], content["factors"]  # the digest of the data stands for the factors
        content["lessons"] = list(content["lessons"])
        if self.name == "plain":
            del content["name"]
        if self.lessons == PLAIN:
            del content["lessons"]
        if self.decay == 1:
            del content["decay"]
        return content


recipes: Registry[Recipe] = Registry(
    "recipe", package="benchmark.training.recipes", group="an8flower.recipes"
)
