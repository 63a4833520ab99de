"""The variants of the dataset: their classes, as data. Each variant is a module of this package."""

from an8flower.variants.base import ClassSpec, Variant, variants

__all__ = ["ClassSpec", "Variant", "variants"]
