"""The colour detectors, for which the pixels that decide are known, and how methods find them."""

from __future__ import annotations

import json
import math
from functools import partial
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch

import explainers
from an8flower import An8Flower, generate
from an8flower.drawing.plant import PLAIN_COLOURS, WALL_COLOUR
from an8flower.variants.colours import SIX_COLOURS
from benchmark.experiments.evidence import known_truth, known_truth_picture
from benchmark.experiments.evidence.known_truth import DETECTORS, cosines, overlaps, study, tables
from benchmark.models import models
from benchmark.models.colour_detector import FORMS, threshold
from benchmark.models.deciding_pixels import deciding_pixels, matches, maximal_pixels, shapley_values
from benchmark.training.loader import TrainingBatches

PROJECT = Path(__file__).parent.parent
NAMES = list(SIX_COLOURS)
# "petals" are those of the plants without a class in their petals: grey.
OTHERS = {**PLAIN_COLOURS, "wall": WALL_COLOUR}
GREY = torch.full((3, 1, 1), 0.5)
# What takes the place of a pixel in the tests: colours that match nothing.
REPLACEMENTS = {
    "grey": (128, 128, 128), "black": (0, 0, 0), "white": (255, 255, 255),
    "wall": WALL_COLOUR, "pot": PLAIN_COLOURS["pot"], "leaves": PLAIN_COLOURS["leaves"],
}  # fmt: skip


def lights() -> np.ndarray:
    """Strengths of light by channel (n, 3): ambient, with shares of key and fill light; see `stage`."""
    ambient, key, fill = np.array([[0.40, 0.41, 0.43], [1, 0.965, 0.90], [0.82, 0.90, 1]])
    found = [
        ambient + k * key + f * fill
        for k, f in product(np.linspace(0, 0.95, 6), np.linspace(0, 0.4, 5))
        if 0.40 + k + 0.82 * f <= 1.5
    ]
    return np.array(found)


def lit(colour, sheens=(0.0,), shades=(0.45, 0.7, 1.0)) -> np.ndarray:
    """The levels (n, 3) that the renderer's shader gives a surface; see `colour_detector`."""
    base = (np.array(colour) / 255) ** 2.2
    levels = [
        255 * (shade * (base * lights() + sheen)) ** (1 / 2.2) for sheen, shade in product(sheens, shades)
    ]
    return np.minimum(np.concatenate(levels), 255)


def forms(name: str, levels: np.ndarray) -> np.ndarray:
    """Values (k, n) of the forms of a colour: the definition, in NumPy."""
    return np.array([levels @ np.array(a, float) - threshold(name, k) for k, a in enumerate(FORMS[name])])


def matching(name: str, levels: np.ndarray) -> np.ndarray:
    """Which levels (n, 3) match a colour, from the definition."""
    values = forms(name, levels)
    positive = (values > 0).all(axis=0)
    return positive & (values[1] + values[2] > values[0]) if len(values) == 3 else positive


def detector(name: str, classes: int = 6) -> torch.nn.Module:
    return models.get(name).build(classes).eval()


def as_image(levels) -> torch.Tensor:
    return torch.tensor(levels, dtype=torch.float32) / 255


@pytest.fixture(params=DETECTORS)
def model(request):
    return detector(request.param)


@pytest.fixture(scope="module")
def images(data, tiny) -> torch.Tensor:
    """One image of each class of tiny-2c, which are red and blue petals: (2, 3, 112, 112)."""
    dataset = An8Flower(data, tiny.name, size_px=112)
    return torch.stack([dataset[k][0] for k in (40, 190)])


def flowers_of(variant: str, root: Path) -> None:
    generate(root, variant, viewpoints=[1, 2, 3, 4, 5], workers=2)


def of_colour(images) -> torch.Tensor:
    return torch.tensor([NAMES.index("red"), NAMES.index("blue")])


