"""Record a forward pass, then backpropagate through it with any rule."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from an8flower.ground.memo import is_shared, once
from an8flower.ground.registry import unknown
from explainers.backward.stride_fix import RESAMPLES, Back, Resample, Way, is_strided, run
from explainers.layers import Call, Layer, Watch, laid_out, value

ReLURule = Literal["gradient", "deconvnet", "guided"]

# From the signal that reaches a ReLU, and a gate that is positive where it was active, to what it passes on.
ReLU = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_gated = torch.ops.aten.threshold_backward
RELU_RULES: dict[str, ReLU] = {
    "gradient": lambda signal, gate: _gated(signal, gate, 0),
    "deconvnet": lambda signal, gate: signal.clamp(min=0),
    "guided": lambda signal, gate: _gated(signal, gate, 0).clamp_(min=0),
}


@dataclass(frozen=True)
class Stem:
    """A strided convolution at the start of the model, through which every path to the image leads.

    Args:
        source: its input, connected to the images in the graph.
        start: stands for its output; the graph of the rest of the pass begins here.
        back: from the signal at its output to the signal at its input.
    """

    source: torch.Tensor
    start: torch.Tensor
    back: Callable[[torch.Tensor, Way], torch.Tensor]


@dataclass(frozen=True)
class Trace:
    """A recorded forward pass, for any number of backward passes with any rules.

    Args:
        leaf: the images, (N, 3, H, W).
        outputs: outputs of the kept layers by name; "logits" for the class scores.
        layers: all layers of the pass.
    """

    leaf: torch.Tensor
    outputs: Mapping[str, torch.Tensor]
    layers: tuple[Layer, ...] = field(repr=False)
    _rules: _Rules = field(repr=False)
    _made: dict[Hashable, torch.Tensor] | None = field(default=None, repr=False)

    @property
    def stem(self) -> Stem | None:
        return self._rules.stem

    def once(self, key: Hashable, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return the result of `make`: computed once per `key` if the pass is shared, else each time."""
        if self._made is None:
            return make()
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def follow(self, relu: ReLURule, resample: Resample) -> tuple[Any, ...]:
        """Set the rules of the next backward passes.

        Returns:
            a key that is equal for rules with the same effect above the stem.
        """
        now = self._rules.now
        now.relu, now.ways = RELU_RULES[relu], RESAMPLES[resample]
        return relu, *(
            (function, now.ways[function]) for function in sorted(self._rules.strided & now.ways.keys())
        )


def forward(model: nn.Module, images: torch.Tensor, keep: Collection[str]) -> Trace:
    """Run and record `model`, within `guard.unchanged`, up to the last of the layers to keep.

    Inside `sharing`, one pass that keeps all layers is shared by all methods.

    Args:
        model, images: as in `backpropagate`.
        keep: names of the layers whose outputs are needed; "logits" for the class scores.
    Raises:
        UnknownNameError: if the model has no such layer.
    """
    if not is_shared(model, images):
        return _forward(model, images, keep)
    with torch.enable_grad():
        trace = once("trace", lambda: replace(_forward(model, images, None), _made={}), model, images)
    _must_have(keep, trace)
    return trace


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


class _AllKeptError(Exception):
    """Leave the model's forward pass early, once all needed layers are kept."""


@dataclass
class _Now:
    """The rules of the next backward pass.

    Backward functions hold a reference to this alone: a reference to an output would keep it alive.
    """

    relu: ReLU = RELU_RULES["guided"]
    ways: Mapping[str, Way] = field(default_factory=dict)


class _Rules:
    """Make the calls of all layers such that they backpropagate by the current rules, and keep outputs."""

    def __init__(self, keep: frozenset[str] | None, habits: _Habits) -> None:
        self.kept: dict[str, torch.Tensor] = {}
        self.stem: Stem | None = None
        self.strided: set[str] = set()  # functions above the stem that have more than one backward rule
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
        # Stands for the output without using its memory: a new graph begins here.
        start = output.new_zeros(()).expand(output.shape).requires_grad_()
        self.stem = Stem(call.source, start, back)
        onward: torch.Tensor = _own_way_back(start, lambda _: (output, lambda signal: signal))
        return onward

    def _relu(self, call: Call) -> torch.Tensor:
        name, ceiling, now = call.name, call.ceiling, self.now

        def operate(source: torch.Tensor) -> tuple[torch.Tensor, Back]:
            output = source.clamp(min=0, max=ceiling)
            # The backward function must not reference the output, or neither would ever be freed.
            gate = output.detach() if ceiling is None else output * (output < ceiling)
            version = gate._version

            def back(signal: torch.Tensor) -> torch.Tensor:
                if gate._version != version:
                    raise RuntimeError(
                        f"the output of {name!r} was overwritten in place after it was used; "
                        "backpropagation through this model is not possible"
                    )
                return now.relu(signal, gate)

            return output, back

        activated: torch.Tensor = _own_way_back(call.source, operate)
        return activated


@dataclass
class _Habits:
    """How a model uses the outputs of its layers, learned in its first passes.

    Args:
        overwritten: layers whose outputs it overwrites later, so that it must receive a copy.
        stem: whether every path to the image leads through the first convolution.
    """

    overwritten: set[str] = field(default_factory=set)
    stem: bool = True

    def learnt(self, rules: _Rules, leaf: torch.Tensor) -> bool:
        """Update from a pass; return whether it showed something new, so that it must be repeated."""
        late = {name for name, version in rules.versions.items() if rules.kept[name]._version != version}
        around = rules.stem is not None and any(_hangs_on(output, leaf) for output in rules.kept.values())
        self.overwritten |= late
        self.stem &= not around
        return bool(late or around)


_habits: WeakKeyDictionary[nn.Module, _Habits] = WeakKeyDictionary()


def _hangs_on(output: torch.Tensor, leaf: torch.Tensor) -> bool:
    """Return whether the gradient graph of `output` leads to `leaf`."""
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
    """An operation with its own backward function."""

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
