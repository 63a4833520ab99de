"""Read explainers from the user's own Python files, by path.

The modules that lie beside a script belong to it: they are found whenever the script imports them, also
while its method runs, and only scripts in the same folder see them. So two scripts in two folders can each
have their own `tools.py`.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from an8flower.ground.process_state import undone
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
    with suppress(TypeError):  # an object that cannot be a key
        _file_of[build] = path.resolve()
    registered = [entry for entry in map(registry.get, registry.names()) if entry.build is build]
    if registered:
        return registered[0]
    about = (build.__doc__ or "").strip().partition("\n")[0]
    return registry.add(
        ExplainerSpec(name, build, source=about or f"{path.name}", needs_fit=hasattr(build, "fit"))
    )


def file_of(spec: ExplainerSpec) -> Path | None:
    """Return the script that provides the method, or None if the method is from no script."""
    with suppress(TypeError):
        if spec.build in _file_of:
            return _file_of[spec.build]
    home = inspect.getmodule(spec.build)
    return next((file for file, module in _run_before.items() if module is home), None)


def is_script(module: str) -> bool:
    """Whether the module of this name is a script that was run, or lies beside one."""
    return module == "__main__" or module.startswith(_PREFIX)


def name_beside(module: str) -> str:
    """Return the name by which a script imports a module beside it, as the script writes it.

    >>> name_beside("an8flower_script_0123456789ab.tools.colour"), name_beside("numpy.linalg")
    ('tools.colour', 'numpy.linalg')
    """
    return module.partition(".")[2] or module if module.startswith(_PREFIX) else module


_PREFIX = "an8flower_script_"
_run_before: dict[Path, ModuleType] = {}
# Where a name was asked for: a script may provide a method that is defined in a module beside it.
_file_of: WeakKeyDictionary[Callable[..., Any], Path] = WeakKeyDictionary()


def _run(path: Path) -> ModuleType:
    try:
        file = path.resolve(strict=True)
    except OSError as error:
        raise ScriptError(f"{path}: no such file") from error
    if file not in _run_before:
        stem = file.stem if file.stem.isidentifier() else f"_{_short_hash(file.name)}"
        name = f"{_package(file.parent)}.{stem}"
        try:
            _run_before[file] = sys.modules.get(name) or _import(name, file)
        except (Exception, SystemExit) as error:
            sys.modules.pop(name, None)
            raise ScriptError(f"{path} does not run: {type(error).__name__}: {error}") from error
    return _run_before[file]


def _import(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file, loader=_Loader(name, str(file)))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, for one, look up their module there
    before, folder = set(sys.modules), str(file.parent)
    # For what does not call `import`, such as pickle; last, so that no file here stands for a library.
    sys.path.append(folder)
    try:
        # Standard output is for the result of the command.
        with undone(f"the script {file.name}"), redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)
        for other in set(sys.modules) - before:
            file_of_other = getattr(sys.modules[other], "__file__", None) or ""
            if not other.startswith(_PREFIX) and Path(file_of_other).parent == file.parent:
                del sys.modules[other]
    return module


def _package(folder: Path) -> str:
    """Return the name of the package that stands for the folder of a script; create it if necessary."""
    name = f"{_PREFIX}{_short_hash(folder)}"
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    return name


def _short_hash(path: Path | str) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:12]


class _Finder(PathFinder):
    """Finds the modules beside scripts as modules of the package that stands for their folder."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not fullname.startswith(_PREFIX):
            return None
        found = super().find_spec(fullname, path, target)
        if found is not None and isinstance(found.loader, SourceFileLoader):
            found.loader = _Loader(found.loader.name, found.loader.path)
        return found


class _Loader(SourceFileLoader):
    """Executes a module so that its imports, now and in later calls, first look beside the script."""

    def exec_module(self, module: ModuleType) -> None:
        package = module.__name__.partition(".")[0]
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _importer(package)}
        super().exec_module(module)


def _importer(package: str) -> Callable[..., ModuleType]:
    """Return what `import` calls in the modules of a script's folder."""

    def find(
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or not _is_beside(top, package):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = importlib.import_module(f"{package}.{name}")
        if not fromlist:
            return sys.modules[f"{package}.{top}"]
        for part in fromlist:
            if part != "*" and not hasattr(module, part) and hasattr(module, "__path__"):
                builtins.__import__(module.__name__, globals, locals, (part,))
        return module

    return find


def _is_beside(top: str, package: str) -> bool:
    """Whether a name means a module in the folder of a script.

    A file there does not stand for a module of Python, of this project, or of a library that is in use.
    """
    if f"{package}.{top}" in sys.modules:
        return True
    if top in _ALWAYS or _is_installed(sys.modules.get(top)):
        return False
    return _Finder.find_spec(f"{package}.{top}", sys.modules[package].__path__) is not None


# What this project needs itself, by the names of the modules.
_NEEDED = {
    *("captum", "cv2", "jsonschema", "matplotlib", "numpy", "pandas", "PIL", "pytorch_grad_cam"),
    *("safetensors", "scipy", "sklearn", "torch", "torchvision", "zennit"),
}
_ALWAYS = {*sys.stdlib_module_names, *_NEEDED, "an8flower", "benchmark", "explainers"}
_INSTALLED = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")]


def _is_installed(module: ModuleType | None) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and _is_library(file)


@cache
def _is_library(file: str) -> bool:
    return any(Path(file).resolve().is_relative_to(folder) for folder in _INSTALLED)
