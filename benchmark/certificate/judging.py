"""Does a model use the part? Flags per image, shares of images, and a verdict with its reasons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from benchmark.certificate.pictures import PLACE, Twinned

# Chosen before any model was tested: one image in ten may be an exception, such as a part seen edge-on.
NECESSITY = 0.9  # as a share of the highest possible value, see `expected_necessity`
SUFFICIENCY = 0.9
SWAP = 0.9

SHARES = ("necessity", "sufficiency", "swap", "passed")


def certify(
    model: nn.Module,
    pictures: Twinned,
    *,
    batch: int = 96,
    device: torch.device | str = "cpu",
    done: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Run a model on images, their twins, and images with another class's part.

    Args:
        model: any classifier from (N, 3, H, W) float32 in [0, 1] to logits (N, C), in eval mode.
        pictures: images with their twins.
        batch: images per batch; the model sees four pictures of each.
        device: device of the model.
        done: called after each batch with the number of images in it.
    Returns:
        one row per image: class, view, crop, rotation (from 1); the classes (from 0) `predicted` on the
        image and `without_part`, `part_only` and `swapped` on the other three pictures; `partner`, the class
        whose part was inserted; and the flags of `judged`.
    """
    parts: list[pd.DataFrame] = []
    for group in pictures.batches(batch):
        inputs = torch.cat([group.image, group.all_but_part, group.part_only, group.swapped]).to(device)
        with torch.no_grad():
            predictions = model(inputs).argmax(1).cpu().numpy().reshape(4, -1)
        place = pictures.images.table.iloc[group.rows][["class", *PLACE]].reset_index(drop=True)
        columns = ("predicted", "without_part", "part_only", "swapped")
        named = dict(zip(columns, predictions, strict=True))
        parts.append(place.assign(**named, partner=group.partner))
        if done is not None:
            done(len(group.rows))
    return judged(pd.concat(parts, ignore_index=True))


def judged(answers: pd.DataFrame) -> pd.DataFrame:
    """Add the flags of each image to a model's predictions.

    `lost`: without the part, another class is predicted. `default`: without the part, the prediction is the
    same for the images of all classes in this view, crop and rotation, so it contains no information on the
    class. `kept`: with the part alone, the predicted class stays the same. `follows`: with another class's
    part, that class is predicted. `passed`: (lost or default) and kept and follows.
    """
    lost = answers["without_part"] != answers["predicted"]
    default = answers.groupby(PLACE)["without_part"].transform("nunique") == 1
    kept = answers["part_only"] == answers["predicted"]
    follows = answers["swapped"] == answers["partner"]
    flags = {"lost": lost, "default": default, "kept": kept, "follows": follows}
    return answers.assign(**flags, passed=(lost | default) & kept & follows)


def expected_necessity(classes: int) -> float:
    """Return the share of images that lose their class if a model cannot see the class without the part.

    Such a model must still predict a class. The plants without the part of all C classes in a view are the
    same picture, so it predicts the same class for all of them. One of these C images is of that class and
    keeps it; the share 1 - 1/C loses it.

    >>> expected_necessity(2)
    0.5
    """
    return 1 - 1 / classes


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


def failures(found: Shares, flags: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """Return one text per failed test; an empty list for a certified model.

    Args:
        found: the shares of `flags`.
        flags: as `certify` returns them.
        classes: names of the classes, in their order.
    """
    texts = []
    lost = flags["lost"] | flags["default"]
    wanted = NECESSITY * found.necessity_expected
    if found.necessity < wanted:
        texts.append(
            f"necessity {found.necessity:.1%} is below {wanted:.1%}: images keep their class without the "
            f"part, so something else tells it{_worst(lost, flags, classes)}"
        )
    if found.sufficiency < SUFFICIENCY:
        texts.append(
            f"sufficiency {found.sufficiency:.1%} is below {SUFFICIENCY:.0%}: images lose their class with "
            f"the part alone, so it takes more{_worst(flags['kept'], flags, classes)}"
        )
    if found.swap < SWAP:
        texts.append(
            f"swap {found.swap:.1%} is below {SWAP:.0%}: images with another class's part are not taken for "
            f"it, so the part does not decide{_worst(flags['follows'], flags, classes)}"
        )
    return texts


def _worst(good: pd.Series, flags: pd.DataFrame, classes: Sequence[str]) -> str:
    """Return the classes for which a test fails on more than one image in ten, as text."""
    by_class = (~good).groupby(flags["class"]).mean().sort_values(ascending=False, kind="stable")
    named = [f"{classes[one - 1]}: {share:.0%}" for one, share in by_class.items() if share > 0.1]
    return f" ({', '.join(named)})" if 0 < len(named) < len(classes) else ""


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
