"""Compute receptive fields, the part of the image that a unit depends on, during a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Pair = tuple[int, int]  # rows, columns

# Operations whose output at a position depends only on their inputs at that position.
# fmt: off
_POINTWISE = frozenset((
    "abs", "add", "batch_norm", "cat", "clamp", "clamp_min", "clip", "clone", "contiguous", "detach",
    "div", "dropout", "dropout2d", "elu", "exp", "float", "gelu", "hardsigmoid", "hardswish",
    "hardtanh", "leaky_relu", "maximum", "minimum", "mul", "neg", "pow", "prelu", "relu", "relu6",
    "rsub", "sigmoid", "silu", "softplus", "sqrt", "square", "sub", "tanh", "threshold", "to",
    "true_divide",
))
# fmt: on


@dataclass(frozen=True)
class ReceptiveField:
    """The window of the image that one unit of a map depends on.

    Unit (i, j) depends on `size_px[0]` rows from row `offset_px[0] + i * stride_px[0]`, and likewise on
    the columns. A window may extend beyond the border of the image.

    Args:
        size_px: height and width of the window.
        stride_px: distance between the windows of neighbouring units; 0 if all depend on the whole image.
        offset_px: first row and column of the window of unit (0, 0).
    """

    size_px: Pair
    stride_px: Pair
    offset_px: Pair

    @classmethod
    def whole(cls, size_px: Pair) -> ReceptiveField:
        """Return the field of a unit that depends on every pixel."""
        return cls(size_px, (0, 0), (0, 0))

    def window(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return the first row, end row, first column and end column of a unit's window, in pixels.

        >>> ReceptiveField((5, 5), (2, 2), (-1, -1)).window(0, 3)
        (-1, 4, 5, 10)
        """
        top = self.offset_px[0] + row * self.stride_px[0]
        left = self.offset_px[1] + column * self.stride_px[1]
        return top, top + self.size_px[0], left, left + self.size_px[1]

    def slid(self, kernel: Pair, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> ReceptiveField:
        """Return the field after a sliding window over units with this field.

        Args:
            kernel: size of the window, dilation included.
            stride, padding: of the window.
        """
        if self.stride_px == (0, 0):
            return self
        return ReceptiveField(
            _each(lambda k: self.size_px[k] + (kernel[k] - 1) * self.stride_px[k]),
            _each(lambda k: self.stride_px[k] * stride[k]),
            _each(lambda k: self.offset_px[k] - padding[k] * self.stride_px[k]),
        )

    def joined(self, other: ReceptiveField, image_px: Pair) -> ReceptiveField:
        """Return the smallest field that contains both; the whole image if the strides differ."""
        if self.stride_px != other.stride_px:
            return ReceptiveField.whole(image_px)
        mine, theirs = self.window(0, 0), other.window(0, 0)
        starts = _each(lambda k: min(mine[2 * k], theirs[2 * k]))
        size = _each(lambda k: max(mine[2 * k + 1], theirs[2 * k + 1]) - starts[k])
        return ReceptiveField(size, self.stride_px, starts)


class ReceptiveFields:
    """Compute the receptive fields of all operations in a forward pass.

    After an operation whose field is not known (slicing, reshaping, attention, ...), the field is the
    whole image, so it is never too small.

    Args:
        images: (N, C, H, W), the input of the pass.
    """

    def __init__(self, images: torch.Tensor) -> None:
        self._image_px: Pair = (images.shape[-2], images.shape[-1])
        self._known: dict[int, tuple[torch.Tensor, ReceptiveField]] = {}
        self._note(images, ReceptiveField((1, 1), (1, 1), (0, 0)))

    def of(self, tensor: torch.Tensor) -> ReceptiveField:
        """Return the field of a tensor's units; the whole image if it is unknown or the tensor has no map."""
        entry = self._known.get(id(tensor))
        return entry[1] if entry and tensor.dim() == 4 else ReceptiveField.whole(self._image_px)

    def follow(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
    ) -> None:
        """Record the field of an operation's output.

        Args:
            func, args, kwargs, output: the function that was called, its arguments and its result.
        """
        tensors = [t for t in (*_flat(args), *_flat(kwargs.values())) if id(t) in self._known]
        outputs = _flat([output])
        if not tensors or not outputs:
            return
        name = getattr(func, "__name__", "").removesuffix("_").removesuffix("_with_indices")
        source, result = tensors[0], outputs[0]
        window = self.of(source)
        if name in SLIDING:
            window = window.slid(*sliding(name, args, kwargs))
        elif name.startswith("adaptive"):
            window = self._adaptive(window, source, result)
        elif name == "pad" and result.dim() == 4:
            window = _padded(window, args[1] if len(args) > 1 else kwargs["pad"])
        elif name in _POINTWISE and source.dim() == 4:
            for other in tensors[1:]:
                window = window.joined(self.of(other), self._image_px)
        else:
            window = ReceptiveField.whole(self._image_px)
        for tensor in outputs:
            self._note(tensor, window)

    def _note(self, tensor: torch.Tensor, field: ReceptiveField) -> None:
        self._known[id(tensor)] = (tensor, field)  # keeps the tensor alive, so that its id is not reused

    def _adaptive(self, seen: ReceptiveField, source: torch.Tensor, result: torch.Tensor) -> ReceptiveField:
        before, after = source.shape[-2:], result.shape[-2:]
        if before[0] % after[0] or before[1] % after[1]:
            return ReceptiveField.whole(self._image_px)
        step = (before[0] // after[0], before[1] // after[1])
        return seen.slid(step, step)


_ORDERS = {
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    "avg_pool2d": (
        "input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override",
    ),
}  # fmt: skip
SLIDING = frozenset(_ORDERS)


def arguments(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a convolution or pooling by name, positional ones included."""
    return {**dict(zip(_ORDERS[name], args, strict=False)), **kwargs}


def sliding(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Pair, Pair, Pair]:
    """Return kernel size (dilation included), stride and padding of a convolution or pooling."""
    options = arguments(name, args, kwargs)
    kernel = tuple(options["weight"].shape[-2:]) if name == "conv2d" else pair(options["kernel_size"])
    stride = options.get("stride")
    dilation = pair(options.get("dilation", 1))
    window = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    padding = options.get("padding", 0)
    if padding == "same":
        padding = ((window[0] - 1) // 2, (window[1] - 1) // 2)
    elif padding == "valid":
        padding = 0
    if stride is None or stride == []:
        stride = 1 if name == "conv2d" else kernel
    return window, pair(stride), pair(padding)


def pair(number: Any) -> Pair:
    """Return one number or two numbers as a pair.

    >>> pair(3), pair((1, 2)), pair([2])
    ((3, 3), (1, 2), (2, 2))
    """
    if isinstance(number, int):
        return number, number
    return (number[0], number[-1])


def _each(make: Callable[[int], int]) -> Pair:
    return make(0), make(1)


def _padded(seen: ReceptiveField, pad: Any) -> ReceptiveField:
    left, top = pad[0], pad[2] if len(pad) > 2 else 0
    return seen.slid((1, 1), (1, 1), (top, left))


def _flat(values: Any) -> list[torch.Tensor]:
    """Return the tensors among `values`, including those in lists and tuples."""
    tensors: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif isinstance(value, list | tuple):
            tensors += _flat(value)
    return tensors
