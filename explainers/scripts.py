"""Read explainers from the user's own Python files, by path."""

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
    """A file that provides no explainer; the message says why."""


def spec(path: Path, name: str) -> ExplainerSpec:
    """Register the method called `name` in the file at `path`, and return it.

    A function without the decorator `@explainer` is registered as it is; the first line of its docstring
    becomes its source. The file is executed once per process, as an import is.

    Raises:
        ScriptError: if the file does not exist or does not run, or `name` is not callable.
        UnknownNameError: if the file has no such function, with the closest matches.
        ValueError: if another explainer has that name.
    """
    registry.names()  # loads the built-in explainers, so that the error for a duplicate name blames this file
    module = _run(path)
    if not hasattr(module, name):
        callables = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise unknown(f"function of {path}", name, callables)
    build: Callable[..., Any] = getattr(module, name)
    if not callable(build):
        raise ScriptError(f"{path}:{name} is a {type(build).__name__}; name a function or a class")
    registered = [entry for entry in map(registry.get, registry.names()) if entry.build is build]
    if registered:
        return registered[0]
    about = (build.__doc__ or "").strip().partition("\n")[0]
    return registry.add(
        ExplainerSpec(name, build, source=about or f"{path.name}", needs_fit=hasattr(build, "fit"))
    )


def file_of(spec: ExplainerSpec) -> Path | None:
    """Return the file that defines the method, or None if the method is from no script."""
    home = inspect.getmodule(spec.build)
    return next((file for file, module in _run_before.items() if module is home), None)


def is_script(module: str) -> bool:
    """Whether the module of this name is a script that was run, not a module that was imported."""
    return module == "__main__" or module.startswith(_PREFIX)


_PREFIX = "an8flower_script_"
_run_before: dict[Path, ModuleType] = {}


def _run(path: Path) -> ModuleType:
    try:
        file = path.resolve(strict=True)
    except OSError as error:
        raise ScriptError(f"{path}: no such file") from error
    if file not in _run_before:
        name = f"{_PREFIX}{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
        module_spec = importlib.util.spec_from_file_location(name, file)
        assert module_spec and module_spec.loader
        module = importlib.util.module_from_spec(module_spec)
        sys.modules[name] = module  # dataclasses, for one, look up their module there
        sys.path.insert(0, str(file.parent))  # as Python does for a script
        try:
            module_spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise ScriptError(f"{path} does not run: {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(str(file.parent))
        _run_before[file] = module
    return _run_before[file]
