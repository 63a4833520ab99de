"""The guard that leaves a model as it found it, also when a method raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# A module's own dictionaries: what it consists of and what is hooked to it.
_DICTIONARIES = (
    "_parameters",
    "_buffers",
    "_modules",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Inside, `model` is in eval mode, asks for no parameter gradients, and autograd is on.

    Afterwards mode, hooks, submodules, parameters, buffers, gradients and requires_grad are what
    they were. Costs a copy of the weights.
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    contents = [{name: dict(getattr(module, name)) for name in _DICTIONARIES} for module in modules]
    parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    tensors = [*model.parameters(), *model.buffers()]
    values = [(tensor, tensor.detach().clone(), tensor._version, tensor.data_ptr()) for tensor in tensors]
    try:
        model.eval()
        for parameter, _, _ in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode, content in zip(modules, modes, contents, strict=True):
            module.training = mode
            for name, saved in content.items():
                current = getattr(module, name)
                current.clear()
                current.update(saved)
        for tensor, value, tensor_version, address in values:
            if tensor._version != tensor_version or tensor.data_ptr() != address:
                tensor.data = value
        for parameter, requires_grad, grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
