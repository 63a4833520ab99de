"""Protect a model against changes by a method, also when the method raises, and against other threads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from explainers.attributes import DICTIONARIES, Attributes
from explainers.classifier import Classifier
from explainers.errors import ModelError

Attribute = tuple[str, str]  # name of a module and of its attribute


@contextmanager
def alone(model: nn.Module) -> Iterator[None]:
    """Let one thread at a time work with `model`; others wait. The thread itself may enter again."""
    while isinstance(model, Classifier) and "model" in model._modules:
        model = model.model
    with _guard:
        lock = _locks.setdefault(model, RLock())
    with lock:
        yield


_guard = Lock()
_locks: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


@contextmanager
def unchanged(
    model: nn.Module, own: Collection[Attribute] | None = None, excused: Collection[str] = ()
) -> Iterator[list[str]]:
    """Run the block with `model` in eval mode, without parameter gradients and with autograd enabled.

    Afterwards modes, hooks, submodules, classes, attributes, parameters, buffers, gradients and
    `requires_grad` are restored. This costs one copy of the weights. Other threads wait until the end.

    Args:
        model: the model to protect.
        own: attributes that the model itself changes in a forward pass, which it may; None if they are not
            known: then only the attributes of PyTorch's own modules are watched.
        excused: changes that the model makes itself, as `buffers_kept` yields them: restored, but not told.
    Yields:
        a list that is filled at the end with all that had to be restored, e.g. "the values of conv1.weight".
    """
    with alone(model), passive(model):
        saved = [_Saved.of(name, module, own) for name, module in model.named_modules()]
        parameters = dict(model.named_parameters())
        tensors = {**parameters, **dict(model.named_buffers())}
        values = {name: (tensor, tensor.detach().clone()) for name, tensor in tensors.items()}
        changes: list[str] = []
        try:
            yield changes
        finally:
            steps: list[Callable[[], Iterator[str]]] = [one.restored for one in saved]
            steps += [partial(_value_restored, name, *both) for name, both in values.items()]
            steps += [partial(_gradient_dropped, name, one) for name, one in parameters.items()]
            changes += [one for one in dict.fromkeys(_all_done(steps)) if one not in excused]


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[list[str]]:
    """Restore the buffers of `model` after the block, e.g. counters and running averages.

    Yields:
        a list that is filled at the end with all that had to be restored, in the words of `unchanged`.
    """
    tables = [
        (name or "the model", module._buffers, dict(module._buffers))
        for name, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    values = [(name, tensor, tensor.detach().clone()) for name, tensor in model.named_buffers()]
    changes: list[str] = []
    try:
        yield changes
    finally:
        steps: list[Callable[[], Iterator[str]]] = [partial(_table_restored, *one) for one in tables]
        steps += [partial(_value_restored, *one) for one in values]
        changes += dict.fromkeys(_all_done(steps))


@contextmanager
def passive(model: nn.Module) -> Iterator[None]:
    """Run the block with `model` in eval mode, without parameter gradients and with autograd enabled.

    Afterwards its modes, gradients and `requires_grad` are as before.
    """
    modes = [(module, module.training) for module in model.modules()]
    # Parameters of inference mode have no gradient, and cannot be told to require one again.
    parameters = [
        (parameter, parameter.requires_grad, parameter.grad)
        for parameter in model.parameters()
        if not parameter.is_inference()
    ]
    try:
        try:
            model.eval()
        except NotImplementedError as error:  # an exported program
            raise ModelError(
                f"the model cannot be put into eval mode ({error}); pass the module that was exported"
            ) from error
        for parameter, _, _ in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, requires_grad, grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad


@dataclass(frozen=True)
class _Saved:
    """What one module was before the block, except for the values of its tensors."""

    name: str
    module: nn.Module
    kind: type[nn.Module]
    dictionaries: dict[str, dict[str, Any]]
    attributes: Attributes | None
    watched: Callable[[str], bool]

    @classmethod
    def of(cls, name: str, module: nn.Module, own: Collection[Attribute] | None) -> _Saved:
        of_torch = type(module).__module__.startswith("torch.")

        def watched(attribute: str) -> bool:
            return attribute == "forward" or (of_torch if own is None else (name, attribute) not in own)

        scripted = isinstance(module, torch.jit.ScriptModule)  # its parts are out of Python's reach
        kinds = [kind for kind in DICTIONARIES if not scripted or "hooks" in kind]
        return cls(
            name or "the model",
            module,
            type(module),
            {kind: dict(getattr(module, kind)) for kind in kinds},
            None if scripted else Attributes.of(module),
            watched,
        )

    def restored(self) -> Iterator[str]:
        """Restore the module and yield what had changed."""
        if type(self.module) is not self.kind:
            yield f"the class of {self.name}"
            self.module.__class__ = self.kind
        if self.module.training:
            yield f"the mode of {self.name}"
            self.module.training = False
        for kind, saved in self.dictionaries.items():
            current = getattr(self.module, kind)
            if not _same(current, saved):
                yield f"the {DICTIONARIES[kind]} of {self.name}"
                current.clear()
                current.update(saved)
        if self.attributes is None:
            return
        for attribute in self.attributes.changed(self.module):
            if self.watched(attribute):
                yield f"the attribute {attribute!r} of {self.name}"
                self.attributes.put_back(self.module, attribute)


def _table_restored(name: str, buffers: dict[str, Any], saved: dict[str, Any]) -> Iterator[str]:
    if not _same(buffers, saved):
        yield f"the buffers of {name}"
        buffers.clear()
        buffers.update(saved)


def _value_restored(name: str, tensor: torch.Tensor, value: torch.Tensor) -> Iterator[str]:
    # Values are compared, since writing to .data does not change the version of a tensor.
    if not _equal(tensor, value):
        yield f"the values of {name}"
        tensor.data = value


def _gradient_dropped(name: str, parameter: nn.Parameter) -> Iterator[str]:
    if parameter.grad is not None:
        yield f"the gradient of {name}"
        parameter.grad = None
    if parameter.requires_grad:
        yield f"requires_grad of {name}"


def _all_done(steps: list[Callable[[], Iterator[str]]]) -> list[str]:
    """Take all steps, also if one of them fails, and return what they yield."""
    changes: list[str] = []
    errors: list[Exception] = []
    for step in steps:
        try:
            changes += step()
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return changes


def _equal(tensor: torch.Tensor, value: torch.Tensor) -> bool:
    if tensor.shape != value.shape or tensor.dtype != value.dtype or tensor.device != value.device:
        return False
    with torch.no_grad():
        return torch.equal(tensor, value) or torch.allclose(tensor, value, rtol=0, atol=0, equal_nan=True)


def _same(current: dict[str, Any], saved: dict[str, Any]) -> bool:
    return current.keys() == saved.keys() and all(current[key] is value for key, value in saved.items())
