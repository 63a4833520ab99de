"""Other libraries' methods by name: what they give, what they refuse, and that nothing is lost on the way."""

from __future__ import annotations

import inspect
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import explainers
from an8flower.ground.registry import MissingExtraError, UnknownNameError
from an8flower.ground.torchvision_shim import import_torchvision
from explainers import adapters, fitness
from explainers.maps import reduced, upsampled

import_torchvision()
import pytorch_grad_cam  # noqa: E402
from captum import attr  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402
from zennit.attribution import Gradient  # noqa: E402
from zennit.composites import EpsilonGammaBox, EpsilonPlus  # noqa: E402

SIZE = 28
TARGETS = torch.tensor([0, 1, 2])
EVERY = [name for library in adapters.EXTRAS for name in adapters.names(library)]
QUICK = [name for name in EVERY if not explainers.get(name).spec.costly]
LAYERS = ["conv1", "relu1", "conv2", "relu2", "pool1"]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def images(generator):
    return torch.rand(3, 3, SIZE, SIZE, generator=generator)


def close(found, expected):
    # a map's own size is the measure: sums in another order differ at their largest terms
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def gradient_input(images):
    return images.clone().requires_grad_()


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_maps_are_the_same_again_and_alone(name, modular, images):
    explain = explainers.get(name)
    maps = explain(modular, images, TARGETS)
    assert maps.shape == (3, SIZE, SIZE) and maps.dtype == torch.float32 and maps.isfinite().all()
    assert torch.equal(explain(modular, images, TARGETS), maps)
    alone = [explain(modular, images[k : k + 1], TARGETS[k : k + 1]) for k in range(3)]
    close(torch.cat(alone), maps)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_no_map_is_silently_wrong_however_the_model_is_written(name, written, modular, images):
    expected = explainers.get(name)(modular, images, TARGETS)
    try:
        maps = explainers.get(name)(written, images, TARGETS)
    except ValueError as refusal:
        assert type(written) is not type(modular)
        assert name in str(refusal)
        assert any(reason in str(refusal) for reason in ("as a function", "2 times", "overwrite"))
    else:
        close(maps, expected)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", ["captum:LayerGradCam", "captum:LayerLRP", "pytorch_grad_cam:GradCAM"])
def test_every_layer_is_the_right_one_or_refused(name, layer, written, modular, images):
    expected = explainers.get(f"{name}@{layer}")(modular, images, TARGETS)
    try:
        maps = explainers.get(f"{name}@{layer}")(written, images, TARGETS)
    except ValueError as refusal:
        assert f"{name} needs layer '{layer}' to be a module of its own" in str(refusal)
    else:
        close(maps, expected)


@pytest.mark.parametrize("name", EVERY)
def test_says_what_it_is(name):
    spec = explainers.get(name).spec
    library, _, method = name.partition(":")
    assert spec.name == name and spec.source and spec.reduction and spec.build.__doc__
    assert spec.library.replace("-", "_").startswith(library)
    assert inspect.getfile(spec.build).endswith(f"{library}.py")
    assert isinstance(sys.modules[f"explainers.adapters.{library}"].known(method), str)


@pytest.mark.parametrize("name", EVERY)
def test_its_key_names_it_again(name):
    spec = explainers.get(name).spec
    others = {"reduce": "abs", "layer": "conv1", "n_steps": 7, "squares": 3, "seed": 4, "epsilon": 0.5}
    changed = {key: value for key, value in others.items() if key in spec.parameters}
    explain = explainers.get(name, **changed)
    again = explainers.get(explain.name)
    assert again.name == explain.name
    assert again.parameters == explain.parameters


def test_known_defects_are_of_methods_that_there_are():
    for library in adapters.EXTRAS:
        known = sys.modules[f"explainers.adapters.{library}"].KNOWN
        assert set(known) <= {name.partition(":")[2] for name in adapters.names(library)}


def test_which_methods_have_a_rule_for_relus_alone_is_what_their_limitations_say():
    known = {f"{library}:{name}": text for library in adapters.EXTRAS
             for name, text in sys.modules[f"explainers.adapters.{library}"].KNOWN.items()}  # fmt: skip
    assert {name for name, text in known.items() if "plain gradient elsewhere" in text} == fitness.RULED


def test_which_methods_look_into_the_model_is_what_their_library_asks_for():
    for name in adapters.names("captum"):
        asked = inspect.signature(getattr(attr, name.partition(":")[2]).__init__).parameters
        assert (name in fitness.BLACK_BOX) == ("forward_func" in asked and "layer" not in asked)


# What each gives, against the library called by hand.


