"""Protect a model against changes by a method, also when the method raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# The dictionaries of a module (its parts and its hooks), and their names in messages.
_DICTIONARIES = {
    "_parameters": "parameters",
    "_buffers": "buffers",
    "_modules": "submodules",
    "_forward_hooks": "forward hooks",
    "_forward_hooks_with_kwargs": "forward hooks",
    "_forward_hooks_always_called": "forward hooks",
    "_forward_pre_hooks": "forward hooks",
    "_forward_pre_hooks_with_kwargs": "forward hooks",
    "_backward_hooks": "backward hooks",
    "_backward_pre_hooks": "backward hooks",
}


@contextmanager
def unchanged(model: nn.Module) -> Iterator[list[str]]:
    """Run the block with `model` in eval mode, without parameter gradients and with autograd enabled.

    Afterwards mode, hooks, submodules, parameters, buffers, gradients and `requires_grad` are restored.
    This costs one copy of the weights.

    Yields:
        a list that is filled at the end with all that had to be restored, e.g. "the values of conv1.weight".
    """
    modules = dict(model.named_modules())
    modes = {name: module.training for name, module in modules.items()}
    contents = {
        name: {kind: dict(getattr(module, kind)) for kind in _DICTIONARIES}
        for name, module in modules.items()
    }
    parameters = {name: (p, p.requires_grad, p.grad) for name, p in model.named_parameters()}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    values = {name: (tensor, tensor.detach().clone()) for name, tensor in tensors.items()}
    changes: list[str] = []
    try:
        model.eval()
        for parameter, _, _ in parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None
        with torch.inference_mode(False), torch.enable_grad():
            yield changes
    finally:
        for name, module in modules.items():
            if module.training:
                changes.append(f"the mode of {name or 'the model'}")
            module.training = modes[name]
            for kind, saved in contents[name].items():
                current = getattr(module, kind)
                if not _same(current, saved):
                    changes.append(f"the {_DICTIONARIES[kind]} of {name or 'the model'}")
                    current.clear()
                    current.update(saved)
        for name, (tensor, value) in values.items():
            # Values are compared, since writing to .data does not change the version of a tensor.
            if not _equal(tensor, value):
                changes.append(f"the values of {name}")
                tensor.data = value
        for name, (parameter, requires_grad, grad) in parameters.items():
            if parameter.grad is not None:
                changes.append(f"the gradient of {name}")
            if parameter.requires_grad:
                changes.append(f"requires_grad of {name}")
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
        changes[:] = dict.fromkeys(changes)


def _equal(tensor: torch.Tensor, value: torch.Tensor) -> bool:
    if tensor.shape != value.shape or tensor.dtype != value.dtype or tensor.device != value.device:
        return False
    with torch.no_grad():
        return torch.equal(tensor, value) or torch.allclose(tensor, value, rtol=0, atol=0, equal_nan=True)


def _same(current: dict[object, object], saved: dict[object, object]) -> bool:
    return current.keys() == saved.keys() and all(current[key] is value for key, value in saved.items())
