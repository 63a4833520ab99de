"""Import torchvision on demand, also if its compiled operations do not match the installed PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

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


class TorchvisionImport:
    """Imports torchvision through `import_torchvision` when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return import_torchvision, ()


def as_image(image: torch.Tensor) -> Any:
    """Return a tensor as a `tv_tensors.Image`, which v2 transforms resample smoothly."""
    import_torchvision()
    from torchvision import tv_tensors

    return tv_tensors.Image(image)


def as_mask(mask: torch.Tensor) -> Any:
    """Return a tensor as a `tv_tensors.Mask`, which v2 transforms resample by nearest neighbour."""
    import_torchvision()
    from torchvision import tv_tensors

    return tv_tensors.Mask(mask)
