"""Old names that still work, with a DeprecationWarning; to be removed in version 0.3."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module some of whose names have changed.

    Args:
        module: `__name__` of the module.
        names: old name to new name.

    >>> __getattr__ = renamed(__name__, {"old_name": "new_name"})
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(f"{module}.{name}", names[name], stacklevel=3)
        return getattr(sys.modules[module], names[name])

    return find


def warn_renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn the caller of a function or property that it has a new name.

    Args:
        old, new: as the caller writes them.
        stacklevel: of the caller, as for `warnings.warn` called there.
    """
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=stacklevel)
