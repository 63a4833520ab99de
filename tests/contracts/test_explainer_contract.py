"""What every registered explainer must do; a new one is tested by being registered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import explainers
from explainers.base import Explainer

N = 5


@pytest.fixture(params=explainers.names())
def explainer(request: pytest.FixtureRequest) -> Explainer:
    """Each explainer with its default parameters, but few samples: all samples are treated alike."""
    explainer = explainers.get(request.param)
    return explainers.get(request.param, samples=10) if "samples" in explainer.parameters else explainer


@pytest.fixture
def images(generator: torch.Generator) -> torch.Tensor:
    return torch.rand(N, 3, 28, 28, generator=generator)


@pytest.fixture
def targets() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 0, 1])


@pytest.fixture
def truth(generator: torch.Generator) -> dict[str, torch.Tensor]:
    noise = torch.rand(N, 28, 28, generator=generator)
    return {"masks": noise < 0.2, "object_masks": noise < 0.5}


def fitted(explainer: Explainer, model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> Explainer:
    batch = (images, targets, images.mean(1) < 0.4)
    return explainer.fit(model, [batch if explainer.spec.needs_masks else batch[:2]])


def test_gives_a_finite_float32_map_an_image(explainer, written, images, targets, truth):
    heatmaps = fitted(explainer, written, images, targets)(written, images, targets, **truth)
    assert heatmaps.shape == (N, 28, 28)
    assert heatmaps.dtype == torch.float32
    assert not heatmaps.requires_grad
    assert heatmaps.isfinite().all()


def test_same_maps_again_alone_and_in_another_order(explainer, modular, images, targets, truth):
    explain = fitted(explainer, modular, images, targets)
    heatmaps = explain(modular, images, targets, **truth)
    torch.testing.assert_close(explain(modular, images, targets, **truth), heatmaps, rtol=0, atol=0)
    order = torch.tensor([3, 0, 4, 1, 2])
    turned = explain(
        modular, images[order], targets[order], **{name: one[order] for name, one in truth.items()}
    )
    torch.testing.assert_close(turned, heatmaps[order], rtol=1e-5, atol=1e-6)
    for k in range(N):
        one = slice(k, k + 1)
        alone = explain(
            modular, images[one], targets[one], **{name: mask[one] for name, mask in truth.items()}
        )
        torch.testing.assert_close(alone, heatmaps[one], rtol=1e-5, atol=1e-6)


def test_target_matters_unless_declared_otherwise(explainer, modular, images, targets, truth):
    explain = fitted(explainer, modular, images, targets)
    first = explain(modular, images, torch.zeros(N, dtype=torch.int64), **truth)
    second = explain(modular, images, torch.ones(N, dtype=torch.int64), **truth)
    indifferent = explainer.spec.class_agnostic or explainer.spec.needs_masks
    assert torch.equal(first, second) == indifferent


def test_leaves_model_and_images_as_they_were(explainer, modular, images, targets, truth):
    explain = fitted(explainer, modular, images, targets)
    modular.train()
    modular.pool.eval()
    modular.conv1.weight.requires_grad_(False)
    modular.fc.weight.grad = torch.ones_like(modular.fc.weight)
    before = {name: tensor.clone() for name, tensor in modular.state_dict().items()}
    pixels = images.clone()
    random_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002

    explain(modular, images, targets, **truth)

    assert modular.training and modular.relu1.training and not modular.pool.training
    assert not modular.conv1.weight.requires_grad and modular.conv2.weight.requires_grad
    assert modular.conv2.weight.grad is None and modular.fc.weight.grad.eq(1).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in modular.state_dict().items())
    assert not any(module._forward_hooks or module._backward_hooks for module in modular.modules())
    assert torch.equal(images, pixels)
    assert torch.equal(torch.get_rng_state(), random_state[0])
    assert (np.random.get_state()[1] == random_state[1]).all()  # noqa: NPY002


def test_works_for_callers_in_inference_mode(explainer, modular, images, targets, truth):
    explain = fitted(explainer, modular, images, targets)
    expected = explain(modular, images, targets, **truth)
    with torch.inference_mode():
        heatmaps = explain(modular, images * 1, targets * 1, **truth)
    torch.testing.assert_close(heatmaps.clone(), expected)


def test_says_where_it_comes_from(explainer):
    assert explainer.spec.source
    assert explainer.spec.build.__doc__
