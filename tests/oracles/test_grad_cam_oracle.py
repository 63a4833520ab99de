"""Grad-CAM against captum, and the layers it looks at against the modules."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import nn

import explainers
from an8flower.ground.registry import UnknownNameError
from explainers.guard import unchanged
from explainers.layers import find_layer, forward_from, layers

SIZE = 28


@pytest.fixture
def images(generator):
    return torch.rand(4, 3, SIZE, SIZE, generator=generator)


TARGETS = torch.tensor([0, 1, 2, 1])


def captum_maps(model, module, images):
    maps = LayerGradCam(model, module).attribute(images, target=TARGETS, relu_attributions=True)
    return LayerAttribution.interpolate(maps, (SIZE, SIZE), interpolate_mode="bilinear")[:, 0].detach()


@pytest.mark.parametrize("layer", ["conv1", "relu1", "conv2", "relu2", "pool1"])
def test_equals_captum_at_every_layer_however_the_model_is_written(written, modular, images, layer):
    module = modular.get_submodule(layer.replace("pool1", "pool"))
    expected = captum_maps(modular, module, images)
    torch.testing.assert_close(explainers.get(f"grad_cam@{layer}")(written, images, TARGETS), expected)


def test_default_layer_is_after_the_relu_of_the_last_convolution(modular, images):
    expected = captum_maps(modular, modular.relu2, images)
    torch.testing.assert_close(explainers.get("grad_cam")(modular, images, TARGETS), expected)


def test_equals_captum_on_the_trained_model(trained, test_set):
    batch = next(test_set.batches(6))
    maps = LayerGradCam(trained.model, trained.model.relu3).attribute(
        batch.images, target=batch.labels, relu_attributions=True
    )
    expected = LayerAttribution.interpolate(maps, (112, 112), interpolate_mode="bilinear")[:, 0].detach()
    torch.testing.assert_close(
        explainers.get("grad_cam")(trained.model, batch.images, batch.labels), expected
    )


def test_layers_are_named_in_forward_order_however_the_model_is_written(written, images):
    found = [(layer.name, layer.shape) for layer in layers(written, images)]
    assert found == [
        ("conv1", (4, 12, 12)), ("relu1", (4, 12, 12)), ("conv2", (6, 10, 10)), ("relu2", (6, 10, 10)),
        ("pool1", (6, 5, 5)), ("fc1", (3,)),
    ]  # fmt: skip


def test_keeping_a_layer_changes_no_logits(written, images):
    expected = written(images)
    for layer in layers(written, images):
        logits, activations, found = forward_from(written, images, layer.name)
        assert found == layer
        torch.testing.assert_close(logits, expected)
        assert activations.shape[1:] == layer.shape
    relu = forward_from(written, images, "relu1")[1]
    assert torch.equal(relu, forward_from(written, images, "conv1")[1].relu())


class Residual(nn.Module):
    """Convolution, batch norm, addition in place, and only then the ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.point, self.fc = nn.Conv2d(4, 5, 1), nn.Linear(5, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        y = self.norm(self.conv(x))
        y += x
        y = y.relu().mean((2, 3), keepdim=True)
        return self.fc(self.point(y).relu().flatten(1))


def test_last_conv_passes_over_maps_of_one_pixel(images):
    model = Residual().eval()
    assert find_layer(model, images, "last_conv").name == "relu2"
    module_maps = LayerGradCam(model, model.conv).attribute(images, target=TARGETS, relu_attributions=True)
    expected = LayerAttribution.interpolate(module_maps, (SIZE, SIZE), interpolate_mode="bilinear")[:, 0]
    torch.testing.assert_close(explainers.get("grad_cam@conv2")(model, images, TARGETS), expected.detach())


def test_a_model_that_changes_its_layers_is_looked_at_anew(modular, images):
    first = explainers.get("grad_cam")(modular, images, TARGETS)
    modular.conv2 = nn.Sequential(nn.Conv2d(4, 4, 1), modular.conv2)
    deeper = explainers.get("grad_cam")(modular, images, TARGETS)
    torch.testing.assert_close(deeper, captum_maps(modular, modular.relu2, images))
    modular.conv2 = modular.conv2[1]
    torch.testing.assert_close(explainers.get("grad_cam")(modular, images, TARGETS), first)


def test_bad_layers_are_named_with_what_there_is(modular, images):
    with pytest.raises(UnknownNameError, match=r"unknown layer 'conv9'; did you mean 'conv"):
        explainers.get("grad_cam@conv9")(modular, images, TARGETS)
    with pytest.raises(ValueError, match="'fc1' is fully connected"):
        explainers.get("grad_cam@fc1")(modular, images, TARGETS)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 3))
    with pytest.raises(ValueError, match="no convolution"):
        explainers.get("grad_cam")(flat, images, TARGETS)


def test_guard_undoes_whatever_a_method_does_to_a_model(modular, images):
    before = {name: tensor.clone() for name, tensor in modular.state_dict().items()}
    logits = modular(images)
    pool = modular.pool
    modular.train()
    with pytest.raises(RuntimeError, match="on purpose"), unchanged(modular):
        assert not modular.training
        modular.conv1.weight.mul_(2)
        modular.conv2.bias.data = torch.zeros(6)
        modular.fc.weight = nn.Parameter(torch.zeros_like(modular.fc.weight))
        modular.pool = nn.Identity()
        modular.conv1.register_forward_hook(lambda *_: None)
        modular.extra = nn.Linear(1, 1)
        modular.fc.bias.requires_grad_(True).sum().backward()
        raise RuntimeError("on purpose")
    assert modular.training and modular.pool is pool and not modular.conv1._forward_hooks
    assert dict.fromkeys(before, True) == {
        name: torch.equal(tensor, before[name]) for name, tensor in modular.state_dict().items()
    }
    assert all(p.requires_grad and p.grad is None for p in modular.parameters())
    torch.testing.assert_close(modular(images), logits)
