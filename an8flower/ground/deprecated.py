"""Old names that still work, with a DeprecationWarning; to be removed in version 0.3."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from importlib import import_module
from typing import Any


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module some of whose names have changed.

    Args:
        module: `__name__` of the module.
        names: old name to new name, with the module in front if it is now in another one.

    >>> __getattr__ = renamed(__name__, {"old_name": "new_name", "MOVED": "an8flower.protocol.FOLDS"})
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(f"{module}.{name}", names[name], stacklevel=3)
        home, _, new = names[name].rpartition(".")
        return getattr(import_module(home or module), new)

    return find


def warn_renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn the caller of a function or property that it has a new name.

    Args:
        old, new: as the caller writes them.
        stacklevel: of the caller, as for `warnings.warn` called there.
    """
    # `from module import name` first only looks whether the name exists.
    if sys._getframe(stacklevel - 1).f_globals.get("__name__") != "importlib._bootstrap":
        warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=stacklevel)


class OnceDict:
    """A dataclass that was a dictionary in version 0.1: what dictionaries do still works, with a warning."""

    def _as_dict(self) -> dict[str, Any]:
        """Return the dictionary that it was."""
        raise NotImplementedError

    def _old(self, use: str, instead: str = "its attributes") -> dict[str, Any]:
        message = f"{type(self).__name__} is no dictionary any more; write {instead} instead of {use}"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
        return self._as_dict()

    def __getitem__(self, name: str) -> Any:
        return self._old(f"[{name!r}]", f".{name}")[name]

    def __contains__(self, name: object) -> bool:
        return name in self._old("'in'")

    def __iter__(self) -> Iterator[str]:
        return iter(self._old("a loop over it"))

    def __len__(self) -> int:
        return len(self._old("len()"))

    def __bool__(self) -> bool:
        return True

    def get(self, name: str, default: Any = None) -> Any:
        """Return an entry, or `default`."""
        return self._old(".get()").get(name, default)

    def keys(self) -> KeysView[str]:
        """Return the names of the entries."""
        return self._old(".keys()").keys()

    def values(self) -> ValuesView[Any]:
        """Return the values of the entries."""
        return self._old(".values()").values()

    def items(self) -> ItemsView[str, Any]:
        """Return the entries."""
        return self._old(".items()").items()