class TestColours:
    """The arithmetic of `colour_detector`: light, sheen and mixtures."""

    @pytest.mark.parametrize("name", NAMES)
    def test_petals_match_their_own_colour_in_any_light(self, name):
        bright = lit(SIX_COLOURS[name])
        bright = bright[bright.max(axis=1) > 0.65 * max(SIX_COLOURS[name])]
        assert len(bright) > 30 and matching(name, bright).all()

    @pytest.mark.parametrize("name", NAMES)
    def test_no_other_colour_matches_in_any_light(self, name):
        others = {**OTHERS, **SIX_COLOURS}
        del others[name]
        for colour in others.values():
            assert not matching(name, lit(colour, sheens=(0, 0.02, 0.05, 0.1, 0.2, 0.4))).any(), colour

    def test_no_grey_matches_because_the_numbers_of_each_first_form_sum_up_to_less_than_0(self):
        assert max(sum(each[0]) for each in FORMS.values()) < 0

    @pytest.mark.parametrize("name", NAMES)
    def test_no_mixture_of_other_petals_with_a_part_matches(self, name):
        """Mixtures of two, as at an edge; violet and blue petals do not touch the pot."""
        for petals, part in product(set(NAMES) - {name}, OTHERS):
            if (name, part) == ("pink", "pot") and petals in ("violet", "blue"):
                continue
            a, b = lit(SIX_COLOURS[petals]), lit(OTHERS[part])
            for share in np.linspace(0, 1, 21):
                mixed = (share * a[:, None] + (1 - share) * b[None]).reshape(-1, 3)
                assert not matching(name, mixed).any(), (petals, part, share)

    def test_the_layers_compute_the_forms(self):
        """Half of the colours are near those of petals, where the decision is close."""
        rng = np.random.default_rng(0)
        near = np.array(list(SIX_COLOURS.values()))[rng.integers(6, size=6272)] * rng.uniform(
            0.3, 1.1, (6272, 1)
        )
        near = np.clip(near + rng.normal(0, 25, near.shape), 0, 255).round()
        levels = np.concatenate([near, rng.integers(0, 256, (6272, 3))])
        image = as_image(levels.T.reshape(1, 3, 112, 112))
        found = matches(detector("colour_max"), image)[0].reshape(6, -1).numpy() > 0
        expected = np.array([matching(name, levels) for name in NAMES])
        assert 500 < expected.any(axis=0).sum() < 12000
        np.testing.assert_array_equal(found, expected)

    def test_the_colour_of_a_class_matches_by_1(self, model):
        image = as_image([[list(rgb)] for rgb in SIX_COLOURS.values()]).permute(2, 1, 0)
        whole = GREY.expand(3, 112, 112).clone()
        whole[:, :1, :6] = image
        torch.testing.assert_close(matches(model, whole[None])[0, :, 0, :6], torch.eye(6), atol=1e-6, rtol=0)


class TestModels:
    """What the two models compute."""

    def test_nothing_is_trained(self, model):
        assert not any(parameter.requires_grad for parameter in model.parameters())

    def test_answers_are_right_and_certain(self, model, images):
        chances = model(images).softmax(1)
        assert chances.argmax(1).tolist() == of_colour(images).tolist()
        assert chances.amax(1).min() > 0.999

    @pytest.mark.parametrize("name", DETECTORS)
    def test_stem_classes_have_a_logit_of_0(self, name, images):
        logits = detector(name, 12)(images)
        torch.testing.assert_close(logits[:, :6], detector(name)(images))
        assert not logits[:, 6:].any()

    def test_a_class_that_has_no_logit_decides_nothing(self, images):
        two = detector("colour_mean", 2)  # red and orange
        assert deciding_pixels(two, images).flatten(1).any(1).tolist() == [True, False]

    def test_other_models_are_refused(self, images):
        with pytest.raises(ValueError, match="known for colour_max and colour_mean, not for Sequential"):
            deciding_pixels(models.get("an8net").build(6), images)

    @pytest.mark.slow
    @pytest.mark.parametrize("variant", ["single-6c", "double-12c"])
    def test_right_on_flowers_and_no_pixel_matches_another_class(self, variant, once):
        """Five views; the command checks all."""
        root = once(f"flowers-{variant}", partial(flowers_of, variant))
        data = An8Flower(root, variant, size_px=112)
        flowers = data.where((data.table["class"] <= 6).to_numpy())
        for name in DETECTORS:
            rows = overlaps(detector(name, len(data.classes)), flowers)
            assert [row.right for row in rows] == [1.0] * 6
            assert [row.foreign for row in rows] == [0] * 6
            assert min(row.inside for row in rows) > 0.9 and min(row.covered for row in rows) > 0.7


