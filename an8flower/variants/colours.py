"""The six class colours, shared by the variants whose classes differ in colour."""

from an8flower.variants.base import RGB

# The paper shows six colours but does not specify them. These differ by at least 25 in CIELAB, none is
# close to a green of the plant, and each remains recognisable in light and in shadow.
SIX_COLOURS: dict[str, RGB] = {
    "red": (206, 32, 41),
    "orange": (247, 126, 22),
    "yellow": (250, 213, 40),
    "blue": (43, 87, 214),
    "violet": (140, 56, 178),
    "pink": (246, 138, 184),
}