def test_captum_on_pixels(modular, images):
    inputs = gradient_input(images)
    for name, parameters in [("Saliency", {}), ("IntegratedGradients", {"n_steps": 9}), ("DeepLift", {})]:
        direct = getattr(attr, name)(modular)
        with warnings.catch_warnings(action="ignore"):  # that it sets hooks
            expected = direct.attribute(inputs, target=TARGETS, **parameters).detach()
        found = explainers.get(f"captum:{name}", **parameters)(modular, images, TARGETS)
        close(found, reduced(expected.float(), "l2"))


def test_captum_on_layers(modular, images):
    direct = attr.LayerConductance(modular, modular.conv2).attribute(images, target=TARGETS).detach()
    found = explainers.get("captum:LayerConductance@conv2")(modular, images, TARGETS)
    close(found, upsampled(direct.sum(dim=1).float(), images))
    direct = attr.LayerGradCam(modular, modular.relu2).attribute(images, target=TARGETS).detach()
    close(explainers.get("captum:LayerGradCam")(modular, images, TARGETS), upsampled(direct[:, 0], images))


def test_captum_on_areas(modular, images):
    window = {"sliding_window_shapes": (3, 9, 9), "strides": (3, 5, 5)}
    expected = attr.Occlusion(modular).attribute(images, target=TARGETS, **window).mean(dim=1)
    close(explainers.get("captum:Occlusion", **window)(modular, images, TARGETS), expected.float())
    maps = explainers.get("captum:FeatureAblation?squares=2")(modular, images, TARGETS)
    hidden = images.clone()
    hidden[:, :, :14, 14:] = 0
    drop = (modular(images) - modular(hidden)).gather(1, TARGETS[:, None]).detach()
    close(maps[:, :14, 14:], drop[:, :, None].expand(-1, 14, 14))


def test_pytorch_grad_cam(modular, images):
    for name in ("GradCAM", "XGradCAM", "EigenCAM", "ScoreCAM"):
        with getattr(pytorch_grad_cam, name)(modular, [modular.relu2]) as cam:
            expected = cam(
                gradient_input(images), [ClassifierOutputTarget(int(target)) for target in TARGETS]
            )
        close(
            explainers.get(f"pytorch_grad_cam:{name}")(modular, images, TARGETS), torch.from_numpy(expected)
        )


def test_pytorch_grad_cam_of_several_layers(modular, images):
    with pytorch_grad_cam.GradCAM(modular, [modular.relu1, modular.relu2]) as cam:
        expected = cam(gradient_input(images), [ClassifierOutputTarget(int(target)) for target in TARGETS])
    found = explainers.get("pytorch_grad_cam:GradCAM@relu1,relu2")(modular, images, TARGETS)
    close(found, torch.from_numpy(expected))


def zennit_by_hand(model, images, composite):
    with Gradient(model=model, composite=composite) as attributor:
        relevance = attributor(gradient_input(images), functional.one_hot(TARGETS, 3).float())[1]
    return reduced(relevance, "l2")


def test_zennit(modular, images):
    found = explainers.get("zennit:EpsilonPlus")(modular, images, TARGETS)
    close(found, zennit_by_hand(modular, images, EpsilonPlus()))


