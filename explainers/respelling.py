"""Show the layers of a forward pass in the form in which methods look for them.

A ReLU can be written in many ways, e.g. `torch.maximum(x, 0)` or `x * (x > 0)`, and a layer may have its
channels in the last axis. Inside a forward pass under `Respelling`, such calls are made as `functional.relu`,
and with the channels in axis 1: methods that watch the pass see the layers of an ordinary network. The
numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function
from torch.utils.weak import WeakTensorKeyDictionary

from explainers import layers
from explainers.relu_spellings import ORDERS, Spellings, arguments

# Functions whose result does not depend on the values of their arguments.
_CONSTANTS = frozenset(
    ("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "new_tensor", "get")
)
_REDUCTIONS = frozenset(("mean", "sum", "nanmean", "nansum"))
_TURNS = frozenset(("permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims"))
# Functions whose result has its channels in axis 1, or in the last.
_FIRST = (
    "conv",
    "batch_norm",
    "group_norm",
    "instance_norm",
    "pixel_",
    "interpolate",
    "max_pool",
    "avg_pool",
)
_LAST = ("linear", "layer_norm")
_SHAPED = frozenset(("view", "reshape", "unflatten", "view_as", "reshape_as"))


class Respelling(TorchFunctionMode):
    """Make the calls of ReLUs and of layers with channels in another axis as methods expect them.

    Args:
        images: (N, C, H, W), the input of the forward pass.
    """

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.respelled = 0  # calls that were made as a ReLU
        self.turned = 0  # calls that were made with channels in axis 1
        self.gated = False  # a mask that depends on the images decided what is kept, and it was no ReLU
        self.averaged = False  # maps were reduced to a number per channel without a pooling
        # The axis of the channels of every tensor that depends on the images; None if it is not known.
        self._axes: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._axes[images] = 1
        self._masks: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._spellings = Spellings(lambda tensor: tensor in self._axes)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        spelled = getattr(func, "__name__", "")
        name = spelled.strip("_")
        given = arguments(name, args, kwargs) if name in ORDERS and "out" not in kwargs else {}
        in_place = _in_place(spelled, given or kwargs)
        relu = self._spellings.as_relu(name, given) if given else None
        made = relu is not None and (not in_place or relu[0] is given["input"])
        if relu is not None and made:
            self.respelled += 1
            output = self._turned(relu[0], lambda source: _relu(source, relu[1], in_place), in_place)
        else:
            output = self._run(func, args, kwargs, in_place)
            if given and not in_place:
                self._spellings.note(name, given, output)
            elif args:
                self._spellings.converted(name, args[0], output)
        self._follow(name, args, kwargs, output)
        if not made:
            self._note_masks(name, args, kwargs, output)
        return output

    def _run(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], in_place: bool
    ) -> Any:
        kind = layers._kind(func, args, kwargs)
        if kind not in ("fc", "relu"):
            return func(*args, **kwargs)
        source = args[0] if args else kwargs["input"]
        if kind == "relu":
            if not args:
                kwargs = {name: value for name, value in kwargs.items() if name != "input"}
            return self._turned(source, lambda seen: func(seen, *args[1:], **kwargs), in_place)
        if source.dim() != 4:
            return func(*args, **kwargs)
        self.turned += 1
        options = {**dict(zip(("input", "weight", "bias"), args, strict=False)), **kwargs}
        moved = linear(source.movedim(-1, 1), options["weight"], options.get("bias"))
        return moved.movedim(1, -1)

    def _turned(self, source: torch.Tensor, make: Callable[[torch.Tensor], Any], in_place: bool) -> Any:
        axis = self._axes[source] if source.dim() == 4 and source in self._axes else None
        if axis in (None, 1):
            return make(source)
        self.turned += 1
        output = make(source.movedim(axis, 1))
        return source if in_place else output.movedim(1, axis)

    def _follow(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """Remember which tensors depend on the images, and the axis of their channels."""
        if name in _CONSTANTS:
            return
        known = [tensor for tensor in _tensors((args, kwargs.values())) if tensor in self._axes]
        if not known:
            return
        maps = next((tensor for tensor in known if tensor.dim() == 4), None)
        source = known[0]
        if name in _REDUCTIONS and source.dim() > 2 and isinstance(output, torch.Tensor):
            self.averaged |= output.numel() == len(source) * source.shape[1] < source.numel()
        for tensor in _tensors((output,)):
            if tensor in self._axes and tensor is known[0]:
                continue  # in place
            axis = None if maps is None else self._axes[maps]
            if tensor.dim() != 4 or name in _SHAPED:
                axis = None
            elif name.startswith(_FIRST) or name.startswith("adaptive"):
                axis = 1
            elif name in _LAST:
                axis = 3
            elif name in _TURNS and axis is not None:
                axis = _turned_axis(name, args, kwargs, axis)
            self._axes[tensor] = axis

    def _note_masks(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """Remember masks that depend on the images, and whether one was used on what has a gradient."""
        given = list(_tensors((args, kwargs.values())))
        masked = any(tensor in self._masks for tensor in given)
        for tensor in _tensors((output,)) if output is not None else given[:1]:
            if tensor.requires_grad:
                self.gated |= masked
            elif masked or (tensor in self._axes and (tensor.dtype == torch.bool or name == "heaviside")):
                self._masks[tensor] = True


def linear(maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Apply a linear layer to the channels in axis 1 of (N, C, H, W).

    Modes see this call under the name "linear".
    """
    if has_torch_function((maps, weight)) or torch._C._is_torch_function_mode_enabled():
        result: torch.Tensor = handle_torch_function(linear, (maps, weight), maps, weight, bias)
        return result
    return functional.linear(maps.movedim(1, -1), weight, bias).movedim(-1, 1)


def _relu(source: torch.Tensor, ceiling: float | None, in_place: bool) -> torch.Tensor:
    if ceiling is None:
        return functional.relu(source, inplace=in_place)
    return functional.hardtanh(source, 0.0, ceiling, inplace=in_place)


def _in_place(spelled: str, given: Mapping[str, Any]) -> bool:
    if spelled.startswith("__"):
        return spelled == "__setitem__" or (spelled.startswith("__i") and spelled != "__invert__")
    return spelled.endswith("_") or bool(given.get("inplace"))


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple | type({}.values())):
            yield from _tensors(value)


def _turned_axis(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], axis: int) -> int:
    """Return where an axis is after a call that reorders axes."""
    shape = [2] * 4
    shape[axis] = 3
    marked = torch.empty(shape, device="meta")
    rest = {key: value for key, value in kwargs.items() if key not in ("input", "self")}
    return list(getattr(torch, name)(marked, *_flat(name, args[1:]), **rest).shape).index(3)


def _flat(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if name == "permute" and args and isinstance(args[0], int):  # Tensor.permute(0, 2, 3, 1)
        return (args,)
    return args
