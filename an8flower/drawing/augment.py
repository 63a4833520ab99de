"""Crop and rotate frames; image and part ids are always transformed in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from an8flower.drawing.renderer import Frame
from an8flower.ground.deprecated import renamed
from an8flower.protocol import CROP_SIZE_PX, CROPS, ROTATIONS_DEG


@dataclass(frozen=True)
class Derivative:
    """A crop of a frame, rotated.

    Args:
        crop: number of the crop, from 1 to 5; see `protocol.CROPS`.
        rotation: number of the rotation, from 1 to 5; see `protocol.ROTATIONS_DEG`.
        image: (250, 250, 3) uint8 RGB; the empty corners repeat the border.
        part_ids: (250, 250) uint8; the empty corners are background.
    """

    crop: int
    rotation: int
    image: NDArray[np.uint8]
    part_ids: NDArray[np.uint8]


def derivatives(frame: Frame) -> Iterator[Derivative]:
    """Yield the 25 derivatives of a frame: for each crop its 5 rotations.

    Source: Oramas et al. 2019, section 4.3. Departs: the paper specifies neither what fills the corners
    nor the direction of the rotation.
    """
    for crop, (left, top) in enumerate(CROPS, start=1):
        window = np.s_[top : top + CROP_SIZE_PX, left : left + CROP_SIZE_PX]
        image, part_ids = frame.image[window], frame.part_ids[window]
        for rotation, angle_deg in enumerate(ROTATIONS_DEG, start=1):
            yield Derivative(crop, rotation, rotate_image(image, angle_deg), rotate_ids(part_ids, angle_deg))


def rotate_image(image: NDArray[np.uint8], angle_deg: float) -> NDArray[np.uint8]:
    """Rotate an image (H, W, 3) counter-clockwise about its centre; bilinear, border repeated."""
    return _warp(image, angle_deg, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)


def rotate_ids(part_ids: NDArray[np.uint8], angle_deg: float) -> NDArray[np.uint8]:
    """Rotate part ids (H, W) counter-clockwise about the centre; nearest neighbour, 0 outside."""
    return _warp(part_ids, angle_deg, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)


def _warp(array: NDArray[np.uint8], angle_deg: float, interpolation: int, border: int) -> NDArray[np.uint8]:
    height, width = array.shape[:2]
    # Pixel centres have whole-number coordinates, so the centre of an even-sized square is between pixels.
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, 1.0)
    return np.asarray(cv2.warpAffine(array, matrix, (width, height), flags=interpolation, borderMode=border))


__getattr__ = renamed(
    __name__,
    {
        "resize_image": "an8flower.resizing.resize_image",
        "resize_mask": "an8flower.resizing.resize_mask",
        "resize_ids": "an8flower.resizing.resize_ids",
    },
)