class Preprocessed(nn.Module):
    """A model that owns its preprocessing, one channel of which it turns over."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model((x - 0.5) * torch.tensor([2.0, 1.0, -1.0])[:, None, None])


def test_zennits_box_is_what_the_first_convolution_can_see(modular, images):
    model = Preprocessed(modular)
    bound = torch.tensor([1.0, 0.5, 0.5])[None, :, None, None].expand(1, 3, SIZE, SIZE)
    expected = zennit_by_hand(model, images, EpsilonGammaBox(low=-bound, high=bound))
    close(explainers.get("zennit:EpsilonGammaBox")(model, images, TARGETS), expected)


def test_captums_lrp_takes_modules_without_weights(modular, images):
    model = nn.Sequential(nn.Identity(), *list(modular.children())[:1], nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(4 * 12 * 12, 3))
    maps = explainers.get("captum:LRP")(model, images, TARGETS)
    # With an epsilon this small it is input x gradient.
    close(maps, explainers.get("captum:InputXGradient")(model, images, TARGETS))
    assert not hasattr(model[1], "activations") and not hasattr(model[3], "rule")
    with pytest.raises(ValueError, match="no rule for GroupNorm"):
        explainers.get("captum:LRP")(nn.Sequential(nn.GroupNorm(1, 3), model), images, TARGETS)


# Defects that are worked around or refused.


class Elsewhere(nn.Module):
    """A ReLU whose input has another user, as in a pre-activation ResNet."""

    def __init__(self, apart: bool) -> None:
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4 * 26 * 26, 3)
        self.apart = apart

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.fc((self.relu(x.clone() if self.apart else x) + x).flatten(1))


@pytest.mark.parametrize("name", ["GuidedBackprop", "Deconvolution", "DeepLift", "LRP"])
def test_captum_leaves_other_users_of_a_relus_input_alone(name, images):
    together, apart = Elsewhere(apart=False).eval(), Elsewhere(apart=True).eval()
    apart.load_state_dict(together.state_dict())
    explain = explainers.get(f"captum:{name}")
    close(explain(together, images, TARGETS), explain(apart, images, TARGETS))


def test_relus_of_another_kind_are_not_passed_over(modular, images):
    modular.relu1 = nn.ReLU6()
    for name in ("captum:GuidedBackprop", "captum:DeepLift", "zennit:GuidedBackprop"):
        with pytest.raises(ValueError, match=f"{name} .* but not for ReLU6 \\('relu1'\\)"):
            explainers.get(name)(modular, images, TARGETS)


def test_functional_average_pooling_is_refused_where_it_has_a_rule(images):
    class Averaging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 13 * 13, 3)

        def forward(self, x):
            return self.fc(functional.avg_pool2d(self.conv(x).relu(), 2).flatten(1))

    for name in ("zennit:EpsilonPlus", "captum:LRP"):
        with pytest.raises(ValueError, match=r"average pooling modules, but .* 'pool1' as a function"):
            explainers.get(name)(Averaging().eval(), images, TARGETS)


def test_layers_defined_in_another_order_are_refused_where_it_matters(modular, images):
    modular._modules["conv1"] = modular._modules.pop("conv1")
    with pytest.raises(ValueError, match="define the modules in the order"):
        explainers.get("zennit:EpsilonGammaBox")(modular, images, TARGETS)
    with pytest.raises(ValueError, match="would silently mix them up"):
        explainers.get("pytorch_grad_cam:FullGrad")(modular, images, TARGETS)


def test_fully_connected_layers_have_no_map(modular, images):
    for name in ("captum:LayerGradCam", "pytorch_grad_cam:GradCAM"):
        with pytest.raises(ValueError, match="'fc1' is fully connected"):
            explainers.get(f"{name}@fc1")(modular, images, TARGETS)
        with pytest.raises(UnknownNameError, match="did you mean 'conv"):
            explainers.get(f"{name}@conv7")(modular, images, TARGETS)


# Names and parameters.


def test_parameters_reach_the_library(modular, images):
    def maps(name):
        return explainers.get(name)(modular, images, TARGETS)

    for name in (
        "captum:IntegratedGradients?n_steps=5",
        "captum:IntegratedGradients?baselines=0.5",
        "captum:GradientShap?baselines=(0.0, 0.5, 1.0)",
        "captum:GradientShap?seed=1",
        "captum:LayerGradCam?relu_attributions=True&layer='conv2'",
        "captum:Lime?seed=3",
        "pytorch_grad_cam:GradCAM?eigen_smooth=True",
        "pytorch_grad_cam:RandomCAM?seed=1",
        "zennit:EpsilonPlus?epsilon=0.5",
        "zennit:EpsilonGammaBox?gamma=2.0",
        "zennit:EpsilonPlus?zero_params=bias",
    ):
        plain = name.partition("?")[0] + ("@conv1" if "LayerGradCam" in name else "")
        assert not torch.allclose(maps(name), maps(plain), rtol=1e-4), name


def test_global_generators_are_left_alone(modular, images):
    for name in ("captum:GradientShap", "captum:KernelShap", "pytorch_grad_cam:RandomCAM"):
        before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
        explainers.get(name)(modular, images, TARGETS)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (np.random.get_state(legacy=False)["state"]["key"] == before[1]).all()  # noqa: NPY002


def test_unknown_names_come_with_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean 'IntegratedGradients'"):
        explainers.get("captum:IntegratedGradient")
    with pytest.raises(UnknownNameError, match="did you mean 'ScoreCAM'"):
        explainers.get("pytorch_grad_cam:ScoreCam")
    with pytest.raises(UnknownNameError, match="unknown parameter of explainer 'zennit:EpsilonPlus'"):
        explainers.get("zennit:EpsilonPlus?epsilom=1")


@pytest.mark.parametrize(("library", "name"), [("pytorch_grad_cam", "ScoreCAM"), ("zennit", "EpsilonPlus")])
def test_a_missing_library_names_its_extra(library, name, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"explainers.adapters.{library}")
    extra = adapters.EXTRAS[library]
    with pytest.raises(MissingExtraError, match=rf"pip install 'an8flower\[{extra}\]'"):
        explainers.get(f"{library}:{name}")
