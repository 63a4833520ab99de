"""Crops and rotations against slices, trigonometry and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.transform import rotate

from an8flower.drawing.augment import derivatives, rotate_ids, rotate_image
from an8flower.drawing.renderer import Frame
from an8flower.protocol import CROPS, ROTATIONS_DEG
from an8flower.resizing import resize_image, resize_mask


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 256, (20, 20, 3)), np.ones((15, 15, 1))).astype(np.uint8)
    return Frame(smooth, np.kron(rng.integers(0, 8, (20, 20)), np.ones((15, 15))).astype(np.uint8))


def test_25_derivatives_crop_by_crop(frame):
    made = list(derivatives(frame))
    assert [(d.crop, d.rotation) for d in made] == [(p, r) for p in range(1, 6) for r in range(1, 6)]
    assert ROTATIONS_DEG == (5, 10, 15, 20, 25)
    assert all(d.image.shape == (250, 250, 3) and d.part_ids.shape == (250, 250) for d in made)


def test_crops_are_the_corners_then_the_centre(frame):
    corners = [np.s_[:250, :250], np.s_[:250, 50:], np.s_[50:, :250], np.s_[50:, 50:], np.s_[25:275, 25:275]]
    for (left, top), window in zip(CROPS, corners, strict=True):
        np.testing.assert_array_equal(frame.image[top : top + 250, left : left + 250], frame.image[window])
    by_name = {(d.crop, d.rotation): d for d in derivatives(frame)}
    for crop, window in enumerate(corners, start=1):
        np.testing.assert_array_equal(by_name[crop, 3].image, rotate_image(frame.image[window], 15))
        np.testing.assert_array_equal(by_name[crop, 3].part_ids, rotate_ids(frame.part_ids[window], 15))


@pytest.mark.parametrize("angle", ROTATIONS_DEG)
def test_ids_are_the_nearest_pixel_of_the_turned_grid(frame, angle):
    ids = frame.part_ids[:250, :250]
    turned = rotate_ids(ids, angle)
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    # Counter-clockwise on the screen, whose y points down, about the centre of the pixels.
    y, x = np.mgrid[:250, :250] - 124.5
    source_x, source_y = cosine * x - sine * y + 124.5, sine * x + cosine * y + 124.5
    column, row = np.rint(source_x).astype(int), np.rint(source_y).astype(int)
    inside = (column >= 0) & (column < 250) & (row >= 0) & (row < 250)
    expected = np.where(inside, ids[np.clip(row, 0, 249), np.clip(column, 0, 249)], 0)
    # OpenCV rounds coordinates to fixed point: a pixel may tip over on an edge, no more.
    assert (turned != expected).mean() < 0.002


@pytest.mark.parametrize("angle", ROTATIONS_DEG)
def test_image_is_scikit_images_rotation(frame, angle):
    image = frame.image[:250, :250]
    expected = rotate(image, angle, mode="edge", order=1, preserve_range=True)
    difference = np.abs(rotate_image(image, angle) - expected)
    assert difference.mean() < 1.0 and np.quantile(difference, 0.99) < 12  # fixed-point weights


def test_resizing_averages_areas():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (100, 100, 3)).astype(np.uint8)
    blocks = image.reshape(50, 2, 50, 2, 3).mean(axis=(1, 3))
    assert np.abs(resize_image(image, 50) - blocks).max() <= 0.5
    mask = rng.random((100, 100)) < 0.5
    np.testing.assert_array_equal(resize_mask(mask, 50), mask.reshape(50, 2, 50, 2).mean(axis=(1, 3)) >= 0.5)
