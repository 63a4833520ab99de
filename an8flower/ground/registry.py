"""The registry of everything that has a name: variants, models, explainers, metrics, export formats."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import pkgutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """An entry of a registry: an immutable object with a name."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


class MissingExtraError(ImportError):
    """A library that is needed is not installed; the message names the extra that installs it."""


class UnknownNameError(LookupError):
    """A name that is not registered; the message has the closest matches."""


class DuplicateNameError(ValueError):
    """A name that another entry already has."""


class PlugInWarning(UserWarning):
    """A plug-in package that cannot be used; the message is one line that says which and why."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error for an unknown name, with the closest matches.

    Args:
        kind: what the name stands for, e.g. "variant".
        name: the unknown name.
        known: all names that exist.

    >>> print(unknown("variant", "single-6", ["single-6c", "part-2c"]))
    unknown variant 'single-6'; did you mean 'single-6c'?
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = "did you mean" if close else "known are"
    listed = ", ".join(repr(other) for other in close or known) or "none"
    return UnknownNameError(f"unknown {kind} {name!r}; {hint} {listed}{'?' if close else ''}")


class Registry(Generic[T]):
    """Maps names to entries; built-in modules and entry points are loaded at the first look-up.

    Args:
        kind: what an entry is called in messages, e.g. "explainer".
        package: import path of the package whose modules register the built-in entries.
        group: entry-point group in which installed packages add entries. An entry point refers to an
            entry, or to a module that registers entries when it is imported.
    """

    def __init__(self, kind: str, *, package: str, group: str) -> None:
        self.kind = kind
        self._package = package
        self._group = group
        self._entries: dict[str, T] = {}
        self._homes: dict[str, _Home] = {}  # where the entries are defined
        self._has_built_in = self._has_plug_ins = False

    def add(self, entry: T) -> T:
        """Register `entry` under its name.

        An entry that a notebook cell, an interactive session or a reloaded module has added before is
        replaced, as Python replaces a function that is defined again. So is one of the main module, if the
        same function or class is defined there again.

        Raises:
            DuplicateNameError: if the name is taken by another entry.
        """
        home = _home(entry, sys._getframe(1).f_globals["__name__"])
        if home.module.partition(".")[0] not in _OURS:
            self._load_built_in()  # so that the error for a taken name blames the newcomer
        again = _is_again(self._homes.get(entry.name), home)
        if self._entries.get(entry.name, entry) is not entry and not again:
            raise DuplicateNameError(
                f"{self.kind} {entry.name!r} is registered twice; give one of them another name"
            )
        self._entries[entry.name], self._homes[entry.name] = entry, home
        return entry

    def get(self, name: str) -> T:
        """Return the entry with this name.

        Raises:
            UnknownNameError: if there is none; the message has the closest matches.
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
        before = dict(self._entries), dict(self._homes)
        try:
            self._entries.update((entry.name, entry) for entry in entries)
            yield
        finally:
            self._entries, self._homes = before

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        self._load()
        return tuple(sorted(self._entries))

    def _load(self) -> None:
        self._load_built_in()
        if self._has_plug_ins:
            return
        self._has_plug_ins = True
        # Plug-ins of others: one that fails must not prevent the others from loading, also if warnings are
        # errors. So all are loaded before the first warning.
        for message in self._load_plug_ins():
            warnings.warn(message, PlugInWarning, stacklevel=3)

    def _load_built_in(self) -> None:
        if self._has_built_in:
            return
        self._has_built_in = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__, f"{self._package}."):
            importlib.import_module(module.name)

    def _load_plug_ins(self) -> list[str]:
        """Load all entry points, in an order that does not depend on the folders they are installed in.

        Returns:
            one line for each entry point that fails, or that changes its process.
        """
        failed: dict[str, str] = {}
        said: list[str] = []
        kinds = tuple({type(entry) for entry in self._entries.values()})
        points = importlib.metadata.entry_points(group=self._group)
        if not points:
            return []
        from an8flower.ground.process_state import altered, undone_text  # imports PyTorch

        for point in sorted(points, key=lambda point: point.value):
            try:
                # Standard output is for the result of the command.
                with altered() as changes, redirect_stdout(sys.stderr):
                    loaded = point.load()
                if changes:
                    said.append(undone_text(f"the plug-in {point.value!r}", changes))
                if isinstance(loaded, kinds):
                    self.add(loaded)
                elif callable(loaded) and not self._holds(loaded):
                    raise TypeError(f"it exists, but is not registered as {_with_article(self.kind)}")
            except (Exception, SystemExit) as error:
                # A module with an error runs again for each of its entry points, but only the first error is
                # reported: later ones come from what it has already registered.
                module = point.value.partition(":")[0]
                failing = point.value if module in sys.modules else module
                failed.setdefault(
                    failing, f"{self.kind} plug-in {point.value!r} is left out: {_reason(error)}"
                )
        return [*failed.values(), *said]

    def _holds(self, thing: object) -> bool:
        """Return whether `thing` is the function or class of an entry."""
        held = (value for entry in self._entries.values() for value in vars(entry).values())
        return any(thing is value or thing is getattr(value, "__wrapped__", None) for value in held)


_OURS = ("an8flower", "explainers", "benchmark")


@dataclass(frozen=True)
class _Home:
    """Where an entry is defined.

    Args:
        module: the module of its function or class; of an entry without one, the module that adds it.
        code: the qualified name of the function or class, if any.
    """

    module: str
    code: str = ""


def _home(entry: object, adder: str) -> _Home:
    for value in vars(entry).values():
        code = getattr(value, "func", value)  # of a partial
        if callable(code) and isinstance(module := getattr(code, "__module__", None), str):
            return _Home(module, getattr(code, "__qualname__", type(code).__qualname__))
    return _Home(adder)


def _is_again(before: _Home | None, home: _Home) -> bool:
    """Return whether a name is defined again where it was defined before, and may be."""
    if before is None or before.module != home.module:
        return False
    if home.module == "__main__":
        # Editors and notebooks run cells in a main module that may have a file; it is the same code there.
        interactive = hasattr(sys, "ps1") or not hasattr(sys.modules["__main__"], "__file__")
        return interactive or before == home
    # importlib has no public way to ask whether a module is being reloaded.
    return home.module in getattr(importlib, "_RELOADING", ())


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    known = isinstance(error, DuplicateNameError | MissingExtraError)
    return text if known else f"{type(error).__name__}: {text}".removesuffix(": ")


def _with_article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
