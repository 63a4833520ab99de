"""Which pixels decide the answers of the colour detectors: known exactly, from their weights.

Write m_c(x_p) for the amount by which pixel p matches colour c (`colour_detector`), w for a positive
constant, and S(x) for the pixels with m_c(x_p) > 0 for some c that has a logit. The logits are

    colour_mean: w mean_p m_c(x_p),        colour_max: w max_p m_c(x_p).

**Claim 1, nothing outside S(x) counts.** Give any set of pixels outside S(x) any colours that match nothing:
every logit stays the same, bit for bit. Proof: m_c of these pixels was 0 and is 0; no other pixel changes,
since all kernels are 1x1; and the logits depend on the image only through the maps m_c. What matches nothing
are all greys from black to white, and pot, soil, stem, leaves, sepals, disc and wall in every light.

**Claim 2, nor does it locally.** For an 8-bit image, the gradient of every logit is exactly 0 at every pixel
outside S(x). Proof: the argument of relu2 is at most -1/2 there (before scaling, see `colour_detector`), so
it stays negative in a neighbourhood of x_p, and m_c is 0 in it.

**Claim 3, everything in S(x) counts.** colour_mean: give one pixel p of S(x) a colour that matches nothing,
and the logit of each class that it matches falls by w m_c(x_p) / (H W), whatever the other pixels are. So
S(x) is the smallest set for which claim 1 is true. colour_max: give all of S(x) such colours, and all logits
are 0; give them to all but one, any one, and the logit of a class that this one matches is positive, and all
others are 0. So each single pixel of S(x) is sufficient, and only all of them together are necessary.

**Claim 4, the gradient inside.** colour_mean: where f_1 is the smallest form of a colour, the gradient is the
same vector in all pixels; elsewhere in S(x) it belongs to another form; nowhere in S(x) is it 0. colour_max:
it is 0 except at one pixel with m_c(x_p) = max m_c, of which PyTorch takes the first; `maximal_pixels`
returns all.

**Claim 5, the exact shares.** Let v(T) be the logit of class c if all pixels outside T have a colour that
matches nothing. The Shapley values of this game are known in closed form, see `shapley_values`. They are 0
outside S(x), positive on the pixels of S(x) that match c, and their sum is the logit.

What is *not* claimed: that pixels outside S(x) cannot change a logit at all. Any pixel can be painted red.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmark.models.colour_detector import FORMS


def matches(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return by how much each pixel matches each colour.

    Args:
        model: as `colour_max` or `colour_mean` builds it.
        images: (N, 3, H, W) float32 in [0, 1].
    Returns:
        (N, K, H, W) float32, 0 for no match and 1 for exactly the colour; K is six, or the number of
        classes if that is less.
    Raises:
        ValueError: for any other model.
    """
    layers = dict(model.named_children())
    if "pool" not in layers or getattr(layers.get("conv2"), "out_channels", None) != len(FORMS):
        raise ValueError(
            f"the pixels that decide are known for colour_max and colour_mean, not for {type(model).__name__}"
        )
    found = images
    with torch.no_grad():
        for name in list(layers)[: list(layers).index("pool")]:
            found = layers[name](found)
    return found[:, : layers["fc"].out_features]


def deciding_pixels(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return S(x): the pixels that match a colour; no other pixel has any effect.

    Args:
        model, images: as for `matches`.
    Returns:
        (N, H, W) bool.
    Raises:
        ValueError: as `matches`.
    """
    return (matches(model, images) > 0).any(1)


def maximal_pixels(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the pixels that match a colour best, with all that are equal: where `colour_max` has a gradient.

    Args:
        model, images: as for `matches`.
    Returns:
        (N, H, W) bool, a subset of `deciding_pixels`.
    Raises:
        ValueError: as `matches`.
    """
    amounts = matches(model, images)
    return ((amounts > 0) & (amounts == amounts.amax((2, 3), keepdim=True))).any(1)


def shapley_values(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return each pixel's Shapley value for a logit, where an absent pixel has a colour that matches nothing.

    For the mean the logit is a sum over pixels, and the share of a pixel is its summand. For the maximum, let
    a_1 <= ... <= a_n be the sorted amounts and a_0 = 0. The logit is a sum over i of a_i - a_(i-1) if any of
    the pixels i ... n is present; these n - i + 1 pixels share it equally. So pixel j gets the sum over
    i <= j of (a_i - a_(i-1)) / (n - i + 1).

    Args:
        model, images: as for `matches`.
        targets: (N,) int64, the classes of the logits, from 0.
    Returns:
        (N, H, W) float64, >= 0; the sum over pixels is the logit.
    Raises:
        ValueError: as `matches`.
    Source: Shapley 1953; for the maximum, Littlechild and Owen 1973 (the airport game).
    """
    amounts = matches(model, images).double()
    chosen = torch.zeros_like(amounts[:, 0])
    has_match = targets < amounts.shape[1]  # the other logits are 0
    chosen[has_match] = amounts[has_match, targets[has_match]]
    weight = float(model.get_submodule("fc").weight[0, 0])  # type: ignore[index]
    if isinstance(model.get_submodule("pool"), nn.AvgPool2d):
        return weight * chosen / chosen[0].numel()
    ordered, place = chosen.flatten(1).sort(1)
    pixels = ordered.shape[1]
    steps = torch.diff(ordered, prepend=torch.zeros_like(ordered[:, :1]))
    shared = (steps / torch.arange(pixels, 0, -1, dtype=torch.float64)).cumsum(1)
    return weight * torch.zeros_like(shared).scatter(1, place, shared).reshape(chosen.shape)
