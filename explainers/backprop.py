"""Backward passes from any feature of any layer to the image: gradient, deconvnet, guided, stride fix.

A backward pass is ordinary differentiation in which two kinds of operation go back by a rule of
their own: ReLUs (`relu=`, the table below) and strided operations (`resample=`, `stride_fix.RESAMPLES`);
everything else goes back as autograd does. One forward pass can be gone back by any rule.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from an8flower.registry import unknown
from explainers.guard import unchanged
from explainers.layers import Call, Layer, Watch, laid_out, value
from explainers.sharing import is_shared, once
from explainers.stride_fix import RESAMPLES, Back, Resample, Way, is_strided, run

ReLURule = Literal["gradient", "deconvnet", "guided"]

# What a ReLU passes back, from the signal that reaches it and a gate, positive where it was active.
ReLU = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_gated = torch.ops.aten.threshold_backward
RELU_RULES: dict[str, ReLU] = {
    "gradient": lambda signal, gate: _gated(signal, gate, 0),
    "deconvnet": lambda signal, gate: signal.clamp(min=0),
    "guided": lambda signal, gate: _gated(signal, gate, 0).clamp_(min=0),
}


def backpropagate(
    model: nn.Module,
    images: torch.Tensor,
    *,
    layer: str,
    channels: torch.Tensor,
    relu: ReLURule = "guided",
    resample: Resample = "conv",
) -> torch.Tensor:
    """Go back from one feature an image, its whole forward map, to the pixels.

    Args:
        model: any classifier; left unchanged.
        images: (N, 3, H, W) float32 in [0, 1].
        layer: where the features are, e.g. "conv2"; "logits" for the class scores themselves, which are
            sent back as ones.
        channels: (N,) int64, one a image; or one int for all.
        relu: "gradient" passes the signal where the input was positive; "deconvnet" passes positive
            signals (Zeiler and Fergus 2014); "guided" does both (Springenberg et al. 2015).
        resample: the stride fix: "none"; "conv" at convolutions; "all" at poolings too, the switches of
            max-pooling found again at stride 1; "nearest" as "conv", with max-pooling undone by nearest
            up-sampling.
    Returns:
        (N, 3, H, W) float32, signed.
    Raises:
        UnknownNameError: if the model has no such layer.
        ValueError: for a channel that the layer does not have, or an unknown rule.
    Source: Oramas et al. 2019, section 3.3, eq. 2 and 3. Departs: nearest neighbours have half-pixel
        centres, as the paper does not say which; "all" takes average pooling for a convolution with
        equal weights.
    """
    chosen = torch.as_tensor(channels, device=images.device).expand(len(images))
    _must_know(relu, resample)
    with unchanged(model):
        return backward(forward(model, images, [layer]), {layer: chosen}, relu=relu, resample=resample)


@dataclass(frozen=True)
class Stem:
    """The strided convolution that comes first: what reaches it goes to the image through it alone.

    Args:
        source: its input, which hangs on the images.
        start: stands for its output, where the rest of the pass begins.
        back: from the signal at its output to that at its input.
    """

    source: torch.Tensor
    start: torch.Tensor
    back: Callable[[torch.Tensor, Way], torch.Tensor]


@dataclass(frozen=True)
class Trace:
    """A forward pass that can be gone back, again and again and by any rule.

    Args:
        leaf: the images, (N, 3, H, W).
        outputs: the kept layers' outputs by name; "logits" for the class scores.
        layers: all layers that were passed.
    """

    leaf: torch.Tensor
    outputs: Mapping[str, torch.Tensor]
    layers: tuple[Layer, ...] = field(repr=False)
    _rules: _Rules = field(repr=False)
    _above: dict[Hashable, torch.Tensor] | None = field(default=None, repr=False)

    @property
    def stem(self) -> Stem | None:
        return self._rules.stem

    def follow(self, relu: ReLURule, resample: Resample) -> tuple[Any, ...]:
        """Go back by these rules from now on; what they come to above the stem, to tell them apart."""
        now = self._rules.now
        now.relu, now.ways = RELU_RULES[relu], RESAMPLES[resample]
        return relu, *(
            (function, now.ways[function]) for function in sorted(self._rules.strided & now.ways.keys())
        )


def forward(model: nn.Module, images: torch.Tensor, keep: Collection[str]) -> Trace:
    """Run `model`, within `guard.unchanged`, up to the last of the layers to keep.

    Where `sharing` is on, all layers of one pass are kept, for every method.

    Args:
        model, images: as in `backpropagate`.
        keep: names of layers; "logits" for the class scores.
    Raises:
        UnknownNameError: if the model has no such layer.
    """
    if not is_shared(model, images):
        return _forward(model, images, keep)
    with torch.enable_grad():
        trace = once("trace", lambda: replace(_forward(model, images, None), _above={}), model, images)
    _must_have(keep, trace)
    return trace


def backward(
    trace: Trace,
    channels: Mapping[str, torch.Tensor],
    *,
    relu: ReLURule = "guided",
    resample: Resample = "conv",
) -> torch.Tensor:
    """Go back once, each image from one feature: many layers can be left at their own height.

    Args:
        trace: from `forward`.
        channels: for each layer (N,) int64, the channel to start from, -1 for none.
        relu, resample: as in `backpropagate`.
    Returns:
        (N, 3, H, W) float32, signed.
    """
    _must_know(relu, resample)
    outputs = [trace.outputs[name] for name in channels]
    rules, stem = trace.follow(relu, resample), trace.stem

    def above(start: torch.Tensor) -> torch.Tensor:
        seeds = [_seed(name, trace.outputs[name], chosen) for name, chosen in channels.items()]
        (signal,) = torch.autograd.grad(outputs, start, seeds, retain_graph=True)
        return signal

    if stem is None:
        return above(trace.leaf)
    # Rules that differ at the stem alone have all the way down to it in common.
    places = tuple((name, *chosen.tolist()) for name, chosen in channels.items())
    made = {} if trace._above is None else trace._above
    if (rules, places) not in made:
        made[rules, places] = above(stem.start)
    signal = stem.back(made[rules, places], RESAMPLES[resample].get("conv2d", "exact"))
    (signal,) = torch.autograd.grad(stem.source, trace.leaf, signal, retain_graph=True)
    return signal


def class_scores_back(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, relu: ReLURule
) -> torch.Tensor:
    """Go back from each image's class score to the pixels, within `guard.unchanged`.

    Args:
        model, images, relu: as in `backpropagate`.
        targets: (N,) int64.
    Returns:
        (N, 3, H, W) float32, signed; with `relu="gradient"` the gradient.
    """

    def make() -> torch.Tensor:
        trace = forward(model, images, ["logits"])
        return backward(trace, {"logits": targets}, relu=relu, resample="none")

    return once(f"class scores, {relu}", make, model, images, targets)


def _forward(model: nn.Module, images: torch.Tensor, keep: Collection[str] | None) -> Trace:
    habits = _habits.setdefault(model, _Habits())
    while True:
        rules = _Rules(None if keep is None else frozenset(keep), habits)
        leaf = laid_out(images).requires_grad_()
        with Watch(rules) as watch, suppress(_AllKeptError):
            rules.kept["logits"] = model(leaf.clone())
        if not habits.learnt(rules, leaf):
            break
    trace = Trace(leaf, rules.kept, tuple(watch.seen), rules)
    _must_have(keep or (), trace)
    return trace


def _must_have(keep: Collection[str], trace: Trace) -> None:
    for name in keep:
        if name not in trace.outputs:
            raise unknown("layer", name, [*(layer.name for layer in trace.layers), "logits"])


def _must_know(relu: str, resample: str) -> None:
    for what, given, known in (("relu", relu, RELU_RULES), ("resample", resample, RESAMPLES)):
        if given not in known:
            raise ValueError(f"{what} must be one of {', '.join(known)}; got {given!r}")


def _seed(name: str, output: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    """The chosen channel's own map (at the class scores, one) and zeros elsewhere."""
    if channels.max() >= output.shape[1]:
        raise ValueError(
            f"channel {int(channels.max())} does not exist: layer {name!r} has {output.shape[1]} channels, "
            "counted from 0"
        )
    rows = (channels >= 0).nonzero()[:, 0]
    seed = torch.zeros_like(output)
    seed[rows, channels[rows]] = 1 if name == "logits" else output.detach()[rows, channels[rows]]
    return seed


