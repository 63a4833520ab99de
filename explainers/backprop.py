"""Backward passes from any feature of any layer to the image: gradient, deconvnet, guided, stride fix.

A backward pass is ordinary differentiation in which two kinds of operation go back by a rule of
their own: ReLUs (`relu=`, the table below) and strided operations (`resample=`, `stride_fix.RESAMPLES`);
everything else goes back as autograd does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from an8flower.registry import unknown
from explainers.guard import unchanged
from explainers.layers import Call, Layer, Watch, value
from explainers.receptive_field import sliding
from explainers.stride_fix import OPERATIONS, RESAMPLES, Back, Operate, Resample

ReLURule = Literal["gradient", "deconvnet", "guided"]

# What a ReLU passes back, from the signal that reaches it and a gate, positive where it was active.
ReLU = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_gated = torch.ops.aten.threshold_backward
RELU_RULES: dict[str, ReLU] = {
    "gradient": lambda signal, gate: _gated(signal, gate, 0),
    "deconvnet": lambda signal, gate: signal.clamp(min=0),
    "guided": lambda signal, gate: _gated(signal, gate, 0).clamp_(min=0),
}


def backpropagate(
    model: nn.Module,
    images: torch.Tensor,
    *,
    layer: str,
    channels: torch.Tensor,
    relu: ReLURule = "guided",
    resample: Resample = "conv",
) -> torch.Tensor:
    """Go back from one feature an image, its whole forward map, to the pixels.

    Args:
        model: any classifier; left unchanged.
        images: (N, 3, H, W) float32 in [0, 1].
        layer: where the features are, e.g. "conv2"; "logits" for the class scores themselves, which are
            sent back as ones.
        channels: (N,) int64, one a image; or one int for all.
        relu: "gradient" passes the signal where the input was positive; "deconvnet" passes positive
            signals (Zeiler and Fergus 2014); "guided" does both (Springenberg et al. 2015).
        resample: the stride fix: "none"; "conv" at convolutions; "all" at poolings too, the switches of
            max-pooling found again at stride 1; "nearest" as "conv", with max-pooling undone by nearest
            up-sampling.
    Returns:
        (N, 3, H, W) float32, signed.
    Raises:
        UnknownNameError: if the model has no such layer.
        ValueError: for a channel that the layer does not have, or an unknown rule.
    Source: Oramas et al. 2019, section 3.3, eq. 2 and 3. Departs: nearest neighbours have half-pixel
        centres, as the paper does not say which; "all" takes average pooling for a convolution with
        equal weights.
    """
    chosen = torch.as_tensor(channels, device=images.device).expand(len(images))
    with unchanged(model):
        trace = forward(model, images, [layer], relu=relu, resample=resample)
        return backward(trace, {layer: chosen})


@dataclass(frozen=True)
class Trace:
    """A forward pass that can be gone back.

    Args:
        leaf: the images, (N, 3, H, W).
        outputs: the kept layers' outputs by name; "logits" for the class scores.
        layers: all layers that were passed.
    """

    leaf: torch.Tensor
    outputs: Mapping[str, torch.Tensor]
    layers: tuple[Layer, ...] = field(repr=False)


def forward(
    model: nn.Module,
    images: torch.Tensor,
    keep: Collection[str],
    *,
    relu: ReLURule = "guided",
    resample: Resample = "conv",
) -> Trace:
    """Run `model`, within `guard.unchanged`, up to the last of the layers to keep.

    Args:
        model, images, relu, resample: as in `backpropagate`.
        keep: names of layers; "logits" for the class scores.
    Raises:
        UnknownNameError, ValueError: as in `backpropagate`.
    """
    for what, given, known in (("relu", relu, RELU_RULES), ("resample", resample, RESAMPLES)):
        if given not in known:
            raise ValueError(f"{what} must be one of {', '.join(known)}; got {given!r}")
    rules = _Rules(frozenset(keep), RELU_RULES[relu], RESAMPLES[resample])
    leaf = images.detach().requires_grad_()
    with Watch(rules) as watch:
        with suppress(_AllKeptError):
            rules.kept["logits"] = model(leaf.clone())
        for name in keep:
            if name not in rules.kept:
                raise unknown("layer", name, [*(layer.name for layer in watch.seen), "logits"])
    return Trace(leaf, rules.kept, tuple(watch.seen))


def backward(trace: Trace, channels: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Go back once, each image from one feature: many layers can be left at their own height.

    Args:
        trace: from `forward`; can be gone back again and again.
        channels: for each layer (N,) int64, the channel to start from, -1 for none.
    Returns:
        (N, 3, H, W) float32, signed.
    """
    outputs = [trace.outputs[name] for name in channels]
    seeds = [_seed(name, trace.outputs[name], chosen) for name, chosen in channels.items()]
    (signal,) = torch.autograd.grad(outputs, trace.leaf, seeds, retain_graph=True)
    return signal


