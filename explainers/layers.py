"""The layers of any model in forward order, and the activations of one of them.

Layers are found by watching the functions a forward pass calls, not its modules, so it does not
matter whether a model is written with modules, functions, or in-place and re-used ReLUs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from an8flower.registry import unknown

Kind = Literal["conv", "relu", "pool", "fc"]

_KINDS: dict[str, Kind] = {
    "conv2d": "conv",
    "relu": "relu",
    "relu_": "relu",
    "max_pool2d": "pool",
    "max_pool2d_with_indices": "pool",
    "avg_pool2d": "pool",
    "adaptive_avg_pool2d": "pool",
    "adaptive_max_pool2d": "pool",
    "linear": "fc",
}


@dataclass(frozen=True)
class Layer:
    """One operation of a forward pass.

    Args:
        name: kind and number within its kind, e.g. "conv2".
        kind: "conv", "relu", "pool" or "fc".
        shape: of its output without the batch: (C, H, W) or (C,).
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]


class _Watch(TorchFunctionMode):
    """Notes every layer; at `wanted` it keeps the output and starts the gradient graph there."""

    def __init__(self, wanted: str | None = None) -> None:
        super().__init__()
        self.wanted = wanted
        self.seen: list[Layer] = []
        self.activations: torch.Tensor | None = None
        self._counts: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = _KINDS.get(getattr(func, "__name__", ""))
        if kind is None:
            return func(*args, **kwargs)
        self._counts[kind] += 1
        name = f"{kind}{self._counts[kind]}"
        source = args[0] if args else kwargs["input"]
        output = func(*args, **kwargs)
        first = output[0] if isinstance(output, tuple) else output
        self.seen.append(Layer(name, kind, tuple(first.shape[1:])))
        if name != self.wanted:
            return output
        # The model goes on with a copy: what it changes in place later must not reach ours.
        if first.data_ptr() == source.data_ptr():
            self.activations = first.detach().clone().requires_grad_()
            source.copy_(self.activations)
            return source
        self.activations = first.detach().requires_grad_()
        onward = self.activations.clone()
        return (onward, *output[1:]) if isinstance(output, tuple) else onward


def layers(model: nn.Module, images: torch.Tensor) -> tuple[Layer, ...]:
    """The convolutions, ReLUs, poolings and fully connected layers of `model`, in forward order.

    Args:
        model: in eval mode.
        images: (N, 3, H, W); the first one is enough.
    """
    with torch.no_grad(), _Watch() as watch:
        model(images[:1])
    return tuple(watch.seen)


def find_layer(model: nn.Module, images: torch.Tensor, name: str) -> Layer:
    """The layer called `name`.

    Args:
        name: e.g. "conv2" or "relu1"; "last_conv" is the output of the last convolution whose
            map is larger than 1x1, after its ReLU (if one follows) and before pooling.
    Raises:
        UnknownNameError: if the model has no such layer, with the closest matches.
        ValueError: for "last_conv" of a model without convolutions.
    """
    return _named(layers(model, images), name)


def forward_from(
    model: nn.Module, images: torch.Tensor, layer: str
) -> tuple[torch.Tensor, torch.Tensor, Layer]:
    """Run `model` and keep one layer's activations, from which the gradient graph starts.

    Args:
        model: in eval mode, within `guard.unchanged`.
        images: (N, 3, H, W).
        layer: a name that `find_layer` knows.
    Returns:
        logits (N, C), activations (N, ...) that they can be differentiated by, and the layer.
    Raises:
        UnknownNameError, ValueError: as `find_layer`.
    """
    name = layer if layer != "last_conv" else _last_convs.get(model)
    while True:
        name = name or find_layer(model, images, layer).name
        with _Watch(name) as watch:
            logits = model(images)
        found = _named(tuple(watch.seen), layer)
        if found.name == name and watch.activations is not None:
            break
        name = found.name
    if layer == "last_conv":
        _last_convs[model] = name
    return logits, watch.activations, found


# Which layer was a model's last convolution the last time: a guess that spares a look-up, and that
# every forward pass checks.
_last_convs: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def _named(every: tuple[Layer, ...], name: str) -> Layer:
    if name != "last_conv":
        named = {layer.name: layer for layer in every}
        if name not in named:
            raise unknown("layer", name, [*named, "last_conv"])
        return named[name]
    spatial = [k for k, layer in enumerate(every) if layer.kind == "conv" and max(layer.shape[1:]) > 1]
    if not spatial:
        raise ValueError("the model has no convolution with a map larger than 1x1, so no 'last_conv'")
    conv = every[spatial[-1]]
    following = every[spatial[-1] + 1 : spatial[-1] + 2]
    return next((layer for layer in following if layer.kind == "relu" and layer.shape == conv.shape), conv)
