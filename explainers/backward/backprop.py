"""Backpropagate from any feature of any layer to the pixels: gradient, deconvnet, guided, stride fix.

A backward pass is ordinary differentiation, except that two kinds of operation have their own rule: ReLUs
(`relu=`, see `trace.RELU_RULES`) and strided operations (`resample=`, see `stride_fix.RESAMPLES`). One
forward pass serves backward passes with any rules.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from an8flower.ground.memo import once
from explainers.backward.stride_fix import RESAMPLES, Resample
from explainers.backward.trace import RELU_RULES, ReLURule, Trace, forward
from explainers.guard import unchanged

__all__ = ["RELU_RULES", "ReLURule", "Trace", "backpropagate", "backward", "class_scores_back", "forward"]


def backpropagate(
    model: nn.Module,
    images: torch.Tensor,
    *,
    layer: str,
    channels: torch.Tensor,
    relu: ReLURule = "guided",
    resample: Resample = "conv",
) -> torch.Tensor:
    """Backpropagate from one feature per image to the pixels, starting with its whole forward map.

    Args:
        model: any classifier; left unchanged.
        images: (N, 3, H, W) float32 in [0, 1].
        layer: name of the features' layer, e.g. "conv2"; "logits" for the class scores, which start with
            a signal of 1.
        channels: (N,) int64, one channel per image; or one int for all images.
        relu: "gradient" passes the signal where the input was positive; "deconvnet" passes positive
            signals (Zeiler and Fergus 2014); "guided" requires both (Springenberg et al. 2015).
        resample: where the stride fix applies: "none"; "conv", at convolutions; "all", at convolutions
            and poolings, with the switches of max-pooling computed again at stride 1; "nearest", at
            convolutions, with max-pooling inverted by nearest-neighbour upsampling.
    Returns:
        (N, 3, H, W) float32, signed.
    Raises:
        UnknownNameError: if the model has no such layer.
        ValueError: for a channel that the layer does not have, or an unknown rule.
    Source: Oramas et al. 2019, section 3.3, eq. 2 and 3. Departs: nearest-neighbour upsampling uses
        half-pixel centres, which the paper does not specify; "all" treats average pooling as a
        convolution with equal weights.
    """
    chosen = torch.as_tensor(channels, device=images.device).expand(len(images))
    _must_know(relu, resample)
    with unchanged(model):
        return backward(forward(model, images, [layer]), {layer: chosen}, relu=relu, resample=resample)


def backward(
    trace: Trace,
    channels: Mapping[str, torch.Tensor],
    *,
    relu: ReLURule = "guided",
    resample: Resample = "conv",
) -> torch.Tensor:
    """Backpropagate once, from one feature per image; the features may be of different layers.

    Args:
        trace: the result of `forward`.
        channels: for each layer (N,) int64, the channel to start from, or -1 to start from none.
        relu, resample: as in `backpropagate`.
    Returns:
        (N, 3, H, W) float32, signed.
    """
    _must_know(relu, resample)
    outputs = [trace.outputs[name] for name in channels]
    rules, stem = trace.follow(relu, resample), trace.stem

    def above(start: torch.Tensor) -> torch.Tensor:
        seeds = [_seed(name, trace.outputs[name], chosen) for name, chosen in channels.items()]
        (signal,) = torch.autograd.grad(outputs, start, seeds, retain_graph=True)
        return signal

    if stem is None:
        return above(trace.leaf)
    # Rules that differ only at the stem share the whole pass down to it.
    places = tuple((name, *chosen.tolist()) for name, chosen in channels.items())
    at_stem = trace.once((rules, places), lambda: above(stem.start))
    signal = stem.back(at_stem, RESAMPLES[resample].get("conv2d", "exact"))
    (signal,) = torch.autograd.grad(stem.source, trace.leaf, signal, retain_graph=True)
    return signal


def class_scores_back(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, relu: ReLURule
) -> torch.Tensor:
    """Backpropagate from the class score of each image to the pixels, within `guard.unchanged`.

    Args:
        model, images, relu: as in `backpropagate`.
        targets: (N,) int64.
    Returns:
        (N, 3, H, W) float32, signed; with `relu="gradient"` the gradient.
    """

    def make() -> torch.Tensor:
        trace = forward(model, images, ["logits"])
        return backward(trace, {"logits": targets}, relu=relu, resample="none")

    return once(f"class scores, {relu}", make, model, images, targets)


def _must_know(relu: str, resample: str) -> None:
    for what, rule, known in (("relu", relu, RELU_RULES), ("resample", resample, RESAMPLES)):
        if rule not in known:
            raise ValueError(f"{what} must be one of {', '.join(known)}; got {rule!r}")


def _seed(name: str, output: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    """Return the signal to start from: the map of the chosen channel (1 for a class score), else 0."""
    if channels.max() >= output.shape[1]:
        raise ValueError(
            f"channel {int(channels.max())} does not exist: layer {name!r} has {output.shape[1]} channels, "
            "counted from 0"
        )
    rows = (channels >= 0).nonzero()[:, 0]
    seed = torch.zeros_like(output)
    seed[rows, channels[rows]] = 1 if name == "logits" else output.detach()[rows, channels[rows]]
    return seed