def _seed(name: str, output: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    """The chosen channel's own map (at the class scores, one) and zeros elsewhere."""
    if channels.max() >= output.shape[1]:
        raise ValueError(
            f"channel {int(channels.max())} does not exist: layer {name!r} has {output.shape[1]} channels, "
            "counted from 0"
        )
    rows = (channels >= 0).nonzero()[:, 0]
    seed = torch.zeros_like(output)
    seed[rows, channels[rows]] = 1 if name == "logits" else output.detach()[rows, channels[rows]]
    return seed


class _AllKeptError(Exception):
    """Leaves the model once there is nothing more to keep."""


class _Rules:
    """Makes each layer's call so that it goes back by its rule, and keeps the outputs asked for."""

    def __init__(self, keep: frozenset[str], relu: ReLU, strided: Mapping[str, str]) -> None:
        self.kept: dict[str, torch.Tensor] = {}
        self._keep, self._relu, self._strided = keep, relu, strided

    def __call__(self, call: Call) -> Any:
        output = self._run(call)
        if call.name not in self._keep:
            return output
        kept = self.kept[call.name] = value(output)
        if len(self.kept) == len(self._keep):
            raise _AllKeptError
        # The model goes on with a copy: what it changes in place later must not reach ours.
        onward = kept.clone()
        if kept.data_ptr() == call.source.data_ptr():
            self.kept[call.name] = onward
            return output
        return (onward, *output[1:]) if isinstance(output, tuple) else onward

    def _run(self, call: Call) -> Any:
        if call.kind == "relu":
            output = _own_way_back(call.source, _relu(call, self._relu))
            return call.source.copy_(output) if call.in_place else output
        rule = self._strided.get(call.function)
        if rule is None or max(sliding(call.function, call.args, call.kwargs)[1]) == 1:
            return call.run()
        return _own_way_back(call.source, OPERATIONS[call.function, rule](call))


class _Operation(torch.autograd.Function):
    """An operation that brings its own way back."""

    @staticmethod
    def forward(ctx: Any, source: torch.Tensor, operate: Operate) -> Any:
        output, ctx.back = operate(source)
        if isinstance(output, tuple):
            ctx.mark_non_differentiable(*output[1:])
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: torch.Tensor, *_: Any) -> Any:
        return ctx.back(signal), None


def _own_way_back(source: torch.Tensor, operate: Operate) -> Any:
    return _Operation.apply(source, operate)  # type: ignore[no-untyped-call]


def _relu(call: Call, rule: ReLU) -> Operate:
    name, ceiling = call.name, call.ceiling

    def operate(source: torch.Tensor) -> tuple[torch.Tensor, Back]:
        output = source.clamp(min=0, max=ceiling)
        # What the way back holds must not lead to the output, or neither would ever be freed.
        gate = output.detach() if ceiling is None else output * (output < ceiling)
        version = gate._version

        def back(signal: torch.Tensor) -> torch.Tensor:
            if gate._version != version:
                raise RuntimeError(
                    f"the output of {name!r} was overwritten in place after it was used; "
                    "such a model cannot be gone back"
                )
            return rule(signal, gate)

        return output, back

    return operate
