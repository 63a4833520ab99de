"""The pictures that a certificate needs: images, their twins, and images with another class's part."""

from __future__ import annotations

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
from an8flower.protocol import VIEWPOINTS, Scheme
from benchmark.covers import PLACE, Avoided, Covers, Mask, class_colours, rim_px


@dataclass(frozen=True)
class Pictures:
    """The pictures of n images that a model is tested on.

    Args:
        rows: (n,) int64, the rows of the images in the table.
        image, all_but_part, part_only: (n, 3, H, W) float32 in [0, 1].
        swapped: (n, 3, H, W) float32, the images with the part of class `partner`.
        partner: (n,) int64, classes from 0.
        masks: (n, H, W) bool, the discriminative part.
        parts: (n, H, W) uint8, part ids.
        covers: n pairs of masks, see `Covers.of`.
        classes: the colours of the classes.
    """

    rows: NDArray[np.int64]
    image: torch.Tensor
    all_but_part: torch.Tensor
    part_only: torch.Tensor
    swapped: torch.Tensor
    partner: NDArray[np.int64]
    masks: torch.Tensor
    parts: torch.Tensor
    covers: list[tuple[Mask, Mask]]
    classes: Avoided


@dataclass(frozen=True)
class Twinned:
    """Images of a split with their twins; row k is the same image in all three datasets.

    Args:
        images: the images, with the targets "mask" and "parts".
        all_but_part, part_only: their twins.
    """

    images: An8Flower
    all_but_part: An8Flower
    part_only: An8Flower

    @classmethod
    def of(
        cls, root: str | Path, variant: str, *, fold: int, size_px: int, folds: Scheme = "interleaved"
    ) -> Self:
        """Open the test images of a fold with their twins.

        Raises:
            DataFolderError: if images or twins are missing; the message names the command that draws them.
        """

        def opened(twin: Twin | None) -> An8Flower:
            return An8Flower(
                root, variant, fold=fold, split="test", scheme=folds, size_px=size_px, twin=twin,
                target=("mask", "parts"),
            )  # fmt: skip

        return cls(opened(None), opened("all_but_part"), opened("part_only"))

    @cached_property
    def partners(self) -> NDArray[np.int64]:
        """Row of each image's partner, see `partner_rows`."""
        return partner_rows(self.images)

    @cached_property
    def covers(self) -> Covers:
        """What hides the parts of all classes in each image."""
        return Covers(self.images, lambda row: self.images[row][1][0].numpy())

    def batches(self, size: int) -> Iterator[Pictures]:
        """Yield the pictures of all images, `size` images at a time."""
        for start in range(0, len(self.images), size):
            yield self.pictures(np.arange(start, min(start + size, len(self.images))))

    def pictures(self, rows: NDArray[np.int64]) -> Pictures:
        """Return the pictures of the images in these rows of the table."""
        others = self.partners[rows]
        images, masks, parts = _stacked(self.images, rows)
        donors, donor_masks, _ = _stacked(self.images, others)
        return Pictures(
            rows,
            images,
            _stacked(self.all_but_part, rows)[0],
            _stacked(self.part_only, rows)[0],
            swap(images, masks, donors, donor_masks),
            self.images.table["class"].to_numpy(np.int64)[others] - 1,
            masks,
            parts,
            [self.covers.of(int(row)) for row in rows],
            Avoided.of(class_colours(self.images), held_out=False),
        )


def partner_rows(images: An8Flower) -> NDArray[np.int64]:
    """Return the row of each image's partner: the same view, crop and rotation in another class.

    Args:
        images: of all classes at the same places.
    Returns:
        (n,) int64; `partner_of` chooses the class.
    Raises:
        ValueError: if a class has no picture at a view, crop and rotation where another class has one.
    """
    table = images.table
    row_of = {place: row for row, place in enumerate(zip(table["class"], *_places(table), strict=True))}
    try:
        return np.array(
            [
                row_of[partner_of(one, len(images.classes), *place), *place]
                for one, *place in zip(table["class"], *_places(table), strict=True)
            ],
            np.int64,
        )
    except KeyError as error:
        raise ValueError(
            f"{images.manifest.folder} has no image of class, view, crop, rotation {error}, "
            "so parts cannot be swapped; run 'an8flower generate' to draw the missing images"
        ) from None


def partner_of(class_id: int, classes: int, view: int, crop: int, rotation: int) -> int:
    """Return the class whose part is inserted into an image: the other classes in turn, picture by picture.

    Over the pictures of a class, each other class is used equally often, up to a difference of one.

    Args:
        class_id: class of the image, from 1.
        classes: number of classes.
        view, crop, rotation: position of the image, from 1.

    >>> [partner_of(2, 4, 1, 1, rotation) for rotation in (1, 2, 3, 4)]
    [3, 4, 1, 3]
    """
    turn = ((view - 1) % VIEWPOINTS * 5 + crop - 1) * 5 + rotation - 1
    return (class_id + turn % (classes - 1)) % classes + 1


def swap(
    images: torch.Tensor, masks: torch.Tensor, donors: torch.Tensor, donor_masks: torch.Tensor
) -> torch.Tensor:
    """Insert the part of donor images, which show the same view of another class, into images.

    Pixels are taken from the donor wherever either image has its part, so that the image's own part is
    removed too if it is elsewhere (balls, thorns). All other pixels, including cast shadows, stay those of
    the image. The region is grown by `rim_px`, since pixels next to the mask still contain some of the part.

    Args:
        images, donors: (N, 3, H, W).
        masks, donor_masks: (N, H, W) bool.
    Returns:
        (N, 3, H, W).
    """
    rim = rim_px(masks.shape[-1])
    region = (masks | donor_masks)[:, None].to(images.dtype)
    return torch.where(max_pool2d(region, 2 * rim + 1, 1, rim) > 0, donors, images)


def _places(table: pd.DataFrame) -> list[list[int]]:
    return [table[name].tolist() for name in PLACE]


def _stacked(data: An8Flower, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images, masks and part ids."""
    images, targets = zip(*(data[int(row)] for row in rows), strict=True)
    masks, parts = zip(*targets, strict=True)
    return torch.stack(images), torch.stack(masks), torch.stack(parts)
