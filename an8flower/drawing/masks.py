"""The ground-truth mask: the visible pixels of the part that decides the class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from an8flower.protocol import CROP_SIZE_PX, PART_IDS

# Smallest share of a derivative that the mask must cover; below it the part is hardly visible.
MIN_MASK_AREA = 0.003


def mask_of(part: str, part_ids: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the mask of a part.

    Args:
        part: a key of `PART_IDS`, e.g. "petals".
        part_ids: (H, W) map of part ids, of a frame or a derivative.
    Returns:
        (H, W) bool, True where the part is seen.
    """
    return np.asarray(part_ids == PART_IDS[part])


def check_visible(mask: NDArray[np.bool_], what: str, *, factors: bool) -> None:
    """Check that the part can be seen in a derivative.

    Args:
        mask: (H, W) bool, of the part.
        what: names part and derivative in the message, e.g. "the petals of class 1 in view 3".
        factors: whether factors are set. They may make the part as small as they like, but must not hide it.
    Raises:
        ValueError: if the mask is too small.
    """
    area = int(np.count_nonzero(mask))
    if area < (1 if factors else MIN_MASK_AREA * CROP_SIZE_PX**2):
        reason = "a factor hides them" if factors else f"it must be {MIN_MASK_AREA:.1%} of the image"
        raise ValueError(f"{what} cover {area} px: {reason}")
