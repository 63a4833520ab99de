"""Constants and types of the dataset: image sizes, views, part ids and folds. It imports nothing of ours."""

from __future__ import annotations

from typing import Literal

# Sides of the square images: a frame as rendered, and a crop of it.
FRAME_SIZE_PX = 300
CROP_SIZE_PX = 250
_MAX_OFFSET_PX = FRAME_SIZE_PX - CROP_SIZE_PX
# Left and top offsets of crops 1 to 5: the four corners (top left, top right, bottom left, bottom
# right), then the centre.
CROPS: tuple[tuple[int, int], ...] = (
    (0, 0),
    (_MAX_OFFSET_PX, 0),
    (0, _MAX_OFFSET_PX),
    (_MAX_OFFSET_PX, _MAX_OFFSET_PX),
    (_MAX_OFFSET_PX // 2, _MAX_OFFSET_PX // 2),
)
# Rotations 1 to 5, counter-clockwise about the centre of the crop.
ROTATIONS_DEG: tuple[float, ...] = (5.0, 10.0, 15.0, 20.0, 25.0)

# Number of views. They are numbered from 1, at equal angles around the plant.
VIEWPOINTS = 40

# Ids in the part-id maps. 0 is everything that is not listed, e.g. floor and wall. An id never
# changes its meaning, because datasets that others have generated depend on it.
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
    "patch": 13,
}
# The ids of the plant itself, without the second plant, the board in front and the patch behind.
PLANT_PARTS: frozenset[int] = frozenset(range(1, 11))
# What may have a colour of the class in addition to the discriminative part; see the factor "cheat". Each is
# also the name of a part, whose pixels are the mask of the cheat.
CHEATS: tuple[str, ...] = ("patch", "pot")

FOLDS = 5
VIEWS_PER_BLOCK = 8  # in the scheme "blocks"
# How views are grouped into folds: by view % 5, or in blocks of 8 neighbouring views.
Scheme = Literal["interleaved", "blocks"]
Split = Literal["train", "test", "all"]
