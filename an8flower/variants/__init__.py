"""The variants of the dataset: what a class is, as data."""

from an8flower.variants.base import ClassSpec, Variant, variants

__all__ = ["ClassSpec", "Variant", "variants"]
