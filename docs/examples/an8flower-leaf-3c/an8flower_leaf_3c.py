"""The variant leaf-3c: the leaves have one of three colours, and this colour is the class."""

from an8flower.variants import ClassSpec, Variant

LEAF_3C = Variant(
    name="leaf-3c",
    classes=(
        ClassSpec("red leaves", part="leaves", colours={"leaves": (206, 32, 41)}),
        ClassSpec("blue leaves", part="leaves", colours={"leaves": (43, 87, 214)}),
        ClassSpec("yellow leaves", part="leaves", colours={"leaves": (250, 213, 40)}),
    ),
    source="an example in the documentation of an8Flower",
)
