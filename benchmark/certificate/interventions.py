"""Interventions on test images that training never shows, each with the answer that the part gives.

A model that is trained on images and their twins could learn these pictures by heart. Here the part is
covered or kept in other ways. Each intervention changes one picture; it needs the image, its twins, the mask
and the part ids, all of the model's size, and a generator where something is drawn at random.

Covers hide the parts of all classes at once, see `benchmark.covers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from an8flower.protocol import PART_IDS
from an8flower.variants.colours import SIX_COLOURS
from benchmark.covers import FOREIGN, Avoided, Mask, distance, grown, rim_px

Picture = NDArray[np.float32]
Expected = Literal["class", "no class"]

# Parts that only some classes have; their shape tells the class, not their colour.
ADDED = (PART_IDS["balls"], PART_IDS["thorns"])
SHIFT_PX = 6  # at 112 px
EVERY = 3  # rows and columns that are compared with the colours of the classes
MISTAKABLE = 0.02  # of the part's size: how many other pixels may have a colour of a class after recolouring
_LUMINANCE = np.array((0.299, 0.587, 0.114), np.float32)


@dataclass(frozen=True)
class View:
    """What an intervention may use of one image.

    Args:
        image, part_only, all_but_part: (H, W, 3) float32 in [0, 1].
        mask: (H, W) bool, the discriminative part.
        parts: (H, W) uint8, part ids as in `an8flower.protocol.PART_IDS`.
        candidates, cover: (H, W) bool, the part of any class in this view, and the region that hides them;
            see `benchmark.covers`.
        classes: the colours of the classes.
    """

    image: Picture
    part_only: Picture
    all_but_part: Picture
    mask: Mask
    parts: NDArray[np.uint8]
    candidates: Mask
    cover: Mask
    classes: Avoided


@dataclass(frozen=True)
class Intervention:
    """A change of an image after which the right answer is known.

    Args:
        name: of the intervention.
        meaning: what it does, in one sentence.
        expects: "class" if the part is kept, so that the class must be; "no class" if it is covered, so
            that no class may be favoured.
        function: from a view and a generator to the picture, (H, W, 3) float32 in [0, 1].
    """

    name: str
    meaning: str
    expects: Expected
    function: Callable[[View, np.random.Generator], Picture]


def intervened(
    intervention: Intervention,
    images: torch.Tensor,
    part_only: torch.Tensor,
    all_but_part: torch.Tensor,
    masks: torch.Tensor,
    parts: torch.Tensor,
    covers: Sequence[tuple[Mask, Mask]],
    classes: Avoided,
    seeds: Sequence[int] | NDArray[np.int64],
) -> torch.Tensor:
    """Return the pictures of an intervention on n images.

    Args:
        intervention: an entry of `INTERVENTIONS`.
        images, part_only, all_but_part: (n, 3, H, W) float32 in [0, 1].
        masks: (n, H, W) bool.
        parts: (n, H, W) uint8.
        covers: n pairs of candidates and cover, as `Covers.of` returns them.
        classes: the colours of the classes.
        seeds: (n,) whole numbers from 0, one per image, e.g. its row: so a picture does not depend on the
            batch that it is in.
    Returns:
        (n, 3, H, W) float32 in [0, 1].
    Raises:
        ValueError: if a mask is empty.
    """
    stacked = [tensor.permute(0, 2, 3, 1).numpy() for tensor in (images, part_only, all_but_part)]
    pictures = []
    for index, seed in enumerate(seeds):
        image, only, without = (array[index] for array in stacked)
        mask, part_ids = masks[index].numpy(), parts[index].numpy()
        view = View(image, only, without, mask, part_ids, *covers[index], classes)
        if not view.mask.any():
            raise ValueError(f"image {index} has an empty mask: there is no part to cover or to keep")
        pictures.append(intervention.function(view, np.random.default_rng([int(seed)])))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _inpaint(picture: Picture, region: Mask) -> Picture:
    """Fill a region from its edge, and return a new picture."""
    levels = np.round(picture * 255).astype(np.uint8)
    filled = cv2.inpaint(levels, region.astype(np.uint8), 5, cv2.INPAINT_TELEA)
    return np.where(region[..., None], filled.astype(np.float32) / 255, picture)


def _grey(picture: Picture) -> Picture:
    return np.repeat((picture @ _LUMINANCE)[..., None], 3, axis=-1)


def _inpainted(view: View, rng: np.random.Generator) -> Picture:
    return _inpaint(view.image, view.cover)


def _pot_texture(view: View, rng: np.random.Generator) -> Picture:
    """Fill with pixels of the pot, drawn at random with replacement."""
    pot = view.image[view.parts == PART_IDS["pot"]]
    picture = view.image.copy()
    picture[view.cover] = pot[rng.integers(len(pot), size=int(view.cover.sum()))]
    return picture


def _foreign_colour(view: View, rng: np.random.Generator) -> Picture:
    """Give colour parts the balls' colour, and cover added parts by one of the six class colours."""
    if np.isin(view.parts[view.mask], ADDED).mean() > 0.5:
        colours = np.array(list(SIX_COLOURS.values()), np.float32) / 255
        return np.where(view.cover[..., None], colours[rng.integers(len(colours))], view.image)
    shading = view.all_but_part @ _LUMINANCE
    shading = shading / max(float(np.quantile(shading[view.candidates], 0.9)), 1 / 255)
    painted = np.clip(shading[..., None] * (np.array(FOREIGN, np.float32) / 255), 0, 1)
    picture = np.where(view.candidates[..., None], painted, view.all_but_part)
    return np.asarray(np.where(view.cover[..., None], picture, view.image), np.float32)


