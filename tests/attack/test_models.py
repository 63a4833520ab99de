"""Models as people have them are explained, or refused in one line, and stay as they were."""

from __future__ import annotations

import concurrent.futures
import copy
import dataclasses
import pickle
from collections import OrderedDict, namedtuple
from threading import Thread

import pytest
import torch
from test_wrong_maps import LIBRARIES, OURS, SIZE, TARGETS, N, Net, close, explained, truths
from torch import nn
from torch.nn import functional
from torch.utils import checkpoint

import explainers
from explainers.base import Explainer, ExplainerError, ExplainerSpec
from explainers.conformance import probes

QUICK = ["gradient", "guided_backprop", "grad_cam", "vebi", "rise?samples=3", "captum:Saliency"]
Scores = namedtuple("Scores", "scores maps")


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


class Attributes:
    """An output that is no container."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


@pytest.fixture
def images(generator):
    return torch.rand(N, 3, SIZE, SIZE, generator=generator)


def written(forward) -> Net:
    """`Net` with another forward pass, `forward(net, x)`, in which `Net.forward(net, x)` may be called."""
    return type("Written", (Net,), {"forward": forward})()


# Layouts.

LAYOUTS = {
    "view": lambda net, x: net.fc(net.pool(net.relu2(net.conv2(net.relu1(net.conv1(x))))).view(len(x), -1)),
    "view_as": lambda net, x: net.fc(
        net.pool(net.relu2(net.conv2(net.relu1(net.conv1(x))))).view_as(torch.empty(len(x), 150))
    ),
    "view of channels": lambda net, x: net.fc(
        net.pool(net.relu2(net.conv2(net.relu1(net.conv1(x)).view(len(x), 2, -1).view(len(x), 4, 12, 12))))
        .view(len(x), -1)
    ),
    "view of the images": lambda net, x: Net.forward(net, x.view(len(x), -1).view(x.shape)),
    "view_as after a ReLU": lambda net, x: net.fc(
        net.pool(net.relu2(net.conv2(net.relu1(net.conv1(x)).view_as(torch.empty(len(x), 4, 12, 12)))))
        .view(len(x), -1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("forward", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", [*OURS, *LIBRARIES])
def test_models_that_need_contiguous_images_get_them(name, forward, images):
    for pixels in (images, images.contiguous(memory_format=torch.channels_last), images[:1]):
        targets = TARGETS[: len(pixels)]
        if explainers.get(name).spec.needs_fit and len(pixels) == 1:
            continue  # to learn it takes an image of each class
        close(explained(name, written(forward), pixels, targets), explained(name, Net(), pixels, targets))


# Outputs.

OUTPUTS = {
    "tuple": lambda y: (y, None),
    "tuple with maps": lambda y: (y, y[:, :, None, None].expand(-1, -1, 2, 2)),
    "list": lambda y: [y],
    "dict": lambda y: {"logits": y, "features": torch.cat([y, y], 1)},
    "dict of torchvision": lambda y: OrderedDict(out=y, aux=y * 2),
    "dict of another name": lambda y: {"prediction": y},
    "named tuple": lambda y: Scores(y, y[:, :, None]),
    "dataclass": Output,
    "object": Attributes,
    "(N, C, 1, 1)": lambda y: y[:, :, None, None],
    "squeezed": lambda y: y.squeeze(),
    "float64": lambda y: y.double(),
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("name", QUICK)
def test_scores_are_found_in_the_output(name, output, images):
    model = written(lambda net, x: output(Net.forward(net, x)))
    close(explained(name, model, images), explained(name, Net(), images))
    if not explainers.get(name).spec.needs_fit:
        close(
            explained(name, model, images[:1], TARGETS[:1]), explained(name, Net(), images[:1], TARGETS[:1])
        )


def both(scores, factors):
    return {name: scores * factor for name, factor in factors.items()}


@pytest.mark.parametrize("name", QUICK)
def test_a_named_output_can_be_chosen(name, images):
    model = written(lambda net, x: both(Net.forward(net, x), {"colour": 2, "shape": 1}))
    close(
        explained(name, explainers.Classifier(model, output="shape"), images), explained(name, Net(), images)
    )
    two = written(lambda net, x: tuple(both(Net.forward(net, x), {0: 2, 1: 1}).values()))
    close(explained(name, explainers.Classifier(two, output=1), images), explained(name, Net(), images))


REFUSED = {
    "two that fit": lambda y: {"colour": y, "shape": y * 2},
    "class numbers": lambda y: y.argmax(1),
    "maps of scores": lambda y: y[:, :, None, None].expand(-1, -1, 7, 7),
    "nothing": lambda y: None,
    "a number": lambda y: 0.5,
    "a loss": lambda y: y.mean(),
    "an array": lambda y: y.detach().numpy(),
    "an empty dict": lambda y: {},
    "two of a tuple": lambda y: (y, y),
}


@pytest.mark.parametrize("output", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize(
    "name", ["gradient", "grad_cam", "vebi", "captum:Saliency", "pytorch_grad_cam:GradCAM"]
)
def test_other_outputs_are_refused_in_one_line_that_says_what_is_expected(name, output, images):
    model = written(lambda net, x: output(Net.forward(net, x)))
    with pytest.raises(ValueError, match=r"^the model must return scores \(N, C\) as one tensor") as raised:
        explained(name, model, images)
    assert "\n" not in str(raised.value)
    if isinstance(output(torch.rand(1, 3)), dict | tuple) and output(torch.rand(1, 3)):
        assert "explainers.Classifier(model, output=" in str(raised.value)


def test_an_output_that_there_is_not_is_refused(images):
    model = explainers.Classifier(written(lambda net, x: {"a": Net.forward(net, x)}), output="b")
    with pytest.raises(ValueError, match="no output 'b'; its outputs are: 'a'"):
        explained("gradient", model, images)


@pytest.mark.parametrize("shape", [lambda y: y[:, :1], lambda y: y[:, 0], lambda y: {"logits": y[:, 0]}])
@pytest.mark.parametrize(
    "name", ["gradient", "guided_backprop", "grad_cam", "rise?samples=3", "captum:Saliency"]
)
def test_a_head_with_one_score_has_target_0(name, shape, images):
    model = written(lambda net, x: shape(Net.forward(net, x)))
    if "rise" not in name:  # which takes probabilities
        close(explained(name, model, images, 0), explained(name, Net(), images, 0))
    assert explained(name, model, images[:1], 0).shape == (1, SIZE, SIZE)
    with pytest.raises(ValueError, match="targets must be from 0 to 0, the model has 1 class; got 1"):
        explained(name, model, images, 1)


# Functions.


@pytest.mark.parametrize(
    "name", [*OURS, "captum:Saliency", "captum:LayerGradCam", "pytorch_grad_cam:GradCAM"]
)
def test_plain_functions_are_explained(name, images):
    net = Net().train()
    close(explained(name, lambda x: net(x), images), explained(name, Net(), images))
    close(explained(name, net.forward, images), explained(name, Net(), images))
    assert net.training and net.relu1.training and all(p.requires_grad for p in net.parameters())


def test_functions_together(images):
    net = Net()
    names = ["gradient", "grad_cam", "guided_grad_cam"]
    found = explainers.explain_many(names, lambda x: {"logits": net(x)}, images, TARGETS)
    for name, expected in explainers.explain_many(names, net, images, TARGETS).items():
        close(found[name], expected)


@pytest.mark.parametrize("model", [None, 3, "resnet18", {"conv": 1}])
def test_what_is_no_model_is_refused(model, images):
    with pytest.raises(ValueError, match="a model must be a module, or a function from images to scores"):
        explainers.get("gradient")(model, images, TARGETS)


# Types.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", [*OURS, *LIBRARIES])
def test_models_of_other_types_give_float32_maps(name, dtype, images):
    model = Net().to(dtype)
    found = explained(name, model, images)
    assert found.dtype == torch.float32
    assert all(parameter.dtype == dtype for parameter in model.parameters())
    same = Net()
    same.load_state_dict({key: tensor.float() for key, tensor in model.state_dict().items()})
    close(found, explained(name, same, images))


@pytest.mark.parametrize("name", QUICK)
def test_images_of_another_type_are_float32_to_methods(name, images):
    close(explained(name, Net().double(), images.double()), explained(name, Net(), images))


@pytest.mark.parametrize("name", ["gradient", "grad_cam", "guided_backprop", "vebi"])
def test_models_that_convert_their_input_themselves(name, images):
    model = written(lambda net, x: Net.forward(net, x.bfloat16())).bfloat16()
    maps = explained(name, model, images)
    assert maps.dtype == torch.float32 and maps.isfinite().all() and maps.any()


@pytest.mark.parametrize("name", QUICK)
def test_callers_under_autocast(name, images):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = explained(name, Net(), images)
    close(found, explained(name, Net(), images))


# Compiled models, TorchScript.


def scripted(net: Net) -> nn.Module:
    parts = net.conv1, net.relu1, net.conv2, net.relu2, net.pool, nn.Flatten(), net.fc
    return torch.jit.script(nn.Sequential(*parts).eval())


def traced(net: Net) -> nn.Module:
    return torch.jit.trace(net.eval(), torch.rand(2, 3, SIZE, SIZE))


HIDING = {
    "scripted": scripted,
    "traced": traced,
    "partly": lambda net: nn.Sequential(traced(net), nn.Identity()),
}
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


@pytest.mark.parametrize("hide", HIDING.values(), ids=HIDING)
@pytest.mark.parametrize(
    "name",
    [
        "gradient",
        "input_x_gradient",
        "smooth_grad?samples=2",
        "rise?samples=3",
        "captum:Saliency",
        "captum:Occlusion",
    ],
)
def test_torchscript_is_explained_by_methods_that_need_no_layers(name, hide, images):
    model = hide(Net()).train()
    close(explained(name, model, images), explained(name, Net(), images))
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("hide", HIDING.values(), ids=HIDING)
@pytest.mark.parametrize(
    "name",
    [
        *("guided_backprop", "deconvnet", "grad_cam", "guided_grad_cam", "vebi", "captum:GuidedBackprop"),
        *(
            "captum:DeepLift",
            "captum:LRP",
            "captum:LayerGradCam",
            "pytorch_grad_cam:GradCAM",
            "zennit:EpsilonPlus",
        ),
    ],
)
def test_torchscript_is_refused_by_methods_that_need_layers(name, hide, images):
    model = hide(Net())
    with pytest.raises(
        ValueError, match=r"TorchScript, which hides its layers; pass the model that was"
    ) as raised:
        explained(name, model, images)
    assert "\n" not in str(raised.value)
    assert all(parameter.requires_grad for parameter in model.parameters())


def compiled_inside(net: Net) -> Net:
    net.conv2 = torch.compile(net.conv2)
    return net


def compiled_itself(net: Net) -> Net:
    net.compile()
    return net


@pytest.mark.parametrize("compiled", [torch.compile, compiled_inside, compiled_itself])
@pytest.mark.parametrize("name", QUICK)
def test_compiled_models_are_explained_as_what_they_were_made_from(name, compiled, images):
    model = compiled(Net().train())
    close(explained(name, model, images), explained(name, Net(), images))
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


# Threads and processes.


@pytest.mark.parametrize("kind", [Net, lambda: written(lambda net, x: {"logits": Net.forward(net, x)})])
def test_threads_may_explain_with_one_model(kind, images):
    model = kind().train()
    model.conv1.weight.requires_grad_(False)
    names = ["gradient", "grad_cam", "guided_backprop", "captum:Saliency"] * 3
    expected = {name: explained(name, Net(), images) for name in names}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: explainers.get(name)(model, images, TARGETS), names))
    for name, maps in zip(names, found, strict=True):
        close(maps, expected[name])
    assert all(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 5


def test_a_method_may_call_another_on_the_same_model(images):
    def both(model, images, targets):
        return explainers.get("grad_cam")(model, images, targets) * explainers.get("gradient")(
            model, images, targets
        )

    model = written(lambda net, x: (Net.forward(net, x.sub_(0.5)),))
    maps = Explainer.from_spec(ExplainerSpec("both", both, "tests"))(model, images, TARGETS)
    close(maps, explained("grad_cam", model, images) * explained("gradient", model, images))


def test_a_thread_that_waits_goes_on_after_an_error(images):
    model, done = Net(), []

    def raising(model, images, targets):
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        Explainer.from_spec(ExplainerSpec("raising", raising, "tests"))(model, images, TARGETS)
    thread = Thread(target=lambda: done.append(explained("gradient", model, images)))
    thread.start()
    thread.join(60)
    assert len(done) == 1


def raised(call):
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


ERRORS = {
    "ExplainerError": lambda: ExplainerError("mine", "shape", "it returned (3,)"),
    "ModelError": lambda: explainers.ModelError("the model must return scores"),
    "unknown name": lambda: raised(lambda: explainers.get("grad_cm")),
    "unknown parameter": lambda: raised(lambda: explainers.get("grad_cam", lyer="conv1")),
    "no script": lambda: raised(lambda: explainers.get("none.py:mine")),
    "no value": lambda: raised(lambda: explainers.get("grad_cam?layer")),
    "not fitted": lambda: raised(lambda: explainers.get("vebi").method.selection),
}
AGAIN = {
    "copied": copy.copy,
    "copied deeply": copy.deepcopy,
    "pickled": lambda error: pickle.loads(pickle.dumps(error)),
}


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
def test_errors_can_be_copied_and_pickled(make, again):
    error = make()
    other = again(error)
    assert type(other) is type(error) and str(other) == str(error) and vars(other) == vars(error)


def test_an_error_says_what_it_said_before():
    error = ExplainerError("mine", "shape", "it returned (3,)")
    assert str(error) == "explainer 'mine' fails 'shape': it returned (3,)"
    assert (error.explainer, error.check, error.detail) == ("mine", "shape", "it returned (3,)")


# What a method does to a model is found and undone.


def class_of_a_module(model):
    model.relu1.__class__ = nn.Sigmoid


def class_of_the_model(model):
    model.__class__ = probes.Functional


def forward_of_a_module(model):
    model.conv1.forward = lambda x: x.new_zeros(len(x), 4, 12, 12)


def forward_of_the_model(model):
    model.forward = lambda x: x.new_zeros(len(x), 3)


def stride(model):
    model.conv1.stride = (1, 1)


def padding(model):
    model.pool.padding = 1


def in_place(model):
    model.relu1.inplace = True


def a_norms_epsilon(model):
    model.norm.eps = 10.0


def an_attribute(model):
    model.note = "explained"


def an_attribute_of_its_own(model):
    model.factor = 3


def a_list_of_its_own(model):
    model.scales.append(4.0)


def a_dictionary_of_its_own(model):
    model.options["on"] = False


def a_module_more(model):
    model.more = nn.Conv2d(3, 3, 3)
    model.conv1.weight.data.zero_()


def a_module_less(model):
    del model.pool


def a_module_replaced(model):
    model.relu2 = nn.Identity()


def a_parameter_replaced(model):
    model.conv2.weight = nn.Parameter(torch.zeros(6, 4, 3, 3))


def a_buffer_removed(model):
    del model.norm.running_mean


def a_global_looking_hook(model):
    model.conv1.register_full_backward_hook(lambda *_: None)


def a_pre_hook(model):
    model.fc.register_forward_pre_hook(lambda module, given: (given[0] * 0,))


CHANGES = [
    *(class_of_a_module, class_of_the_model, forward_of_a_module, forward_of_the_model, stride, padding),
    *(in_place, a_norms_epsilon, an_attribute, an_attribute_of_its_own, a_list_of_its_own),
    *(a_dictionary_of_its_own, a_module_more, a_module_less, a_module_replaced, a_parameter_replaced),
    *(a_buffer_removed, a_global_looking_hook, a_pre_hook),
]


class Particular(probes.Modular):
    """A model with attributes of its own, some of which it changes in a forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.factor, self.scales, self.options = 2, [1.0], {"on": True}
        self.passes, self.sizes, self.seen = 0, [], None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        self.sizes.append(len(images))
        self.seen = images.shape
        return super().forward(images) * self.factor * self.scales[-1]


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_a_method_changes_in_a_model_is_undone_and_told(change, raises, images):
    def changing(model, images, targets):
        model(images)
        change(model)
        if raises:
            raise RuntimeError("on purpose")
        return images.mean(1)

    model = probes.model(Particular)
    expected, classes = model(images), [type(module) for module in model.modules()]
    named = [name for name, _ in model.named_modules()]
    mine = Explainer.from_spec(ExplainerSpec("changing", changing, "tests"))
    message = "on purpose" if raises else r"'changing' fails 'model': it changed .* \(now restored\)"
    with pytest.raises((ExplainerError, RuntimeError), match=message):
        mine(model, images, TARGETS)
    assert torch.equal(model(images), expected)
    assert [type(module) for module in model.modules()] == classes
    assert [name for name, _ in model.named_modules()] == named
    assert not hasattr(model, "note") and model.pool.padding == 0 and not model.relu1.inplace