class _AllKeptError(Exception):
    """Leaves the model once there is nothing more to keep."""


@dataclass
class _Now:
    """The rules of the moment, all that the ways back hold: one that led to an output would keep it alive."""

    relu: ReLU = RELU_RULES["guided"]
    ways: Mapping[str, Way] = field(default_factory=dict)


class _Rules:
    """Makes each layer's call so that it goes back by the rule of the moment, and keeps the outputs."""

    def __init__(self, keep: frozenset[str] | None, habits: _Habits) -> None:
        self.kept: dict[str, torch.Tensor] = {}
        self.stem: Stem | None = None
        self.strided: set[str] = set()  # the functions above the stem that have more than one way back
        self.now = _Now()
        self.versions: dict[str, int] = {}
        self._keep, self._habits = keep, habits

    def __call__(self, call: Call) -> Any:
        output = self._run(call)
        if self._keep is not None and call.name not in self._keep:
            return self._handed_on(call, output)
        kept = self.kept[call.name] = value(output)
        self.versions[call.name] = kept._version
        if self._keep is not None and len(self.kept) == len(self._keep):
            raise _AllKeptError
        if call.name in self._habits.overwritten:
            output = (kept.clone(), *output[1:]) if isinstance(output, tuple) else kept.clone()
        return self._handed_on(call, output)

    def _handed_on(self, call: Call, output: Any) -> Any:
        return call.source.copy_(output) if call.in_place else output

    def _run(self, call: Call) -> Any:
        if call.kind == "relu":
            return self._relu(call)
        if not is_strided(call):
            return call.run()
        if call.name == "conv1" and self._habits.stem and torch.is_grad_enabled():
            return self._stem(call)
        self.strided.add(call.function)
        now, function = self.now, call.function

        def operate(source: torch.Tensor) -> tuple[Any, Back]:
            output, ways = run(call, source)
            return output, lambda signal: ways(signal, now.ways.get(function, "exact"))

        return _own_way_back(call.source, operate)

    def _stem(self, call: Call) -> torch.Tensor:
        with torch.no_grad():
            output, back = run(call, call.source)
        # A stand-in for the output, without its memory: from here the graph begins anew.
        start = output.new_zeros(()).expand(output.shape).requires_grad_()
        self.stem = Stem(call.source, start, back)
        onward: torch.Tensor = _own_way_back(start, lambda _: (output, lambda signal: signal))
        return onward

    def _relu(self, call: Call) -> torch.Tensor:
        name, ceiling, now = call.name, call.ceiling, self.now

        def operate(source: torch.Tensor) -> tuple[torch.Tensor, Back]:
            output = source.clamp(min=0, max=ceiling)
            # What the way back holds must not lead to the output, or neither would ever be freed.
            gate = output.detach() if ceiling is None else output * (output < ceiling)
            version = gate._version

            def back(signal: torch.Tensor) -> torch.Tensor:
                if gate._version != version:
                    raise RuntimeError(
                        f"the output of {name!r} was overwritten in place after it was used; "
                        "such a model cannot be gone back"
                    )
                return now.relu(signal, gate)

            return output, back

        activated: torch.Tensor = _own_way_back(call.source, operate)
        return activated


