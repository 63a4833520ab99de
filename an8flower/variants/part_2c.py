"""part-2c: two classes by an additional part: balls on the flower, or thorns on the stem."""

from an8flower.variants.base import ClassSpec, Variant, variants

PART_2C = variants.add(
    Variant(
        name="part-2c",
        classes=(
            ClassSpec(name="balls", part="balls", parts=("balls",)),
            ClassSpec(name="thorns", part="thorns", parts=("thorns",)),
        ),
        source="Oramas et al. 2019, section 6.3",
    )
)
