"""The model zoo: one file an architecture."""

from benchmark.models.base import ModelSpec, SubtractMean, models

__all__ = ["ModelSpec", "SubtractMean", "models"]
