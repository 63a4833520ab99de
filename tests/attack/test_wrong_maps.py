"""Calls and models for which heatmaps were wrong without a word: right now, or refused in one line."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import explainers
from explainers.base import Explainer, ExplainerSpec

N, SIZE, CLASSES = 3, 28, 3
TARGETS = torch.tensor([0, 1, 2])
OURS = [
    *(name for name in explainers.names() if not explainers.registry.get(name).costly),
    *("smooth_grad?samples=2", "rise?samples=4", "grad_cam@conv1", "guided_grad_cam@relu1"),
]
LIBRARIES = [
    *("captum:Saliency", "captum:IntegratedGradients?n_steps=3", "captum:Occlusion", "captum:LayerGradCam"),
    *("captum:GuidedBackprop", "captum:Deconvolution", "pytorch_grad_cam:GradCAM", "zennit:EpsilonPlus"),
    "zennit:GuidedBackprop",
]
DIFFERENTIATING = ["gradient", "guided_backprop", "grad_cam", "captum:Saliency", "captum:LayerGradCam"]


class Net(nn.Module):
    """Two convolutions and a linear layer; subclasses write it in other ways."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 5, stride=2), nn.Conv2d(4, 6, 3)
        self.relu1, self.relu2, self.pool = nn.ReLU(), nn.ReLU(), nn.MaxPool2d(2)
        self.fc = nn.Linear(6 * 5 * 5, CLASSES)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(3)
            for parameter in self.parameters():
                parameter.normal_(0, 0.3)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.conv1(x))
        return self.fc(self.pool(self.relu2(self.conv2(x))).flatten(1))


class Acting(Net):
    """The same network with a function as its activation."""

    def __init__(self, act) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.conv1(x))
        return self.fc(self.pool(self.act(self.conv2(x))).flatten(1))


@pytest.fixture
def images(generator):
    return torch.rand(N, 3, SIZE, SIZE, generator=generator)


def truths(images):
    return {"masks": images.mean(1) < 0.4, "object_masks": images.mean(1) < 0.6}


def explained(name, model, images, targets=TARGETS):
    """Heatmaps by a method, fitted if it learns; it gives them alone and together with another."""
    explain, truth = explainers.get(name), truths(images)
    if explain.spec.needs_fit:
        batch = (images, TARGETS, truth["masks"])
        explain.fit(model, [batch if explain.spec.needs_masks else batch[:2]])
    return explain(model, images, targets, **truth)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


# Targets and images.

WRONG_TARGETS = {
    "one for three": torch.tensor([1]),
    "two for three": torch.tensor([0, 1]),
    "a column": TARGETS[:, None],
    "minus one": torch.tensor([0, -1, 1]),
    "too large": torch.tensor([0, 1, CLASSES]),
    "floats": TARGETS.float(),
    "booleans": torch.tensor([True, False, True]),
    "a list": [0, 1, 2],
    "a NumPy array": np.array([0, 1, 2]),
    "one-hot": torch.eye(3, dtype=torch.int64),
    "a fraction": 0.5,
    "None": None,
    "an integer out of range": 7,
    "a negative integer": -1,
    "sparse": TARGETS.to_sparse(),
}


@pytest.mark.parametrize("targets", WRONG_TARGETS.values(), ids=WRONG_TARGETS)
@pytest.mark.parametrize(
    "name", ["gradient", "grad_cam", "guided_backprop", "vebi", "captum:Saliency", "random"]
)
def test_wrong_targets_are_refused_in_one_line(name, targets, images):
    with pytest.raises(ValueError, match=r"^targets must be") as raised:
        explained(name, Net(), images, targets)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("targets", WRONG_TARGETS.values(), ids=WRONG_TARGETS)
def test_wrong_targets_are_refused_for_methods_together(targets, images):
    with pytest.raises(ValueError, match=r"^targets must be"):
        explainers.explain_many(["gradient", "grad_cam"], Net(), images, targets, failed={})


