"""The dataset in numbers: sizes, viewpoints, part ids, folds. It imports nothing, so that all may read it."""

from __future__ import annotations

from typing import Literal

# Sides of the square images: a frame as drawn, and a crop of it.
FRAME_SIZE_PX = 300
CROP_SIZE_PX = 250
_FAR = FRAME_SIZE_PX - CROP_SIZE_PX
# Left and top of crops 1 to 5: the four corners (top left, top right, bottom left, bottom
# right), then the centre.
CROPS: tuple[tuple[int, int], ...] = ((0, 0), (_FAR, 0), (0, _FAR), (_FAR, _FAR), (_FAR // 2, _FAR // 2))
# Rotations 1 to 5, counter-clockwise about the centre of the crop.
ROTATIONS_DEG: tuple[float, ...] = (5.0, 10.0, 15.0, 20.0, 25.0)

# Numbered from 1, at equal steps around the plant.
VIEWPOINTS = 40

# Ids in the part-id maps. 0 is whatever is not plant. A number once given never changes its
# meaning: maps on other people's disks depend on it.
PART_IDS: dict[str, int] = {
    "background": 0,
    "pot": 1,
    "soil": 2,
    "stem": 3,
    "leaves": 4,
    "sepals": 5,
    "petals": 6,
    "disc": 7,
    "balls": 8,
    "thorns": 9,
    "extra_leaves": 10,
    "second_plant": 11,
    "board": 12,
}
# The ids of the plant itself; a second plant and a board in front are not.
PLANT_PARTS: frozenset[int] = frozenset(range(1, 11))

FOLDS = 5
VIEWS_A_BLOCK = 8  # in the scheme "blocks"
# How views are grouped into folds: view % 5, or blocks of 8 neighbouring views.
Scheme = Literal["interleaved", "blocks"]
Split = Literal["train", "test", "all"]
