"""One registry class for everything that has a name: variants, models, explainers, metrics."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import pkgutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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


class DuplicateNameError(ValueError):
    """A name that another entry has already."""


class PlugInWarning(UserWarning):
    """Somebody else's package that cannot be used; one line that says which and why."""


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
            DuplicateNameError: if the name is taken by another entry.
        """
        if self._entries.setdefault(entry.name, entry) is not entry:
            raise DuplicateNameError(
                f"{self.kind} {entry.name!r} is registered twice; give one of them another name"
            )
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

    @contextmanager
    def temporarily(self, *entries: T) -> Iterator[None]:
        """Register `entries` for the duration of a `with` block.

        At the end of the block, also on an error, the registry is as it was before: what was added
        inside the block, e.g. by importing a script, is removed too. An entry whose name is taken
        replaces the other entry inside the block.

        >>> from an8flower.variants import Variant, variants
        >>> with variants.temporarily(Variant("mine", variants.get("part-2c").classes, "me")):
        ...     "mine" in variants.names()
        True
        >>> "mine" in variants.names()
        False
        """
        self._load()
        before = dict(self._entries)
        try:
            self._entries.update((entry.name, entry) for entry in entries)
            yield
        finally:
            self._entries = before

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
        # Somebody else's packages: one that fails to load must not take the others with it, also where
        # warnings are errors.
        for left_out in self._load_plug_ins():
            warnings.warn(left_out, PlugInWarning, stacklevel=3)

    def _load_plug_ins(self) -> list[str]:
        """Load all entry points, in an order that does not hang on the folders they lie in.

        Returns:
            a line for each one that fails.
        """
        failed: dict[str, str] = {}
        kinds = tuple({type(entry) for entry in self._entries.values()})
        for point in sorted(importlib.metadata.entry_points(group=self._group), key=lambda one: one.value):
            try:
                loaded = point.load()
                if isinstance(loaded, kinds):
                    self.add(loaded)
                elif callable(loaded) and not self._holds(loaded):
                    raise TypeError(f"it is there, but not registered as {_a(self.kind)}")
            except (Exception, SystemExit) as error:
                # A module that does not run is tried once for each entry point into it, and told of once:
                # later it trips over what it registered the first time.
                module = point.value.partition(":")[0]
                what = point.value if module in sys.modules else module
                failed.setdefault(what, f"{self.kind} plug-in {point.value!r} is left out: {_reason(error)}")
        return list(failed.values())

    def _holds(self, part: object) -> bool:
        """Whether `part` is the function or class of an entry."""
        return any(part is value for entry in self._entries.values() for value in vars(entry).values())


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    known = isinstance(error, DuplicateNameError | MissingExtraError)
    return text if known else f"{type(error).__name__}: {text}".removesuffix(": ")


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
