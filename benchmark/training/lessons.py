"""The pictures of training and their labels: each training image as the lessons of a recipe show it.

The picture of an image is made of the image, its twins and its mask. What is random in a picture comes from a
generator of its own, whose seed is drawn once per epoch. So it depends neither on the size of batches nor on
which pictures are in one, and an interrupted training continues with the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from an8flower import An8Flower
from an8flower.dataset import Twin
from an8flower.ground.registry import unknown
from benchmark.certificate.interventions import HELD_OUT_COLOURS, covered_region, grown
from benchmark.training.recipes.base import PLAIN, Lesson

UNIFORM = -1  # the label of pictures for which all classes are to be equally probable
NO_CLASS = 0.2  # least distance of a drawn colour from those to avoid, in light and in shadow

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class LessonBatch:
    """A batch of pictures with labels.

    Args:
        images: (n, 3, H, W) float32 in [0, 1].
        labels: (n,) int64, classes from 0, or -1 where all classes are to be equally probable.
    """

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Source:
    """What a picture of one image is made of.

    Args:
        image, part_only, all_but_part: (H, W, 3) float32 in [0, 1].
        mask: (H, W) bool, the discriminative part.
        avoided: (k, 3) float32 in [0, 1], colours that no background or cover may have.
        by_shape: the shape of the part tells the class.
    """

    image: Picture
    part_only: Picture
    all_but_part: Picture
    mask: NDArray[np.bool_]
    avoided: Picture
    by_shape: bool


def part_on_colour(source: Source, rng: np.random.Generator) -> Picture:
    """Put the part in front of a plain colour of no class, with noise."""
    background = _cloth(source, rng)
    return np.where(source.mask[..., None], source.part_only, background)


def covered(source: Source, rng: np.random.Generator) -> Picture:
    """Cover the part, and up to 4 px around it, with a colour of no class, with noise."""
    region = grown(covered_region(source.mask, by_shape=source.by_shape), int(rng.integers(5)))
    return np.where(region[..., None], _cloth(source, rng), source.image)


def _cloth(source: Source, rng: np.random.Generator) -> Picture:
    noise = rng.uniform(0, 0.1) * rng.standard_normal(source.image.shape, np.float32)
    return np.asarray(np.clip(colour_of_no_class(source.avoided, rng) + noise, 0, 1), np.float32)


def colour_of_no_class(colours: Picture, rng: np.random.Generator) -> Picture:
    """Draw a colour that is not near one of the given colours, however bright those are.

    Args:
        colours: (k, 3) sRGB in [0, 1].
        rng: draws colours uniformly, until one is at least `NO_CLASS` from the lines between black and each
            given colour.
    Returns:
        (3,) sRGB in [0, 1].
    """
    while True:
        drawn = rng.random(3, np.float32)
        brightness = np.clip(colours @ drawn / np.maximum((colours**2).sum(1), 1e-6), 0, 1.1)
        distances = np.linalg.norm(drawn - brightness[:, None] * colours, axis=1)
        if distances.min(initial=np.inf) >= NO_CLASS:
            return drawn


def either(
    first: Callable[[Source, np.random.Generator], Picture],
    second: Callable[[Source, np.random.Generator], Picture],
) -> Callable[[Source, np.random.Generator], Picture]:
    """Return a picture that is `first` or `second`, each with probability 1/2."""
    return lambda source, rng: (first if rng.random() < 0.5 else second)(source, rng)


PICTURES: dict[str, Callable[[Source, np.random.Generator], Picture]] = {
    "image": lambda source, rng: source.image,
    "part_only": lambda source, rng: source.part_only,
    "all_but_part": lambda source, rng: source.all_but_part,
    "part_on_colour": part_on_colour,
    "covered": covered,
}
PICTURES["part_varied"] = either(PICTURES["part_only"], part_on_colour)
PICTURES["covered_varied"] = either(PICTURES["all_but_part"], covered)


class Lessons:
    """The images of a training set as the lessons of a recipe show them.

    Args:
        data: images at the model's size; their twins are opened if a lesson needs them.
        lessons: the pictures of each image, with what the model is to answer.
    Raises:
        UnknownNameError: for a picture that does not exist.
        ValueError: if no lesson has the target "label".
        DataFolderError: if twins are missing; the message names the command that draws them.
    """

    def __init__(self, data: An8Flower, lessons: Sequence[Lesson] = PLAIN) -> None:
        self.data, self.lessons = data, tuple(lessons)
        for lesson in self.lessons:
            if lesson.picture not in PICTURES:
                raise unknown("picture", lesson.picture, PICTURES)
        if not any(lesson.target == "label" for lesson in self.lessons):
            raise ValueError("a recipe needs at least one lesson with target 'label'; it has none")
        self._images = data
        if self.lessons != PLAIN:
            self._images = _same_images(data, None)
            self._part_only = _same_images(data, "part_only")
            self._all_but_part = _same_images(data, "all_but_part")
        # Neither colours that tell a class, nor those with which the certificate covers parts.
        specs = data.manifest.header["classes"]
        colours = [rgb for spec in specs for rgb in spec["colours"].values()]
        self._avoided = np.asarray(np.array([*colours, *HELD_OUT_COLOURS]) / 255, np.float32)
        self._by_shape = any(spec["parts"] for spec in specs)

    def __len__(self) -> int:
        return len(self.data) * len(self.lessons)

    @property
    def labelled(self) -> int:
        """Number of pictures with a label."""
        return len(self.data) * sum(lesson.target == "label" for lesson in self.lessons)

    def batches(self, size: int, *, rng: np.random.Generator | None = None) -> Iterator[LessonBatch]:
        """Yield all pictures of all lessons in batches.

        Args:
            size: pictures per batch; the last batch may have fewer.
            rng: shuffles the pictures, and draws what is random in them; without it they come in order,
                lesson by lesson, and are the same each time.
        Raises:
            ValueError: if `size` is below 1.
        """
        if self.lessons == PLAIN:
            for batch in self.data.batches(size, rng=rng):
                yield LessonBatch(batch.images, batch.labels)
            return
        if size < 1:
            raise ValueError(f"a batch must have at least 1 picture, got size {size}")
        order, key = self._drawn(rng)
        for start in range(0, len(order), size):
            pictures, labels = zip(
                *(self._picture(int(i), key) for i in order[start : start + size]), strict=True
            )
            images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
            yield LessonBatch(images, torch.tensor(labels, dtype=torch.int64))

    def skip(self, rng: np.random.Generator) -> None:
        """Take from `rng` the random numbers that `batches` takes for one epoch."""
        self._drawn(rng)

    def _drawn(self, rng: np.random.Generator | None) -> tuple[NDArray[np.int64], int]:
        """Return the order of the pictures, and the seed of what is random in them."""
        if rng is None:
            return np.arange(len(self)), 0
        order = rng.permutation(len(self))
        # Plain training draws the order alone, as it always has.
        return order, 0 if self.lessons == PLAIN else int(rng.integers(2**63))

    def _picture(self, index: int, key: int) -> tuple[Picture, int]:
        lesson, row = self.lessons[index // len(self.data)], index % len(self.data)
        image, (label, mask) = self._images[row]
        only, without = _last(self._part_only[row][0]), _last(self._all_but_part[row][0])
        source = Source(_last(image), only, without, mask.numpy(), self._avoided, self._by_shape)
        picture = PICTURES[lesson.picture](source, np.random.default_rng([key, index]))
        return picture, label if lesson.target == "label" else UNIFORM


def _same_images(data: An8Flower, twin: Twin | None) -> An8Flower:
    """Return the images or twins of exactly the images of `data`, with label and mask."""
    opened = An8Flower(data.root, data.variant, size_px=data.size_px, twin=twin, target=("label", "mask"))
    return opened.where(opened.table["image_path"].isin(set(data.table["image_path"])).to_numpy())


def _last(image: torch.Tensor) -> Picture:
    """Return (3, H, W) as (H, W, 3)."""
    return np.asarray(image.permute(1, 2, 0).numpy())
