"""Which trained model: variant, architecture, recipe, training seed and fold."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Self

PLAIN = "plain"  # the recipe of the paper


@dataclass(frozen=True)
class Setup:
    """One trained model, which several cells share.

    Args:
        variant, model: registry names.
        seed: of the training.
        fold: from 0 to 4.
        recipe: registry name of the training recipe.
    """

    variant: str
    model: str
    seed: int
    fold: int
    recipe: str = PLAIN

    @classmethod
    def of(cls, variant: str, name: str, seed: int, fold: int) -> Self:
        """Return the trained model of a board whose models have the `model_name` `name`."""
        model, recipe = parse_model_name(name)
        return cls(variant, model, seed, fold, recipe)

    @property
    def model_name(self) -> str:
        """The architecture with the recipe, see `model_name`."""
        return model_name(self.model, self.recipe)

    def __str__(self) -> str:
        seed = f" seed {self.seed}" if self.seed else ""
        return f"{self.variant} {self.model_name}{seed} fold {self.fold}"


def model_name(model: str, recipe: str = PLAIN) -> str:
    """Return the name of models on boards and of their folders: the architecture, and the recipe.

    >>> model_name("an8net"), model_name("an8net", "certified")
    ('an8net', 'an8net+certified')
    """
    return model if recipe == PLAIN else f"{model}+{recipe}"


def parse_model_name(name: str) -> tuple[str, str]:
    """Return architecture and recipe of a `model_name`.

    >>> parse_model_name("an8net"), parse_model_name("an8net+certified")
    (('an8net', 'plain'), ('an8net', 'certified'))
    """
    model, _, recipe = name.partition("+")
    return model, recipe or PLAIN


def model_options(name: str) -> str:
    """Return the options of a command that choose models by their `model_name`.

    >>> model_options("an8net"), model_options("an8net+certified")
    ('--model an8net', '--model an8net --recipe certified')
    """
    model, recipe = parse_model_name(name)
    return shlex.join(["--model", model, *(["--recipe", recipe] if recipe != PLAIN else [])])
