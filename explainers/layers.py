"""The layers of any model in forward order, and the activations of one of them.

Layers are found by watching the functions a forward pass calls, not its modules, so it does not
matter whether a model is written with modules, functions, or in-place and re-used ReLUs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from an8flower.ground.registry import unknown
from explainers.receptive_field import ReceptiveField, ReceptiveFields

Kind = Literal["conv", "relu", "pool", "fc"]

_KINDS: dict[str, Kind] = {
    "conv2d": "conv",
    "relu": "relu",
    "relu6": "relu",
    "max_pool2d": "pool",
    "max_pool2d_with_indices": "pool",
    "avg_pool2d": "pool",
    "adaptive_avg_pool2d": "pool",
    "adaptive_max_pool2d": "pool",
    "linear": "fc",
}
# Functions that are a ReLU if their lower bound is 0: its name, and what it is if not given.
_BOUNDED = {
    "hardtanh": ("min_val", -1.0),
    "clamp": ("min", None),
    "clip": ("min", None),
    "clamp_min": ("min", None),
}


@dataclass(frozen=True)
class Layer:
    """One operation of a forward pass.

    Args:
        name: kind and number within its kind, e.g. "conv2".
        kind: "conv", "relu", "pool" or "fc".
        shape: of its output without the batch: (C, H, W) or (C,).
        number: its place among all layers, from 1.
        receptive_field: what each of its units sees of the image; of size 0 if a pass did not follow it.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    number: int
    receptive_field: ReceptiveField = field(compare=False)

    @property
    def channels(self) -> int:
        """How many features it has."""
        return self.shape[0]

    @property
    def has_map(self) -> bool:
        """Whether its features have a map larger than 1x1."""
        return len(self.shape) == 3 and max(self.shape[1:]) > 1


@dataclass(frozen=True)
class Call:
    """A layer at work: a function that a model is about to call.

    Args:
        name, kind: those of the layer.
        func, args, kwargs: the call.
    """

    name: str
    kind: Kind
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def function(self) -> str:
        """What the function is called, in-place and returning its switches or not, e.g. "max_pool2d"."""
        return self.func.__name__.removesuffix("_").removesuffix("_with_indices")

    @property
    def source(self) -> torch.Tensor:
        """The layer's input."""
        tensor: torch.Tensor = self.args[0] if self.args else self.kwargs["input"]
        return tensor

    @property
    def in_place(self) -> bool:
        """Whether it overwrites its input."""
        return self.func.__name__.endswith("_") or bool(self.kwargs.get("inplace"))

    @property
    def ceiling(self) -> float | None:
        """Where a ReLU ends: 6 for ReLU6, None for the usual one."""
        if self.function == "relu6":
            return 6.0
        if self.function in ("hardtanh", "clamp", "clip"):
            bound = "max_val" if self.function == "hardtanh" else "max"
            default = 1.0 if self.function == "hardtanh" else None
            top: float | None = self.args[2] if len(self.args) > 2 else self.kwargs.get(bound, default)
            return top
        return None

    def run(self) -> Any:
        """Make the call as the model wants it."""
        return self.func(*self.args, **self.kwargs)

    def on(self, source: torch.Tensor) -> Any:
        """Make the call on another input."""
        if self.args:
            return self.func(source, *self.args[1:], **self.kwargs)
        return self.func(**{**self.kwargs, "input": source})


class Watch(TorchFunctionMode):
    """Sees each layer of the forward passes made inside, and lets `act` make the call.

    Args:
        act: from a call to what the model gets back.
        fields: follows the receptive fields, if they are wanted.
    """

    def __init__(self, act: Callable[[Call], Any] = Call.run, fields: ReceptiveFields | None = None) -> None:
        super().__init__()
        self.seen: list[Layer] = []
        self._act, self._fields = act, fields
        self._counts: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = _kind(func, args, kwargs)
        if kind is None:
            output = func(*args, **kwargs)
        else:
            self._counts[kind] += 1
            name = f"{kind}{self._counts[kind]}"
            output = self._act(Call(name, kind, func, args, kwargs))
        if self._fields:
            self._fields.follow(func, args, kwargs, output)
        if kind is not None:
            first = value(output)
            seen = self._fields.of(first) if self._fields else _UNKNOWN
            self.seen.append(Layer(name, kind, tuple(first.shape[1:]), len(self.seen) + 1, seen))
        return output


