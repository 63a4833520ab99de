"""The cheat: in addition to the discriminative part, a patch or the pot has a colour of the class.

A model trained on such images may use the cheat, the part, or both. Both have a mask, so an
explanation of the model can be judged by what the model was seen to use.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np

from an8flower.drawing.factors import FACTORS, Settings, Values
from an8flower.drawing.plant import plain_colour
from an8flower.manifest_checks import cheat_of
from an8flower.protocol import FOLDS, VIEWPOINTS
from an8flower.variants import ClassSpec
from an8flower.variants.base import RGB

# The square of the frame (left, top, side, in pixels) that the patch fills. All crops show it whole at all
# angles, with 5 px to spare, and in the built-in variants the plant is always more than 24 px away.
PATCH_SQUARE_PX = (64, 130, 26)
SATURATION, BRIGHTNESS = 0.8, 0.85  # of the colours of the cheat, in HSV


def cheat_colours(classes: Sequence[ClassSpec]) -> tuple[RGB, ...]:
    """Return the colour of the cheat of each class.

    The hues are at equal distances, and saturation and brightness (HSV) are equal. The first hue, in whole
    degrees, is the one that keeps the hues of cheat and discriminative part of the same class as far apart
    as possible: at least 122 degrees in single-6c, 64 in double-12c, 179 in part-2c. So no colour stands for
    the same class on both, and a model cannot serve both with one detector of a colour.

    Args:
        classes: of a variant, in the order of their numbers.
    Returns:
        sRGB, 0 to 255.
    """
    own = [_hue_deg(spec.colours.get(spec.part, plain_colour(spec.part))) for spec in classes]
    steps = np.arange(len(classes)) * 360.0 / len(classes)
    starts = np.arange(360)
    gaps = np.abs((starts[:, None] + steps - own + 180) % 360 - 180)
    hues = starts[np.argmax(gaps.min(axis=1))] + steps
    colours = [colorsys.hsv_to_rgb(hue / 360 % 1, SATURATION, BRIGHTNESS) for hue in hues]
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colours)


def cheat_class(values: Values, *, seed: int, view: int, class_id: int, classes: int) -> int:
    """Return the number of the class whose colour the cheat has in a frame.

    It depends on the arguments alone. In `cheat_share` of the 40 views of a class, it is the class itself.
    If the share is the same for all views, the number of these views is exact (rounded), and each of the 5
    folds has its share of them, or one less or more. In the other views, it is one of the other classes,
    each with the same probability. If it is the class itself at one share, it is so at every larger one.

    Args:
        values: value of every factor in this view.
        seed: of the dataset.
        view: from 1 to 40.
        class_id: of the frame, from 1.
        classes: number of classes.
    """
    # No view is 0, so no other random stream of the dataset starts with the same numbers.
    rng = np.random.default_rng([seed, 0, list(FACTORS).index("cheat"), class_id])
    # In random order, but each 5 views in a row are from the 5 folds, whose views are `FOLDS` apart.
    views = np.arange(1, VIEWPOINTS + 1).reshape(-1, FOLDS)
    order = rng.permuted(rng.permuted(views, axis=0), axis=1).ravel()
    if np.flatnonzero(order == view)[0] < round(float(values["cheat_share"]) * VIEWPOINTS):
        return class_id
    others = [other for other in range(1, classes + 1) if other != class_id]
    return others[int(rng.integers(len(others), size=VIEWPOINTS)[view - 1])]


def check_cheat(settings: Settings, classes: Sequence[ClassSpec]) -> None:
    """Check that the cheat is possible with these classes.

    Raises:
        ValueError: if a class has a colour of its own where the cheat is, or if the cheat shall have the
            colour of another class and there is none.
    """
    cheat = cheat_of(settings)
    if cheat is None:
        return
    own = [spec.name for spec in classes if cheat in (spec.part, *spec.colours)]
    if own:
        raise ValueError(
            f"cheat={cheat} is not possible: the {cheat} of class {own[0]!r} has a colour of its own"
        )
    if len(classes) == 1 and settings.get("cheat_share", 1.0) != 1:
        raise ValueError("cheat_share must be 1 for a variant of one class: there is no other class")


def with_cheat(colours: Mapping[str, RGB], values: Values, colour: RGB) -> dict[str, RGB]:
    """Return the colours of a plant's parts, by name, to which the cheat is added if `values` have one."""
    cheat = cheat_of(values)
    return dict(colours) if cheat is None else {**colours, cheat: colour}


def _hue_deg(colour: RGB) -> float:
    return 360 * colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))[0]