@pytest.mark.parametrize("one", [1, np.int64(1), torch.tensor(1), np.uint8(1)], ids=repr)
@pytest.mark.parametrize("name", ["gradient", "grad_cam", "captum:Saliency"])
def test_one_integer_is_the_target_of_all_images(name, one, images):
    model = Net()
    expected = explained(name, model, images, torch.ones(N, dtype=torch.int64))
    close(explained(name, model, images, one), expected)
    if ":" not in name:
        close(explainers.explain_many([name], model, images, one)[name], expected)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_targets_may_be_integers_of_any_type(dtype, images):
    model = Net()
    close(explained("grad_cam", model, images, TARGETS.to(dtype)), explained("grad_cam", model, images))


WRONG_IMAGES = {
    "no batch": lambda x: x[0],
    "bytes": lambda x: (x * 255).byte(),
    "a NumPy array": lambda x: x.numpy(),
    "a NaN": lambda x: x.where(x > 0.01, float("nan")),
    "infinite": lambda x: x.where(x > 0.01, float("inf")),
    "channels last": lambda x: x.permute(0, 2, 3, 1),
    "sparse": lambda x: x.to_sparse(),
}


@pytest.mark.parametrize("wrong", WRONG_IMAGES.values(), ids=WRONG_IMAGES)
@pytest.mark.parametrize("name", ["gradient", "grad_cam", "sobel"])
def test_wrong_images_are_refused_in_one_line(name, wrong, images):
    with pytest.raises(ValueError, match=r"^images must be") as raised:
        explainers.get(name)(Net(), wrong(images), TARGETS)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong", [lambda m: m[:1], lambda m: m[:, :5], lambda m: m.float(), lambda m: m.numpy()]
)
def test_wrong_masks_are_refused_in_one_line(wrong, images):
    with pytest.raises(ValueError, match=r"^masks must be"):
        explainers.get("oracle")(Net(), images, TARGETS, masks=wrong(truths(images)["masks"]))


@pytest.mark.parametrize("name", ["sobel", "gradient", "grad_cam", "guided_backprop", "captum:Saliency"])
def test_no_images_give_no_maps(name, images):
    assert explained(name, Net(), images[:0], TARGETS[:0]).shape == (0, SIZE, SIZE)
    assert explained(name, Net(), images[:0], 1).shape == (0, SIZE, SIZE)


# ReLUs that are written otherwise.


def set_below(x):
    x = x.clone()
    x[x < 0] = 0
    return x


def multiplied_in_place(x):
    x = x.clone()
    x *= x > 0
    return x


SPELLINGS = {
    "threshold": lambda x: functional.threshold(x, 0, 0),
    "threshold module": nn.Threshold(0.0, 0.0),
    "torch.maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "torch.max": lambda x: torch.max(torch.tensor(0.0), x),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "where below": lambda x: torch.where(x <= 0, torch.zeros_like(x), x),
    "Tensor.where": lambda x: x.where(x >= 0, x.new_zeros(())),
    "product": lambda x: x * (x > 0),
    "product with floats": lambda x: (x > 0).to(x.dtype) * x,
    "product in place": multiplied_in_place,
    "not below": lambda x: x * ~(x <= 0),
    "masked_fill": lambda x: x.masked_fill(x <= 0, 0),
    "masked_fill_": lambda x: x.clone().masked_fill_(x < 0, 0.0),
    "assignment": set_below,
    "clamp to a tensor": lambda x: x.clamp(min=torch.tensor(0.0)),
    "clip to a tensor": lambda x: torch.clip(x, torch.zeros(1)),
    "leaky_relu of slope 0": lambda x: functional.leaky_relu(x, 0),
    "LeakyReLU(0) in place": nn.LeakyReLU(0.0, inplace=True),
    "prelu of weight 0": lambda x: functional.prelu(x, torch.zeros(1)),
    "elu of alpha 0": lambda x: functional.elu(x, alpha=0.0),
    "half the sum with its absolute": lambda x: (x + x.abs()) / 2,
    "less what is below 0": lambda x: x - x.clamp(max=0),
    "minus the minimum": lambda x: -torch.minimum(-x, torch.zeros(1)),
    "heaviside": lambda x: x * torch.heaviside(x, torch.tensor(0.0)),
    "aten": lambda x: torch.ops.aten.relu(x),
    "one less a mask": lambda x: x * (1 - (x <= 0).float()),
    "einsum": lambda x: torch.einsum("nchw,nchw->nchw", x, (x > 0).float()),
    "einsum of a list": lambda x: torch.einsum("nchw, nchw -> nchw", [(x > 0).float(), x]),
    "addcmul": lambda x: torch.addcmul(torch.zeros_like(x), x, (x > 0).float()),
    "amax of a stack": lambda x: torch.stack([x, torch.zeros_like(x)]).amax(0),
}


