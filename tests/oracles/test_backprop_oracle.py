"""Backward passes against autograd, captum, and explicit loops over equations 2 and 3 of the paper."""

from __future__ import annotations

import gc
import warnings
import weakref

import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop
from torch import nn
from torch.nn import functional

from an8flower.ground.registry import UnknownNameError
from an8flower.ground.torchvision_shim import import_torchvision
from explainers.backward.backprop import backpropagate, backward, forward
from explainers.guard import unchanged
from explainers.layers import layers

N = 4
EVERY = ["conv1", "relu1", "conv2", "relu2", "pool1"]


@pytest.fixture
def images(generator: torch.Generator) -> torch.Tensor:
    return torch.rand(N, 3, 28, 28, generator=generator)


@pytest.fixture
def targets() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 0])


def by_captum(method, model, images, targets):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it sets its hooks with a warning
        return method(model).attribute(images.clone().requires_grad_(), target=targets).detach()


def by_autograd(model, images, layer, channel):
    """The gradient of half the squared map: just the map, sent back."""
    kept = {}
    leaf = images.clone().requires_grad_()
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.update(output=o))
    model(leaf)
    handle.remove()
    (0.5 * kept["output"][:, channel] ** 2).sum().backward()
    return leaf.grad


@pytest.mark.parametrize("layer", ["conv1", "conv2", "pool"])
def test_plain_rule_without_resampling_is_autograd(modular, images, layer):
    expected = by_autograd(modular, images, layer, 2)
    name = {"pool": "pool1"}.get(layer, layer)
    signal = backpropagate(modular, images, layer=name, channels=2, relu="gradient", resample="none")
    torch.testing.assert_close(signal, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vgg16", "densenet121", "mobilenet_v2"])
def test_class_scores_go_back_as_autograd_does_in_residual_and_branching_nets(name, generator):
    # Doubles: with floats a switch or a gate near zero may fall either way.
    model = getattr(import_torchvision().models, name)(weights=None).eval().double()
    images = torch.rand(2, 3, 64, 64, generator=generator, dtype=torch.float64)
    leaf = images.clone().requires_grad_()
    model(leaf).gather(1, torch.tensor([[3], [5]])).sum().backward()
    signal = backpropagate(
        model, images, layer="logits", channels=torch.tensor([3, 5]), relu="gradient", resample="none"
    )
    torch.testing.assert_close(signal, leaf.grad, rtol=1e-6, atol=1e-8 * float(leaf.grad.abs().max()))


@pytest.mark.parametrize(("relu", "method"), [("guided", GuidedBackprop), ("deconvnet", Deconvolution)])
def test_relu_rules_are_captums(modular, written, images, targets, relu, method):
    expected = by_captum(method, modular, images, targets)
    assert expected.abs().max() > 0
    # Captum sees ReLU modules alone, each once; ours must not care how the model is written.
    signal = backpropagate(written, images, layer="logits", channels=targets, relu=relu, resample="none")
    torch.testing.assert_close(signal, expected, rtol=1e-5, atol=1e-5)


def test_relu_rules_are_captums_in_a_branching_net(generator):
    model = import_torchvision().models.squeezenet1_1(weights=None).eval()
    images = torch.rand(2, 3, 64, 64, generator=generator)
    expected = by_captum(GuidedBackprop, model, images, torch.tensor([1, 2]))
    signal = backpropagate(model, images, layer="logits", channels=torch.tensor([1, 2]), resample="none")
    torch.testing.assert_close(signal, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("resample", ["none", "conv", "all", "nearest"])
def test_however_the_model_is_written_the_signal_is_the_same(modular, written, images, resample):
    for layer in EVERY:
        expected = backpropagate(modular, images, layer=layer, channels=1, resample=resample)
        signal = backpropagate(written, images, layer=layer, channels=1, resample=resample)
        torch.testing.assert_close(signal, expected, rtol=1e-5, atol=1e-5)


class Rebounded(nn.Module):
    """ReLU and ReLU6 in other words."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.fc, self.how = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), how

    def forward(self, x):
        return self.fc(self.how(20 * self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("how", "same"),
    [
        (lambda x: x.clamp(min=0), functional.relu),
        (lambda x: torch.clamp_min(x, 0), functional.relu),
        (lambda x: x.clip(0, 6), functional.relu6),
        (lambda x: functional.hardtanh(x, 0.0, 6.0), functional.relu6),
    ],
)
def test_relus_in_other_words_are_relus(how, same, images):
    torch.manual_seed(0)
    model = Rebounded(how).eval()
    other = Rebounded(same).eval()
    other.load_state_dict(model.state_dict())
    signal, expected = (
        backpropagate(m, images, layer="logits", channels=0, relu="guided") for m in (model, other)
    )
    assert torch.equal(signal, expected) and expected.any()
    plain = images.clone().requires_grad_()
    model(plain)[:, 0].sum().backward()
    ours = backpropagate(model, images, layer="logits", channels=0, relu="gradient")
    torch.testing.assert_close(ours, plain.grad, rtol=1e-5, atol=1e-6)


def size_at_stride_1(size, kernel, padding, dilation=1):
    """Equation 3 with S = 1; a dilated kernel is as large as it spreads."""
    return size + 2 * padding - (dilation * (kernel - 1) + 1) + 1


def stretched(signal, height, width):
    """Nearest neighbours with half-pixel centres, in a loop."""
    n, c, h, w = signal.shape
    out = torch.zeros(n, c, height, width, dtype=signal.dtype)
    for i in range(height):
        for j in range(width):
            out[:, :, i, j] = signal[:, :, int((i + 0.5) * h / height), int((j + 0.5) * w / width)]
    return out


def conv_back(signal, weight, size, padding, dilation, groups):
    """The exact transpose of a stride-1 convolution, in a loop."""
    n, outs = signal.shape[:2]
    ins = weight.shape[1] * groups
    image = torch.zeros(n, ins, size + 2 * padding, size + 2 * padding, dtype=signal.dtype)
    each_out, each_in = outs // groups, weight.shape[1]
    for o in range(outs):
        first = (o // each_out) * each_in
        for c in range(each_in):
            for ki in range(weight.shape[2]):
                for kj in range(weight.shape[3]):
                    rows = slice(ki * dilation, ki * dilation + signal.shape[2])
                    columns = slice(kj * dilation, kj * dilation + signal.shape[3])
                    image[:, first + c, rows, columns] += signal[:, o] * weight[o, c, ki, kj]
    return image[:, :, padding : padding + size, padding : padding + size]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation", "groups"),
    [
        (20, 5, 2, 0, 1, 1),  # 16 = 2 x 8: a whole factor
        (21, 5, 2, 2, 1, 1),
        (22, 7, 3, 1, 1, 1),
        (19, 3, 4, 0, 1, 1),
        (23, 5, 4, 3, 1, 1),
        (20, 3, 2, 1, 2, 1),
        (20, 3, 2, 1, 1, 3),
        (12, 1, 2, 0, 1, 1),
    ],
)
def test_stride_fix_of_a_convolution_is_equation_3(
    size, kernel, stride, padding, dilation, groups, generator
):
    conv = nn.Conv2d(3, 6, kernel, stride, padding, dilation, groups).eval()
    model = nn.Sequential(conv, nn.Flatten())
    images = torch.rand(2, 3, size, size, generator=generator)
    forward_map = conv(images).detach()
    channel = 4
    seed = torch.zeros_like(forward_map)
    seed[:, channel] = forward_map[:, channel]
    side = size_at_stride_1(size, kernel, padding, dilation)
    expected = conv_back(stretched(seed, side, side), conv.weight.detach(), size, padding, dilation, groups)
    for resample in ("conv", "all", "nearest"):
        signal = backpropagate(model, images, layer="conv1", channels=channel, resample=resample)
        torch.testing.assert_close(signal, expected, rtol=1e-4, atol=1e-5)


def pool_switches(images, kernel, padding):
    """Where the largest value of each stride-1 window is, in a loop: (row, column) in the image."""
    n, c, h, _ = images.shape
    padded = functional.pad(images, (padding,) * 4, value=float("-inf"))
    side = size_at_stride_1(h, kernel, padding)
    found = torch.zeros(n, c, side, side, 2, dtype=torch.long)
    for i in range(side):
        for j in range(side):
            window = padded[:, :, i : i + kernel, j : j + kernel].flatten(2).argmax(2)
            found[:, :, i, j, 0] = i + window // kernel - padding
            found[:, :, i, j, 1] = j + window % kernel - padding
    return found


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"), [(12, 2, 2, 0), (13, 3, 2, 1), (11, 3, 3, 0)]
)
def test_stride_fix_of_a_pooling_finds_its_switches_again(size, kernel, stride, padding, generator):
    model = nn.Sequential(nn.MaxPool2d(kernel, stride, padding), nn.Flatten()).eval()
    images = torch.rand(2, 3, size, size, generator=generator)
    pooled = model[0](images)
    seed = torch.zeros_like(pooled)
    seed[:, 1] = pooled[:, 1]
    side = size_at_stride_1(size, kernel, padding)
    fine, switches = stretched(seed, side, side), pool_switches(images, kernel, padding)
    expected = torch.zeros_like(images)
    for n in range(2):
        for i in range(side):
            for j in range(side):
                row, column = switches[n, 1, i, j].tolist()
                expected[n, 1, row, column] += fine[n, 1, i, j]
    signal = backpropagate(model, images, layer="pool1", channels=1, resample="all")
    torch.testing.assert_close(signal, expected, rtol=1e-5, atol=1e-6)

    signal = backpropagate(model, images, layer="pool1", channels=1, resample="nearest")
    torch.testing.assert_close(signal, stretched(seed, size, size), rtol=0, atol=0)

    leaf = images.clone().requires_grad_()  # poolings as usual: true switches, overlaps add
    model[0](leaf).backward(seed)
    for resample in ("none", "conv"):
        signal = backpropagate(model, images, layer="pool1", channels=1, resample=resample)
        torch.testing.assert_close(signal, leaf.grad, rtol=1e-5, atol=1e-6)


def test_stride_fix_of_an_average_pooling_is_that_of_a_convolution(generator):
    model = nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.Flatten()).eval()
    images = torch.rand(2, 3, 13, 13, generator=generator)
    pooled = model[0](images)
    seed = torch.zeros_like(pooled)
    seed[:, 0] = pooled[:, 0]
    side = size_at_stride_1(13, 3, 1)
    weight = torch.full((3, 1, 3, 3), 1 / 9)
    expected = conv_back(stretched(seed, side, side), weight, 13, 1, 1, 3)
    signal = backpropagate(model, images, layer="pool1", channels=0, resample="all")
    torch.testing.assert_close(signal, expected, rtol=1e-5, atol=1e-6)


def test_on_a_network_of_stride_1_the_fix_changes_nothing(images):
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 5), nn.ReLU(), nn.MaxPool2d(3, 1), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(),
        nn.Flatten(),
    ).eval()  # fmt: skip
    expected = backpropagate(model, images, layer="relu2", channels=1, resample="none")
    assert expected.any()
    for resample in ("conv", "all", "nearest"):
        assert torch.equal(
            backpropagate(model, images, layer="relu2", channels=1, resample=resample), expected
        )


@pytest.mark.parametrize("resample", ["none", "conv", "all", "nearest"])
def test_images_that_start_at_different_layers_go_back_together(written, images, resample):
    channels = {
        "conv1": torch.tensor([0, -1, -1, -1]),
        "relu2": torch.tensor([-1, 3, -1, 5]),
        "pool1": torch.tensor([-1, -1, 2, -1]),
    }
    with unchanged(written):
        together = backward(forward(written, images, channels), channels, resample=resample)
    for layer, chosen in channels.items():
        for k in (chosen >= 0).nonzero()[:, 0].tolist():
            alone = backpropagate(
                written, images[k : k + 1], layer=layer, channels=int(chosen[k]), resample=resample
            )
            torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-4, atol=1e-5)


def test_guided_signal_of_a_layer_is_zero_where_no_unit_is_active(modular, images):
    with torch.no_grad():
        modular.conv1.bias.fill_(-1e3)
    assert not backpropagate(modular, images, layer="relu1", channels=0).any()


def test_bad_requests_are_named(modular, images):
    with pytest.raises(UnknownNameError, match="unknown layer 'conv9'; did you mean 'conv"):
        backpropagate(modular, images, layer="conv9", channels=0)
    with pytest.raises(ValueError, match="channel 4 does not exist: layer 'conv1' has 4 channels"):
        backpropagate(modular, images, layer="conv1", channels=4)
    with pytest.raises(ValueError, match="resample must be one of none, conv, all, nearest; got 'some'"):
        backpropagate(modular, images, layer="conv1", channels=0, resample="some")
    with pytest.raises(ValueError, match="relu must be one of gradient, deconvnet, guided; got 'soft'"):
        backpropagate(modular, images, layer="conv1", channels=0, relu="soft")


def test_a_relu_overwritten_after_use_is_an_error_not_a_wrong_map(images):
    class Overwritten(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            x = functional.relu(self.conv(x))
            pooled = x.mean((2, 3))
            x += 1
            return self.fc(pooled + x.mean((2, 3)))

    with pytest.raises(RuntimeError, match="overwritten in place"):
        backpropagate(Overwritten().eval(), images, layer="logits", channels=0)


@pytest.mark.slow
@pytest.mark.parametrize("resample", ["none", "conv", "all", "nearest"])
def test_nothing_outlives_a_backward_pass(written, images, resample):
    """A way back that led to its own output would keep every pass in memory for good."""
    with unchanged(written):
        trace = forward(written, images, ["conv1", "logits"])
        backward(trace, {"logits": torch.zeros(N, dtype=torch.long)}, resample=resample)
    alive = [weakref.ref(tensor) for tensor in (trace.leaf, *trace.outputs.values())]
    del trace
    gc.collect()
    assert all(one() is None for one in alive)


def test_leaves_the_model_as_it_was(modular, images):
    modular.train()
    backpropagate(modular, images, layer="conv2", channels=0)
    with pytest.raises(UnknownNameError):
        backpropagate(modular, images, layer="nothing", channels=0)
    assert modular.training and all(p.requires_grad and p.grad is None for p in modular.parameters())
    assert [layer.name for layer in layers(modular, images)] == [*EVERY, "fc1"]
