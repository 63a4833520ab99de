"""Present a model to methods as the classifier that they expect, for the time of a call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Lock, local
from types import MethodType
from typing import Any

import torch
import torch.utils.checkpoint
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
        ordinary: it was built in inference mode, so it has ordinary copies of its tensors for the time of a
            call.
        kept: parts of it are checkpointed: they keep what they compute, since methods could not see them
            when they compute it again.
        watched: note whether a backward pass with a rule for ReLUs leads through it.
    """

    scores: bool = False
    copied: bool = False
    contiguous: bool = False
    float32: bool = False
    cast: torch.dtype | None = None
    respelled: bool = False
    ordinary: bool = False
    kept: bool = False
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
        self.gated = False  # in the latest pass a mask decided what is kept, and it was no ReLU
        self.averaged = False  # the latest pass reduced maps to a number per channel without a pooling

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
            self.gated, self.averaged = respelling.gated, respelling.averaged
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
        if presentation.kept:
            inside.enter_context(checkpoints_kept())
        if presentation.ordinary:
            inside.enter_context(_with_ordinary_tensors(model))
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
def _with_ordinary_tensors(model: nn.Module) -> Iterator[None]:
    tables: list[dict[str, Any]] = [
        table for module in model.modules() for table in (module._parameters, module._buffers)
    ]
    saved, copies = [dict(table) for table in tables], {}
    with torch.inference_mode(False):
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_inference():
                copy = tensor.clone()
                is_parameter = isinstance(tensor, nn.Parameter)
                copies[id(tensor)] = nn.Parameter(copy, requires_grad=False) if is_parameter else copy
    try:
        for table in tables:
            table.update({name: copies.get(id(tensor), tensor) for name, tensor in table.items()})
        yield
    finally:
        for table, before in zip(tables, saved, strict=True):
            table.update(before)


@contextmanager
def checkpoints_kept() -> Iterator[list[str]]:
    """Let this thread run the parts of models that are checkpointed like all others.

    Yields:
        a list that is not empty once there was such a part.
    """
    global _keepers
    before: list[str] | None = getattr(_keeping, "met", None)
    if before is not None:
        yield before
        return
    met: list[str] = []
    with _guard:
        if not _keepers:
            _checkpoint._checkpoint_without_reentrant_generator = _kept
            _checkpoint.CheckpointFunction = _Kept
        _keepers += 1
    _keeping.met = met
    try:
        yield met
    finally:
        _keeping.met = None
        with _guard:
            _keepers -= 1
            if not _keepers:
                _checkpoint._checkpoint_without_reentrant_generator, _checkpoint.CheckpointFunction = (
                    _PYTORCHS
                )


def _kept(function: Callable[..., Any], *rest: Any, **more: Any) -> Iterator[None]:
    if (met := getattr(_keeping, "met", None)) is None:  # another thread
        yield from _PYTORCHS[0](function, *rest, **more)
        return
    met.append("checkpoint")
    yield


class _Kept:
    """Stands for PyTorch's function of the same method."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        if (met := getattr(_keeping, "met", None)) is None:
            return _PYTORCHS[1].apply(function, preserve, *args)
        met.append("checkpoint")
        return function(*args)


_checkpoint: Any = torch.utils.checkpoint
_PYTORCHS = (_checkpoint._checkpoint_without_reentrant_generator, _checkpoint.CheckpointFunction)
_keeping = local()
_keepers = 0


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
