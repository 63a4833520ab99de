"""Does a model use the part? Flags per image, shares of images, and a verdict with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.covers import PLACE

# As section 5b of the protocol: the least share of images for which the part decides.
ENOUGH = 0.99

SHARES = ("necessity", "sufficiency", "swap", "passed")


def judged(answers: pd.DataFrame, classes: int) -> pd.DataFrame:
    """Add the flags of each image to a model's predictions.

    `lost`: without the part, another class is predicted. `default`: without the part, the prediction is the
    same for the images of all classes in this view, crop and rotation, so it contains no information on the
    class. `undecided`: without the part, the predicted class is not probable, see `largest_without`. `kept`:
    with the part alone, the predicted class stays the same. `follows`: with another class's part, that class
    is predicted. `passed`: (lost or default or undecided) and kept and follows.
    """
    lost = answers["without_part"] != answers["predicted"]
    default = answers.groupby(PLACE)["without_part"].transform("nunique") == 1
    undecided = answers["p_without_part"] <= largest_without(classes)
    kept = answers["part_only"] == answers["predicted"]
    follows = answers["swapped"] == answers["partner"]
    flags = {
        "lost": lost, "default": default, "undecided": undecided, "kept": kept, "follows": follows
    }  # fmt: skip
    return answers.assign(**flags, passed=(lost | default | undecided) & kept & follows)


def expected_necessity(classes: int) -> float:
    """Return the share of images that lose their class if a model cannot see the class without the part.

    Such a model must still predict a class. The plants without the part of all C classes in a view are the
    same picture, so it predicts the same class for all of them. One of these C images is of that class and
    keeps it; the share 1 - 1/C loses it.

    >>> expected_necessity(2)
    0.5
    """
    return 1 - 1 / classes


def largest_without(classes: int) -> float:
    """Return how probable a class may be, on average, in pictures without the part.

    That is twice the probability 1/C of a model that cannot tell. With two classes any model would pass, so
    the middle between 1/C and 1 is taken if it is less.

    >>> largest_without(12) == 2 / 12, largest_without(2)
    (True, 0.75)
    """
    return min(2 / classes, (1 + 1 / classes) / 2)


@dataclass(frozen=True)
class Shares:
    """Shares of a fold's test images, in [0, 1].

    Args:
        images: number of images.
        necessity: share that loses the predicted class without the part.
        necessity_expected: share that would lose it if the part were the model's only evidence.
        default: share that keeps it only because it is the model's default class, see `judged`.
        sufficiency: share that keeps the predicted class with the part alone.
        swap: share for which the class of the inserted part is predicted.
        passed: share that passes all three tests.
    """

    images: int
    necessity: float
    necessity_expected: float
    default: float
    sufficiency: float
    swap: float
    passed: float


@dataclass(frozen=True)
class Kept:
    """What a model answers to pictures that show the part.

    Args:
        picture: "part_only", "swapped", or the name of an intervention.
        share: of the images for which the class of the part is predicted, in [0, 1].
        probability: mean probability of this class, in [0, 1].
        probability_5: its 5 % quantile over the images.
        held_out: whether no training shows such a picture.
    """

    picture: str
    share: float
    probability: float
    probability_5: float
    held_out: bool

    @property
    def passed(self) -> bool:
        return self.share >= ENOUGH


@dataclass(frozen=True)
class Without:
    """What a model answers to pictures that do not show the part.

    Args:
        picture: "all_but_part", or the name of an intervention.
        own: mean probability of the class that is predicted on the whole image, in [0, 1].
        largest: the largest mean probability of any class.
        favoured: the class that has it, from 0.
        limit: how large both may be, see `largest_without`.
        held_out: whether no training shows such a picture.
    """

    picture: str
    own: float
    largest: float
    favoured: int
    limit: float
    held_out: bool

    @property
    def passed(self) -> bool:
        return max(self.own, self.largest) <= self.limit


@dataclass(frozen=True)
class Verdict:
    """What the certificate says of a model.

    Args:
        kept: one entry per kind of picture that shows the part.
        without: one entry per kind of picture that does not.
        failures: one text per test that is not passed; empty for a certified model.
    """

    kept: tuple[Kept, ...]
    without: tuple[Without, ...]
    failures: tuple[str, ...]


def verdict(
    flags: pd.DataFrame,
    without: dict[str, NDArray[np.float64]],
    kept: Sequence[str],
    classes: Sequence[str],
) -> Verdict:
    """Judge a model by its answers.

    Args:
        flags: as `answers.Answers.flags`.
        without: for each kind of picture that does not show the part, the mean probability of each class.
        kept: the kinds of pictures that show the part.
        classes: their names, in their order.
    """
    shown = tuple(_kept(name, flags) for name in kept)
    hidden = tuple(_without(name, flags, means) for name, means in without.items())
    failures = [
        f"{one.picture}: the class of the part is predicted for {one.share:.1%} of the images, less than "
        f"{ENOUGH:.0%}{_worst(flags[_SAME.get(one.picture, f'same_{one.picture}')], flags, classes)}"
        for one in shown
        if not one.passed
    ]
    for two in hidden:
        if two.own > two.limit:
            failures.append(
                f"{two.picture}: without the part the image's own class has a mean probability of "
                f"{two.own:.2f}, more than {two.limit:.2f}, so something else tells it"
            )
        elif not two.passed:
            failures.append(
                f"{two.picture}: without the part the class {classes[two.favoured]!r} has a mean "
                f"probability of {two.largest:.2f}, more than {two.limit:.2f}: it is a default class"
            )
    return Verdict(shown, hidden, tuple(failures))


# The column that says whether the class of the part is predicted.
_SAME = {"part_only": "kept", "swapped": "follows"}
TRAINED = ("part_only", "swapped", "all_but_part")  # pictures that are, or are made of, pictures of training


def _kept(name: str, flags: pd.DataFrame) -> Kept:
    probability = flags[f"p_{name}"]
    return Kept(
        name,
        float(flags[_SAME.get(name, f"same_{name}")].mean()),
        float(probability.mean()),
        float(probability.quantile(0.05)),
        name not in TRAINED,
    )


def _without(name: str, flags: pd.DataFrame, means: NDArray[np.float64]) -> Without:
    own = float(flags["p_without_part" if name == "all_but_part" else f"p_{name}"].mean())
    favoured = int(means.argmax())
    limit = largest_without(len(means))
    return Without(name, own, float(means[favoured]), favoured, limit, name not in TRAINED)


def _worst(good: pd.Series, flags: pd.DataFrame, classes: Sequence[str]) -> str:
    """Return the classes for which a test fails on more than one image in a hundred, as text."""
    by_class = (~good).groupby(flags["class"]).mean().sort_values(ascending=False, kind="stable")
    named = [f"{classes[one - 1]}: {share:.0%}" for one, share in by_class.items() if share > 1 - ENOUGH]
    return f" (fails for {', '.join(named)})" if 0 < len(named) < len(classes) else ""


def shares(flags: pd.DataFrame, classes: int) -> Shares:
    """Return the shares of all images, from the flags of `certify`."""
    share = {name: float(flags[column].mean()) for name, column in _COLUMNS.items()}
    by_default = float((flags["default"] & ~flags["lost"]).mean())
    return Shares(
        images=len(flags), necessity_expected=expected_necessity(classes), default=by_default, **share
    )


def shares_by_view(flags: pd.DataFrame) -> dict[str, list[int] | list[float]]:
    """Return the shares per view, for statistics: images of one view are more alike than images of two.

    Returns:
        lists of equal length: "view", "images", and each of `SHARES`.
    """
    grouped = flags.groupby("view")
    means = {name: grouped[column].mean().tolist() for name, column in _COLUMNS.items()}
    return {"view": [int(view) for view in grouped.groups], "images": grouped.size().tolist(), **means}


_COLUMNS = dict(zip(SHARES, ("lost", "kept", "follows", "passed"), strict=True))
