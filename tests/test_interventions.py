"""Held-out interventions: covers leave nothing of the part, and what is kept is the part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY

from an8flower import An8Flower
from an8flower.protocol import PART_IDS
from benchmark.certificate.interventions import INTERVENTIONS, View, intervened
from benchmark.covers import Avoided, Covers, covered_region, grown, rim_px
from benchmark.training.lessons import PICTURES

NAMES = [intervention.name for intervention in INTERVENTIONS]
BY_NAME = dict(zip(NAMES, INTERVENTIONS, strict=True))
COVERS = [one.name for one in INTERVENTIONS if one.expects == "no class"]
KEEPS = [one.name for one in INTERVENTIONS if one.expects == "class"]
SIZE_PX = 48
NO_CLASSES = Avoided.of([], held_out=False)


def made(name, view, seed=0):
    return BY_NAME[name].function(view, np.random.default_rng(seed))


@pytest.fixture(params=["petals", "thorns"])
def view(request):
    """Noise with a pot, a stem and a part of two pieces, whose ids are those of `request.param`."""
    rng = np.random.default_rng(1)
    pictures = [rng.random((SIZE_PX, SIZE_PX, 3), np.float32) for _ in range(3)]
    parts = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    parts[36:46, 16:32] = PART_IDS["pot"]
    parts[24:36, 23:25] = PART_IDS["stem"]
    mask = np.zeros(parts.shape, bool)
    mask[10:16, 12:20] = mask[12:18, 28:36] = True
    parts[mask] = PART_IDS[request.param]
    other = np.zeros(parts.shape, bool)
    other[40:44, 38:44] = True  # the part of another class
    by_shape = request.param == "thorns"
    cover = covered_region(mask, by_shape=by_shape) | covered_region(other, by_shape=by_shape)
    return View(*pictures, mask, parts, mask | other, cover, NO_CLASSES)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_reproducible_and_leave_the_view_alone(name, view):
    arrays = [field for field in View.__dataclass_fields__ if field != "classes"]
    before = {field: getattr(view, field).copy() for field in arrays}
    one, again = made(name, view), made(name, view)
    assert one.shape == view.image.shape and one.dtype == np.float32
    assert one.min() >= 0 and one.max() <= 1
    assert np.array_equal(one, again)
    assert not np.array_equal(one, view.image)
    assert all(np.array_equal(getattr(view, field), array) for field, array in before.items())


@pytest.mark.parametrize("name", COVERS)
def test_a_cover_does_not_depend_on_what_it_covers(name, view):
    """Two images that differ in the part and its rim give the same picture."""
    rim = grown(view.mask, rim_px(SIZE_PX))[..., None]
    other = replace(view, image=np.where(rim, 1 - view.image, view.image), part_only=1 - view.part_only)
    assert np.array_equal(made(name, view), made(name, other))


@pytest.mark.parametrize("name", COVERS)
def test_a_cover_leaves_the_rest_of_the_image(name, view):
    assert np.array_equal(made(name, view)[~view.cover], view.image[~view.cover])


@pytest.mark.parametrize("name", COVERS)
def test_a_cover_does_not_tell_which_of_the_parts_it_covers(name, view):
    """Where the other class has its part, something changes, too."""
    there = view.cover.copy()
    there[:30] = False
    assert (made(name, view)[there] != view.image[there]).any()


@pytest.mark.parametrize("name", [name for name in KEEPS if name != "shifted"])
def test_the_part_is_kept_where_it_is(name, view):
    source = view.image if name == "recoloured" else view.part_only
    assert np.array_equal(made(name, view)[view.mask], source[view.mask])


def test_the_part_is_moved_whole(view):
    ways = set()
    for seed in range(60):
        picture = made("shifted", view, seed)
        found = [
            (down, right)
            for down in (-3, 0, 3)  # 6 px at 112 px
            for right in (-3, 0, 3)
            if np.array_equal(picture[np.roll(view.mask, (down, right), (0, 1))], view.part_only[view.mask])
        ]
        assert len(found) == 1
        ways.add(found[0])
    assert len(ways) == 8 and (0, 0) not in ways


def test_a_part_at_the_edge_is_moved_inwards(view):
    mask = np.roll(view.mask, -10, 0)  # its first row is that of the picture
    edge = replace(view, mask=mask)
    for seed in range(30):
        picture = made("shifted", edge, seed)
        shifts = [(down, right) for down in (0, 3) for right in (-3, 0, 3)]
        moved = (picture[np.roll(mask, shift, (0, 1))] for shift in shifts)
        assert any(np.array_equal(pixels, view.part_only[mask]) for pixels in moved)


def test_everything_else_is_recoloured(view):
    picture = made("recoloured", view)
    outside = ~grown(view.candidates, rim_px(SIZE_PX))
    assert (picture != view.image).any(axis=-1)[outside].all()
    assert np.array_equal(picture[~outside], view.image[~outside])
    assert np.array_equal(np.sort(picture, axis=-1), np.sort(view.image, axis=-1))


def test_nothing_gets_a_colour_of_a_class(view):
    """The pot may become green or blue; if blue is a class, it becomes green."""
    image = np.where((view.parts == PART_IDS["pot"])[..., None], np.float32((0.7, 0.4, 0.3)), np.float32(0.9))
    plain = replace(view, image=image)
    blue = replace(plain, classes=Avoided.of([(77, 102, 178)], held_out=False))  # the order (2, 1, 0)
    pot = view.parts == PART_IDS["pot"]
    drawn = {one: set() for one in ("any", "not blue")}
    for seed in range(60):
        for name, changed in (("any", plain), ("not blue", blue)):
            shown = made("recoloured", changed, seed)[pot][0]
            drawn[name].add(tuple(round(float(value), 1) for value in shown))
    assert len(drawn["any"]) == 5
    assert drawn["any"] - drawn["not blue"] == {(0.3, 0.4, 0.7), (0.4, 0.3, 0.7)}


@pytest.mark.parametrize("view", ["petals"], indirect=True)
def test_the_foreign_colour_is_equally_bright_for_all_classes(view):
    """Petals of one class and the stem of another: the colour depends on both, so it is the same."""
    other = replace(view, mask=view.candidates & ~view.mask)
    assert np.array_equal(made("foreign_colour", view), made("foreign_colour", other))


def test_pot_and_stem_are_grey_and_nothing_else_is_added(view):
    picture = made("grey_plant", view)
    plant = np.isin(view.parts, [PART_IDS["pot"], PART_IDS["stem"]])
    assert np.ptp(picture[plant], axis=-1).max() == 0
    assert np.array_equal(picture[~plant], view.part_only[~plant])


def test_shapes_are_covered_by_their_hull():
    mask = np.zeros((30, 30), bool)
    mask[10, 10] = mask[10, 20] = mask[20, 10] = True
    rim = rim_px(30)
    assert np.array_equal(covered_region(mask, by_shape=False), grown(mask, rim))
    hull = covered_region(mask, by_shape=True)
    assert hull[13, 13] and not covered_region(mask, by_shape=False)[15, 15]
    assert not hull[22 + rim :].any() and not hull[18, 18 + rim + 1]
    assert (hull >= grown(mask, rim)).all()


def test_a_part_is_taught_in_none_of_these_ways():
    assert not set(NAMES) & set(PICTURES)


def stacked(pictures):
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def test_a_picture_does_not_depend_on_its_batch(view):
    tensors = [stacked([array, 1 - array]) for array in (view.image, view.part_only, view.all_but_part)]
    masks, parts = (torch.from_numpy(np.stack([array] * 2)) for array in (view.mask, view.parts))
    covers = [(view.candidates, view.cover)] * 2
    for intervention in INTERVENTIONS:
        both = intervened(intervention, *tensors, masks, parts, covers, NO_CLASSES, [5, 8])
        assert both.shape == (2, 3, SIZE_PX, SIZE_PX)
        alone = intervened(
            intervention, *(t[1:] for t in (*tensors, masks, parts)), covers[1:], NO_CLASSES, [8]
        )
        assert torch.equal(both[1:], alone)
    with pytest.raises(ValueError, match="image 1 has an empty mask"):
        masks[1] = False
        intervened(INTERVENTIONS[0], *tensors, masks, parts, covers, NO_CLASSES, [5, 8])


@pytest.mark.parametrize("name", COVERS)
def test_covered_images_of_two_classes_are_alike(name, twinned):
    """On rendered images: nothing tells the colour of petals that are covered."""
    opened = {
        kind: An8Flower(
            twinned, TINY.name, fold=1, split="test", size_px=112, twin=kind, target=("mask", "parts")
        )
        for kind in (None, "part_only", "all_but_part")
    }
    table = opened[None].table
    covers = Covers(opened[None], lambda row: opened[None][row][1][0].numpy())
    for rows in table.groupby(["view", "crop", "rotation"]).groups.values():
        images, only, without = (torch.stack([data[int(r)][0] for r in rows]) for data in opened.values())
        masks, parts = (torch.stack([opened[None][int(r)][1][k] for r in rows]) for k in (0, 1))
        hidden = [covers.of(int(row)) for row in rows]
        pictures = intervened(
            BY_NAME[name], images, only, without, masks, parts, hidden, NO_CLASSES, [0] * len(rows)
        )
        assert len(rows) == 2
        assert (images[0] - images[1]).abs().max() > 0.5
        # 6 of 255 is how much images of two classes differ outside the part, as in docs/certificate.md.
        assert (pictures[0] - pictures[1]).abs().max() <= 10 / 255
