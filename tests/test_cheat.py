"""The cheat: which class it tells in which frame, its colours, and what it changes in the images."""

from __future__ import annotations

import colorsys
from collections import Counter

import cv2
import numpy as np
import pytest

from an8flower.drawing.augment import derivatives
from an8flower.drawing.cheat import PATCH_SQUARE_PX, cheat_class, cheat_colours, check_cheat
from an8flower.drawing.factors import DEFAULTS
from an8flower.drawing.plant import plain_colour
from an8flower.protocol import PART_IDS, VIEWPOINTS
from an8flower.variants import ClassSpec, variants

VIEW = 32
VIEWS = np.arange(1, VIEWPOINTS + 1)
LEFT, TOP, SIDE = PATCH_SQUARE_PX
SQUARE = np.s_[TOP : TOP + SIDE, LEFT : LEFT + SIDE]
PATCH, POT = ({**DEFAULTS, "cheat": cheat} for cheat in ("patch", "pot"))


def told(share, *, seed=0, classes=6):
    """(classes, 40): the class that the cheat tells in each view of each class."""
    values = {**PATCH, "cheat_share": share}
    return np.array(
        [
            [cheat_class(values, seed=seed, view=view, class_id=k, classes=classes) for view in VIEWS]
            for k in range(1, classes + 1)
        ]
    )


def own(share, **options):
    answers = told(share, **options)
    return answers == np.arange(1, len(answers) + 1)[:, None]


@pytest.mark.parametrize(("share", "views"), [(0, 0), (0.3, 12), (0.55, 22), (0.8, 32), (1, 40)])
def test_the_cheat_tells_the_class_in_its_share_of_the_views(share, views):
    tells = own(share)
    assert (tells.sum(axis=1) == views).all()
    for fold in range(5):
        in_fold = tells[:, fold == VIEWS % 5].sum(axis=1)
        assert set(in_fold) <= {views // 5, -(-views // 5)}
    assert (own(1) | ~tells).all() and (own(min(1, share + 0.1)) | ~tells).all()


def test_other_frames_tell_each_other_class_equally_often():
    counts = Counter(np.concatenate([told(0, seed=seed)[1] for seed in range(50)]).tolist())
    assert sorted(counts) == [1, 3, 4, 5, 6]
    # 2000 draws: the standard deviation of each count is 18.
    assert all(abs(count - 400) < 90 for count in counts.values())


def test_which_frames_tell_the_class_depends_on_seed_and_class_alone():
    first = told(0.5)
    np.testing.assert_array_equal(told(0.5), first)
    assert (own(0.5, seed=1) != own(0.5)).any()
    assert len({tuple(row) for row in own(0.5)}) == 6
    np.testing.assert_array_equal(own(0.5, classes=12)[:6], own(0.5))
    per_view = [{**PATCH, "cheat_share": view / 40} for view in VIEWS]  # a range: each view has its own share
    for values, view in zip(per_view, VIEWS, strict=True):
        answer = cheat_class(values, seed=0, view=view, class_id=1, classes=6)
        assert (answer == 1) == own(view / 40)[0, view - 1]


def hue_deg(colour):
    return 360 * colorsys.rgb_to_hsv(*(np.array(colour) / 255))[0]


@pytest.mark.parametrize(("name", "gap_deg"), [("single-6c", 122), ("double-12c", 64), ("part-2c", 179)])
def test_the_colours_of_a_cheat_differ_from_each_other_and_from_the_part_of_their_class(name, gap_deg):
    classes = variants.get(name).classes
    colours = cheat_colours(classes)
    hues = np.array([hue_deg(colour) for colour in colours])
    steps = np.diff(np.append(hues, hues[0])) % 360
    np.testing.assert_allclose(steps, 360 / len(classes), atol=0.7)  # of colours of 8 bits
    for spec, hue in zip(classes, hues, strict=True):
        part = hue_deg(spec.colours.get(spec.part, plain_colour(spec.part)))
        assert abs((hue - part + 180) % 360 - 180) > gap_deg


@pytest.mark.parametrize(
    ("settings", "spec", "message"),
    [
        (
            {"cheat": "pot"},
            ClassSpec("blue pots", "pot", {"pot": (0, 0, 200)}),
            "the pot of class 'blue pots'",
        ),
        ({"cheat": "patch", "cheat_share": 0.8}, ClassSpec("petals", "petals"), "there is no other class$"),
    ],
)
def test_a_cheat_that_is_not_possible_is_an_error(settings, spec, message):
    check_cheat({}, [spec])
    with pytest.raises(ValueError, match=message):
        check_cheat(settings, [spec])


def near(mask):
    return cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0  # colours mix at edges


def test_the_patch_fills_its_square_and_changes_nothing_else(renderer):
    usual, frame = renderer.render(0, VIEW), renderer.render(0, VIEW, PATCH)
    patch = frame.part_ids == PART_IDS["patch"]
    assert patch[SQUARE].all() and patch.sum() == SIDE**2
    np.testing.assert_array_equal(frame.part_ids[~patch], usual.part_ids[~patch])
    changed = (frame.image != usual.image).any(axis=2)
    np.testing.assert_array_equal(changed, patch)  # it casts no shadow
    again = renderer.render(0, VIEW)
    np.testing.assert_array_equal(again.image, usual.image)
    np.testing.assert_array_equal(again.part_ids, usual.part_ids)


@pytest.mark.parametrize("values", [PATCH, POT], ids=["patch", "pot"])
def test_the_cheat_has_the_colour_of_the_class_that_it_tells(renderer, values):
    cheat = values["cheat"]
    frames = {(k, of): renderer.render(k, VIEW, values, cheat_index=of) for k in (0, 3) for of in (0, 3)}
    mask = frames[0, 0].part_ids == PART_IDS[cheat]
    for of in (0, 3):
        assert (frames[0, of].image[mask] == frames[3, of].image[mask]).all()
        mean = frames[0, of].image[mask].mean(axis=0)
        wanted = hue_deg(cheat_colours(renderer.variant.classes)[of])
        assert abs((hue_deg(mean) - wanted + 180) % 360 - 180) < 12
    np.testing.assert_array_equal(renderer.render(3, VIEW, values).image, frames[3, 3].image)
    changed = (frames[0, 0].image != frames[0, 3].image).any(axis=2)
    assert changed[mask].mean() > 0.99 and not changed[~near(mask)].any()


@pytest.mark.slow
def test_every_crop_and_rotation_shows_the_whole_patch_in_every_view(renderer):
    for view in VIEWS:
        frame = renderer.render(0, int(view), PATCH)
        assert np.count_nonzero(frame.part_ids == PART_IDS["patch"]) == SIDE**2
        if view % 10 == 1:  # the patch is where it was, so one view would be enough
            for derivative in derivatives(frame):
                patch = derivative.part_ids == PART_IDS["patch"]
                assert np.count_nonzero(patch) == pytest.approx(SIDE**2, rel=0.03)
                rows, columns = np.nonzero(patch)
                assert min(rows.min(), columns.min()) > 0 and max(rows.max(), columns.max()) < 249


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"elevation": 5}, {"elevation": 60}, {"size": 0.3}, {"flower_size": 1.5}, {"background": "plain"},
        {"background": "textured"}, {"second_plant": 1}, {"light_azimuth": 120},
    ],
    ids=str,
)  # fmt: skip
def test_the_patch_is_in_its_square_behind_the_plant_with_other_factors(renderer, settings):
    without = renderer.render(0, VIEW, {**DEFAULTS, **settings})
    frame = renderer.render(0, VIEW, {**PATCH, **settings})
    patch = frame.part_ids == PART_IDS["patch"]
    behind = np.zeros_like(patch)
    behind[SQUARE] = without.part_ids[SQUARE] == 0
    np.testing.assert_array_equal(patch, behind)
    np.testing.assert_array_equal(frame.part_ids[~patch], without.part_ids[~patch])
    changed = (frame.image != without.image).any(axis=2)
    assert changed[patch].all() and not changed[~near(patch)].any()


