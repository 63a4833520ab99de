"""Examine a model once, with one image: how it must be presented, and what methods cannot do with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from explainers.attributes import Attributes
from explainers.errors import ModelError
from explainers.guard import Attribute, alone, passive
from explainers.layers import Call, Watch, forward_from, laid_out, value
from explainers.presentation import Presentation, is_presented, presented

# Operations that no method has a rule for, by their name in the gradient graph.
_UNRULED = {
    "Gelu": "GELU", "Silu": "SiLU", "Elu": "ELU", "Celu": "CELU", "Selu": "SELU", "Mish": "Mish",
    "Hardswish": "Hardswish", "LeakyRelu": "LeakyReLU", "RreluWithNoise": "RReLU", "PreluKernel": "PReLU",
    "Softplus": "Softplus", "Tanh": "Tanh", "Sigmoid": "Sigmoid", "Hardsigmoid": "Hardsigmoid",
    "LogSigmoid": "LogSigmoid", "Hardtanh": "Hardtanh", "Threshold": "Threshold", "Relu": "a hidden ReLU",
    "Softshrink": "Softshrink", "Hardshrink": "Hardshrink", "Clamp": "clamp", "ClampMin": "clamp",
    "Maximum": "maximum", "Minimum": "minimum", "Where": "where", "MaskedFill": "masked_fill", "Abs": "abs",
}  # fmt: skip
_TINY = 1e-5
# Operations whose gradient is 0 wherever it is defined: no signal passes them.
_CONSTANT = ("Round", "Floor", "Ceil", "Trunc", "Sign")


@dataclass
class Examination:
    """What is known of a model.

    Args:
        classes: number of scores; None if the model could not be examined.
        presentation: how it must be presented to methods.
        relus: number of ReLUs that methods can see.
        unruled: activations for which guided backprop and deconvnet have no rule.
        hidden: parts of it are TorchScript, into which methods cannot look.
        mixed: it computes in another type than float32, also while it is explained.
        cut: no gradient leads from the scores to the images.
        own: attributes that it changes itself in a forward pass; None if they are not known.
        told: names of the methods that have warned about `unruled`.
        ruled: whether a backward pass with a rule for ReLUs was made in the current call.
    """

    classes: int | None = None
    presentation: Presentation = field(default_factory=Presentation)
    relus: int = 0
    unruled: tuple[str, ...] = ()
    hidden: bool = False
    mixed: bool = False
    cut: bool = False
    own: frozenset[Attribute] | None = None
    told: set[str] = field(default_factory=set)
    ruled: bool = False

    def note_rule(self) -> None:
        """Note a backward pass with a rule for ReLUs."""
        self.ruled = True


def examine(model: nn.Module, images: torch.Tensor) -> Examination:
    """Return what is known of a model, after two forward passes of the first image if it is not known yet.

    A model that was changed since, e.g. by another activation, is examined again. What cannot be examined,
    since its forward pass raises, is handed on as it is, and raises where it is used.

    Args:
        model: left unchanged.
        images: (N, C, H, W) float32.
    Raises:
        ModelError: if no scores can be told in the model's output.
    """
    with alone(model):
        known = recalled(model)
        if known is not None:
            return known
        if not len(images):
            return Examination()
        state = [(name, module, Attributes.of(module)) for name, module in model.named_modules()]
        gpus = [images.device] if images.is_cuda else []
        with passive(model), torch.random.fork_rng(devices=gpus):
            found = _examined(model, images[:1].detach())
        if found is None:
            return Examination()
        found.own = frozenset(
            (name, attribute) for name, module, before in state for attribute in before.changed(module)
        )
        _known[model] = _fingerprint(model), found
        return found


def recalled(model: nn.Module) -> Examination | None:
    """Return what is known of a model, None if it was not examined or has changed since."""
    fingerprint, found = _known.get(model, (None, None))
    return found if is_presented(model) or fingerprint == _fingerprint(model) else None


_known: WeakKeyDictionary[nn.Module, tuple[Any, Examination]] = WeakKeyDictionary()


@contextmanager
def prepared(model: nn.Module, images: torch.Tensor) -> Iterator[Examination]:
    """Present a model as methods expect it, alone and as long as the block runs; see `presentation`.

    Args:
        model: left unchanged.
        images: (N, C, H, W) float32; the first image is enough.
    Raises:
        ModelError: as `examine`.
    """
    with alone(model):
        found = examine(model, images)
        if not is_presented(model):
            found.ruled = False
        with presented(model, found.presentation, found.note_rule):
            yield found


def is_cut(model: nn.Module, images: torch.Tensor, layer: str) -> bool:
    """Return whether no gradient leads from the scores to the outputs of a layer, within `prepared`."""
    with passive(model):
        scores, activations, _ = forward_from(model, images[:1], layer)
        return not _leads(scores, activations)


def _fingerprint(model: nn.Module) -> Any:
    """Return what changes if the model computes something else, as far as can be told at little cost."""
    modules = [
        (id(module), type(module), vars(module).get("forward"), module.extra_repr() if _acts(module) else "")
        for module in model.modules()
    ]
    return modules, {(tensor.dtype, tensor.device) for tensor in model.parameters()}


def _acts(module: nn.Module) -> bool:
    return type(module).__module__ == "torch.nn.modules.activation"


def _examined(model: nn.Module, image: torch.Tensor) -> Examination | None:
    tensors = [*model.parameters(), *model.buffers()]
    other = {one.dtype for one in tensors if one.is_floating_point()} - {torch.float32}
    first = Presentation(scores=True, respelled=True, float32=bool(other))
    tries = [first, *(replace(first, float32=False, cast=dtype) for dtype in sorted(other, key=str))]
    for one in tries:
        for attempt in (one, replace(one, contiguous=True)):
            for differentiated in (True, False):
                try:
                    return _look(model, image, attempt, differentiated)
                except ModelError:
                    raise
                except Exception:  # it cannot be run in this way; in the end the method tells why
                    continue
    return None


def _look(model: nn.Module, image: torch.Tensor, attempt: Presentation, differentiated: bool) -> Examination:
    # Twice the image, since one image alone is laid out in two ways at once; and once, since some models
    # drop the axis of a batch of one.
    twice = image.repeat(2, 1, 1, 1)
    leaf = (twice if attempt.contiguous else laid_out(twice)).clone().requires_grad_(differentiated)
    given = leaf.clone()
    version = given._version
    relus: list[Any] = []

    def note(call: Call) -> Any:
        output = call.run()
        if call.kind == "relu" and (node := value(output).grad_fn) is not None:
            relus.append(node)
        return output

    with torch.set_grad_enabled(differentiated), presented(model, attempt) as forward, Watch(note):
        scores = model(given)
        assert forward is not None
        raw, unusual = forward.raw, forward.respelled > 0
        with torch.no_grad():
            model(image.clone())
        plain = all(isinstance(one, torch.Tensor) and one.dim() == 2 for one in (raw, forward.raw))
    hidden = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
    unruled = _unruled(scores, set(relus))
    return Examination(
        classes=scores.shape[1],
        presentation=replace(
            attempt,
            scores=not plain or raw.dtype != torch.float32,
            copied=given._version != version or not torch.equal(given, leaf),
            respelled=unusual,
            watched=hidden or bool(unruled),
        ),
        relus=len(relus),
        unruled=unruled,
        hidden=hidden,
        mixed=attempt.cast is not None or getattr(raw, "dtype", torch.float32) != torch.float32,
        cut=not _leads(scores, leaf),
    )


def _unruled(scores: torch.Tensor, relus: set[Any]) -> tuple[str, ...]:
    names = []
    for node in _nodes(scores, ()):
        if node in relus or _keeps_from_zero(node):
            continue
        if isinstance(node, torch.autograd.function.BackwardCFunction):  # a user's own function
            names.append(type(node).__name__.removesuffix("Backward"))
        else:
            names.append(_UNRULED.get(_name(node), ""))
    return tuple(dict.fromkeys(filter(None, names)))


def _keeps_from_zero(node: Any) -> bool:
    """Return whether a node only keeps what is divided by from 0, as in `functional.normalize`."""
    low = getattr(node, "_saved_min", None) if _name(node).startswith("Clamp") else None
    return isinstance(low, int | float) and 0 < low <= _TINY and getattr(node, "_saved_max", None) is None


def _leads(scores: torch.Tensor, start: torch.Tensor) -> bool:
    return any(getattr(node, "variable", None) is start for node in _nodes(scores, _CONSTANT))


def _nodes(scores: torch.Tensor, without: tuple[str, ...]) -> Iterator[Any]:
    """Yield the nodes of the gradient graph, not beyond those of some names."""
    waiting, seen = [scores.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen or _name(node) in without:
            continue
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]


def _name(node: Any) -> str:
    """Return the name of the operation of a node, e.g. "Relu" of "ReluBackward0"."""
    return str(node.name()).partition("Backward")[0]
