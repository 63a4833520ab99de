"""The measuring: datasets, models and explainers in, a leaderboard out.

>>> from benchmark import evaluate, leaderboard, load_model, train
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.board import leaderboard
    from benchmark.explaining import explain
    from benchmark.harness import evaluate
    from benchmark.training import load_model, train

__all__ = ["evaluate", "explain", "leaderboard", "load_model", "train"]

_HOMES = {
    "evaluate": "harness",
    "explain": "explaining",
    "leaderboard": "board",
    "load_model": "training",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"benchmark.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'benchmark' has no attribute {name!r}")