@dataclass
class _Habits:
    """What a model does with its layers' outputs, found out on its first passes.

    Args:
        overwritten: layers that it writes over later, so that it must be handed a copy.
        stem: whether everything goes through its first convolution.
    """

    overwritten: set[str] = field(default_factory=set)
    stem: bool = True

    def learnt(self, rules: _Rules, leaf: torch.Tensor) -> bool:
        """Whether a pass showed something new, and has to be made again."""
        late = {name for name, version in rules.versions.items() if rules.kept[name]._version != version}
        around = rules.stem is not None and any(_hangs_on(one, leaf) for one in rules.kept.values())
        self.overwritten |= late
        self.stem &= not around
        return bool(late or around)


_habits: WeakKeyDictionary[nn.Module, _Habits] = WeakKeyDictionary()


def _hangs_on(output: torch.Tensor, leaf: torch.Tensor) -> bool:
    """Whether the graph behind `output` leads to `leaf`."""
    waiting, seen = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if getattr(node, "variable", None) is leaf:
            return True
        waiting += [following for following, _ in node.next_functions]
    return False


class _Operation(torch.autograd.Function):
    """An operation that brings its own way back."""

    @staticmethod
    def forward(ctx: Any, source: torch.Tensor, operate: Callable[[torch.Tensor], tuple[Any, Back]]) -> Any:
        output, ctx.back = operate(source)
        if isinstance(output, tuple):
            ctx.mark_non_differentiable(*output[1:])
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: torch.Tensor, *_: Any) -> Any:
        return ctx.back(signal), None


def _own_way_back(source: torch.Tensor, operate: Callable[[torch.Tensor], tuple[Any, Back]]) -> Any:
    return _Operation.apply(source, operate)  # type: ignore[no-untyped-call]
