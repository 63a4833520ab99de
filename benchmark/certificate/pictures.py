"""The pictures a certificate asks about: images, their twins, and images with another class's part."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn.functional import max_pool2d

from an8flower import An8Flower
from an8flower.dataset import Twin
from an8flower.protocol import CROP_SIZE_PX, VIEWPOINTS, Scheme

PLACE = ["view", "crop", "rotation"]  # where a picture was taken from; there is one of each class


@dataclass(frozen=True)
class Pictures:
    """What a model is asked about n images.

    Args:
        rows: (n,) int64, their positions in the table.
        image, all_but_part, part_only: (n, 3, H, W) float32 in [0, 1].
        swapped: (n, 3, H, W) float32, the image with the part of class `partner`.
        partner: (n,) int64, from 0.
    """

    rows: NDArray[np.int64]
    image: torch.Tensor
    all_but_part: torch.Tensor
    part_only: torch.Tensor
    swapped: torch.Tensor
    partner: NDArray[np.int64]


@dataclass(frozen=True)
class Twinned:
    """Images of a split with their twins, a row each and in the same order in all three.

    Args:
        images: with target "mask".
        all_but_part, part_only: their twins.
    """

    images: An8Flower
    all_but_part: An8Flower
    part_only: An8Flower

    @classmethod
    def of(
        cls, root: str | Path, variant: str, *, fold: int, size_px: int, folds: Scheme = "interleaved"
    ) -> Self:
        """The test images of a fold.

        Raises:
            DataFolderError: naming the command that draws what is missing, twins too.
        """

        def opened(twin: Twin | None) -> An8Flower:
            return An8Flower(
                root, variant, fold=fold, split="test", folds=folds, size_px=size_px, twin=twin,
                target="mask",
            )  # fmt: skip

        return cls(opened(None), opened("all_but_part"), opened("part_only"))

    @cached_property
    def partners(self) -> NDArray[np.int64]:
        """For each image the row of the same view, crop and rotation in the class it is swapped with.

        Raises:
            ValueError: if a class lacks a picture that another has.
        """
        table = self.images.table
        row_of = {place: row for row, place in enumerate(zip(table["class"], *_places(table), strict=True))}
        try:
            return np.array(
                [
                    row_of[partner_of(one, len(self.images.classes), *place), *place]
                    for one, *place in zip(table["class"], *_places(table), strict=True)
                ],
                np.int64,
            )
        except KeyError as error:
            raise ValueError(
                f"{self.images.manifest.folder} has no image of class, view, crop, rotation {error}, "
                "so that parts cannot be swapped"
            ) from None

    def batches(self, size: int) -> Iterator[Pictures]:
        """All of them, `size` images at a time."""
        for start in range(0, len(self.images), size):
            rows = np.arange(start, min(start + size, len(self.images)))
            others = self.partners[rows]
            images, masks = _stacked(self.images, rows)
            donors, donor_masks = _stacked(self.images, others)
            yield Pictures(
                rows,
                images,
                _stacked(self.all_but_part, rows)[0],
                _stacked(self.part_only, rows)[0],
                swap(images, masks, donors, donor_masks),
                self.images.table["class"].to_numpy(np.int64)[others] - 1,
            )


def partner_of(class_id: int, classes: int, view: int, crop: int, rotation: int) -> int:
    """The class whose part an image is given: the next ones in turn, from picture to picture.

    Over the pictures of a class every other class has its turn equally often, within one.

    Args:
        class_id: of the image, from 1.
        classes: how many there are.
        view, crop, rotation: of the image, from 1.

    >>> [partner_of(2, 4, 1, 1, rotation) for rotation in (1, 2, 3, 4)]
    [3, 4, 1, 3]
    """
    turn = ((view - 1) % VIEWPOINTS * 5 + crop - 1) * 5 + rotation - 1
    return (class_id + turn % (classes - 1)) % classes + 1


def swap(
    images: torch.Tensor, masks: torch.Tensor, donors: torch.Tensor, donor_masks: torch.Tensor
) -> torch.Tensor:
    """Images with the part of others, which show the same view of another class.

    Pixels are the donor's wherever either has its part, so that the image's own part goes too
    where it lies elsewhere (balls, thorns); all else, cast shadows too, stays the image's. The
    region is grown by `rim_px`: pixels beside the mask still hold some of the part.

    Args:
        images, donors: (N, 3, H, W).
        masks, donor_masks: (N, H, W) bool.
    Returns:
        (N, 3, H, W).
    """
    rim = rim_px(masks.shape[-1])
    region = (masks | donor_masks)[:, None].to(images.dtype)
    return torch.where(max_pool2d(region, 2 * rim + 1, 1, rim) > 0, donors, images)


def rim_px(size_px: int) -> int:
    """How far beside a mask an image of that size still holds some of the part.

    In the 250 px files the two averages, over 2x2 samples and by the bilinear rotation, reach at
    most 2 px beyond the mask; shrinking adds less than the one pixel of which under half is part.

    >>> rim_px(112), rim_px(224)
    (2, 3)
    """
    return math.ceil(2 * size_px / CROP_SIZE_PX) + 1


def _places(table: pd.DataFrame) -> list[list[int]]:
    return [table[name].tolist() for name in PLACE]


def _stacked(data: An8Flower, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    items = [data[int(row)] for row in rows]
    return torch.stack([image for image, _ in items]), torch.stack([mask for _, mask in items])
