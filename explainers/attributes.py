"""The attributes of a module that are neither its parts nor its hooks: remember them, compare, put back."""

from __future__ import annotations

import operator
import types
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# The dictionaries of a module (its parts and its hooks), and their names in messages.
DICTIONARIES = {
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
# Attributes that PyTorch itself sets: by hooks that were removed since, and for its recurrent layers.
_PYTORCHS = {"training", "_is_full_backward_hook", "_flat_weights", "_flat_weight_refs", *DICTIONARIES}
# Types whose values are compared; other attributes must be the same object.
_COMPARED = (int, float, complex, str, bytes, set, torch.dtype, torch.device, types.MethodType)
_CONTAINERS = (list, dict, set)


@dataclass(frozen=True)
class Attributes:
    """The attributes of one module at one time.

    Args:
        values: all of them by name, those that are not watched included.
        contents: copies of those that are lists, dictionaries or sets.
    """

    values: dict[str, Any]
    contents: dict[str, Any]

    @classmethod
    def of(cls, module: nn.Module) -> Attributes:
        """Remember the attributes of a module."""
        values = dict(vars(module))
        contents = {
            name: value.copy()
            for name, value in values.items()
            if type(value) in _CONTAINERS and name not in _PYTORCHS
        }
        return cls(values, contents)

    def changed(self, module: nn.Module) -> list[str]:
        """Return the names of the attributes that were changed, added or removed since."""
        now = vars(module)
        same = now.keys() == self.values.keys() and all(map(operator.is_, now.values(), self.values.values()))
        if same and not self.contents:
            return []
        names = self.contents if same else {**self.values, **now}
        return [name for name in names if name not in _PYTORCHS and not self._is_same(name, now)]

    def put_back(self, module: nn.Module, name: str) -> None:
        """Make one attribute what it was."""
        if name not in self.values:
            del vars(module)[name]
            return
        value = self.values[name]
        if isinstance(value, list) and name in self.contents:
            value[:] = self.contents[name]
        elif name in self.contents:
            value.clear()
            value.update(self.contents[name])
        vars(module)[name] = value

    def _is_same(self, name: str, now: dict[str, Any]) -> bool:
        if name not in self.values or name not in now:
            return False
        return _same(now[name], self.contents.get(name, self.values[name]))


def _same(now: Any, before: Any) -> bool:
    if now is before:
        return True
    if type(now) is not type(before):
        return False
    if isinstance(now, list | tuple):
        return len(now) == len(before) and all(map(_same, now, before))
    if isinstance(now, dict):
        return now.keys() == before.keys() and all(_same(now[key], before[key]) for key in now)
    return isinstance(now, _COMPARED) and bool(now == before)
