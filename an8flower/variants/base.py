"""What a variant is: classes that each change one part of the same plant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from an8flower.ground.registry import Registry

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class ClassSpec:
    """One class: the plant with one discriminative part coloured, or added.

    Args:
        name: what a person calls the class, e.g. "red petals".
        part: the discriminative part; its visible pixels are the ground-truth mask.
        colours: part name to sRGB colour (0-255) where it differs from the plain plant.
        parts: parts that this class has beside those of every plant.
    """

    name: str
    part: str
    colours: Mapping[str, RGB] = field(default_factory=dict)
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """A named set of classes; class numbers in file names are positions here, from 1."""

    name: str
    classes: tuple[ClassSpec, ...]
    source: str


variants: Registry[Variant] = Registry("variant", package="an8flower.variants", group="an8flower.variants")
