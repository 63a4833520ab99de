"""The architectures, one file each."""

from benchmark.models.base import ModelSpec, SubtractMean, models

__all__ = ["ModelSpec", "SubtractMean", "models"]
