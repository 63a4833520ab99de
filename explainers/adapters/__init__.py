"""Methods of other libraries by name: `captum:Saliency`, `pytorch_grad_cam:ScoreCAM`, `zennit:EpsilonPlus`.

There is one module per library, imported only when needed. It has two functions: `names()` lists the
methods of the library, and `spec(name)` returns one of them as an explainer.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

from an8flower.ground.registry import MissingExtraError, unknown
from explainers.base import ExplainerSpec

# The libraries, and the extra that installs each; captum is a dependency of the package.
EXTRAS: dict[str, str] = {"captum": "", "pytorch_grad_cam": "pytorch-grad-cam", "zennit": "zennit"}


def spec(library: str, name: str) -> ExplainerSpec:
    """Return the method `name` of `library`.

    Raises:
        UnknownNameError: for an unknown library or method, with the closest matches.
        MissingExtraError: if the library is not installed, with the command that installs it.
    """
    adapter = _adapter(library)
    if name not in adapter.names():
        raise unknown(f"{library} explainer", name, adapter.names())
    return _spec(adapter, name)


@cache
def _spec(adapter: ModuleType, name: str) -> ExplainerSpec:
    method: ExplainerSpec = adapter.spec(name)
    return method


def names(library: str) -> tuple[str, ...]:
    """Return the names of all methods of a library, e.g. "captum:Saliency", sorted.

    Raises:
        UnknownNameError, MissingExtraError: as `spec`.
    """
    return tuple(f"{library}:{name}" for name in sorted(_adapter(library).names()))


def _adapter(library: str) -> ModuleType:
    if library not in EXTRAS:
        raise unknown("library", library, EXTRAS)
    try:
        importlib.import_module(f"explainers.adapters.{library}")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        extra = f"[{EXTRAS[library]}]" if EXTRAS[library] else ""
        raise MissingExtraError(
            f"the explainers {library}:... need {library}: pip install 'an8flower{extra}'"
        ) from error
    return importlib.import_module(f"explainers.adapters.{library}")
