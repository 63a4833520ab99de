"""double-12c: six classes by the colour of the petals, and six by the colour of the stem (plain petals)."""

from an8flower.variants.base import ClassSpec, Variant, variants
from an8flower.variants.colours import SIX_COLOURS

DOUBLE_12C = variants.add(
    Variant(
        name="double-12c",
        classes=tuple(
            ClassSpec(name=f"{name} {part}", part=part, colours={part: rgb})
            for part in ("petals", "stem")
            for name, rgb in SIX_COLOURS.items()
        ),
        source="Oramas et al. 2019, section 4.3",
    )
)