@pytest.mark.slow
@pytest.mark.parametrize("values", [PATCH, POT], ids=["patch", "pot"])
def test_part_only_has_no_cheat_and_all_but_part_keeps_it(renderer, values):
    usual, frame = renderer.render_twins(0, VIEW), renderer.render(0, VIEW, values, cheat_index=3)
    twins = renderer.render_twins(0, VIEW, values, cheat_index=3)
    np.testing.assert_array_equal(twins.part_only, usual.part_only)
    cheat = frame.part_ids == PART_IDS[values["cheat"]]
    np.testing.assert_array_equal(twins.all_but_part[cheat], frame.image[cheat])
    rest = ~near(cheat)
    np.testing.assert_array_equal(twins.all_but_part[rest], usual.all_but_part[rest])


@pytest.mark.slow
def test_twins_are_the_same_whatever_was_rendered_before(renderer):
    renderer.render(4, 7)
    alone = renderer.render_twins(1, VIEW, PATCH)
    renderer.render(1, VIEW, PATCH)
    after = renderer.render_twins(1, VIEW, PATCH)
    np.testing.assert_array_equal(alone.part_only, after.part_only)
    np.testing.assert_array_equal(alone.all_but_part, after.all_but_part)
    other = renderer.render_twins(1, VIEW, {**PATCH, "background": "textured"})
    assert (other.part_only != after.part_only).any(axis=2).mean() > 0.5


def test_the_plant_hides_the_patch_where_it_is_in_front(renderer):
    values = {**DEFAULTS, "elevation": 60.0, "flower_size": 1.5}  # the large flower reaches the square
    without, frame = (renderer.render(0, 29, {**values, "cheat": cheat}) for cheat in ("none", "patch"))
    free = without.part_ids[SQUARE] == 0
    assert 0.05 < free.mean() < 0.5
    np.testing.assert_array_equal(frame.part_ids[SQUARE] == PART_IDS["patch"], free)
    hidden = ~near(frame.part_ids == PART_IDS["patch"])
    np.testing.assert_array_equal(frame.image[hidden], without.image[hidden])
