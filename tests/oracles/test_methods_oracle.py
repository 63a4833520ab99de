"""CAMs, guided CAMs, gradients and perturbations against slow re-derivations and outside libraries."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop, InputXGradient, Saliency
from torch.nn import functional

import explainers
from explainers.maps import reduced, upsampled
from explainers.perturbation import _mask

TARGETS = torch.tensor([0, 1, 2, 1])


@pytest.fixture
def images(generator):
    return torch.rand(4, 3, 28, 28, generator=generator)


def activations_and_gradients(model, images, module):
    """A module's output and the gradients of the class scores by it, with plain hooks."""
    kept = {}
    handle = module.register_forward_hook(lambda m, i, o: kept.update(output=o))
    logits = model(images.clone().requires_grad_())
    handle.remove()
    (gradients,) = torch.autograd.grad(logits[range(len(images)), TARGETS].sum(), kept["output"])
    return kept["output"].detach().double(), gradients.double()


def by_captum(method, model, images):
    with pytest.warns(UserWarning, match=r"hooks|Setting"):
        attribution = method(model).attribute(images.clone().requires_grad_(), target=TARGETS)
    return attribution.detach()


@pytest.mark.parametrize("layer", ["relu1", "conv2", "relu2", "pool1"])
def test_grad_cam_pp_is_its_equations_place_by_place(written, modular, images, layer):
    module = modular.get_submodule(layer.replace("pool1", "pool"))
    maps, gradients = activations_and_gradients(modular, images, module)
    expected = torch.zeros(maps.shape[0], *maps.shape[2:], dtype=torch.float64)
    for n in range(len(maps)):
        for k in range(maps.shape[1]):
            weight, total = 0.0, float(maps[n, k].sum())
            for g in gradients[n, k].flatten().tolist():
                if g != 0:
                    weight += g**2 / (2 * g**2 + total * g**3) * max(g, 0)
            expected[n] += weight * maps[n, k]
    expected = upsampled(expected.relu(), images)
    found = explainers.get(f"grad_cam_pp@{layer}")(written, images, TARGETS).double()
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


def test_grad_cam_pp_keeps_gradients_whose_squares_underflow(modular, images):
    usual = explainers.get("grad_cam_pp@conv2")(modular, images, TARGETS)
    with torch.no_grad():
        modular.fc.weight *= 1e-25  # g is 1e-25, g^2 is 0 as a float
    faint = explainers.get("grad_cam_pp@conv2")(modular, images, TARGETS)
    assert usual.max() > 0 and faint.max() > 0


@pytest.mark.parametrize("layer", ["relu1", "relu2", "pool1"])
def test_layer_cam_is_its_equations(written, modular, images, layer):
    module = modular.get_submodule(layer.replace("pool1", "pool"))
    maps, gradients = activations_and_gradients(modular, images, module)
    expected = upsampled((maps * gradients.clamp(min=0)).sum(1).clamp(min=0), images).float()
    assert expected.abs().max() > 0
    found = explainers.get(f"layer_cam@{layer}")(written, images, TARGETS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduce", ["l2", "positive_l2", "abs"])
@pytest.mark.parametrize("cam", ["grad_cam", "grad_cam_pp"])
def test_guided_cams_are_guided_backprop_times_the_map(written, modular, images, cam, reduce):
    signal = by_captum(GuidedBackprop, modular, images)
    where = explainers.get(cam)(modular, images, TARGETS)
    expected = reduced(signal * where[:, None], reduce)
    assert expected.abs().max() > 0
    found = explainers.get(f"guided_{cam}", reduce=reduce)(written, images, TARGETS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("gradient", Saliency),
        ("input_x_gradient", InputXGradient),
        ("guided_backprop", GuidedBackprop),
        ("deconvnet", Deconvolution),
    ],
)
def test_gradient_methods_are_captums_reduced(written, modular, images, name, method):
    given = {"abs": False} if name == "gradient" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the hooks it sets
        signal = method(modular).attribute(images.clone().requires_grad_(), target=TARGETS, **given).detach()
    found = explainers.get(name)(written, images, TARGETS)
    torch.testing.assert_close(found, signal.norm(dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_smooth_grad_is_the_mean_gradient_of_noisy_images(modular, images):
    plain = explainers.get("gradient")(modular, images, TARGETS)
    smooth = explainers.get("smooth_grad", noise=0.0, samples=3)(modular, images, TARGETS)
    torch.testing.assert_close(smooth, plain, rtol=1e-5, atol=1e-6)
    few = [explainers.get("smooth_grad", samples=400, seed=s)(modular, images, TARGETS) for s in (0, 1)]
    generator, total = torch.Generator().manual_seed(5), torch.zeros_like(images)
    spread = 0.15 * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))[:, None, None, None]
    for _ in range(400):
        noisy = (images + spread * torch.randn(images.shape, generator=generator)).requires_grad_()
        (gradient,) = torch.autograd.grad(modular(noisy)[range(4), TARGETS].sum(), noisy)
        total += gradient
    expected = (total / 400).norm(dim=1)
    among = (few[0] - few[1]).norm()
    assert (few[0] - expected).norm() < 1.5 * among < 0.3 * expected.norm()
    with pytest.raises(ValueError, match="samples must be 1 or more; got 0"):
        explainers.get("smooth_grad", samples=0)(modular, images, TARGETS)


def test_rise_is_the_mean_mask_weighted_by_the_probability(modular, images):
    found = explainers.get("rise", samples=20, seed=3)(modular, images, TARGETS)
    rng, expected = np.random.default_rng(3), torch.zeros(4, 28, 28)
    for _ in range(20):
        mask = _mask(rng, 7, 0.5, images)
        for n in range(4):
            chance = functional.softmax(modular(images[n : n + 1] * mask), dim=1)[0, TARGETS[n]]
            expected[n] += chance.detach() * mask / (20 * 0.5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_rise_masks_show_each_pixel_as_often_as_they_should(images):
    rng = np.random.default_rng(0)
    masks = torch.stack([_mask(rng, 7, 0.3, images) for _ in range(3000)])
    assert masks.min() >= 0 and masks.max() <= 1 and masks.shape == (3000, 28, 28)
    assert (masks.mean(0) - 0.3).abs().max() < 0.05
    # Smooth: neighbours are alike, far pixels are not related.
    near = torch.corrcoef(torch.stack([masks[:, 10, 10], masks[:, 10, 11]]))[0, 1]
    far = torch.corrcoef(torch.stack([masks[:, 10, 10], masks[:, 10, 24]]))[0, 1]
    assert near > 0.8 and abs(far) < 0.1


def test_rise_finds_the_only_pixels_that_matter(images):
    class Corner(torch.nn.Module):
        def forward(self, x):
            seen = x[:, :, :6, :6].mean((1, 2, 3))
            return torch.stack([40 * seen, torch.full_like(seen, 10)], dim=1)

    found = explainers.get("rise", samples=400)(Corner(), torch.ones(1, 3, 28, 28), torch.tensor([0]))[0]
    assert found[:6, :6].mean() > found[12:, 12:].max()
    for wrong in ({"samples": 0}, {"cells": 0}, {"keep": 1.0}):
        with pytest.raises(ValueError, match="samples and cells must be 1 or more and keep between 0 and 1"):
            explainers.get("rise", **wrong)(Corner(), images[:1], torch.tensor([0]))
