"""Import torchvision, also if its compiled operations do not match the installed PyTorch."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

_declared: list[torch.library.Library] = []  # a declaration is removed with its object


def import_torchvision() -> ModuleType:
    """Import and return the package torchvision.

    A torchvision built for CUDA cannot load its compiled operations with a CPU build of PyTorch. Its
    import then fails, because it registers functions for the operators `nms` and `qnms`, which PyTorch
    does not know. If that happens, this function declares both operators and imports torchvision again.
    Everything that needs no compiled operation then works: models, transforms, ImageFolder. Functions that
    need one fail when they are called.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    _declared.append(library)
    return importlib.import_module("torchvision")
