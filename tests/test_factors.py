"""Controlled factors: parsing, ranges, and their effect on the images."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from an8flower.drawing.factors import DEFAULTS, FACTORS, checked, parse, values_of
from an8flower.ground.registry import UnknownNameError
from an8flower.protocol import PART_IDS

VIEW = 32


@pytest.fixture(scope="module")
def usual(renderer):
    return renderer.render(0, VIEW)


def drawn(renderer, **settings):
    return renderer.render(0, VIEW, values_of(settings, seed=0, view=VIEW))


def height(frame, ids=range(1, 11)):
    rows = np.flatnonzero(np.isin(frame.part_ids, list(ids)).any(axis=1))
    return rows[-1] - rows[0] + 1


def area(frame, part="petals"):
    return np.count_nonzero(frame.part_ids == PART_IDS[part])


def test_defaults_draw_the_papers_frame(renderer, usual):
    np.testing.assert_array_equal(drawn(renderer).image, usual.image)
    explicit = renderer.render(0, VIEW, dict(DEFAULTS))
    np.testing.assert_array_equal(explicit.image, usual.image)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"light_azimuth": 90}, {"light_elevation": 20}, {"light_strength": 0.5}, {"background": "plain"},
        {"background": "textured"}, {"second_plant": 1},
    ],
    ids=str,
)  # fmt: skip
def test_light_and_surroundings_change_the_picture_but_not_the_mask(renderer, usual, settings):
    frame = drawn(renderer, **settings)
    assert (frame.image != usual.image).any(axis=2).mean() > 0.05
    petals = PART_IDS["petals"]
    np.testing.assert_array_equal(frame.part_ids == petals, usual.part_ids == petals)
    renderer.render(0, VIEW)  # the next frame with defaults is as before
    np.testing.assert_array_equal(renderer.render(0, VIEW).image, usual.image)


@pytest.mark.slow
def test_size_is_the_share_of_the_square(renderer, usual):
    for size in (0.3, 0.6):
        assert height(drawn(renderer, size=size)) == pytest.approx(size * height(usual), abs=2)


@pytest.mark.slow
def test_flower_size_and_elevation_keep_the_plant_within_the_square(renderer, usual):
    small, large = (area(drawn(renderer, flower_size=size)) for size in (0.5, 1.5))
    assert large > 1.6 * area(usual) and area(usual) > 2.5 * small
    assert area(drawn(renderer, elevation=60)) > area(usual) > area(drawn(renderer, elevation=5))
    for settings in ({"flower_size": 1.5}, {"elevation": 60}, {"elevation": 5}):
        rows, columns = np.nonzero(drawn(renderer, **settings).part_ids)
        assert min(rows.min(), columns.min()) >= 50 and max(rows.max(), columns.max()) < 250


@pytest.mark.slow
def test_extra_leaves_come_one_by_one_with_an_id_of_their_own(renderer):
    areas = [area(drawn(renderer, extra_leaves=k), "extra_leaves") for k in range(5)]
    assert areas[0] == 0 and all(b > a for a, b in pairwise(areas))


@pytest.mark.slow
def test_the_second_plant_has_an_id_and_no_class_cue(renderer):
    red, blue = (renderer.render(k, VIEW, {**DEFAULTS, "second_plant": 1}) for k in (0, 3))
    second = red.part_ids == PART_IDS["second_plant"]
    assert second.sum() > 1000
    np.testing.assert_array_equal(red.image[second], blue.image[second])


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_occlusion_hides_that_share_of_the_part(renderer, usual, share):
    frame = drawn(renderer, occlusion=share)
    assert 1 - area(frame) / area(usual) == pytest.approx(share, abs=0.04)
    assert area(frame, "board") > 100
    visible = frame.part_ids == PART_IDS["petals"]
    np.testing.assert_array_equal(usual.part_ids[visible], frame.part_ids[visible])


def test_ranges_are_drawn_for_each_view_and_each_factor_by_itself():
    settings = {"size": (0.5, 1.0), "extra_leaves": (0, 4)}
    drawn = [values_of(settings, seed=7, view=view) for view in range(1, 41)]
    sizes = [values["size"] for values in drawn]
    assert 0.5 <= min(sizes) < 0.6 and 0.9 < max(sizes) <= 1.0 and len(set(sizes)) == 40
    assert {values["extra_leaves"] for values in drawn} == {0, 1, 2, 3, 4}
    alone = [values_of({"size": (0.5, 1.0)}, seed=7, view=view)["size"] for view in range(1, 41)]
    assert alone == sizes
    assert [values_of(settings, seed=8, view=view)["size"] for view in range(1, 41)] != sizes
    assert all(values["elevation"] == DEFAULTS["elevation"] for values in drawn)


def test_every_factor_is_documented_and_its_default_allowed():
    needed = {"cheat": "pot", "light_saturation": 0.3}
    for factor in FACTORS.values():
        assert factor.meaning and factor.allowed
        checked({**needed, factor.name: factor.default} if factor.needs else {factor.name: factor.default})


def test_factors_keep_their_place_because_it_is_their_random_stream():
    assert list(FACTORS) == [
        "light_azimuth", "light_elevation", "light_strength", "background", "elevation", "size",
        "flower_size", "extra_leaves", "second_plant", "occlusion",
        "cheat", "cheat_share", "light_hue", "light_saturation",
    ]  # fmt: skip
    assert values_of({"size": (0.5, 1.0)}, seed=7, view=3)["size"] == np.random.default_rng(
        [7, 3, 5]
    ).uniform(0.5, 1.0)


def test_texts_become_settings():
    texts = ["size=0.6", "elevation=10..40", "background=textured", "second_plant=1"]
    assert parse(texts) == {
        "size": 0.6, "elevation": (10.0, 40.0), "background": "textured", "second_plant": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("size", ValueError, "write a factor as name=value"),
        ("siz=1", UnknownNameError, "unknown factor 'siz'; did you mean 'size'"),
        ("size=2", ValueError, "size must be 0.3 to 1, or a range such as 0.3..1; got 2"),
        ("size=big", ValueError, "size must be 0.3 to 1, or a range such as 0.3..1; got big"),
        ("size=1..0.5", ValueError, r"got 1.0..0.5"),
        ("extra_leaves=1.5", ValueError, "must be a whole number from 0 to 4"),
        ("background=blue", ValueError, r"must be one of plain \| graded \| textured; got blue"),
        ("cheat=yes", ValueError, r"must be one of none \| patch \| pot; got yes"),
        ("cheat_share=0.8", ValueError, "cheat_share has no effect without the factor cheat; set cheat, too"),
        ("light_hue=0..360", ValueError, "no effect without the factor light_saturation"),
        ("light_saturation=1", ValueError, "must be 0 to 0.9"),
    ],
)
def test_bad_settings_say_what_is_right(text, error, message):
    with pytest.raises(error, match=message):
        parse([text])


def test_a_factor_that_is_set_twice_is_refused():
    with pytest.raises(ValueError, match="factor cheat is set twice"):
        parse(["cheat=patch", "size=0.5", "cheat=pot"])
