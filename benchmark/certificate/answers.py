"""A model's answers to the pictures of a certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from benchmark.certificate.interventions import INTERVENTIONS, intervened
from benchmark.certificate.judging import Verdict, judged, verdict
from benchmark.certificate.pictures import Pictures, Twinned
from benchmark.covers import PLACE

KEPT = ("part_only", "swapped", *(one.name for one in INTERVENTIONS if one.expects == "class"))
WITHOUT = ("all_but_part", *(one.name for one in INTERVENTIONS if one.expects == "no class"))


@dataclass(frozen=True)
class Answers:
    """A model's answers to the test images of a fold and to what is made of them.

    Args:
        flags: one row per image: class, view, crop, rotation (from 1); the classes (from 0) `predicted` on
            the image and `without_part`, `part_only` and `swapped` on other pictures; `partner`, the class
            whose part was inserted; the flags of `judging.judged`; for each intervention, `same_<name>`:
            whether the prediction stays the same; and probabilities: `p_without_part`, `p_part_only` and
            `p_<name>` of the predicted class, `p_swapped` of the partner.
        without: for each kind of picture that does not show the part, the mean probability of each class,
            (C,) float64.
    """

    flags: pd.DataFrame
    without: dict[str, NDArray[np.float64]]

    def verdict(self, classes: tuple[str, ...]) -> Verdict:
        """Judge the model; `classes` are the names of the classes."""
        return verdict(self.flags, self.without, KEPT, classes)


def certify(
    model: nn.Module,
    pictures: Twinned,
    *,
    batch: int = 96,
    device: torch.device | str = "cpu",
    done: Callable[[int], None] | None = None,
) -> Answers:
    """Run a model on images, their twins, images with another class's part, and the interventions.

    Args:
        model: any classifier from (N, 3, H, W) float32 in [0, 1] to logits (N, C), in eval mode.
        pictures: images with their twins.
        batch: images per batch; the model sees all pictures of each.
        device: device of the model.
        done: called after each batch with the number of images in it.
    """
    tables: list[pd.DataFrame] = []
    sums = {name: np.zeros(len(pictures.images.classes)) for name in WITHOUT}
    for group in pictures.batches(batch):
        probable = {name: _probabilities(model, images, device) for name, images in shown(group).items()}
        place = pictures.images.table.iloc[group.rows][["class", *PLACE]].reset_index(drop=True)
        tables.append(place.assign(**_columns(probable, group.partner)))
        for name, total in sums.items():
            total += probable[name].sum(axis=0)
        if done is not None:
            done(len(group.rows))
    flags = judged(pd.concat(tables, ignore_index=True), len(pictures.images.classes))
    return Answers(flags, {name: total / len(flags) for name, total in sums.items()})


def shown(group: Pictures) -> dict[str, torch.Tensor]:
    """Return the pictures of a group of images by the name of what they show."""
    made = {
        one.name: intervened(
            one,
            group.image,
            group.part_only,
            group.all_but_part,
            group.masks,
            group.parts,
            group.covers,
            group.classes,
            group.rows,
        )
        for one in INTERVENTIONS
    }
    return {
        "image": group.image, "all_but_part": group.all_but_part, "part_only": group.part_only,
        "swapped": group.swapped, **made,
    }  # fmt: skip


def _probabilities(model: nn.Module, images: torch.Tensor, device: torch.device | str) -> NDArray[np.float64]:
    with torch.no_grad():
        logits = model(images.to(device))
    return np.asarray(logits.double().softmax(1).cpu().numpy())


def _columns(
    probable: dict[str, NDArray[np.float64]], partner: NDArray[np.int64]
) -> dict[str, NDArray[np.generic]]:
    """Return the columns of `Answers.flags` that follow from the probabilities of the classes."""
    every = np.arange(len(partner))
    predicted = {name: values.argmax(axis=1) for name, values in probable.items()}
    own = predicted["image"]
    columns: dict[str, NDArray[np.generic]] = {
        "predicted": own,
        "without_part": predicted["all_but_part"],
        "part_only": predicted["part_only"],
        "swapped": predicted["swapped"],
        "partner": partner,
        "p_without_part": probable["all_but_part"][every, own],
        "p_part_only": probable["part_only"][every, own],
        "p_swapped": probable["swapped"][every, partner],
    }
    for one in INTERVENTIONS:
        columns[f"same_{one.name}"] = predicted[one.name] == own
        columns[f"p_{one.name}"] = probable[one.name][every, own]
    return columns
