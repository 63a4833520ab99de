"""Lessons: the pictures of training, their labels, and the loss."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import nn
from torch.nn import functional

from an8flower import An8Flower
from an8flower.ground.registry import UnknownNameError
from an8flower.manifest import DataFolderError
from benchmark.certificate.interventions import SHIFT_PX
from benchmark.covers import HELD_OUT_COLOURS, Avoided, covered_region, distance, grown
from benchmark.models import SubtractMean
from benchmark.training.fitting import fit, loss_of
from benchmark.training.lessons import (
    DARKEST,
    MOVED_PX,
    PICTURES,
    VERSION,
    Lessons,
    Source,
    _cloth,
    _colour,
    moved,
)
from benchmark.training.recipes import Lesson, Recipe, recipes
from benchmark.training.recipes.base import PLAIN, PictureName

ALL = (
    Lesson("image", "label"),
    Lesson("part_only", "label"),
    Lesson("all_but_part", "uniform", weight=2.0),
    Lesson("part_on_colour", "label"),
    Lesson("covered", "uniform"),
)
# Mean and standard deviation of eight pictures each.
RECORDED = {
    "part_on_colour": (0.4211, 0.2004), "covered": (0.4852, 0.2684), "tinted": (0.4841, 0.2895),
    "part_varied": (0.4594, 0.2223), "covered_varied": (0.4965, 0.2853),
}  # fmt: skip
AVOIDED = Avoided.of([(10, 200, 30)])


def training(root, **arguments):
    """The training images of fold 0, small."""
    return An8Flower(root, TINY.name, fold=0, split="train", size_px=32, **arguments)


@pytest.fixture
def source():
    """Three pictures of noise with a part of 6 x 6 pixels."""
    rng = np.random.default_rng(3)
    pictures = (rng.random((32, 32, 3), np.float32) for _ in range(3))
    mask = np.zeros((32, 32), bool)
    mask[12:18, 12:18] = True
    candidates = mask.copy()
    candidates[18:22, 12:18] = True  # where another class has its part
    return Source(*pictures, mask, AVOIDED, candidates, covered_region(candidates, by_shape=False), False)


def test_plain_lessons_are_the_images_bit_for_bit(data):
    images = training(data)
    lessons = Lessons(images, PLAIN)
    assert len(lessons) == lessons.labelled == len(images)
    rngs = [np.random.default_rng(4) for _ in range(3)]
    for batch, same in zip(images.batches(17, rng=rngs[0]), lessons.batches(17, rng=rngs[1]), strict=True):
        assert torch.equal(batch.images, same.images)
        assert torch.equal(batch.labels, same.labels)
    lessons.skip(rngs[2])
    assert len({rng.integers(2**63) for rng in rngs}) == 1


def test_what_cannot_be_taught_is_said(data):
    images = training(data)
    with pytest.raises(DataFolderError, match=r"has no twins 'part_only'; run .*--twins"):
        Lessons(images, ALL)
    with pytest.raises(UnknownNameError, match="unknown picture 'part_onli'; did you mean 'part_only'"):
        Lesson("part_onli", "label")
    assert tuple(PICTURES) == get_args(PictureName)


def test_each_image_is_shown_once_per_lesson(twinned):
    whole = training(twinned)
    chosen = np.arange(len(whole)) % 3 == 1  # not all, and not the first
    images = whole.where(chosen)
    lessons = Lessons(images, ALL[:3])
    assert len(lessons) == 3 * len(images) and lessons.labelled == 2 * len(images)
    batches = list(lessons.batches(40))
    shown = torch.cat([batch.images for batch in batches]).split(len(images))
    labels = torch.cat([batch.labels for batch in batches]).split(len(images))
    for twin, pictures in zip((None, "part_only", "all_but_part"), shown, strict=True):
        expected = training(twinned, twin=twin).where(chosen)
        assert torch.equal(pictures, torch.stack([image for image, _ in expected]))
    truth = torch.tensor([label for _, label in images])
    assert torch.equal(labels[0], truth) and torch.equal(labels[1], truth)
    assert (labels[2] == -1).all()
    weights = torch.cat([batch.weights for batch in batches]).split(len(images))
    assert [set(part.tolist()) for part in weights] == [{1.0}, {1.0}, {2.0}]
    shuffled = torch.cat([batch.labels for batch in lessons.batches(40, rng=np.random.default_rng(0))])
    assert torch.equal(shuffled.sort().values, torch.cat(labels).sort().values)


def test_random_pictures_depend_on_seed_and_epoch_but_not_on_the_batch_size(twinned):
    images = training(twinned)
    lessons = Lessons(images.where(np.arange(len(images)) < 6), ALL)

    def epochs(size, *, skipped=0, number=2):
        rng = np.random.default_rng(9)
        for _ in range(skipped):
            lessons.skip(rng)
        return [torch.cat([batch.images for batch in lessons.batches(size, rng=rng)]) for _ in range(number)]

    first, second = epochs(7)
    assert torch.equal(epochs(30)[0], first) and torch.equal(epochs(30)[1], second)
    assert torch.equal(epochs(7, skipped=1, number=1)[0], second)
    # Without a generator, as in validation, they are always the same.
    fixed = [torch.cat([batch.images for batch in lessons.batches(size)]) for size in (4, 30)]
    assert torch.equal(*fixed)
    covers = fixed[0][4 * 6 :].reshape(6, -1)
    assert len(covers.unique(dim=0)) == 6  # one random number per picture, not one for all


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_in_range_and_leave_their_source_alone(name, source):
    before = [array.copy() for array in (source.image, source.part_only, source.all_but_part, source.mask)]
    one, again, other = (PICTURES[name](source, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.shape == (32, 32, 3) and one.dtype == np.float32
    assert one.min() >= 0 and one.max() <= 1
    assert np.array_equal(one, again)
    if name in ("part_on_colour", "covered", "tinted"):
        assert not np.array_equal(one, other)
    after = (source.image, source.part_only, source.all_but_part, source.mask)
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


def test_pictures_are_those_of_this_version(source):
    """If they change on purpose, raise `VERSION`, so that models are trained again, and these numbers."""
    assert VERSION == 1
    for name, expected in RECORDED.items():
        shown = np.stack([PICTURES[name](source, np.random.default_rng([7, k])) for k in range(8)])
        assert (shown.mean(), shown.std()) == pytest.approx(expected, abs=2e-3)


def test_a_cover_leaves_nothing_of_the_part_and_most_of_the_rest(source):
    picture = PICTURES["covered"](source, np.random.default_rng(2))
    near = grown(source.candidates, 2)  # rim_px(32)
    assert (picture != source.image).any(axis=-1)[near].all()
    far = ~grown(source.candidates, 2 + 4)
    assert np.array_equal(picture[far], source.image[far])
    kept = PICTURES["part_on_colour"](source, np.random.default_rng(2))
    assert np.array_equal(kept[source.mask], source.part_only[source.mask])
    assert (kept != source.image).any(axis=-1)[~source.mask].all()


def test_varied_pictures_are_moved_as_a_whole(source):
    """By up to 1 px of 32, as by up to 4 px of 112."""
    shifts = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        drawn = moved(PICTURES["image"])(source, rng)
        found = [
            (down, right)
            for down in range(-3, 4)
            for right in range(-3, 4)
            if np.array_equal(drawn[4:-4, 4:-4], np.roll(source.image, (down, right), (0, 1))[4:-4, 4:-4])
        ]
        shifts |= set(found)
        assert len(found) == 1
    assert shifts == {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
    assert MOVED_PX < SHIFT_PX  # of the certificate


def test_a_tint_keeps_shape_and_shadows_and_nothing_of_the_colour(source):
    first, second = (PICTURES["tinted"](source, np.random.default_rng(seed)) for seed in (2, 3))
    rim = source.cover & ~source.candidates
    for picture in (first, second):
        assert np.array_equal(picture[~source.cover], source.image[~source.cover])
        assert np.array_equal(picture[rim], source.all_but_part[rim])
    inside = source.candidates
    assert (first != second).any(axis=-1)[inside].mean() > 0.9
    # No pixel of the image's part is used, and a black part stays black.
    recoloured = replace(source, image=np.where(inside[..., None], 1 - source.image, source.image))
    assert np.array_equal(PICTURES["tinted"](recoloured, np.random.default_rng(2)), first)
    dark = replace(source, all_but_part=np.where(source.mask[..., None], 0.0, source.all_but_part))
    assert not PICTURES["tinted"](dark, np.random.default_rng(2))[source.mask].any()
    # Where the shape shows the class, the parts are covered.
    by_shape = replace(source, by_shape=True)
    one, other = (PICTURES[name](by_shape, np.random.default_rng(2)) for name in ("tinted", "covered"))
    assert np.array_equal(one, other)


def test_drawn_colours_are_of_no_class(source):
    quiet = replace(source, all_but_part=source.all_but_part * 0)  # black is near every colour
    drawn = np.stack([_colour(quiet, np.random.default_rng([seed, 1])) for seed in range(300)])
    shades = source.avoided.colours[:, None] * np.linspace(0, 1.1, 200)[None, :, None]
    distances = np.linalg.norm(drawn[:, None, None] - shades, axis=-1).min(axis=(0, 2))
    assert (distances >= source.avoided.radii - 1e-6).all()
    assert source.avoided.radii.tolist() == pytest.approx([0.16] + [0.1] * len(HELD_OUT_COLOURS))
    assert drawn.std(axis=0).min() > 0.1


def test_no_pixel_of_a_background_is_near_a_colour_of_a_class(source):
    """Neither where two colours mix, nor where noise makes them darker."""
    for seed in range(60):
        drawn = _cloth(source, np.random.default_rng(seed))
        assert drawn.min() >= 0 and drawn.max() <= 1
        assert distance(drawn.reshape(-1, 3), source.avoided).min() >= 0.5 * DARKEST - 1e-2


def test_the_loss_is_a_divergence_with_the_gradient_of_the_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([2, -1, 0, -1, -1, 3, 1])
    weights = torch.tensor([1, 2, 1, 2, 0.5, 1, 1], dtype=torch.float64)
    targets = torch.full((7, 4), 0.25, dtype=torch.float64)
    targets[labels >= 0] = functional.one_hot(labels[labels >= 0], 4).double()
    expected = functional.kl_div(logits.log_softmax(1), targets, reduction="none").nan_to_num().sum(1)
    expected = expected * weights
    torch.testing.assert_close(loss_of(logits, labels, weights), expected.mean())
    torch.testing.assert_close(loss_of(logits, labels, weights, "sum"), expected.sum())
    (found,) = torch.autograd.grad(loss_of(logits, labels, weights), logits)
    crossed = functional.cross_entropy(logits, targets, reduction="none")
    (wanted,) = torch.autograd.grad((crossed * weights).mean(), logits)
    torch.testing.assert_close(found, wanted)
    nothing = loss_of(torch.full((2, 4), 5.0), torch.tensor([-1, -1]), torch.ones(2))
    assert nothing == pytest.approx(0, abs=1e-6)
    known, ones = labels.clamp(min=0), torch.ones(7)
    assert torch.equal(loss_of(logits, known, ones), functional.cross_entropy(logits, known))


class Small(nn.Sequential):
    """A network for pictures of 32 px."""

    def __init__(self):
        super().__init__(
            SubtractMean(32), nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.AdaptiveMaxPool2d(4), nn.Flatten(),
            nn.Linear(128, 2),
        )  # fmt: skip


def fitted(root, path, epochs, lessons=ALL):
    """A network after so many epochs, and its curve; training continues from the state at `path`."""
    network = Small()
    recipe = Recipe(name="tests", epochs=epochs, batch=50, enough_loss=0, validation_every=2, lessons=lessons)
    terms = {"identity": {"model": "small", "variant": TINY.name, "fold": 0}}
    curve = fit(network, training(root), recipe, 0, path, terms, lambda epochs: None)
    return network.state_dict(), curve


@pytest.mark.slow
def test_an_interrupted_training_continues_with_the_same_pictures(twinned, tmp_path):
    weights, curve = fitted(twinned, tmp_path / "whole", 3)
    fitted(twinned, tmp_path / "parts", 1)
    continued, same = fitted(twinned, tmp_path / "parts", 3)
    assert same == curve
    assert all(torch.equal(weights[name], continued[name]) for name in weights)


@pytest.mark.slow
def test_the_mean_image_is_that_of_the_images_alone(twinned, tmp_path):
    weights, _ = fitted(twinned, tmp_path / "state", 1)
    images = torch.stack([image for image, _ in training(twinned)])
    torch.testing.assert_close(weights["0.mean"], images.mean(0), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_accuracy_counts_the_pictures_with_a_label(twinned, tmp_path):
    _, curve = fitted(twinned, tmp_path / "state", 6, ALL[:3])
    assert curve[-1]["validation_accuracy"] > 0.7  # at most 2/3 if pictures without a label counted
    assert 0 < curve[-1]["validation_loss"] < curve[0]["validation_loss"]


def test_a_model_without_parameters_to_train_is_left_as_it_is(data, tmp_path):
    network = Small().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    curve = fit(network, training(data), Recipe(), 0, tmp_path / "state", {}, None)
    assert curve == [] and list(tmp_path.iterdir()) == []
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_the_certified_recipe_shows_images_parts_and_no_part():
    lessons = recipes.get("certified").lessons
    assert {lesson.target for lesson in lessons} == {"label", "uniform"}
    assert lessons[0] == Lesson("image", "label")
    assert all(lesson.picture in PICTURES for lesson in lessons)