def _grey_plant(view: View, rng: np.random.Generator) -> Picture:
    """Add pot, soil and stem in grey to the part alone."""
    others = np.isin(view.parts, [PART_IDS[name] for name in ("pot", "soil", "stem")]) & ~view.mask
    return np.where(others[..., None], _grey(view.image), view.part_only)


def _textured(view: View, rng: np.random.Generator) -> Picture:
    """Put stripes of random direction, width and phase behind the part alone, in two greys."""
    rows, columns = np.indices(view.mask.shape)
    angle, width, phase = rng.uniform(0, np.pi), rng.uniform(4, 12), rng.uniform(0, 2 * np.pi)
    waves = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * 2 * np.pi / width + phase)
    grey = 0.6 + 0.2 * waves + rng.normal(0, 0.03, waves.shape)
    stripes = np.repeat(grey[..., None], 3, axis=-1)
    return _pasted(view, np.clip(stripes, 0, 1))


def _pasted(view: View, background: NDArray[np.float64]) -> Picture:
    return np.asarray(np.where(view.mask[..., None], view.part_only, background), np.float32)


def _shifted(view: View, rng: np.random.Generator) -> Picture:
    """Move the part by `SHIFT_PX`, in one of those of eight directions that keep it in the picture."""
    height, width = view.mask.shape
    step = max(1, round(SHIFT_PX * height / 112))
    ways = [(row, column) for row in (-step, 0, step) for column in (-step, 0, step) if row or column]
    rows, columns = np.nonzero(view.mask)
    whole = [
        (down, right)
        for down, right in ways
        if rows.min() + down >= 0 and rows.max() + down < height
        if columns.min() + right >= 0 and columns.max() + right < width
    ]
    free = whole or ways
    down, right = free[rng.integers(len(free))]
    region = grown(view.mask, rim_px(height))
    matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
    moved = cv2.warpAffine(view.part_only, matrix, (width, height), flags=cv2.INTER_NEAREST)
    place = cv2.warpAffine(region.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST) > 0
    return np.where(place[..., None], moved, _inpaint(view.part_only, region))


def _recoloured(view: View, rng: np.random.Generator) -> Picture:
    """Exchange the colour channels, but not where any class has its part.

    Of the five ways to do so, one is drawn after which nearly no pixel has a colour of a class: a pot in the
    colour of other petals would be a reason to answer with their class.
    """
    orders = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    part = grown(view.candidates, rim_px(view.mask.shape[0]))
    some = slice(None, None, EVERY)
    rest = view.image[some, some][~part[some, some]]
    alike = np.array([np.count_nonzero(distance(rest[:, order], view.classes) < 1) for order in orders])
    few = max(alike.min(), MISTAKABLE * np.count_nonzero(view.mask) / EVERY**2)
    order = list(orders[rng.choice(np.flatnonzero(alike <= few))])
    return np.where(part[..., None], view.image, view.image[..., order])


INTERVENTIONS: tuple[Intervention, ...] = (
    Intervention(
        "inpainted", "The part is filled from its edge, by inpainting (Telea 2004).", "no class", _inpainted
    ),
    Intervention("pot_texture", "The part is covered by pixels of the pot.", "no class", _pot_texture),
    Intervention(
        "foreign_colour",
        "The part has a colour of another variant that is of no class; balls and thorns are covered by it.",
        "no class",
        _foreign_colour,
    ),
    Intervention("grey_plant", "The part alone, with pot and stem in grey.", "class", _grey_plant),
    Intervention("textured", "The part alone, in front of grey stripes.", "class", _textured),
    Intervention("shifted", "The part alone, moved by a few pixels.", "class", _shifted),
    Intervention(
        "recoloured",
        "Colours are exchanged everywhere but where a class has its part, for colours of no class.",
        "class",
        _recoloured,
    ),
)
