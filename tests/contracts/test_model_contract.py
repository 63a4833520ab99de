"""What every registered model must be."""

from __future__ import annotations

import pytest
import torch

import explainers
from benchmark.models import SubtractMean, models
from benchmark.training.fitting import initialise
from explainers.layers import find_layer, layers


@pytest.fixture(params=models.names())
def spec(request):
    return models.get(request.param)


def test_goes_from_images_to_logits(spec, generator):
    model = initialise(spec.build(7), generator=generator).eval()
    images = torch.rand(2, 3, spec.size_px, spec.size_px, generator=generator)
    logits = model(images)
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    assert spec.source


def test_owns_its_preprocessing(spec, generator):
    model = initialise(spec.build(7), generator=generator).eval()
    (layer,) = [module for module in model.modules() if isinstance(module, SubtractMean)]
    images = torch.rand(2, 3, spec.size_px, spec.size_px, generator=generator)
    before = model(images + 0.25)
    layer.mean += 0.25
    torch.testing.assert_close(model(images + 0.5), before, rtol=1e-4, atol=1e-4)


def test_has_layers_to_look_at(spec, generator):
    model = spec.build(7).eval()
    images = torch.rand(1, 3, spec.size_px, spec.size_px, generator=generator)
    found = layers(model, images)
    assert found[0].kind == "conv" and found[-1].shape[0] == 7
    assert len(find_layer(model, images, "last_conv").shape) == 3


def test_weights_depend_on_the_generator_alone(spec):
    first, again = (initialise(spec.build(3), generator=torch.Generator().manual_seed(5)) for _ in range(2))
    other = initialise(spec.build(3), generator=torch.Generator().manual_seed(6))
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vebi", "deconv_gb", "grad_cam", "guided_grad_cam", "gradient"])
def test_can_be_explained(spec, name, generator):
    model = initialise(spec.build(3), generator=generator).eval()
    images = torch.rand(6, 3, spec.size_px, spec.size_px, generator=generator)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    explainer = explainers.get(name).fit(model, [(images, labels)])
    heatmaps = explainer(model, images[:2], labels[:2])
    assert heatmaps.shape == (2, spec.size_px, spec.size_px)
    assert heatmaps.isfinite().all()
    assert (heatmaps.flatten(1).std(1) > 0).any()


def test_mnistnet_comes_down_to_one_pixel(generator):
    """112 -> 27 -> 13 -> 9 -> 4 -> 1, with the widths of MatConvNet's network."""
    model = models.get("mnistnet").build(6).eval()
    images = torch.rand(1, 3, 112, 112, generator=generator)
    found = {layer.name: tuple(layer.shape) for layer in layers(model, images)}
    assert found == {
        "conv1": (20, 27, 27),
        "pool1": (20, 13, 13),
        "conv2": (50, 9, 9),
        "pool2": (50, 4, 4),
        "conv3": (500, 1, 1),
        "relu1": (500, 1, 1),
        "conv4": (6, 1, 1),
    }
    assert find_layer(model, images, "last_conv").name == "conv2"
    widths = [(3, 20, 5), (20, 50, 5), (50, 500, 4), (500, 6, 1)]
    # A convolution's weights and biases, and the mean image, which is no parameter.
    assert sum(one.numel() for one in model.parameters()) == sum(i * o * k * k + o for i, o, k in widths)
