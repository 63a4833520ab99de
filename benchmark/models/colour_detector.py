"""A classifier whose weights are written down, not trained: it looks for the colours of the petals.

One pixel is enough to say whether a colour matches, so all convolutions are 1x1. For each of the six
colours c in `an8flower.variants.colours`, the first two convolutions compute from a pixel x the amount
m_c(x) >= 0 by which it matches. The logit of c is a constant times the maximum of m_c over the pixels
(`colour_max`), or its mean (`colour_mean`). Nothing else enters. The models are right on all images of
single-6c and on the flower classes of double-12c, where the logits of the six stem classes are 0: a detector
of colours cannot tell a red stem from red petals. On part-2c no pixel matches, and all logits are 0.

**What colours a surface can have.** The renderer computes 255 (shade (base L + sheen))^(1/2.2) per channel,
where base is the part's colour in linear light, (colour / 255)^2.2, and L the light: ambient (0.40, 0.41,
0.43), plus k times the key light (1, 0.965, 0.90), plus f times the fill light (0.82, 0.90, 1). Distances
and intensities (`an8flower.drawing.stage`) give k <= 0.95, f <= 0.4 and a strongest light of 1.5. Without
sheen a pixel is therefore the part's colour times one number per channel, and these numbers are nearly equal:
green/red is between 0.99 and 1.03, blue/red between 0.97 and 1.06. Only brightness varies much. Sheen adds
white. Antialiasing, rotating and resizing mix neighbouring pixels linearly, and each rounds by at most half a
level.

**Half-spaces.** Hence the colours of a part in any light form a narrow cone with its tip at black, and a
mixture of two parts is between their cones. A class accepts the pixels for which each of its forms

    f(r, g, b) = a_r r + a_g g + a_b b - t,    r, g, b in levels from 0 to 255,

is positive. The numbers a are whole, and chosen such that for each other colour of petals there is a form
that is negative on these petals *and* on pot, soil, stem, leaves, sepals, disc, wall and grey. As f is
linear, it is then negative on every mixture of them, too. The distance t = 2 (|a_r| + |a_g| + |a_b|) + 1/2
allows for an error of two levels per channel, four roundings. By colour, with r = 1:

    red     (1, .16, .20)    all other petals but violet, and all parts, have g > .50: form 2. Violet has
                             b > 1.2, and pot (1, .57, .40) and disc (1, .63, .29) are on its side of form 1.
    orange  (1, .51, .09)    form 1 passes below the line from red to the disc, form 2 between orange and the
                             line from the disc to yellow.
    yellow  (1, .85, .16)    mixtures of orange and the greens, stem (1, 1.5, .67) and leaves (1, 1.8, .85),
                             are above the form's line b = .59 g - .255.
    blue    (1, 2.0, 5.0)    all else has b < 1.45. Form 2 keeps away from the balls of part-2c.
    violet  (1, .40, 1.3)    form 1 separates it from pink, red and wall (1, 1.0, 1.1), form 2 from blue.
    pink    (1, .56, .75)    form 1: mixtures of red and wall have b < 1.04 g + .05. Form 2: mixtures of
                             violet or blue with wall or greens have b + g / 2 > 1.22. Form 3: violet mixed
                             with the brown disc or soil is pink, but dark. In the strongest light, a factor
                             of 1.2, violet has 67 levels of green, the disc 79, and with 5 % of wall 86; form
                             3 asks for more.

The sum of the numbers a of each form 1 is negative, so that no grey from black to white matches anything.
`tests/test_known_truth.py` computes these cones and mixtures again from the constants of the renderer. What
this arithmetic leaves open was counted on every image (docs/known_truth.md): mixtures of three parts, and of
violet or blue petals with the pot, which they hardly touch.

**Layers.** conv1 and relu1 compute f_1+ = max(0, f_1) and, for each further form, max(0, f_1 - f_k). conv2
and relu2 compute

    m = max(0, f_1+ - sum over k > 1 of max(0, f_1 - f_k)),

which for two forms is max(0, min(f_1, f_2)): positive exactly where both are. For the three of pink it is
positive where all three are, and f_2 + f_3 > f_1. It is scaled such that m_c = 1 for the colour c itself.

**Why exact.** On 8-bit colours f_1 is a half-integer and f_1 - f_k a whole number, so that the argument of
relu2 is a half-integer before scaling: at least 1/2 away from 0, where the rounding of float32 is below 0.05.
So on every 8-bit image a pixel matches or it does not. `benchmark.models.deciding_pixels` says what follows.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from an8flower.variants.colours import SIX_COLOURS
from benchmark.models.base import SubtractMean

SIZE_PX = 112
LEVELS = 255

Form = tuple[int, int, int]

# Numbers a_r, a_g, a_b of each form of each colour, the first one first. See above.
FORMS: dict[str, tuple[Form, ...]] = {
    "red": ((100, -125, -90), (188, -400, 0)),
    "orange": ((31, 34, -200), (126, -114, -200)),
    "yellow": ((-51, 118, -200),),
    "blue": ((-145, 0, 100), (0, -250, 200)),
    "violet": ((-42, -75, 100), (148, -340, 100)),
    "pink": ((-5, -104, 100), (244, -100, -200), (0, 100, 0)),
}
# Thresholds that are not 2 (|a_r| + |a_g| + |a_b|) + 1/2: pink has to have more than 86 levels of green.
THRESHOLDS: dict[tuple[str, int], float] = {("pink", 2): 8600.5}

# The logit of one pixel in exactly the colour of a class, for the maximum; and for the mean, of one pixel in
# a hundred. With five logits of 0 the class then has a probability of 1 - 1e-8.
LOGIT = 20.0
SHARE = 0.01


def threshold(name: str, k: int) -> float:
    """Return the threshold t of form k (from 0) of a colour, in levels times the unit of the form."""
    return THRESHOLDS.get((name, k), 2 * sum(abs(number) for number in FORMS[name][k]) + 0.5)


def colour_detector(classes: int, pool: nn.Module, weight: float) -> nn.Module:
    """Build the layers; no weight needs a gradient, since there is nothing to train.

    Args:
        classes: number of logits C. Those of the first six classes are for the six colours; further
            logits are 0. With less than six classes the other colours have no logit.
        pool: reduces (N, 6, H, W) to (N, 6, 1, 1).
        weight: factor from the pooled amounts to the logits.
    """
    (w1, b1), (w2, b2) = _convolutions()
    w3 = weight * torch.eye(max(classes, len(FORMS)))[:classes, : len(FORMS)]
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        mean=SubtractMean(SIZE_PX),  # zero, as colours are absolute
        conv1=nn.Conv2d(3, len(w1), 1),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(len(w1), len(w2), 1),
        relu2=nn.ReLU(),
        pool=pool,
        flatten=nn.Flatten(),
        fc=nn.Linear(len(w2), classes),
    )
    model = nn.Sequential(layers).requires_grad_(False)
    state = {
        "mean.mean": torch.zeros(3, SIZE_PX, SIZE_PX),
        "conv1.weight": w1[:, :, None, None], "conv1.bias": b1,
        "conv2.weight": w2[:, :, None, None], "conv2.bias": b2,
        "fc.weight": w3, "fc.bias": torch.zeros(classes),
    }  # fmt: skip
    model.load_state_dict(state)
    return model


def _convolutions() -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Return weights and biases of conv1 (K, 3) and conv2 (6, K)."""
    rows, biases, combined = [], [], []
    for c, (name, forms) in enumerate(FORMS.items()):
        exact = [
            torch.tensor([*form, -threshold(name, k)], dtype=torch.float64) for k, form in enumerate(forms)
        ]
        units = [exact[0], *(exact[0] - one for one in exact[1:])]
        scale = 1 / _amount(units, torch.tensor([*SIX_COLOURS[name], 1], dtype=torch.float64))
        for k, unit in enumerate(units):
            rows.append(LEVELS * scale * unit[:3])
            biases.append(scale * unit[3])
            combined.append((c, 1.0 if k == 0 else -1.0))
    second = torch.zeros(len(FORMS), len(rows))
    for k, (c, sign) in enumerate(combined):
        second[c, k] = sign
    return (torch.stack(rows).float(), torch.stack(biases).float()), (second, torch.zeros(len(FORMS)))


def _amount(units: list[torch.Tensor], colour: torch.Tensor) -> float:
    first, *others = (float((unit @ colour).clamp(min=0)) for unit in units)
    return first - sum(others)
