"""Backward passes from any feature of any layer to the image: gradient, deconvnet, guided, stride fix.

A backward pass is ordinary differentiation in which two kinds of operation go back by a rule of
their own: ReLUs (`relu=`, the table below) and strided operations (`resample=`, `stride_fix.RESAMPLES`);
everything else goes back as autograd does. One forward pass can be gone back by any rule.
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
    """Go back once, each image from one feature: many layers can be left at their own height.

    Args:
        trace: from `forward`.
        channels: for each layer (N,) int64, the channel to start from, -1 for none.
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
    # Rules that differ at the stem alone have all the way down to it in common.
    places = tuple((name, *chosen.tolist()) for name, chosen in channels.items())
    at_stem = trace.once((rules, places), lambda: above(stem.start))
    signal = stem.back(at_stem, RESAMPLES[resample].get("conv2d", "exact"))
    (signal,) = torch.autograd.grad(stem.source, trace.leaf, signal, retain_graph=True)
    return signal


def class_scores_back(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, *, relu: ReLURule
) -> torch.Tensor:
    """Go back from each image's class score to the pixels, within `guard.unchanged`.

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
    for what, given, known in (("relu", relu, RELU_RULES), ("resample", resample, RESAMPLES)):
        if given not in known:
            raise ValueError(f"{what} must be one of {', '.join(known)}; got {given!r}")


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