_UNKNOWN = ReceptiveField.whole((0, 0))


def value(output: Any) -> torch.Tensor:
    """The values among what a layer gives: poolings may give their switches too."""
    tensor: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return tensor


def laid_out(images: torch.Tensor) -> torch.Tensor:
    """The images (N, 3, H, W), channels innermost: a CPU convolves up to 1.7 times as fast then."""
    if images.device.type != "cpu":
        return images.detach()
    return images.detach().contiguous(memory_format=torch.channels_last)


def layers(model: nn.Module, images: torch.Tensor) -> tuple[Layer, ...]:
    """The convolutions, ReLUs, poolings and fully connected layers of `model`, in forward order.

    Args:
        model: in eval mode.
        images: (N, 3, H, W); the first one is enough.
    """
    first = images[:1]
    with torch.no_grad(), Watch(fields=ReceptiveFields(first)) as watch:
        model(first)
    return tuple(watch.seen)


def before_scores(every: Sequence[Layer], classes: int, scores: str | None = "auto") -> tuple[Layer, ...]:
    """The layers without those of the class scores.

    Args:
        every: all layers in forward order.
        classes: number of logits.
        scores: the layer that gives the class scores, left out with all that follow it; "auto" is
            the last convolution or fully connected layer, if it has a channel a class; None keeps all.
    Raises:
        UnknownNameError: if there is no such layer.
    """
    if scores is None:
        return tuple(every)
    if scores != "auto":
        return tuple(every[: named(every, scores).number - 1])
    weighted = [layer for layer in every if layer.kind in ("conv", "fc")]
    if not weighted or weighted[-1].channels != classes:
        return tuple(every)
    return tuple(every[: weighted[-1].number - 1])


def find_layer(model: nn.Module, images: torch.Tensor, name: str) -> Layer:
    """The layer called `name`.

    Args:
        name: e.g. "conv2" or "relu1"; "last_conv" is the output of the last convolution whose
            map is larger than 1x1, after its ReLU (if one follows) and before pooling.
    Raises:
        UnknownNameError: if the model has no such layer, with the closest matches.
        ValueError: for "last_conv" of a model without convolutions.
    """
    return named(layers(model, images), name)


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
        start = _Start(name)
        with Watch(start) as watch:
            logits = model(laid_out(images))
        found = named(watch.seen, layer)
        if found.name == name and start.activations is not None:
            break
        name = found.name
    if layer == "last_conv":
        _last_convs[model] = name
    return logits, start.activations, found


# Which layer was a model's last convolution the last time: a guess that spares a look-up, and that
# every forward pass checks.
_last_convs: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


class _Start:
    """Keeps the wanted layer's output and starts the gradient graph there."""

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted
        self.activations: torch.Tensor | None = None

    def __call__(self, call: Call) -> Any:
        output = call.run()
        if call.name != self.wanted:
            return output
        first = value(output)
        # The model goes on with a copy: what it changes in place later must not reach ours.
        if first.data_ptr() == call.source.data_ptr():
            self.activations = first.detach().clone().requires_grad_()
            call.source.copy_(self.activations)
            return call.source
        self.activations = first.detach().requires_grad_()
        onward = self.activations.clone()
        return (onward, *output[1:]) if isinstance(output, tuple) else onward


def _kind(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Kind | None:
    name = getattr(func, "__name__", "").removesuffix("_")
    if name in _BOUNDED:  # ways of writing a ReLU, or ReLU6
        bound, default = _BOUNDED[name]
        low = args[1] if len(args) > 1 else kwargs.get(bound, default)
        return "relu" if isinstance(low, int | float) and low == 0 else None
    return _KINDS.get(name)


def named(every: Sequence[Layer], name: str) -> Layer:
    """The layer called `name` among `every`, as `find_layer` finds it."""
    if name != "last_conv":
        known = {layer.name: layer for layer in every}
        if name not in known:
            raise unknown("layer", name, [*known, "last_conv"])
        return known[name]
    spatial = [k for k, layer in enumerate(every) if layer.kind == "conv" and layer.has_map]
    if not spatial:
        raise ValueError("the model has no convolution with a map larger than 1x1, so no 'last_conv'")
    conv = every[spatial[-1]]
    following = every[spatial[-1] + 1 : spatial[-1] + 2]
    return next((layer for layer in following if layer.kind == "relu" and layer.shape == conv.shape), conv)
