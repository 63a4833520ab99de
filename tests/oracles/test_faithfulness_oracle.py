"""The faithfulness metrics against their definitions, one step at a time, and against other libraries."""

from __future__ import annotations

import warnings
import zlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

import explainers
from an8flower.ground.torchvision_shim import import_torchvision
from benchmark.metrics import Case, metrics
from benchmark.metrics.deletion_insertion import blurred
from benchmark.metrics.randomisation import shuffled


@pytest.fixture
def case(modular, generator) -> Case:
    images, targets = torch.rand(3, 3, 28, 28, generator=generator), torch.tensor([0, 2, 1])
    explain = explainers.get("gradient")
    return Case(modular, explain, images, targets, explain(modular, images, targets))


def compute(name, case, **parameters):
    return metrics.get(name).compute(case, **parameters)


def probability(model, image, target) -> float:
    with torch.no_grad():
        return float(model(image[None]).double().softmax(dim=1)[0, target])


def slow_area(case, k, before, after, steps) -> float:
    """Pixel by pixel: by relevance, those of equal relevance in an order that is drawn."""
    height, width = case.heatmaps.shape[1:]
    drawn = np.random.default_rng(0).permutation(height * width).tolist()
    heatmap = case.heatmaps[k].flatten().tolist()
    order = sorted(drawn, key=lambda pixel: -heatmap[pixel])
    image = before.clone()
    curve, changed = [probability(case.model, image, case.targets[k])], 0
    for step in range(1, steps + 1):
        while changed < step * height * width // steps:
            y, x = divmod(order[changed], width)
            image[:, y, x] = after[:, y, x]
            changed += 1
        curve.append(probability(case.model, image, case.targets[k]))
    assert torch.equal(image, after)
    return sum((a + b) / 2 for a, b in pairwise(curve)) / steps


def with_ties(case) -> Case:
    return replace(case, heatmaps=(case.heatmaps > case.heatmaps.mean()).float())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("steps", [1, 5, 28, 100])
def test_areas_are_the_definition(case, tied, steps):
    case = with_ties(case) if tied else case
    grey, soft = torch.full_like(case.images, 0.5), blurred(case.images, 0.1)
    deleted = [slow_area(case, k, case.images[k], grey[k], steps) for k in range(3)]
    inserted = [slow_area(case, k, soft[k], case.images[k], steps) for k in range(3)]
    np.testing.assert_allclose(compute("deletion", case, steps=steps), deleted, atol=1e-6)
    np.testing.assert_allclose(compute("insertion", case, steps=steps), inserted, atol=1e-6)


@pytest.mark.parametrize("size", [(30, 30), (30, 20)])
def test_blur_is_scipys(size, generator):
    images = torch.rand(2, 3, *size, generator=generator)
    expected = gaussian_filter(
        images.numpy().astype(np.float64),
        sigma=(0, 0, 0.1 * size[0], 0.1 * size[1]),
        mode="mirror",
        truncate=4,
    )
    np.testing.assert_allclose(blurred(images, 0.1).numpy(), expected, atol=1e-6)


def test_deletion_is_the_pixel_flipping_of_quantus(case):
    # It counts channels, equally relevant here, so that three of its steps are 28 pixels; its curve, the
    # outside part, does not begin with the whole image.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_torchvision()
        import quantus

        flipping = quantus.PixelFlipping(
            features_in_step=28, perturb_baseline=0.5, abs=False, normalise=False, disable_warnings=True
        )
        curves = flipping(
            model=case.model,
            x_batch=case.images.numpy(),
            y_batch=case.targets.numpy(),
            a_batch=case.heatmaps[:, None].numpy(),
            softmax=True,
        )
    start = [probability(case.model, case.images[k], case.targets[k]) for k in range(3)]
    expected = np.trapezoid(np.column_stack([start, np.array(curves)[:, 2::3]]), dx=1 / 28)
    np.testing.assert_allclose(compute("deletion", case), expected, atol=1e-5)


def noisy_copies(image, samples, radius) -> list[torch.Tensor]:
    rng = np.random.default_rng([0, zlib.crc32(image.contiguous().numpy().tobytes())])
    draws = [rng.uniform(-radius, radius, image.shape).astype(np.float32) for _ in range(samples)]
    return [image + torch.from_numpy(draw) for draw in draws]


def test_max_sensitivity_is_the_definition(case):
    for radius, samples in ((0.02, 10), (0.1, 3)):
        expected = []
        for image, target, heatmap in zip(case.images, case.targets, case.heatmaps, strict=True):
            copies = noisy_copies(image, samples, radius)
            assert all(0.95 * radius < float((copy - image).abs().max()) <= 1.001 * radius for copy in copies)
            maps = [case.explain(case.model, copy[None], target[None])[0] for copy in copies]
            expected.append(max(float((one - heatmap).norm() / heatmap.norm()) for one in maps))
        found = compute("max_sensitivity", case, samples=samples, radius=radius)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_max_sensitivity_is_captums(case):
    # Not Quantus's: it has the same formula, but draws noise in [-0.2, 0.2] from the global generator.
    def perturbed(inputs):
        copies = [noisy_copies(image, 10, 0.02) for image in case.images]
        return torch.stack([copy for of_one in copies for copy in of_one])

    def explain(inputs, target):  # captum gives a tuple first, then a tensor
        inputs = inputs[0] if isinstance(inputs, tuple) else inputs
        return (case.explain(case.model, inputs, target),)

    expected = sensitivity_max(
        explain,
        case.images,
        perturb_func=perturbed,
        n_perturb_samples=10,
        max_examples_per_batch=30,
        target=case.targets,
    )
    np.testing.assert_allclose(compute("max_sensitivity", case), expected.numpy(), rtol=1e-4)


def test_randomisation_is_scipys_rank_correlation(case):
    model = shuffled(case.model, seed=0)
    tied = with_ties(case)
    for one in (case, tied):
        after = case.explain(model, case.images, case.targets)
        expected = [
            abs(spearmanr(before.flatten(), moved.flatten()).statistic)
            for before, moved in zip(one.heatmaps.numpy(), after.numpy(), strict=True)
        ]
        np.testing.assert_allclose(compute("model_randomisation", one), expected, atol=1e-12)


def test_every_parameter_is_shuffled_and_none_of_the_model_itself(modular):
    before = {name: value.clone() for name, value in modular.state_dict().items()}
    one, again, other = (shuffled(modular, seed=seed) for seed in (0, 0, 1))
    for name, value in modular.named_parameters():
        moved = one.get_parameter(name)
        assert torch.equal(value, before[name])
        assert torch.equal(moved.flatten().sort().values, value.flatten().sort().values)
        assert not torch.equal(moved, value)
        assert torch.equal(moved, again.get_parameter(name))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
