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
from explainers.gradient_graph import CONSTANT, leads, nodes, unruled_in
from explainers.guard import Attribute, alone, buffers_kept, passive
from explainers.layers import Call, Watch, forward_from, laid_out, value
from explainers.presentation import Presentation, checkpoints_kept, is_presented, presented

# What is told where a model is not linear though nothing is seen that makes it so.
_UNKNOWN = "the model's non-linear operations"
_LINEAR = 1e-3


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
        excused: buffers that it changes itself in a forward pass, as `guard.buffers_kept` tells them.
        averaged: it averages or sums maps over their positions without a pooling layer.
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
    excused: frozenset[str] = frozenset()
    averaged: bool = False
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
        ModelError: if no scores can be told in the model's output, or its layers are not initialised.
    """
    with alone(model):
        known = recalled(model)
        if known is not None:
            return known
        _must_be_initialised(model)
        if not len(images):
            return Examination()
        state = [(name, module, Attributes.of(module)) for name, module in model.named_modules()]
        gpus = [images.device] if images.is_cuda else []
        with passive(model), buffers_kept(model) as buffers, torch.random.fork_rng(devices=gpus):
            found = _examined(model, images[:1].detach())
        if found is None:
            return Examination()
        found.excused = frozenset(buffers)
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
        return not leads(scores, activations)


def leading(model: nn.Module, images: torch.Tensor) -> list[str]:
    """Return the names of the layers with a map from which the gradient leads to the scores."""
    found: list[Any] = []

    def note(call: Call) -> Any:
        output = call.run()
        found.append(value(output).grad_fn)
        return output

    with passive(model), Watch(note) as watch:
        scores = model(images[:1].detach().clone().requires_grad_())
    reached = set(nodes(scores, CONSTANT))
    return [one.name for one, node in zip(watch.seen, found, strict=True) if one.has_map and node in reached]


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
    built = any(tensor.is_inference() for tensor in tensors)
    first = Presentation(scores=True, respelled=True, float32=bool(other), ordinary=built)
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

    with (
        torch.set_grad_enabled(differentiated),
        checkpoints_kept() as checkpoints,
        presented(model, attempt) as forward,
        Watch(note),
    ):
        scores = model(given)
        assert forward is not None
        raw, unusual = forward.raw, forward.respelled > 0
        gated, averaged = forward.gated, forward.averaged
        with torch.no_grad():
            model(image.clone())
        plain = all(isinstance(one, torch.Tensor) and one.dim() == 2 for one in (raw, forward.raw))
        cut = not leads(scores, leaf)
        unruled = () if cut else unruled_in(scores, set(relus)) + ("masks",) * gated
        if not (cut or unruled or relus or _is_linear(model, image)):
            unruled = (_UNKNOWN,)
    hidden = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
    return Examination(
        classes=scores.shape[1],
        presentation=replace(
            attempt,
            scores=not plain or raw.dtype != torch.float32,
            copied=given._version != version or not torch.equal(given, leaf),
            respelled=unusual,
            kept=bool(checkpoints),
            watched=hidden or bool(unruled),
        ),
        relus=len(relus),
        unruled=unruled,
        hidden=hidden,
        mixed=attempt.cast is not None or getattr(raw, "dtype", torch.float32) != torch.float32,
        cut=cut,
        averaged=averaged,
    )


def _is_linear(model: nn.Module, image: torch.Tensor) -> bool:
    """Return whether the scores are a linear function of the image plus a constant, as far as can be told."""
    with torch.no_grad():
        zero, one, minus, half = (model(image * factor) for factor in (0, 1, -1, 0.5))
    size = _LINEAR * torch.stack([zero, one, minus]).abs().max()
    return bool(
        ((one + minus - 2 * zero).abs() <= size).all() and ((one + zero - 2 * half).abs() <= size).all()
    )


def _must_be_initialised(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if torch.nn.parameter.is_lazy(tensor):
            raise ModelError(
                f"the model is not initialised yet: {name} has no size; run the model once on images of the "
                "size that it is made for, then train or load it"
            )
