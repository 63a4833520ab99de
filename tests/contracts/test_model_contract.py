"""What every registered model must be."""

from __future__ import annotations

import pytest
import torch

from benchmark.models import SubtractMean, models
from benchmark.training import initialise
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
    assert found[0].kind == "conv" and found[-1].shape == (7,)
    assert len(find_layer(model, images, "last_conv").shape) == 3


def test_weights_depend_on_the_generator_alone(spec):
    first, again = (initialise(spec.build(3), generator=torch.Generator().manual_seed(5)) for _ in range(2))
    other = initialise(spec.build(3), generator=torch.Generator().manual_seed(6))
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))
