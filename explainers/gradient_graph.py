"""Read the gradient graph of the scores of a model: its activations, and where a gradient leads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

# Operations that no method has a rule for, by their name in the gradient graph.
_UNRULED = {
    "Gelu": "GELU", "Silu": "SiLU", "Elu": "ELU", "Celu": "CELU", "Selu": "SELU", "Mish": "Mish",
    "Hardswish": "Hardswish", "LeakyRelu": "LeakyReLU", "RreluWithNoise": "RReLU", "PreluKernel": "PReLU",
    "Softplus": "Softplus", "Tanh": "Tanh", "Sigmoid": "Sigmoid", "Hardsigmoid": "Hardsigmoid",
    "LogSigmoid": "LogSigmoid", "Hardtanh": "Hardtanh", "Threshold": "Threshold", "Relu": "a hidden ReLU",
    "Softshrink": "Softshrink", "Hardshrink": "Hardshrink", "Clamp": "clamp", "ClampMin": "clamp",
    "Maximum": "maximum", "Minimum": "minimum", "Where": "where", "MaskedFill": "masked_fill", "Abs": "abs",
    "Sign": "sign", "Sgn": "sign", "MaskedScatter": "masked_scatter",
}  # fmt: skip
_TINY = 1e-5
# Operations whose gradient is 0 wherever it is defined: no signal passes them.
CONSTANT = ("Round", "Floor", "Ceil", "Trunc", "Sign", "torch::autograd::WarnNotImplemented")


def unruled_in(scores: torch.Tensor, relus: set[Any]) -> tuple[str, ...]:
    """Return the names of the activations in the graph of the scores, except for some nodes, the ReLUs."""
    names = []
    for node in nodes(scores, ()):
        if node in relus or _keeps_from_zero(node):
            continue
        if isinstance(node, torch.autograd.function.BackwardCFunction):  # a user's own function
            names.append(type(node).__name__.removesuffix("Backward"))
        else:
            names.append(_UNRULED.get(_name(node), "") or _spelled(node))
    return tuple(dict.fromkeys(filter(None, names)))


def _spelled(node: Any) -> str:
    """Return the name of an operation that is an activation because of what it is applied to; else ""."""
    name, before = _name(node), [one for one, _ in node.next_functions if one is not None]
    if name in ("Amax", "Amin", "Max", "Min") and before and _name(before[0]) in ("Stack", "Cat"):
        return name.lower()
    if name == "Sqrt" and before:  # of a square, which is the absolute value
        while _name(before[0]) == "Add" and before[0].next_functions[0][0] is not None:
            before = [before[0].next_functions[0][0]]
        factors = [one for one, _ in before[0].next_functions]
        if _name(before[0]) == "Pow" or (_name(before[0]) == "Mul" and factors[0] is factors[-1] is not None):
            return "sqrt"
    return ""


def _keeps_from_zero(node: Any) -> bool:
    """Return whether a node only keeps what is divided by from 0, as in `functional.normalize`."""
    low = getattr(node, "_saved_min", None) if _name(node).startswith("Clamp") else None
    return isinstance(low, int | float) and 0 < low <= _TINY and getattr(node, "_saved_max", None) is None


def leads(scores: torch.Tensor, start: torch.Tensor) -> bool:
    """Return whether a gradient leads from the scores to a tensor that requires one."""
    return any(getattr(node, "variable", None) is start for node in nodes(scores, CONSTANT))


def nodes(scores: torch.Tensor, without: tuple[str, ...]) -> Iterator[Any]:
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
