"""single-6c: the petals take one of six colours, and that colour is the class."""

from an8flower.variants.base import RGB, ClassSpec, Variant, variants

# The paper shows six colours but names none. These are at least 25 apart in CIELAB, none
# is near a green of the plant, and each stays itself in light and in shadow.
COLOURS: dict[str, RGB] = {
    "red": (206, 32, 41),
    "orange": (247, 126, 22),
    "yellow": (250, 213, 40),
    "blue": (43, 87, 214),
    "violet": (140, 56, 178),
    "pink": (246, 138, 184),
}

SINGLE_6C = variants.add(
    Variant(
        name="single-6c",
        classes=tuple(
            ClassSpec(name=f"{name} petals", part="petals", colours={"petals": rgb})
            for name, rgb in COLOURS.items()
        ),
        source="Oramas et al. 2019, section 4.3",
    )
)
