"""The pictures of training and their labels: each training image as the lessons of a recipe show it.

The picture of an image is made of the image, its twins and its mask. What is random in a picture comes from a
generator of its own, whose seed is drawn once per epoch. So it depends neither on the size of batches nor on
which pictures are in one, and an interrupted training continues with the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from an8flower import An8Flower
from an8flower.dataset import Target, Twin
from benchmark.covers import Avoided, Covers, class_colours, distance, grown
from benchmark.training.recipes.base import PLAIN, Lesson, PictureName

UNIFORM = -1  # the label of pictures for which all classes are to be equally probable
VERSION = 1  # of the pictures; part of the identity of models that are trained on them
CLOUDY = 0.8  # share of backgrounds and covers with two colours
MOVED_PX = 4  # at 112 px; the certificate moves the part by more
NOISE, DARKEST = 0.15, 0.7  # largest standard deviation of the noise of brightness, and its least factor
_LUMINANCE = np.array((0.299, 0.587, 0.114), np.float32)

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class LessonBatch:
    """A batch of pictures with labels.

    Args:
        images: (n, 3, H, W) float32 in [0, 1].
        labels: (n,) int64, classes from 0, or -1 where all classes are to be equally probable.
        weights: (n,) float32, the factor of each picture's loss.
    """

    images: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True)
class Source:
    """What a picture of one image is made of.

    Args:
        image, part_only, all_but_part: (H, W, 3) float32 in [0, 1].
        mask: (H, W) bool, the discriminative part.
        avoided: colours that no background or cover may have.
        candidates, cover: (H, W) bool, the part of any class in this view, and the region that hides them;
            see `benchmark.covers`.
        by_shape: whether the part's shape differs between the classes, so that its colour tells nothing.
    """

    image: Picture
    part_only: Picture
    all_but_part: Picture
    mask: NDArray[np.bool_]
    avoided: Avoided
    candidates: NDArray[np.bool_]
    cover: NDArray[np.bool_]
    by_shape: bool


def part_on_colour(source: Source, rng: np.random.Generator) -> Picture:
    """Put the part in front of one or two colours of no class, with noise."""
    background = _cloth(source, rng)
    return np.where(source.mask[..., None], source.part_only, background)


def covered(source: Source, rng: np.random.Generator) -> Picture:
    """Cover the parts of all classes, and up to 4 px around them, with colours of no class, with noise."""
    region = grown(source.cover, int(rng.integers(5)))
    return np.where(region[..., None], _cloth(source, rng), source.image)


def tinted(source: Source, rng: np.random.Generator) -> Picture:
    """Give the parts of all classes colours of no class, in their shape and with their shadows.

    Where the shape of the part shows the class, the parts are covered instead.
    """
    if source.by_shape:
        return covered(source, rng)
    shading = source.all_but_part @ _LUMINANCE
    shading = shading / max(float(np.quantile(shading[source.candidates], 0.9)), 1 / 255)
    painted = shading.clip(max=1)[..., None] * _cloth(source, rng)
    picture = np.where(source.candidates[..., None], painted, source.all_but_part)
    return np.asarray(np.where(source.cover[..., None], picture, source.image), np.float32)


def _cloth(source: Source, rng: np.random.Generator) -> Picture:
    """Draw a picture without shapes: one colour, or clouds of two, with noise of the brightness.

    Its colours are those of `_colour` and the ones between two of them, or darker. So none is near a colour
    of a class, however bright that is, and none near a colour of the certificate.
    """
    height, width = source.mask.shape
    first = _colour(source, rng)
    second = _second(source, first, rng) if rng.random() < CLOUDY else first
    cells = int(np.exp(rng.uniform(np.log(2), np.log(width / 2))))
    edges = (cv2.INTER_LINEAR, cv2.INTER_NEAREST)[rng.integers(2)]  # soft, or those of squares
    clouds = cv2.resize(rng.random((cells, cells), np.float32), (width, height), interpolation=edges)
    noise = rng.uniform(0, NOISE) * np.abs(rng.standard_normal((height, width, 1), np.float32))
    mixed = first + clouds[..., None] * (second - first)
    return np.asarray(mixed * (1 - noise).clip(DARKEST), np.float32)


def _second(source: Source, first: Picture, rng: np.random.Generator) -> Picture:
    """Draw a colour such that all between it and the first one are of no class, or return the first."""
    steps = np.linspace(0, 1, 17, dtype=np.float32)[:, None]
    for _ in range(20):
        second = _colour(source, rng)
        if (distance(first + steps * (second - first), source.avoided) >= 0.5).all():
            return second
    return first


def _colour(source: Source, rng: np.random.Generator) -> Picture:
    """Draw a colour of no class: any, or that of a pixel of the image outside the part.

    Half the distance is enough for colours of the image, as a background or cover of another colour than the
    image's own would always stand out.
    """
    if rng.random() < 0.5:
        pixels = source.all_but_part[~source.mask]
        drawn = pixels[rng.integers(len(pixels), size=10)]
        free = distance(drawn, source.avoided) >= 0.5
        if free.any():
            return np.asarray(drawn[free][0])
    while True:
        drawn = rng.random((1, 3), np.float32)
        if distance(drawn, source.avoided)[0] >= 1:
            return np.asarray(drawn[0])


def one_of(
    *pictures: Callable[[Source, np.random.Generator], Picture],
) -> Callable[[Source, np.random.Generator], Picture]:
    """Return a picture that is one of several, each with the same probability."""
    return lambda source, rng: pictures[rng.integers(len(pictures))](source, rng)


def moved(
    picture: Callable[[Source, np.random.Generator], Picture],
) -> Callable[[Source, np.random.Generator], Picture]:
    """Return a picture that is moved as a whole by up to `MOVED_PX`; its edge is repeated."""

    def made(source: Source, rng: np.random.Generator) -> Picture:
        drawn = picture(source, rng)
        height, width = source.mask.shape
        most = round(MOVED_PX * height / 112)
        down, right = rng.integers(2 * most + 1, size=2)
        wider = cv2.copyMakeBorder(drawn, most, most, most, most, cv2.BORDER_REPLICATE)
        return np.asarray(wider[down : down + height, right : right + width], np.float32)

    return made


PICTURES: dict[PictureName, Callable[[Source, np.random.Generator], Picture]] = {
    "image": lambda source, rng: source.image,
    "part_only": lambda source, rng: source.part_only,
    "all_but_part": lambda source, rng: source.all_but_part,
    "part_on_colour": part_on_colour,
    "covered": covered,
    "tinted": tinted,
}
PICTURES["part_varied"] = moved(one_of(PICTURES["part_only"], *[part_on_colour] * 3))
PICTURES["covered_varied"] = moved(one_of(PICTURES["all_but_part"], covered, tinted))


class Lessons:
    """The images of a training set as the lessons of a recipe show them.

    Args:
        data: images at the model's size; their twins are opened if a lesson needs them.
        lessons: the pictures of each image, with what the model is to answer.
    Raises:
        DataFolderError: if twins are missing; the message names the command that draws them.
    """

    def __init__(self, data: An8Flower, lessons: Sequence[Lesson] = PLAIN) -> None:
        self.data, self.lessons = data, tuple(lessons)
        self._images = data
        if self.lessons != PLAIN:
            self._images = _same_images(data, None)
            self._part_only = _same_images(data, "part_only")
            self._all_but_part = _same_images(data, "all_but_part")
        self._avoided = Avoided.of(class_colours(data))
        self._covers = Covers(self._images, lambda row: self._images[row][1][1].numpy())

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
                yield LessonBatch(batch.images, batch.labels, torch.ones(len(batch.labels)))
            return
        if size < 1:
            raise ValueError(f"a batch must have at least 1 picture, got size {size}")
        order, key = self._drawn(rng)
        for start in range(0, len(order), size):
            pictures, labels, weights = zip(
                *(self._picture(int(i), key) for i in order[start : start + size]), strict=True
            )
            images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
            yield LessonBatch(images, torch.tensor(labels, dtype=torch.int64), torch.tensor(weights))

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

    def _picture(self, index: int, key: int) -> tuple[Picture, int, float]:
        """Return a picture, its label and its weight."""
        lesson, row = self.lessons[index // len(self.data)], index % len(self.data)
        image, (label, mask) = self._images[row]
        only, without = _last(self._part_only[row][0]), _last(self._all_but_part[row][0])
        source = Source(
            _last(image), only, without, mask.numpy(), self._avoided, *self._covers.of(row),
            self._covers.by_shape,
        )  # fmt: skip
        picture = PICTURES[lesson.picture](source, np.random.default_rng([key, index]))
        return picture, label if lesson.target == "label" else UNIFORM, lesson.weight


def _same_images(data: An8Flower, twin: Twin | None) -> An8Flower:
    """Return the images of `data` with label and mask, or their twins."""
    target: tuple[Target, ...] = ("label", "mask") if twin is None else ("label",)
    opened = An8Flower(data.root, data.variant, size_px=data.size_px, twin=twin, target=target)
    return opened.where(opened.table["image_path"].isin(set(data.table["image_path"])).to_numpy())


def _last(image: torch.Tensor) -> Picture:
    """Return (3, H, W) as (H, W, 3)."""
    return np.asarray(image.permute(1, 2, 0).numpy())
