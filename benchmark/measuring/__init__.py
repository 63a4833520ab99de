"""Explain the test images, score the heatmaps, and keep a record of each cell.

>>> from benchmark.measuring.harness import evaluate
"""

from an8flower.ground.deprecated import renamed

__getattr__ = renamed(
    __name__,
    {
        "CrowdedError": "benchmark.measuring.unit.CrowdedError",
        "Unit": "benchmark.measuring.unit.Unit",
        "measure": "benchmark.measuring.unit.measure",
        "failure": "benchmark.measuring.outcome.failure",
    },
)
