"""The rendered frames and their part ids."""

from __future__ import annotations

import ctypes

import cv2
import numpy as np
import pytest

from an8flower.drawing.gl import NoGraphicsError, choose_platform
from an8flower.drawing.plant import plant
from an8flower.ground.registry import UnknownNameError
from an8flower.protocol import PART_IDS, VIEWPOINTS
from an8flower.variants import ClassSpec, variants

CLASSES = range(len(variants.get("single-6c").classes))


@pytest.fixture(scope="module")
def turntable(renderer):
    """All 40 views of the first class."""
    return [renderer.render(0, view) for view in range(1, VIEWPOINTS + 1)]


@pytest.mark.slow
def test_the_plant_fills_the_central_square_in_every_view(turntable):
    tallest = 0
    for frame in turntable:
        rows, columns = np.nonzero(frame.part_ids)
        assert rows.min() >= 50 and rows.max() < 250
        assert columns.min() >= 50 and columns.max() < 250
        tallest = max(tallest, rows.max() - rows.min() + 1)
    assert tallest >= 190


def test_every_view_differs_from_every_other(turntable):
    flat = np.stack([frame.part_ids.ravel() for frame in turntable])
    for k, view in enumerate(flat):
        others = np.delete(flat, k, axis=0)
        assert (others != view).sum(axis=1).min() > 250  # pixels


def test_petals_are_visible_in_every_view(turntable):
    shares = [np.mean(frame.part_ids == PART_IDS["petals"]) * (300 / 250) ** 2 for frame in turntable]
    assert min(shares) > 0.01 and 0.02 < np.mean(shares) < 0.06


def test_image_and_part_ids_are_aligned(turntable):
    for frame in turntable[::8]:
        petals = frame.part_ids == PART_IDS["petals"]
        red = (frame.image[..., 0] > 90) & (frame.image[..., 1:].max(axis=2) < 0.45 * frame.image[..., 0])
        assert np.count_nonzero(petals & red) / np.count_nonzero(petals | red) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("view", [1, 14, 30])
def test_classes_differ_in_the_petals_alone(renderer, view):
    frames = [renderer.render(k, view) for k in CLASSES]
    petals = (frames[0].part_ids == PART_IDS["petals"]).astype(np.uint8)
    near = cv2.dilate(petals, np.ones((3, 3), np.uint8)) > 0  # colours mix at antialiased edges
    for frame in frames[1:]:
        np.testing.assert_array_equal(frame.part_ids, frames[0].part_ids)
        changed = (frame.image != frames[0].image).any(axis=2)
        assert not changed[~near].any()
        assert changed[petals > 0].mean() > 0.99


@pytest.mark.slow
def test_drawing_again_gives_the_same_bytes(renderer):
    first = renderer.render(2, 7)
    renderer.render(4, 33)
    again = renderer.render(2, 7)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.part_ids, again.part_ids)


def test_edges_are_smooth_and_masks_are_not(turntable):
    frame = turntable[30]
    assert set(np.unique(frame.part_ids)) <= set(PART_IDS.values())
    assert len(np.unique(frame.image.reshape(-1, 3), axis=0)) > 2000


def test_the_seed_is_the_plants_shape():
    spec = variants.get("single-6c").classes[0]
    shapes = [np.vstack([part.mesh.vertices for part in plant(spec, seed=seed)]) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(shapes[0], shapes[1])
    assert np.abs(shapes[0] - shapes[2]).max() > 1e-3


def test_an_unknown_part_is_named():
    with pytest.raises(UnknownNameError, match="unknown part 'petal'; did you mean 'petals'"):
        plant(ClassSpec("odd", part="petal"))


@pytest.mark.parametrize("platform", ["auto", "egl", "osmesa"])
def test_without_a_gl_library_the_package_is_named(monkeypatch, platform):
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    package = {"auto": "libegl1", "egl": "libegl1", "osmesa": "libosmesa6"}[platform]
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "ubuntu", "ID_LIKE": "debian"})
    with pytest.raises(NoGraphicsError, match=rf"run 'sudo apt-get install {package} [^']*'$"):
        choose_platform(platform)
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "fedora"})
    with pytest.raises(NoGraphicsError, match=r"run 'sudo dnf install mesa-[^']*'$"):
        choose_platform(platform)
    monkeypatch.setattr("platform.freedesktop_os_release", missing_release)
    with pytest.raises(
        NoGraphicsError, match=rf"{package} .*' on Debian or Ubuntu or 'sudo dnf .*' on Fedora$"
    ):
        choose_platform(platform)


def missing_release() -> dict[str, str]:
    raise OSError("no such file")
