"""Regions that hide a part completely, and the colours with which the certificate fills them.

A cover that hides the part of one class alone shows the class by its place: balls are on the flower, thorns
on the stem. So a cover hides the parts of all classes at once, and is the same for all images of a view.

Near the edge of a mask, pixels show some of the part and some of its surroundings. So covers reach beyond the
mask by `rim_px`. The shape of balls and thorns shows the class, whatever their colour. So each of them is
covered by its convex hull, which has no shape of either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from an8flower import An8Flower
from an8flower.protocol import CROP_SIZE_PX
from an8flower.variants.base import RGB
from an8flower.variants.colours import SIX_COLOURS

Mask = NDArray[np.bool_]

PLACE = ["view", "crop", "rotation"]  # where a picture was taken; each class has one picture per place
# Of the balls of part-2c; no class of the variants that differ in colour has it.
FOREIGN: RGB = (44, 140, 150)
POT: RGB = (188, 108, 76)
# Colours that a covered part has in the certificate, so that training does not show them.
HELD_OUT_COLOURS: tuple[RGB, ...] = (FOREIGN, POT, *SIX_COLOURS.values())
# Least distance in sRGB of a colour of no class from a colour of a class, in light and in shadow, and from
# those above. Shades of these are avoided, too: of a colour of no class, no darker shade may be of a class.
FROM_CLASSES, FROM_HELD_OUT = 0.16, 0.1
BRIGHTEST = 1.6  # the brightest shade of a colour to avoid, as a factor


@dataclass(frozen=True)
class Avoided:
    """Colours that others must not be like.

    Args:
        colours: (k, 3) float32, sRGB in [0, 1].
        radii: (k,) float32, the least distance from each.
    """

    colours: NDArray[np.float32]
    radii: NDArray[np.float32]

    @classmethod
    def of(cls, classes: Sequence[Sequence[int]], *, held_out: bool = True) -> Self:
        """Return the given colours of classes (sRGB, 0 to 255), and those that the certificate uses.

        Args:
            classes: sRGB, 0 to 255.
            held_out: whether to add the colours that a covered part has in the certificate.
        """
        others = HELD_OUT_COLOURS if held_out else ()
        radii = [FROM_CLASSES] * len(classes) + [FROM_HELD_OUT] * len(others)
        colours = np.array([*classes, *others], float).reshape(-1, 3) / 255
        return cls(colours.astype(np.float32), np.array(radii, np.float32))


def class_colours(data: An8Flower) -> list[Sequence[int]]:
    """Return the colours that distinguish the classes of a dataset, sRGB from 0 to 255."""
    return [rgb for spec in data.manifest.header["classes"] for rgb in spec["colours"].values()]


class Covers:
    """The parts of all classes at the place of an image, and the region that hides them.

    Args:
        data: images of all classes at the same places.
        mask_of: returns the (H, W) bool mask of the image in a row of `data.table`.
    """

    def __init__(self, data: An8Flower, mask_of: Callable[[int], Mask]) -> None:
        self._mask_of = mask_of
        specs = data.manifest.header["classes"]
        self.by_shape = any(spec["parts"] for spec in specs)
        self._places = list(zip(*(data.table[name].tolist() for name in PLACE), strict=True))
        self._rows: dict[tuple[int, ...], list[int]] = {}
        for row, place in enumerate(self._places):
            self._rows.setdefault(place, []).append(row)
        self._known: dict[tuple[int, ...], tuple[Mask, Mask]] = {}

    def of(self, row: int) -> tuple[Mask, Mask]:
        """Return (H, W) bool: the pixels that are of the part of any class, and those to cover."""
        place = self._places[row]
        if place not in self._known:
            masks = [self._mask_of(other) for other in self._rows[place]]
            distinct = [mask for k, mask in enumerate(masks) if not any((mask == m).all() for m in masks[:k])]
            covers = [covered_region(mask, by_shape=self.by_shape) for mask in distinct if mask.any()]
            nothing = np.zeros_like(masks[0])
            self._known[place] = (
                np.logical_or.reduce([nothing, *distinct]), np.logical_or.reduce([nothing, *covers])
            )  # fmt: skip
        return self._known[place]


def distance(colours: NDArray[np.float32], avoided: Avoided) -> NDArray[np.float64]:
    """Return how far colours are from those to avoid, however bright these are.

    Args:
        colours: (n, 3) sRGB in [0, 1].
        avoided: k colours and their radii.
    Returns:
        (n,), the least distance from a line between black and the brightest shade of a colour to avoid, in
        units of its radius; infinite if there are none.
    """
    lines = avoided.colours
    if not len(lines):
        return np.full(len(colours), np.inf)
    brightness = np.clip(colours @ lines.T / (lines**2).sum(1), 0, BRIGHTEST)
    distances = np.linalg.norm(colours[:, None] - brightness[..., None] * lines, axis=-1)
    return np.asarray((distances / avoided.radii).min(axis=1), np.float64)


def covered_region(mask: Mask, *, by_shape: bool) -> Mask:
    """Return the pixels to cover so that nothing of a part is left.

    Args:
        mask: (H, W) bool, not empty.
        by_shape: the part's shape tells the class: cover the convex hull.
    Returns:
        (H, W) bool, the mask or its hull, grown by `rim_px`.
    """
    region = mask.astype(np.uint8)
    if by_shape:
        points = np.argwhere(mask)[:, ::-1].astype(np.int32)
        hull = cv2.convexHull(points).astype(np.int32)
        cv2.fillPoly(region, [hull], (1,))
    return grown(region > 0, rim_px(mask.shape[-1]))


def grown(mask: Mask, by_px: int) -> Mask:
    """Return a mask (H, W) and all pixels within `by_px` of it, along rows and columns."""
    side = 2 * by_px + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0)


def rim_px(size_px: int) -> int:
    """Return how far from the mask pixels of an image of this size can still contain some of the part.

    In the 250 px files, averaging over 2x2 samples and the bilinear rotation reach at most 2 px beyond the
    mask. Shrinking adds less than one pixel: a pixel of which less than half shows the part.

    >>> rim_px(112), rim_px(224)
    (2, 3)
    """
    return math.ceil(2 * size_px / CROP_SIZE_PX) + 1
