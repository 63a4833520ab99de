"""Find the layers of any model in forward order, and the activations of one layer.

Layers are found from the functions that a forward pass calls, not from its modules. So a model may be
written with modules, with functions, or with in-place and re-used ReLUs.
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
# Functions that are a ReLU if their lower bound is 0: the bound's argument and its default.
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
        shape: shape of its output without the batch: (C, H, W) or (C,).
        number: position among all layers, from 1.
        receptive_field: window of the image that each unit depends on; of size 0 if it was not computed.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    number: int
    receptive_field: ReceptiveField = field(compare=False)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.shape[0]

    @property
    def has_map(self) -> bool:
        """Whether the output of a channel is a map larger than 1x1."""
        return len(self.shape) == 3 and max(self.shape[1:]) > 1


@dataclass(frozen=True)
class Call:
    """The call of a layer's function, before it is made.

    Args:
        name, kind: name and kind of the layer.
        func, args, kwargs: the function and its arguments.
    """

    name: str
    kind: Kind
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def function(self) -> str:
        """Name of the function without its in-place and with-indices suffixes, e.g. "max_pool2d"."""
        return self.func.__name__.removesuffix("_").removesuffix("_with_indices")

    @property
    def source(self) -> torch.Tensor:
        """Input of the layer."""
        tensor: torch.Tensor = self.args[0] if self.args else self.kwargs["input"]
        return tensor

    @property
    def in_place(self) -> bool:
        """Whether the call overwrites its input."""
        return self.func.__name__.endswith("_") or bool(self.kwargs.get("inplace"))

    @property
    def ceiling(self) -> float | None:
        """Upper bound of a ReLU: 6 for ReLU6, None for a plain ReLU."""
        if self.function == "relu6":
            return 6.0
        if self.function in ("hardtanh", "clamp", "clip"):
            bound = "max_val" if self.function == "hardtanh" else "max"
            default = 1.0 if self.function == "hardtanh" else None
            top: float | None = self.args[2] if len(self.args) > 2 else self.kwargs.get(bound, default)
            return top
        return None

    def run(self) -> Any:
        """Make the call as the model makes it."""
        return self.func(*self.args, **self.kwargs)

    def on(self, source: torch.Tensor) -> Any:
        """Make the call with another input."""
        if self.args:
            return self.func(source, *self.args[1:], **self.kwargs)
        return self.func(**{**self.kwargs, "input": source})


class Watch(TorchFunctionMode):
    """Intercept the calls of all layers in the forward passes inside the block.

    After a pass, `seen` lists the layers in forward order.

    Args:
        act: makes the call of a layer and returns what the model receives.
        fields: computes the receptive fields; None to leave them out.
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
    """Return the values in a layer's output: poolings may return their switches too."""
    tensor: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return tensor


def laid_out(images: torch.Tensor) -> torch.Tensor:
    """Return the images (N, 3, H, W) in channels-last layout: up to 1.7 times faster on a CPU."""
    if images.device.type != "cpu":
        return images.detach()
    return images.detach().contiguous(memory_format=torch.channels_last)


def layers(model: nn.Module, images: torch.Tensor) -> tuple[Layer, ...]:
    """Return the convolutions, ReLUs, poolings and fully connected layers of `model`, in forward order.

    Args:
        model: in eval mode.
        images: (N, 3, H, W); the first image is enough.
    """
    first = images[:1]
    with torch.no_grad(), Watch(fields=ReceptiveFields(first)) as watch:
        model(first)
    return tuple(watch.seen)


def before_scores(every: Sequence[Layer], classes: int, scores: str | None = "auto") -> tuple[Layer, ...]:
    """Return the layers before the class scores.

    Args:
        every: all layers in forward order.
        classes: number of logits.
        scores: the layer of the class scores; it is left out with all that follow it. "auto" is the last
            convolution or fully connected layer, if it has one channel per class. None keeps all layers.
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
    """Return the layer called `name`.

    Args:
        model: in eval mode.
        images: (N, 3, H, W); the first image is enough.
        name: e.g. "conv2" or "relu1". "last_conv" is the output of the last convolution whose map is
            larger than 1x1, after its ReLU (if one follows) and before pooling.
    Raises:
        UnknownNameError: if the model has no such layer, with the closest matches.
        ValueError: for "last_conv" of a model without convolutions.
    """
    return named(layers(model, images), name)


def forward_from(
    model: nn.Module, images: torch.Tensor, layer: str
) -> tuple[torch.Tensor, torch.Tensor, Layer]:
    """Run `model` with a gradient graph that starts at the activations of one layer.

    Args:
        model: in eval mode, within `guard.unchanged`.
        images: (N, 3, H, W).
        layer: a name that `find_layer` accepts.
    Returns:
        logits (N, C), activations (N, ...) with respect to which they can be differentiated, and the
        layer.
    Raises:
        UnknownNameError, ValueError: as `find_layer`.
    """
    name = layer if layer != "last_conv" else _last_convs.get(model)
    while True:
        name = name or find_layer(model, images, layer).name
        start = _Start(name)
        with Watch(start) as watch:
            logits = model(laid_out(images))
        actual = named(watch.seen, layer)
        if actual.name == name and start.activations is not None:
            break
        name = actual.name
    if layer == "last_conv":
        _last_convs[model] = name
    return logits, start.activations, actual


# Name of the last convolution of each model in its latest pass. It is a guess that saves a look-up;
# each forward pass verifies it.
_last_convs: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


class _Start:
    """Keep the output of the wanted layer and start the gradient graph there."""

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted
        self.activations: torch.Tensor | None = None

    def __call__(self, call: Call) -> Any:
        output = call.run()
        if call.name != self.wanted:
            return output
        first = value(output)
        # The model continues with a copy, so that its later in-place changes do not affect ours.
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
    """Return the layer called `name` among the layers `every`; see `find_layer`."""
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
