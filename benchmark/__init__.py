"""Train models on a dataset, explain and score their decisions, and build a leaderboard.

>>> from benchmark import evaluate, leaderboard, load_model, train
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from an8flower.ground.deprecated import warn_renamed
from an8flower.ground.moved import install

if TYPE_CHECKING:
    from benchmark.board.rows import leaderboard
    from benchmark.measuring.harness import evaluate
    from benchmark.training.trainer import train
    from benchmark.training.weights import load_model
    from benchmark.why import explain_with_features

__all__ = ["evaluate", "explain_with_features", "leaderboard", "load_model", "train"]

_HOMES = {
    "evaluate": "measuring.harness",
    "explain_with_features": "why",
    "leaderboard": "board",
    "load_model": "training",
    "train": "training",
}

install("benchmark", "explainers")


def __getattr__(name: str) -> Any:
    if name == "explain":
        warn_renamed("benchmark.explain", "benchmark.explain_with_features", stacklevel=3)
        name = "explain_with_features"
    if name in _HOMES:
        return getattr(import_module(f"benchmark.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'benchmark' has no attribute {name!r}")