@pytest.mark.parametrize("act", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize(
    "name", ["guided_backprop", "deconvnet", "guided_grad_cam", "vebi", "grad_cam@relu1"]
)
def test_equal_networks_have_equal_maps(name, act, images):
    close(explained(name, Acting(act), images), explained(name, Net(), images))


@pytest.mark.parametrize("spelling", ["torch.maximum", "product", "assignment", "LeakyReLU(0) in place"])
@pytest.mark.parametrize("name", [*OURS, "captum:Saliency", "captum:Occlusion", "zennit:EpsilonPlus"])
def test_equal_networks_have_equal_maps_by_every_method(name, spelling, images):
    close(explained(name, Acting(SPELLINGS[spelling]), images), explained(name, Net(), images))


@pytest.mark.parametrize("act", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("name", ["captum:GuidedBackprop", "captum:Deconvolution", "zennit:GuidedBackprop"])
def test_libraries_refuse_relus_that_they_do_not_see(name, act, images):
    with pytest.raises(ValueError, match=r"'relu1'.*silently not apply|overwrites its input"):
        explained(name, Acting(act), images)


def test_methods_together_see_other_spellings_too(images):
    names = ["guided_backprop", "deconvnet", "guided_grad_cam", "gradient"]
    found = explainers.explain_many(names, Acting(SPELLINGS["where"]), images, TARGETS)
    for name, expected in explainers.explain_many(names, Net(), images, TARGETS).items():
        close(found[name], expected)


NO_RELUS = {
    "maximum of two maps": lambda x: torch.maximum(x, x * 0.5),
    "a mask of another map": lambda x: x * ((x + 1) > 0),
    "a threshold above 0": lambda x: functional.threshold(x, 0.1, 0),
    "where of another bound": lambda x: torch.where(x > 0.1, x, 0.0),
    "an overwritten input": lambda x: x.clone().add_(1.0) * (x > 0),
    "another sum of products": lambda x: torch.addcmul(torch.ones_like(x), x, (x > 0).float()),
    "a scaled product": lambda x: torch.addcmul(torch.zeros_like(x), x, (x > 0).float(), value=2.0),
    "an einsum over channels": lambda x: torch.einsum("nchw,nkhw->nchw", x, (x > 0).float()),
    "two less a mask": lambda x: x * (2 - (x <= 0).float()),
    "amax beside ones": lambda x: torch.stack([x, torch.ones_like(x)]).amax(0),
}


@pytest.mark.parametrize("act", NO_RELUS.values(), ids=NO_RELUS)
def test_what_is_no_relu_stays_what_it_is(act, images):
    model = Acting(act)
    inputs = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(inputs).gather(1, TARGETS[:, None]).sum(), inputs)
    close(explained("gradient", model, images), expected.norm(dim=1))
    assert "relu1" not in [layer.name for layer in explainers.layers.layers(model, images)]


# Activations without a rule.

ACTIVATIONS = {
    "GELU": nn.GELU(),
    "SiLU": functional.silu,
    "ELU": nn.ELU(),
    "Mish": nn.Mish(),
    "Hardswish": functional.hardswish,
    "LeakyReLU": nn.LeakyReLU(0.1),
    "Softplus": functional.softplus,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "PReLU": nn.PReLU(),
    "CELU": nn.CELU(),
    "maximum": lambda x: torch.maximum(x, 0.5 * x),
}


def set_below_a_bound(x):
    x = x.clone()
    x[x < 0.1] = 0
    return x


# What is not a ReLU to methods, in many parts, and what is told of it.
IN_PARTS = {
    "amax": lambda x: torch.stack([x, 0 * x]).amax(0),
    "max": lambda x: torch.stack([x, 0 * x]).max(0).values,
    "sign": lambda x: x * (torch.sign(x) + 1) / 2,
    "sqrt": lambda x: (x + (x * x).sqrt()) / 2,
    "sqrt ": lambda x: (x + (x.pow(2) + 1e-12).sqrt()) / 2,
    "masked_scatter": lambda x: torch.zeros_like(x).masked_scatter(x > 0, x[x > 0]),
    "masks": lambda x: torch.einsum("nchw,nkhw->nchw", x, (x > 0).float()),
    "masks ": lambda x: x * (x > 0.1).float(),
    "masks  ": lambda x: x * torch.heaviside(x.detach() - 0.1, torch.tensor(0.0)),
    "masks   ": lambda x: x * (1 - (x.detach() < 0.1).int()),
    "masks    ": set_below_a_bound,
    "the model's non-linear operations": lambda x: x * x,
}


@pytest.mark.parametrize("told", IN_PARTS)
@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet"])
def test_an_activation_in_parts_is_told(name, told, images):
    with pytest.warns(UserWarning, match=rf"'{name}' has a rule for ReLUs but none for .*{told.strip()}.*; "):
        explained(name, Acting(IN_PARTS[told]), images)


def test_an_activation_in_parts_beside_relus_is_told_too(images):
    class Mixed(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = IN_PARTS["masks "](self.conv1(x))
            return self.fc(self.pool(self.relu2(self.conv2(x))).flatten(1))

    with pytest.warns(UserWarning, match="none for masks; its maps use their plain gradient"):
        explained("guided_backprop", Mixed(), images)


NO_ACTIVATIONS = {
    "a linear network": lambda net, x: net.fc(net.conv2(net.conv1(x)).flatten(2)[:, :, :25].flatten(1)),
    "a ReLU and a check": lambda net, x: Net.forward(net, x) if (x > -1).all() else x,
    "a ReLU and a norm": lambda net, x: Net.forward(net, x / (x * x).mean((1, 2, 3), keepdim=True).sqrt()),
    "a ReLU and a maximum over positions": lambda net, x: Net.forward(net, x - x.amax((2, 3), keepdim=True)),
}


@pytest.mark.parametrize("forward", NO_ACTIVATIONS.values(), ids=NO_ACTIVATIONS)
def test_what_is_no_activation_is_not_told(forward, images):
    explained(
        "guided_backprop", type("Written", (Net,), {"forward": forward})(), images
    )  # warnings are errors


class OwnFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, signal):
        return signal * 2 * ctx.saved_tensors[0]


ACTIVATIONS["OwnFunction"] = OwnFunction.apply
RULED = ["guided_backprop", "deconvnet", "guided_grad_cam", "deconv_gb", "captum:GuidedBackprop"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", RULED)
def test_an_activation_without_a_rule_is_told(name, activation, images):
    model = Acting(ACTIVATIONS[activation])
    with pytest.warns(
        UserWarning, match=rf"'{name}' has a rule for ReLUs but none for .*{activation}"
    ) as told:
        explained(name, model, images)
    (warning,) = [str(one.message) for one in told if "has a rule" in str(one.message)]
    assert "\n" not in warning and warning.endswith(
        "the model has no ReLU: its maps are those of the plain gradient"
    )
    with warnings.catch_warnings():  # once per model
        warnings.simplefilter("error")
        explained(name, model, images)


@pytest.mark.parametrize(
    "name", ["gradient", "grad_cam", "upsampled_activations", "captum:Saliency", "sobel"]
)
def test_methods_without_such_a_rule_say_nothing(name, images):
    explained(name, Acting(nn.GELU()), images)  # warnings are errors here


def test_a_norm_kept_from_zero_is_no_activation(images):
    explained("guided_backprop", Acting(lambda x: functional.normalize(x.relu(), eps=1e-6)), images)


def test_a_users_method_with_guided_backprop_is_told_too(images):
    def mine(model, images, targets):
        guided = explainers.backward.backprop.backpropagate(model, images, layer="logits", channels=targets)
        return guided.norm(dim=1)

    with pytest.warns(UserWarning, match="'mine' has a rule for ReLUs but none for GELU"):
        Explainer.from_spec(ExplainerSpec("mine", mine, "tests"))(Acting(nn.GELU()), images, TARGETS)


class Transformer(nn.Module):
    """A small vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 7, stride=7)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.block(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def test_guided_backprop_of_a_transformer_is_said_to_be_the_gradient(images):
    model = Transformer().eval()
    with pytest.warns(
        UserWarning, match="GELU; and the model has no ReLU: its maps are those of the plain gradient"
    ):
        found = explained("captum:GuidedBackprop", model, images)
    close(found, explained("captum:Saliency", model, images))


# Layers with channels in the last axis.


class ChannelsLast(nn.Module):
    """A ConvNeXt-like block, (N, H, W, C) inside, or the same as 1x1 convolutions, (N, C, H, W)."""

    def __init__(self, *, last: bool, act=functional.relu) -> None:
        super().__init__()
        self.conv, self.up, self.down = nn.Conv2d(3, 8, 5, stride=2), nn.Linear(8, 12), nn.Linear(12, 6)
        self.fc, self.last, self.act = nn.Linear(6, CLASSES), last, act
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(5)
            for parameter in self.parameters():
                parameter.normal_(0, 0.3)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if self.last:
            x = self.down(self.act(self.up(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        else:
            up, down = self.up.weight[:, :, None, None], self.down.weight[:, :, None, None]
            x = self.act(functional.conv2d(x, up, self.up.bias))
            x = functional.conv2d(x, down, self.down.bias)
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize(("layer", "same"), [("fc1", "conv2"), ("relu1", "relu1"), ("fc2", "conv3")])
@pytest.mark.parametrize("name", ["grad_cam", "grad_cam_pp", "layer_cam", "guided_grad_cam"])
def test_maps_of_layers_with_channels_last_are_right(name, layer, same, images):
    expected = explained(f"{name}@{same}", ChannelsLast(last=False), images)
    close(explained(f"{name}@{layer}", ChannelsLast(last=True), images), expected)


@pytest.mark.parametrize(
    "act", [nn.ReLU(), nn.ReLU(inplace=True), lambda x: torch.maximum(x, torch.zeros(1))]
)
@pytest.mark.parametrize("name", ["guided_backprop", "grad_cam@relu1", "grad_cam@fc1"])
def test_relus_with_channels_last_however_they_are_written(name, act, images):
    same = name.replace("fc1", "conv2")
    expected = explained(same, ChannelsLast(last=False), images)
    close(explained(name, ChannelsLast(last=True, act=act), images), expected)


def test_features_of_layers_with_channels_last_are_their_channels(images):
    explain = explainers.get("vebi").fit(ChannelsLast(last=True), [(images, TARGETS)])
    channels = {layer.name: layer.channels for layer in explain.method.selection.layers}
    assert (channels["fc1"], channels["relu1"], channels["fc2"]) == (12, 12, 6)


@pytest.mark.parametrize("name", ["captum:LayerGradCam@fc1", "pytorch_grad_cam:GradCAM@fc2"])
def test_libraries_refuse_layers_with_channels_last(name, images):
    with pytest.raises(ValueError, match="to be a module of its own"):
        explained(name, ChannelsLast(last=True), images)


# Models that change their input.


class Overwriting(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.sub_(0.5).mul_(2)
        return super().forward(x)


class Preserving(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward((x - 0.5) * 2)


class BehindItsBack(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.data.sub_(0.5)
        return super().forward(x)


class PreservingToo(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - 0.5)


@pytest.mark.parametrize(("kind", "same"), [(Overwriting, Preserving), (BehindItsBack, PreservingToo)])
@pytest.mark.parametrize("name", [*OURS, *LIBRARIES])
def test_models_that_overwrite_their_input_get_a_copy(name, kind, same, images):
    for pixels in (images, images.contiguous(memory_format=torch.channels_last)):
        before = pixels.clone()
        found = explained(name, kind(), pixels)
        assert torch.equal(pixels, before)
        close(found, explained(name, same(), images))


def test_the_callers_images_of_one_channel_stay_as_they_are(images):
    class Grey(Overwriting):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 4, 5, stride=2)

    grey = images[:, :1].clone()
    before = grey.clone()
    for name in (
        "gradient",
        "grad_cam",
        "vebi",
        "rise?samples=3",
        "captum:Occlusion?sliding_window_shapes=(1,9,9)",
    ):
        try:
            explained(name, Grey(), grey)
        except AssertionError:  # captum's strides are for three channels
            assert "Occlusion" in name
        assert torch.equal(grey, before), name


# Models that cut the gradient.

CUTS = {
    "detach": lambda x: x.detach(),
    "no_grad": torch.no_grad()(lambda x: x * 1),
    "integers": lambda x: (x * 10).long().float() / 10,
    "round": lambda x: (x * 10).round() / 10,
    "floor": lambda x: (x * 10).floor() / 10,
    "sign": lambda x: x.sign(),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("name", DIFFERENTIATING)
def test_a_cut_gradient_is_an_error(name, cut, images):
    class Cut(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(cut(self.pool(self.relu2(self.conv2(self.relu1(self.conv1(x))))).flatten(1)))

    with pytest.raises(ValueError, match=rf"'{name}': no gradient leads from the class scores to"):
        explained(name, Cut(), images)


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("name", ["gradient", "guided_backprop", "vebi", "captum:Saliency"])
def test_a_gradient_cut_at_the_images_is_an_error(name, cut, images):
    class Cut(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(cut(x))

    with pytest.raises(ValueError, match="no gradient leads from the class scores to the images"):
        explained(name, Cut(), images)
    explained("grad_cam", Cut(), images)  # which does not need it there


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", [*DIFFERENTIATING, "captum:GuidedBackprop", "guided_grad_cam"])
def test_a_quantised_model_cuts_the_gradient(name, images):
    model = torch.ao.quantization.quantize_dynamic(Net(), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ValueError, match=rf"'{name}': no gradient leads from the class scores to"):
        explained(name, model, images)
    assert explained("rise?samples=4", model, images).any()  # which needs none


class TwoHeads(Net):
    """A network with a second head, of maps, that is computed last."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return {"out": self.fc(self.pool(x).flatten(1)), "maps": self.maps(x)}


@pytest.mark.parametrize(
    "name", ["grad_cam", "layer_cam", "guided_grad_cam", "grad_cam@conv3", "pytorch_grad_cam:GradCAM"]
)
def test_a_layer_of_another_head_is_refused_and_the_others_are_named(name, images):
    message = (
        r"to layer '(last_conv|conv3)'; choose another layer, e\.g\. .*@pool1 \(.*conv1, relu1, conv2, relu2"
    )
    with pytest.raises(ValueError, match=message):
        explained(name, TwoHeads(), images)
    close(explained("grad_cam@relu2", TwoHeads(), images), explained("grad_cam@relu2", Net(), images))


LRP = ["zennit:EpsilonPlus", "zennit:EpsilonGammaBox", "zennit:ExcitationBackprop"]


class Averaging(nn.Module):
    """Global average pooling by a module or a function."""

    def __init__(self, pool) -> None:
        super().__init__()
        self.conv, self.relu, self.pool, self.fc = nn.Conv2d(3, 4, 5), nn.ReLU(), pool, nn.Linear(4, CLASSES)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.relu(self.conv(x))).flatten(1))


