"""The six class colours, shared by the variants that tell their classes by colour."""

from an8flower.variants.base import RGB

# The paper shows six colours but names none. These are at least 25 apart in CIELAB, none
# is near a green of the plant, and each stays itself in light and in shadow.
SIX_COLOURS: dict[str, RGB] = {
    "red": (206, 32, 41),
    "orange": (247, 126, 22),
    "yellow": (250, 213, 40),
    "blue": (43, 87, 214),
    "violet": (140, 56, 178),
    "pink": (246, 138, 184),
}
