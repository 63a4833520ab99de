"""The types of a variant: each of its classes changes one part of the same plant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from an8flower.ground.registry import Registry

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class ClassSpec:
    """One class: the plant with the discriminative part coloured or added.

    Args:
        name: readable name of the class, e.g. "red petals".
        part: name of the discriminative part; its visible pixels are the ground-truth mask.
        colours: sRGB colour (0 to 255) by name of the part, for parts that differ from the plain plant.
        parts: names of the parts that this class has in addition to those of every plant.
    """

    name: str
    part: str
    colours: Mapping[str, RGB] = field(default_factory=dict)
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """A named set of classes.

    Args:
        name: of the variant, e.g. "single-6c".
        classes: in the order of their numbers in file names, which start from 1.
        source: the publication that describes the variant, or its author.
    """

    name: str
    classes: tuple[ClassSpec, ...]
    source: str


variants: Registry[Variant] = Registry("variant", package="an8flower.variants", group="an8flower.variants")
