"""Present a model to methods as the classifier that they expect, for the time of a call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Lock
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from explainers.backward.trace import RELU_RULES
from explainers.classifier import scores_of
from explainers.respelling import Respelling


@dataclass(frozen=True)
class Presentation:
    """What has to be done so that methods see an ordinary classifier; by default nothing.

    Args:
        scores: its output is not one float32 tensor (N, C), so the scores are taken out of it.
        copied: it overwrites its input, so it gets a copy.
        contiguous: it cannot use images in channels-last layout, so it gets contiguous ones.
        float32: its weights are of another type, and are float32 for the time of a call.
        cast: the type that it gets images in, if it does not work in float32.
        respelled: it has ReLUs that are written otherwise, or layers with channels in the last axis.
        watched: note whether a backward pass with a rule for ReLUs leads through it.
    """

    scores: bool = False
    copied: bool = False
    contiguous: bool = False
    float32: bool = False
    cast: torch.dtype | None = None
    respelled: bool = False
    watched: bool = False


class Forward:
    """The forward pass of a presented model, called as a method of it.

    Args:
        presentation: what has to be done.
        own: the forward function that was set on this very module, if any.
        ruled: called when a backward pass with a rule for ReLUs arrives at the images.
    """

    def __init__(
        self, presentation: Presentation, own: Callable[..., Any] | None, ruled: Callable[[], None]
    ) -> None:
        self._presentation, self._own, self._ruled = presentation, own, ruled
        self.raw: Any = None  # the latest output of the model itself
        self.respelled = 0  # ReLUs and layers that were presented otherwise in the latest pass

    def __call__(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        names = list(kwargs)
        images: torch.Tensor = args[0] if args else kwargs[names[0]]
        how, given = self._presentation, images
        if how.cast is not None:
            given = given.to(how.cast)
        if how.contiguous:
            given = given.contiguous()
        if how.copied and given is images:
            given = given.clone()
        if how.watched:
            self._watch(given)
        if args:
            args = (given, *args[1:])
        else:
            kwargs[names[0]] = given
        # The class's own forward, so that a copy of the model runs with the weights of the copy.
        run = self._own or MethodType(type(model).forward, model)
        with Respelling(given) if how.respelled else nullcontext() as respelling:
            self.raw = run(*args, **kwargs)
        if respelling is not None:
            self.respelled = respelling.respelled + respelling.turned
        return scores_of(self.raw, len(images))

    def _watch(self, given: torch.Tensor) -> None:
        if not given.requires_grad:
            return
        for mode in _get_current_function_mode_stack():  # type: ignore[no-untyped-call]
            now = getattr(getattr(mode, "_act", None), "now", None)  # of a recorded forward pass, see `trace`
            if now is not None:
                given.register_hook(partial(self._arrived, now))  # type: ignore[no-untyped-call]

    def _arrived(self, now: Any, signal: torch.Tensor) -> None:
        if now.relu is not _GRADIENT:
            self._ruled()


_GRADIENT = RELU_RULES["gradient"]


@contextmanager
def presented(
    model: nn.Module, presentation: Presentation, ruled: Callable[[], None] = lambda: None
) -> Iterator[Forward | None]:
    """Present `model` inside the block, in eval mode, within `guard.passive`.

    Args:
        model: the model; without need it is left as it is.
        presentation: what has to be done.
        ruled: see `Forward`.
    Yields:
        the forward pass that stands for the model's own, if there is need of one.
    """
    with ExitStack() as inside:
        inside.enter_context(_eager())
        if any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")):
            for device in ("cpu", "cuda"):
                inside.enter_context(torch.autocast(device, enabled=False))
        if presentation == Presentation() or is_presented(model):
            yield None
            return
        if presentation.float32:
            inside.enter_context(_in_float32(model))
        attributes = vars(model)
        own = attributes.get("forward")
        forward = Forward(presentation, own, ruled)
        attributes["forward"] = MethodType(forward, model)
        try:
            yield forward
        finally:
            attributes.pop("forward", None)
            if own is not None:
                attributes["forward"] = own


def is_presented(model: nn.Module) -> bool:
    """Return whether the model is presented already, by a method that calls another."""
    return isinstance(getattr(vars(model).get("forward"), "__func__", None), Forward)


@contextmanager
def _in_float32(model: nn.Module) -> Iterator[None]:
    tensors = [*model.parameters(), *model.buffers()]
    others = [(one, one.data) for one in tensors if one.is_floating_point() and one.dtype != torch.float32]
    try:
        for tensor, value in others:
            tensor.data = value.float()
        yield
    finally:
        for tensor, value in others:
            tensor.data = value


@contextmanager
def _eager() -> Iterator[None]:
    """Run compiled parts of models as they were before, since methods cannot look into compiled code."""
    global _stances, _stance
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with _guard:  # the stance is one for all threads: the first sets it, the last puts it back
        if not _stances:
            _stance = torch.compiler.set_stance("force_eager")
        _stances += 1
    try:
        yield
    finally:
        with _guard:
            _stances -= 1
            if not _stances:
                _stance.__exit__(None, None, None)


_guard = Lock()
_stances = 0
_stance: Any = None