@pytest.mark.parametrize("name", LRP)
@pytest.mark.parametrize(
    "pool",
    [
        lambda x: x.mean((2, 3)),
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: torch.sum(x, dim=(-2, -1)),
        lambda x: x.flatten(2).mean(2),
    ],
)
def test_zennit_refuses_averages_that_are_no_module(name, pool, images):
    with pytest.raises(ValueError, match=f"'{name}' has a rule for average pooling modules, but .*silently"):
        explained(name, Averaging(pool), images)
    assert explained(name, Averaging(nn.AdaptiveAvgPool2d(1)), images).any()
    assert explained("zennit:GuidedBackprop", Averaging(pool), images).any()


@pytest.mark.parametrize("name", LRP)
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_zennit_refuses_weights_that_are_computed(name, norm, images):
    model = Net()
    getattr(nn.utils.parametrizations, norm)(model.conv1)
    with pytest.raises(ValueError, match=f"'{name}' changes the weights of layers, but those of 'conv1'"):
        explained(name, model, images)
    nn.utils.parametrize.remove_parametrizations(model.conv1, "weight")
    assert explained(name, model, images).any()


def test_maps_of_zeros_are_legal_and_counted(images):
    model = Net()
    with torch.no_grad():
        model.conv2.bias.fill_(-100)  # dead ReLUs
    maps = explained("gradient", model, images)
    assert not maps.any() and explainers.all_zero(maps).tolist() == [True] * N
    some = torch.stack([torch.zeros(4, 4), torch.eye(4)])
    assert explainers.all_zero(some).tolist() == [True, False]


