"""The stride fix: backpropagate through strided operations as if their stride were 1 (paper section 3.3).

The signal is resampled to the size that the output would have at stride 1, and then backpropagated at
stride 1, so that it shows no grid. `RESAMPLES` lists the rule of each operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch.nn import functional

from explainers.layers import Call, value
from explainers.receptive_field import Pair, arguments, pair, sliding

Resample = Literal["none", "conv", "all", "nearest"]
Way = Literal["exact", "stride 1", "up-sampled"]
Back = Callable[[torch.Tensor], torch.Tensor]
Ways = Callable[[torch.Tensor, Way], torch.Tensor]  # backpropagates a signal by one of the rules

# The backward rule of each strided operation: resampled to stride 1, or upsampling alone. Operations that
# are not listed use their exact gradient.
RESAMPLES: dict[str, dict[str, Way]] = {
    "none": {},
    "conv": {"conv2d": "stride 1"},
    "all": {"conv2d": "stride 1", "max_pool2d": "stride 1", "avg_pool2d": "stride 1"},
    "nearest": {"conv2d": "stride 1", "max_pool2d": "up-sampled"},
}


def is_strided(call: Call) -> bool:
    """Return whether a layer has a stride above 1, and so more than one backward rule."""
    if call.function not in ("conv2d", "max_pool2d", "avg_pool2d"):
        return False
    return max(sliding(call.function, call.args, call.kwargs)[1]) > 1


def run(call: Call, source: torch.Tensor) -> tuple[Any, Ways]:
    """Run a strided layer on `source`; return its output and its backward function."""
    if call.function == "conv2d":
        size = _size(source)
        return call.on(source), lambda signal, way: _conv_back(call, size, signal, way)
    values = source.detach().requires_grad_()
    with torch.enable_grad():
        output = call.on(values)

    def back(signal: torch.Tensor, way: Way) -> torch.Tensor:
        if way == "exact":
            (exact,) = torch.autograd.grad(value(output), values, signal, retain_graph=True)
            return exact
        return _POOLS[call.function, way](call, values.detach(), signal)

    plain = tuple(tensor.detach() for tensor in output) if isinstance(output, tuple) else output.detach()
    return plain, back


def _stride_1_size(call: Call, size: Pair) -> Pair:
    """Return the size that the layer's output would have at stride 1: A + 2O - M + 1 (eq. 3)."""
    kernel, _, padding = sliding(call.function, call.args, call.kwargs)
    height, width = size
    return height + 2 * padding[0] - kernel[0] + 1, width + 2 * padding[1] - kernel[1] + 1


def _size(maps: torch.Tensor) -> Pair:
    return maps.shape[-2], maps.shape[-1]


def _nearest(signal: torch.Tensor, size: Pair) -> torch.Tensor:
    return functional.interpolate(signal, size=size, mode="nearest-exact")


def _conv_back(call: Call, size: Pair, signal: torch.Tensor, way: Way) -> torch.Tensor:
    options = arguments(call.function, call.args, call.kwargs)
    weight, dilation, groups = options["weight"], pair(options.get("dilation", 1)), options.get("groups", 1)
    kernel, stride, padding = sliding(call.function, call.args, call.kwargs)
    plain = groups == 1 and dilation == (1, 1)
    if way == "exact":
        factor = stride[0]
        if plain and stride == (factor, factor) and factor <= min(weight.shape[2:]):
            return _sub_pixel(signal, weight, factor, padding, size)
        reached = [
            (n - 1) * s + m - 2 * o for n, s, m, o in zip(_size(signal), stride, kernel, padding, strict=True)
        ]
        left = tuple(a - r for a, r in zip(size, reached, strict=True))
        return functional.conv_transpose2d(
            signal,
            weight,
            stride=stride,
            padding=padding,
            output_padding=left,
            dilation=dilation,
            groups=groups,
        )
    target, height = _stride_1_size(call, size), signal.shape[-2]
    factor = target[0] // height
    if plain and target == (factor * height, factor * signal.shape[-1]):
        # Repeating each value is a convolution with ones; both convolutions together are one convolution
        # with a blurred kernel.
        ones = weight.new_ones(1, 1, factor, factor)
        blurred = functional.conv_transpose2d(weight.reshape(-1, 1, *weight.shape[2:]), ones)
        blurred = blurred.view(*weight.shape[:2], *blurred.shape[2:])
        return _sub_pixel(signal, blurred, factor, padding, size)
    return functional.conv_transpose2d(
        _nearest(signal, target), weight, padding=padding, dilation=dilation, groups=groups
    )


def _sub_pixel(
    signal: torch.Tensor, weight: torch.Tensor, factor: int, padding: Pair, size: Pair
) -> torch.Tensor:
    """Compute a transposed convolution of stride `factor` as one small convolution per phase.

    With few input channels this is twice as fast on a CPU as PyTorch's transposed convolution, and needs
    no intermediate result of full size.
    """
    outputs, inputs = weight.shape[:2]
    taps = [-(-length // factor) for length in weight.shape[-2:]]
    short = [n * factor - length for n, length in zip(taps, weight.shape[-2:], strict=True)]
    whole = functional.pad(weight, (0, short[1], 0, short[0]))
    phases = whole.view(outputs, inputs, taps[0], factor, taps[1], factor).permute(3, 5, 1, 0, 2, 4)
    kernels = phases.reshape(factor * factor * inputs, outputs, *taps).flip(2, 3)
    small = functional.conv2d(signal, kernels, padding=(taps[0] - 1, taps[1] - 1)).permute(0, 2, 3, 1)
    n, height, width, _ = small.shape
    woven = small.reshape(n, height, width, factor, factor, inputs).transpose(2, 3)
    full = woven.reshape(n, factor * height, factor * width, inputs).permute(0, 3, 1, 2)
    full = full[:, :, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]
    missed = (size[0] - full.shape[2], size[1] - full.shape[3])  # pixels that no window covers
    return functional.pad(full, (0, missed[1], 0, missed[0])) if any(missed) else full


def _max_pool_at_stride_1(call: Call, values: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
    options = arguments(call.function, call.args, call.kwargs)
    kernel, padding, dilation = options["kernel_size"], options.get("padding", 0), options.get("dilation", 1)
    _, switches = functional.max_pool2d_with_indices(values, kernel, (1, 1), padding, dilation)
    spread = values.new_zeros(values.shape).flatten(2)
    fine = _nearest(signal, _stride_1_size(call, _size(values))).flatten(2)
    return spread.scatter_add_(2, switches.flatten(2), fine).view(values.shape)


def _max_pool_up_sampled(call: Call, values: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
    return _nearest(signal, _size(values))


def _avg_pool_at_stride_1(call: Call, values: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
    kernel, _, padding = sliding(call.function, call.args, call.kwargs)
    channels, target = signal.shape[1], _stride_1_size(call, _size(values))
    weight = signal.new_full((1, 1, *kernel), 1 / (kernel[0] * kernel[1])).expand(channels, 1, *kernel)
    return functional.conv_transpose2d(_nearest(signal, target), weight, padding=padding, groups=channels)


_POOLS: dict[tuple[str, str], Callable[[Call, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    ("max_pool2d", "stride 1"): _max_pool_at_stride_1,
    ("max_pool2d", "up-sampled"): _max_pool_up_sampled,
    ("avg_pool2d", "stride 1"): _avg_pool_at_stride_1,
}
