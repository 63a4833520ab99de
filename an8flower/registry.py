"""One registry class for everything that has a name: variants, models, explainers, metrics."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import pkgutil
import warnings
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """What a registry holds: a frozen entry that knows its own name."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


class MissingExtraError(ImportError):
    """Something whose library is not installed; the message names the extra that brings it."""


class UnknownNameError(LookupError):
    """A name that nobody registered, with the names that come closest to it."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for an unknown `name` of a `kind` of thing, offering the closest matches.

    >>> print(unknown("variant", "single-6", ["single-6c", "part-2c"]))
    unknown variant 'single-6'; did you mean 'single-6c'?
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = "did you mean" if close else "known are"
    listed = ", ".join(repr(other) for other in close or known) or "none"
    return UnknownNameError(f"unknown {kind} {name!r}; {hint} {listed}{'?' if close else ''}")


class Registry(Generic[T]):
    """Names to entries; built-in modules and entry points are read on the first look-up.

    Args:
        kind: what an entry is called in messages, e.g. "explainer".
        package: import path of the package whose modules register the built-in entries.
        group: entry-point group through which installed packages add theirs. An entry point
            names an entry, or a module that registers entries when it is imported.
    """

    def __init__(self, kind: str, *, package: str, group: str) -> None:
        self.kind = kind
        self._package = package
        self._group = group
        self._entries: dict[str, T] = {}
        self._loaded = False

    def add(self, entry: T) -> T:
        """Register `entry` under its name.

        Raises:
            ValueError: if the name is taken by another entry.
        """
        if self._entries.setdefault(entry.name, entry) is not entry:
            raise ValueError(f"{self.kind} {entry.name!r} is registered twice")
        return entry

    def get(self, name: str) -> T:
        """The entry called `name`.

        Raises:
            UnknownNameError: naming the closest matches.
        """
        self._load()
        if name not in self._entries:
            raise unknown(self.kind, name, self._entries)
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        self._load()
        return tuple(sorted(self._entries))

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__, f"{self._package}."):
            importlib.import_module(module.name)
        for point in importlib.metadata.entry_points(group=self._group):
            # Somebody else's package: one that fails to load must not take the others with it.
            try:
                loaded = point.load()
                if hasattr(loaded, "name") and loaded.name not in self._entries:
                    self.add(loaded)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                warnings.warn(f"{self.kind} plug-in {point.value!r} is left out: {reason}", stacklevel=3)