# Methods that write into what they are given.


def writes_data(images, targets, masks):
    images.data.zero_()


def writes_numpy(images, targets, masks):
    images.numpy()[:] = 0


def writes_targets(images, targets, masks):
    targets.zero_()


def writes_masks(images, targets, masks):
    masks.numpy()[:] = True


def writes_one_pixel(images, targets, masks):
    images.numpy()[-1, -1, -1, -1] += 1e-3


@pytest.mark.parametrize("write", [writes_data, writes_numpy, writes_targets, writes_masks, writes_one_pixel])
def test_what_a_method_writes_into_its_inputs_is_undone_and_told(write, images):
    def writing(model, images, targets, *, masks):
        write(images, targets, masks)
        return images.mean(1)

    mine = Explainer.from_spec(ExplainerSpec("writing", writing, "tests", needs_masks=True))
    truth, targets = truths(images), TARGETS.clone()
    before = [images.clone(), targets.clone(), truth["masks"].clone()]
    with pytest.raises(
        ValueError, match=r"'writing' fails 'input': it wrote into the (images|targets|masks)"
    ):
        mine(Net(), images, targets, **truth)
    assert all(map(torch.equal, before, [images, targets, truth["masks"]]))
    failed = {}
    names = ["gradient", "oracle", "grad_cam"]
    found = explainers.explain_many([mine, *names], Net(), images, targets, **truth, failed=failed)
    assert list(failed) == ["writing"] and list(found) == names
    assert all(map(torch.equal, before, [images, targets, truth["masks"]]))
    for name, maps in found.items():
        close(maps, explained(name, Net(), images))
