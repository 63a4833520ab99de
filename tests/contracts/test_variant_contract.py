"""What every registered variant must be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from skimage.color import rgb2lab

from an8flower.drawing.plant import PLAIN_COLOURS, plant
from an8flower.protocol import PART_IDS
from an8flower.variants import variants

MIN_DELTA_E = 25.0


@pytest.fixture(params=variants.names())
def variant(request):
    return variants.get(request.param)


def delta_e(a, b) -> float:
    """CIE 1976 colour difference."""
    return float(np.linalg.norm(rgb2lab(np.array(a) / 255) - rgb2lab(np.array(b) / 255)))


def test_classes_have_a_discriminative_part_that_is_drawn(variant):
    assert len(variant.classes) >= 2
    assert len({spec.name for spec in variant.classes}) == len(variant.classes)
    for spec in variant.classes:
        assert spec.part in {part.name for part in plant(spec)}


def test_colours_of_a_part_are_far_apart_and_none_is_the_plain_one(variant):
    for part in {spec.part for spec in variant.classes}:
        colours = [
            spec.colours[part] for spec in variant.classes if spec.part == part and part in spec.colours
        ]
        if part in PLAIN_COLOURS and colours:
            colours.append(PLAIN_COLOURS[part])
        for a, b in itertools.combinations(colours, 2):
            assert delta_e(a, b) >= MIN_DELTA_E, (part, a, b)


def test_meshes_are_sound(variant):
    for spec in variant.classes:
        for part in plant(spec):
            assert part.name in PART_IDS
            assert len(part.shade) == len(part.mesh.vertices)
            assert part.shade.min() >= 0 and part.shade.max() <= 1
            assert np.isfinite(part.mesh.vertices).all()
            assert part.mesh.area > 0
