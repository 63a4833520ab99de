"""an8Flower: rendered flowers in which the pixels that decide the class are known.

>>> from an8flower import An8Flower, generate, verify
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from an8flower.ground.moved import install

if TYPE_CHECKING:
    from an8flower.dataset import An8Flower
    from an8flower.drawing.generation import generate
    from an8flower.drawing.verification import verify

__all__ = ["An8Flower", "generate", "verify"]

# Imported on first use: `import an8flower` loads no OpenGL, PyTorch or OpenCV.
_HOMES = {"An8Flower": "dataset", "generate": "drawing.generation", "verify": "drawing.verification"}

install()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"an8flower.{_HOMES[name]}"), name)
    if name in ("benchmark", "explainers"):
        return import_module(f"an8flower.{name}")
    raise AttributeError(f"module 'an8flower' has no attribute {name!r}")