def changed_by_single_pixels(model, image: torch.Tensor, places: torch.Tensor, name: str) -> int:
    """For how many of the places (n, 2) a replacement of this one pixel changes any logit at all."""
    changed, colour, changes = image[None].clone(), as_image(REPLACEMENTS[name]), 0
    with torch.no_grad():
        before = model(changed)  # one image each, because rounding depends on the size of a batch
        for row, column in places.tolist():  # faster than batches, whose memory is allocated anew
            changed[0, :, row, column] = colour
            changes += int((model(changed) != before).any())
            changed[0, :, row, column] = image[:, row, column]
    return changes


class TestDecidingPixels:
    """The claims in `deciding_pixels`."""

    def test_they_are_in_the_petals(self, data, tiny, images):
        dataset = An8Flower(data, tiny.name, size_px=112, target="mask")
        masks = torch.stack([dataset[k][1] for k in (40, 190)])
        decides = deciding_pixels(detector("colour_mean"), images)
        assert (decides & masks).sum() > 0.9 * decides.sum()
        assert (decides & masks).sum() > 0.85 * masks.sum()

    @pytest.mark.parametrize("name", REPLACEMENTS)
    def test_all_pixels_outside_together(self, model, images, name):
        outside = ~deciding_pixels(model, images)[:, None]
        changed = torch.where(outside, as_image(REPLACEMENTS[name])[:, None, None], images)
        assert (changed != images).flatten(1).any(1).all()
        assert torch.equal(model(changed), model(images))

    def test_random_sets_of_pixels_outside_with_small_noise(self, model, images, generator):
        """Noise of up to 1e-4, less than the distance to any colour that matches."""
        outside = ~deciding_pixels(model, images)[:, None]
        before = model(images)
        for _ in range(5):
            noise = 1e-4 * (2 * torch.rand(images.shape, generator=generator) - 1)
            some = outside & (torch.rand(outside.shape, generator=generator) < 0.5)
            assert torch.equal(model(images + noise * some), before)

    @pytest.mark.parametrize("name", ["grey", "pot"])
    def test_single_pixels_outside(self, model, images, name):
        for image, outside in zip(images, ~deciding_pixels(model, images), strict=True):
            assert changed_by_single_pixels(model, image, outside.nonzero()[::97], name) == 0

    @pytest.mark.slow
    def test_every_single_pixel_outside(self, model, images):
        outside = ~deciding_pixels(model, images[:1])[0]
        assert outside.sum() > 12000
        assert changed_by_single_pixels(model, images[0], outside.nonzero(), "grey") == 0

    def test_each_pixel_inside_alone_changes_the_mean_by_its_share(self, images):
        model = detector("colour_mean").double()
        image, label = images[1].double(), int(of_colour(images)[1])
        shares = shapley_values(model, image[None], torch.tensor([label]))[0]
        before = model(image[None])[0, label]
        inside = deciding_pixels(model, image[None])[0].nonzero()
        assert len(inside) > 100
        for where in inside.split(128):
            changed = image.repeat(len(where), 1, 1, 1)
            changed[torch.arange(len(where)), :, where[:, 0], where[:, 1]] = 0.5
            lost = before - model(changed)[:, label]
            expected = shares[where[:, 0], where[:, 1]]
            assert (lost > 0).all()
            torch.testing.assert_close(lost, expected, atol=1e-12, rtol=1e-6)

    def test_any_single_pixel_is_enough_for_the_maximum_and_none_is_too_few(self, images):
        model = detector("colour_max")
        image, label = images[0], int(of_colour(images)[0])
        inside = deciding_pixels(model, image[None])[0]
        empty = torch.where(inside, GREY, image)
        assert not model(empty[None]).any()
        for where in inside.nonzero()[::7].split(64):
            kept = empty.repeat(len(where), 1, 1, 1)
            at = (torch.arange(len(where)), slice(None), where[:, 0], where[:, 1])
            kept[at] = image[:, where[:, 0], where[:, 1]].T
            logits = model(kept)
            assert (logits[:, label] > 0).all() and logits.count_nonzero() == len(where)

    def test_gradients_are_0_outside(self, model, images):
        pixels = images.clone().requires_grad_()
        labels = of_colour(images)
        model(pixels).gather(1, labels[:, None]).sum().backward()
        has_gradient = pixels.grad.abs().amax(1) > 0
        if isinstance(model.pool, torch.nn.AvgPool2d):
            assert torch.equal(has_gradient, deciding_pixels(model, images))
        else:
            assert has_gradient.sum((1, 2)).tolist() == [1, 1]
            assert (has_gradient <= maximal_pixels(model, images)).all()
        # nor have the logits of the other classes any gradient
        pixels = images.clone().requires_grad_()
        model(pixels).scatter(1, labels[:, None], 0.0).sum().backward()
        assert not pixels.grad.any()

    def test_shapley_values_are_those_of_the_definition(self, model):
        """Over all orders in which four pixels appear in a grey image."""
        reds = [(206, 32, 41), (150, 20, 30), (206, 60, 60), (206, 32, 41)]
        image = GREY.expand(3, 112, 112).clone()
        image[:, 0, :4] = as_image(reds).T
        expected = np.zeros(4)
        for order in permutations(range(4)):
            shown, before = GREY.expand(3, 112, 112).clone(), 0.0
            for k in order:
                shown[:, 0, k] = image[:, 0, k]
                after = model(shown[None])[0, 0].item()
                expected[k] += (after - before) / math.factorial(4)
                before = after
        found = shapley_values(model, image[None], torch.tensor([0]))[0]
        np.testing.assert_allclose(found[0, :4].numpy(), expected, atol=1e-4)
        assert not found[1:].any() and not found[0, 4:].any()
        assert found.sum().item() == pytest.approx(model(image[None])[0, 0].item(), rel=1e-5)

    def test_shapley_values_of_a_class_without_a_colour_are_0(self, images):
        assert not shapley_values(detector("colour_max", 12), images, torch.tensor([7, 11])).any()


