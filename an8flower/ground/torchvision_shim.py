"""Importing torchvision also where its compiled operations do not fit the installed PyTorch."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

_declared: list[torch.library.Library] = []  # a declaration ends with its object


def import_torchvision() -> ModuleType:
    """The package torchvision.

    A wheel built for CUDA cannot load its operations beside a CPU build of PyTorch, and then
    fails to import: it describes `nms` and `qnms` to PyTorch, which has never heard of them.
    Declared first, all that needs neither them nor another compiled operation works: models,
    transforms, ImageFolder. What does need one still fails, when it is called.
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