def test_what_a_model_changes_in_itself_stays(images):
    model = probes.model(Particular)
    explained("gradient", model, images)
    before = model.passes
    explained("grad_cam", model, images)
    assert model.passes > before and len(model.sizes) == model.passes


class Counting(Net):
    """A model that changes its own buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("average", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.average = 0.9 * self.average + x.detach().mean((0, 2, 3))
        return super().forward(x)


@pytest.mark.parametrize("name", [*QUICK, "grad_cam@conv1", "captum:GuidedBackprop", "zennit:EpsilonPlus"])
def test_buffers_that_a_model_changes_itself_are_put_back(name, images):
    model = Counting()
    for _ in range(2):
        close(explained(name, model, images), explained(name, Net(), images))
        assert not model.calls and not model.average.any()


def test_other_buffers_that_a_method_changes_are_told(images):
    def changing(model, images, targets):
        model(images)
        model.other.add_(1)
        return images.mean(1)

    model = Counting()
    model.register_buffer("other", torch.zeros(2))
    mine = Explainer.from_spec(ExplainerSpec("changing", changing, "tests"))
    with pytest.raises(ExplainerError, match="it changed the values of other "):
        mine(model, images, TARGETS)
    assert not model.other.any() and not model.calls


@pytest.mark.parametrize("name", [*OURS, "captum:Saliency", "captum:GuidedBackprop", "zennit:EpsilonPlus"])
def test_models_that_were_built_in_inference_mode_are_explained(name, images):
    with torch.inference_mode():
        model = Net()
    before = list(model.parameters())
    for _ in range(2):
        close(explained(name, model, images), explained(name, Net(), images))
    assert all(one is two and one.is_inference() for one, two in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", [*OURS, "captum:Saliency", "captum:GuidedBackprop"])
def test_checkpointed_models_are_explained(name, reentrant, images):
    pytorchs = checkpoint._checkpoint_without_reentrant_generator, checkpoint.CheckpointFunction

    def forward(net, x):
        hidden = checkpoint.checkpoint(lambda y: net.relu1(net.conv1(y)), x, use_reentrant=reentrant)
        return net.fc(net.pool(net.relu2(net.conv2(hidden))).flatten(1))

    close(explained(name, written(forward), images), explained(name, Net(), images))
    assert pytorchs == (checkpoint._checkpoint_without_reentrant_generator, checkpoint.CheckpointFunction)


def test_layers_without_a_size_are_told(images):
    model = Net()
    model.fc = nn.LazyLinear(3)
    for name in ("gradient", "grad_cam", "captum:Saliency"):
        with pytest.raises(
            ValueError, match=r"^the model is not initialised yet: fc\.weight has no size; run"
        ):
            explained(name, model, images)


def test_exported_programs_are_refused_in_one_line(images):
    model = torch.export.export(Net(), (images,)).module()
    for name in ("gradient", "grad_cam", "captum:Saliency"):
        with pytest.raises(ValueError, match=r"^the model cannot be put into eval mode .*; pass the module"):
            explained(name, model, images)


def test_a_model_that_was_changed_is_examined_again(images):
    model = Net()
    before = explained("guided_backprop", model, images)
    model.relu1 = nn.GELU()
    with pytest.warns(UserWarning, match="'guided_backprop' has a rule for ReLUs but none for GELU"):
        explained("guided_backprop", model, images)
    model.relu1 = nn.LeakyReLU(0.0)
    close(explained("guided_backprop", model, images), before)


def test_an_ordinary_model_is_handed_on_as_it_is(images):
    model, seen = Net(), []

    def looking(model, images, targets):
        seen.append((model, "forward" in vars(model), torch.overrides._get_current_function_mode_stack()))
        return images.mean(1)

    Explainer.from_spec(ExplainerSpec("looking", looking, "tests"))(model, images, TARGETS)
    assert seen == [(model, False, [])]


def test_an_interrupted_pass_leaves_no_mode_behind(images):
    class Stop(BaseException):
        pass

    def stops(net, x):
        if len(x) == N:
            raise Stop
        return Net.forward(net, torch.where(x > 0, x, 0.0))

    model = written(stops)
    for name in ("gradient", "grad_cam", "captum:Saliency"):
        with pytest.raises(Stop):
            explained(name, model, images)
        assert not torch.overrides._get_current_function_mode_stack()
        assert "forward" not in vars(model) and all(p.requires_grad for p in model.parameters())


def test_a_deep_copy_of_a_presented_model_has_its_own_weights(images):
    def copying(model, images, targets):
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.fc.weight.zero_()
            other.fc.bias.zero_()
            assert not other(images).any() and model(images).any()
        return images.mean(1)

    model = written(lambda net, x: {"logits": Net.forward(net, x)})
    Explainer.from_spec(ExplainerSpec("copying", copying, "tests"))(model, images, TARGETS)


def test_errors_of_the_model_pass_through(images):
    with pytest.raises(RuntimeError, match="expected input"):
        explained("gradient", Net(), images[:, :2])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        explained("grad_cam", Net(), functional.interpolate(images, size=(40, 40)))


def test_the_random_state_is_that_of_before(images):
    class Noisy(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 0 * torch.rand(1)

    model, state = Noisy(), torch.get_rng_state()
    explainers.explain_many(["sobel"], model, images, TARGETS)
    assert torch.equal(torch.get_rng_state(), state)
    assert truths(images)["masks"].shape == (N, SIZE, SIZE)