METHODS = ("gradient", "grad_cam", "grad_cam@relu1", "guided_backprop", "train_mean_mask", "random", "oracle")


@pytest.fixture(scope="module")
def scored(data, tiny):
    """Scores for two images of red petals, whose class has the same number as in single-6c."""
    whole = An8Flower(data, tiny.name, size_px=112, target=("mask", "plant"))
    few = whole.where(np.arange(len(whole)) % 25 == 3)
    red = few.where((few.table["class"] == 1).to_numpy() & (few.table["view"] <= 2).to_numpy())
    found = {}
    for name in DETECTORS:
        rows, failed = study(detector(name), red, few, METHODS)
        assert failed == {}
        found[name] = {row.method: row for row in rows}
    return found


class TestExplaining:
    """Methods on these models, and their scores."""

    def test_truths_and_methods_are_scored(self, scored):
        for rows in scored.values():
            assert set(rows) == {*known_truth.TRUTHS, *METHODS}
            assert rows["deciding pixels"].iou_auc == rows["deciding pixels"].mass == 1
            assert rows["exact Shapley values"].cosine == pytest.approx(1)
            assert rows["exact Shapley values"].mass == pytest.approx(1)
            assert rows["random"].iou_auc < 0.1

    def test_the_gradient_finds_all_pixels_of_the_mean_and_one_of_the_maximum(self, scored):
        mean, largest = (scored[name]["gradient"] for name in ("colour_mean", "colour_max"))
        assert mean.mass == largest.mass == largest.best_mass == pytest.approx(1)
        assert mean.iou_auc > 0.3 > 0.05 > largest.iou_auc

    def test_grad_cam_is_the_map_of_matches_at_the_last_convolution(self, scored):
        assert scored["colour_mean"]["grad_cam"].cosine == pytest.approx(1)
        assert scored["colour_max"]["grad_cam"].mass == pytest.approx(1)

    def test_a_method_that_fails_is_named(self, data, tiny):
        few = An8Flower(data, tiny.name, size_px=112, target=("mask", "plant"))
        few = few.where(np.arange(len(few)) == 0)
        rows, failed = study(detector("colour_mean"), few, few, ["gradient", "grad_cam@conv9"])
        assert "gradient" in {row.method for row in rows}
        assert list(failed) == ["grad_cam@conv9"] and "conv9" in failed["grad_cam@conv9"]

    @pytest.mark.slow
    def test_the_picture_has_a_row_for_each_image_and_detector(self, once):
        root = once("flowers-single-6c", partial(flowers_of, "single-6c"))
        figure = known_truth_picture.draw(root, methods=("gradient",))
        assert len(figure.axes) == 4 * len(DETECTORS) * len(known_truth_picture.CLASSES)
        titles = [axes.get_title() for axes in figure.axes[:4]]
        assert titles == ["", "decides", "exact shares", "gradient"]

    @pytest.mark.slow
    @pytest.mark.parametrize("name", DETECTORS)
    def test_vebi_selects_the_matches_of_the_class_and_a_third_feature_of_little_relevance(self, once, name):
        root = once("flowers-single-6c", partial(flowers_of, "single-6c"))
        training = An8Flower(root, "single-6c", fold=0, split="train", size_px=112)
        selected = explainers.get("vebi").fit(detector(name), TrainingBatches(training)).method.selection
        for target in range(6):
            found = selected.of(target)  # the most relevant first
            assert {(selected.layer(one).name, one.channel) for one in found[:2]} == {
                ("relu2", target),
                ("pool1", target),
            }
            assert found[2].relevance < 0.1 * found[1].relevance
            assert (selected.layer(found[2]).name, found[2].channel) == ("conv2", NAMES.index("pink"))

    def test_cosine(self):
        maps = np.array([[[1.0, 1.0]], [[0.0, -2.0]], [[0.0, 0.0]]])
        truth = np.array([[[3.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]])
        np.testing.assert_allclose(cosines(maps, truth), [0.5**0.5, -1, 0])


FOLDER = PROJECT / "results" / "known_truth"


@pytest.fixture(scope="module")
def results():
    return json.loads((FOLDER / "known_truth.json").read_text())


class TestResults:
    """The file that the command wrote, and the page about it."""

    def test_every_image_is_right_and_no_pixel_matches_another_class(self, results):
        rows = results["overlaps"]
        assert [row["name"] for row in rows] == [f"{name} petals" for name in NAMES]
        assert {row["images"] for row in rows} == {1000}
        assert {row["right"] for row in rows} == {1.0}
        assert {row["foreign"] for row in rows} == {0}

    def test_the_tables_are_those_of_the_numbers(self, results):
        assert (FOLDER / "known_truth.md").read_text() == tables(results)

    def test_the_page_shows_the_tables_and_the_command(self, results):
        page = (PROJECT / "docs" / "known_truth.md").read_text()
        for table in tables(results).strip().split("\n\n"):
            assert table in page
        assert results["command"] in page

    @pytest.mark.parametrize("model", ["colour_mean", "colour_max"])
    def test_both_models_are_certified(self, model):
        record = json.loads((FOLDER / "single-6c" / model / "certificate/fold0.json").read_text())
        assert record["certified"] and record["accuracy"] == 1
        assert {one["share"] for one in record["kept"]} == {1}
        assert max(one["largest"] for one in record["without"]) < 0.17

    def test_every_method_of_the_tables_is_known(self, results):
        for rows in results["rows"].values():
            for row in rows:
                if row["method"] not in known_truth.TRUTHS and ":" not in row["method"]:
                    assert explainers.get(row["method"]).spec.role == row["role"]
