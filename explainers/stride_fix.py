"""The stride fix: how operations with a stride go back as if they had none (paper section 3.3).

The signal is resampled to the size that the output would have at stride 1 and then goes back at stride
1, so that no grid is left. A rule belongs to an operation; `RESAMPLES` says which of them are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch.nn import functional

from explainers.layers import Call
from explainers.receptive_field import Pair, arguments, pair, sliding

Resample = Literal["none", "conv", "all", "nearest"]
Back = Callable[[torch.Tensor], torch.Tensor]
Operate = Callable[[torch.Tensor], tuple[Any, Back]]  # from input to output and the way back

# How the layers with a stride go back: resampled to stride 1, by up-sampling alone, or (unnamed) exactly.
RESAMPLES: dict[str, dict[str, str]] = {
    "none": {},
    "conv": {"conv2d": "stride 1"},
    "all": {"conv2d": "stride 1", "max_pool2d": "stride 1", "avg_pool2d": "stride 1"},
    "nearest": {"conv2d": "stride 1", "max_pool2d": "up-sampled"},
}


def _stride_1_size(call: Call) -> Pair:
    """The size that the layer's output would have at stride 1: A + 2O - M + 1 (eq. 3)."""
    kernel, _, padding = sliding(call.function, call.args, call.kwargs)
    height, width = _size(call.source)
    return height + 2 * padding[0] - kernel[0] + 1, width + 2 * padding[1] - kernel[1] + 1


def _size(maps: torch.Tensor) -> Pair:
    return maps.shape[-2], maps.shape[-1]


def _nearest(signal: torch.Tensor, size: Pair) -> torch.Tensor:
    return functional.interpolate(signal, size=size, mode="nearest-exact")


def _conv_at_stride_1(call: Call) -> Operate:
    given = arguments(call.function, call.args, call.kwargs)
    weight, dilation, groups = given["weight"], given.get("dilation", 1), given.get("groups", 1)
    _, _, padding = sliding(call.function, call.args, call.kwargs)
    size, target = _size(call.source), _stride_1_size(call)

    def back(signal: torch.Tensor) -> torch.Tensor:
        height, width = _size(signal)
        factor = target[0] // height
        if target == (factor * height, factor * width) and groups == 1 and pair(dilation) == (1, 1):
            return _sub_pixel(signal, weight, factor, padding, size)
        return functional.conv_transpose2d(
            _nearest(signal, target), weight, padding=padding, dilation=dilation, groups=groups
        )

    return lambda source: (call.on(source), back)


def _sub_pixel(
    signal: torch.Tensor, weight: torch.Tensor, factor: int, padding: Pair, size: Pair
) -> torch.Tensor:
    """Nearest up-sampling by a whole factor and the transposed convolution, in one and never at full size.

    Repeating each value is a convolution with ones, so both together are one transposed convolution of
    stride `factor` with a blurred kernel; each of its factor x factor phases is a small convolution.
    """
    outputs, inputs = weight.shape[:2]
    ones = weight.new_ones(1, 1, factor, factor)
    blurred = functional.conv_transpose2d(weight.reshape(-1, 1, *weight.shape[2:]), ones)
    taps = [-(-length // factor) for length in blurred.shape[-2:]]
    short = [n * factor - length for n, length in zip(taps, blurred.shape[-2:], strict=True)]
    blurred = functional.pad(blurred, (0, short[1], 0, short[0]))
    phases = blurred.view(outputs, inputs, taps[0], factor, taps[1], factor).permute(1, 3, 5, 0, 2, 4)
    kernels = phases.reshape(inputs * factor * factor, outputs, *taps).flip(2, 3)
    small = functional.conv2d(signal, kernels, padding=(taps[0] - 1, taps[1] - 1))
    full = functional.pixel_shuffle(small, factor)
    return full[:, :, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


def _max_pool_at_stride_1(call: Call) -> Operate:
    given = arguments(call.function, call.args, call.kwargs)
    kernel, padding, dilation = given["kernel_size"], given.get("padding", 0), given.get("dilation", 1)
    target = _stride_1_size(call)

    def operate(source: torch.Tensor) -> tuple[Any, Back]:
        values = source.detach()

        def back(signal: torch.Tensor) -> torch.Tensor:
            _, switches = functional.max_pool2d_with_indices(values, kernel, (1, 1), padding, dilation)
            spread = torch.zeros_like(values).flatten(2)
            fine = _nearest(signal, target).flatten(2)
            return spread.scatter_add_(2, switches.flatten(2), fine).view_as(values)

        return call.on(source), back

    return operate


def _max_pool_up_sampled(call: Call) -> Operate:
    size = _size(call.source)
    return lambda source: (call.on(source), lambda signal: _nearest(signal, size))


def _avg_pool_at_stride_1(call: Call) -> Operate:
    kernel, _, padding = sliding(call.function, call.args, call.kwargs)
    each, target = torch.ones(1, 1, *kernel) / (kernel[0] * kernel[1]), _stride_1_size(call)

    def back(signal: torch.Tensor) -> torch.Tensor:
        channels = signal.shape[1]
        weight = each.to(signal).expand(channels, 1, *kernel)
        return functional.conv_transpose2d(_nearest(signal, target), weight, padding=padding, groups=channels)

    return lambda source: (call.on(source), back)


OPERATIONS: dict[tuple[str, str], Callable[[Call], Operate]] = {
    ("conv2d", "stride 1"): _conv_at_stride_1,
    ("max_pool2d", "stride 1"): _max_pool_at_stride_1,
    ("avg_pool2d", "stride 1"): _avg_pool_at_stride_1,
    ("max_pool2d", "up-sampled"): _max_pool_up_sampled,
}
