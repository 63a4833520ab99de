"""The mask of the part, and when it is too small."""

from __future__ import annotations

import numpy as np
import pytest

from an8flower.drawing.masks import check_visible, mask_of
from an8flower.protocol import PART_IDS


def test_the_mask_is_the_pixels_of_the_part():
    part_ids = np.zeros((4, 4), np.uint8)
    part_ids[1, 2], part_ids[3, 3] = PART_IDS["petals"], PART_IDS["stem"]
    assert np.argwhere(mask_of("petals", part_ids)).tolist() == [[1, 2]]


def test_a_part_covers_0_3_percent_of_an_image_or_with_factors_a_pixel():
    mask = np.zeros((250, 250), bool)
    with pytest.raises(ValueError, match="the sepals cover 0 px: a factor hides them"):
        check_visible(mask, "the sepals", factors=True)
    mask.ravel()[:187] = True  # 0.3 % of the image is 187.5 pixels
    check_visible(mask, "the sepals", factors=True)
    with pytest.raises(ValueError, match=r"the sepals cover 187 px: it must be 0\.3% of the image"):
        check_visible(mask, "the sepals", factors=False)
    mask.ravel()[:188] = True
    check_visible(mask, "the sepals", factors=False)
