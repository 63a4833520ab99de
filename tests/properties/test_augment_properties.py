"""Image and mask go through the same crops and rotations."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from an8flower.drawing.augment import derivatives, rotate_ids, rotate_image
from an8flower.drawing.renderer import Frame
from an8flower.protocol import ROTATIONS_DEG

coarse_masks = arrays(np.bool_, (12, 12))


def frame_of(blocks: np.ndarray) -> Frame:
    """A frame whose image is its mask, of blocks of 25 pixels."""
    mask = np.kron(blocks, np.ones((25, 25), np.uint8)).astype(np.uint8)
    return Frame(np.repeat(mask[..., None] * 255, 3, axis=2), mask)


@settings(max_examples=15)
@given(coarse_masks)
def test_an_image_that_is_its_mask_stays_its_mask(blocks):
    for derivative in derivatives(frame_of(blocks)):
        # Where the bilinear image is purely one or the other and nothing was filled in.
        inside = rotate_ids(np.ones((250, 250), np.uint8), ROTATIONS_DEG[derivative.rotation - 1]) > 0
        pure = inside & np.isin(derivative.image[..., 0], (0, 255))
        assert pure.mean() > 0.5
        agree = (derivative.image[..., 0] == 255) == (derivative.part_ids == 1)
        assert agree[pure].all()


@given(arrays(np.uint8, (9, 9)), st.sampled_from(ROTATIONS_DEG))
def test_rotation_invents_no_ids_and_no_brighter_pixels(ids, angle):
    assert set(np.unique(rotate_ids(ids, angle))) <= set(np.unique(ids)) | {0}
    image = np.repeat(ids[..., None], 3, axis=2)
    turned = rotate_image(image, angle)
    assert ids.min() <= turned.min() and turned.max() <= ids.max()


@given(st.integers(0, 255), st.sampled_from(ROTATIONS_DEG))
def test_borders_of_the_image_are_replicated_and_those_of_the_ids_are_zero(value, angle):
    image = np.full((21, 21, 3), value, np.uint8)
    assert (rotate_image(image, angle) == value).all()
    assert rotate_ids(np.ones((21, 21), np.uint8), angle)[0, 0] == 0
