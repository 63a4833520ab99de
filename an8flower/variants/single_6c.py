"""single-6c: six classes by the colour of the petals."""

from an8flower.variants.base import ClassSpec, Variant, variants
from an8flower.variants.colours import SIX_COLOURS

SINGLE_6C = variants.add(
    Variant(
        name="single-6c",
        classes=tuple(
            ClassSpec(name=f"{name} petals", part="petals", colours={"petals": rgb})
            for name, rgb in SIX_COLOURS.items()
        ),
        source="Oramas et al. 2019, section 4.3",
    )
)
