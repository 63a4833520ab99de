"""Explainers in a file of the user's own, by path."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from an8flower.ground.registry import unknown
from explainers.base import ExplainerSpec, registry


class ScriptError(ValueError):
    """A file that gives no explainer; the message says why."""


def spec(path: Path, name: str) -> ExplainerSpec:
    """The method called `name` in the file at `path`, registered under that name.

    A function that `@explainer` does not declare is taken as it is, its first line as its source. The
    file is run, as an import would; running it again takes a new process.

    Raises:
        ScriptError: if there is no such file, it does not run, or `name` is nothing to call.
        UnknownNameError: if it has no such function, with the closest matches.
        ValueError: if another explainer has that name.
    """
    registry.names()  # the built-in ones first, so that a name taken twice is this file's fault
    module = _run(path)
    if not hasattr(module, name):
        callables = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise unknown(f"function of {path}", name, callables)
    build: Callable[..., Any] = getattr(module, name)
    if not callable(build):
        raise ScriptError(f"{path}:{name} is a {type(build).__name__}; name a function or a class")
    known = [one for one in map(registry.get, registry.names()) if one.build is build]
    if known:
        return known[0]
    about = (build.__doc__ or "").strip().partition("\n")[0]
    return registry.add(
        ExplainerSpec(name, build, source=about or f"{path.name}", needs_fit=hasattr(build, "fit"))
    )


def file_of(spec: ExplainerSpec) -> Path | None:
    """The file that gave the method, if it is one that `spec` has read."""
    given = inspect.getmodule(spec.build)
    return next((file for file, module in _run_before.items() if module is given), None)


def is_script(module: str) -> bool:
    """Whether a module of this name is a file that was run, not one that was imported."""
    return module == "__main__" or module.startswith(_PREFIX)


_PREFIX = "an8flower_script_"
_run_before: dict[Path, ModuleType] = {}


def _run(path: Path) -> ModuleType:
    try:
        file = path.resolve(strict=True)
    except OSError as error:
        raise ScriptError(f"{path}: there is no such file") from error
    if file not in _run_before:
        name = f"{_PREFIX}{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
        found = importlib.util.spec_from_file_location(name, file)
        assert found and found.loader
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module  # dataclasses and the like look themselves up there
        sys.path.insert(0, str(file.parent))  # as Python does for a script
        try:
            found.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise ScriptError(f"{path} does not run: {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(str(file.parent))
        _run_before[file] = module
    return _run_before[file]
