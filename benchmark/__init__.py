"""The measuring: datasets, models and explainers in, a leaderboard out.

>>> from benchmark import evaluate, leaderboard, load_model, train
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from an8flower.ground.moved import install

if TYPE_CHECKING:
    from benchmark.board.rows import leaderboard
    from benchmark.measuring.harness import evaluate
    from benchmark.training.trainer import train
    from benchmark.training.weights import load_model
    from benchmark.why import explain

__all__ = ["evaluate", "explain", "leaderboard", "load_model", "train"]

_HOMES = {
    "evaluate": "measuring.harness",
    "explain": "why",
    "leaderboard": "board",
    "load_model": "training",
    "train": "training",
}

install()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"benchmark.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'benchmark' has no attribute {name!r}")
