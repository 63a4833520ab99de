"""A digest of what code computes: its syntax, without what is meant only for readers.

Docstrings, comments, annotations, texts of errors and names of local variables do not change a digest, and
neither does moving a module or a file that the code does not import. A changed constant, expression or import
does. For code of a notebook, a console or the script that runs, see `benchmark.measuring.interactive`.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from an8flower.ground.moved import current
from benchmark.measuring.interactive import is_interactive, is_of_session, source_and_uses
from benchmark.measuring.syntax import plain, tree_of
from explainers.scripts import is_script, name_beside

# Modules that call all explainers and metrics in the same way, or read the data, which has its own digest. Of
# these only constants that are imported by name count; PROTOCOL_VERSION covers the rest.
NOT_FOLLOWED = (
    "an8flower",
    "explainers.base",
    "explainers.guard",
    "explainers.names",
    "explainers.scripts",
    "explainers.together",
    "explainers.classifier",
    "explainers.conformance",
    "explainers.errors",
    "explainers.isolation",
    "explainers.outputs",
    "benchmark.metrics.base",
)
OURS = ("an8flower", "explainers", "benchmark")
_HERE = Path(__file__).resolve().parents[2]


def code_digest(build: Callable[..., Any]) -> str:
    """Return the SHA-256 of what a function or class computes, the same on all Python versions.

    It covers the module and the modules that it imports, directly or indirectly, from the same package, from
    our packages, and, for a script, from the script's folder.

    Args:
        build: a function, a class, or a partial of one; decorators are followed to what they wrap.
    Raises:
        ValueError: if the code is neither in a file nor kept by the interpreter.
    """
    digests = {_reached(file, _places(file, name)): None for file, name in _files_of(build)}
    digests |= {_interactive_digest(code): None for code in _layers(build) if is_of_session(code)}
    if not digests:
        name = getattr(build, "__name__", type(build).__name__)
        raise ValueError(
            f"the code of {name!r} is not in a file; save it in one and name it as file.py:{name}"
        )
    return _hash([*digests, _given(build)]) if len(digests) > 1 or _given(build) else next(iter(digests))


def _layers(build: Any) -> Iterator[Any]:
    """Yield a function or class and everything that it wraps."""
    layer: Any = build
    while layer is not None:
        yield layer if inspect.isroutine(layer) or inspect.isclass(layer) else type(layer)
        layer = getattr(layer, "func", None) or getattr(layer, "__wrapped__", None)


def _interactive_digest(code: Any) -> str:
    """Return the digest of a function or class of the main module, and of all that it uses."""
    used = source_and_uses(code)
    digests = []
    for name, module in used.imports:
        top = module.partition(".")[0]
        file = Path(getattr(sys.modules.get(top), "__file__", None) or "").resolve()
        own = file.suffix == ".py" and top not in OURS and not _is_library(file)
        beside = [_Place(_root(file), ())] if own else []
        places = (*beside, _Place(_HERE, OURS))
        binding = _binding("", name, module, places)
        digests.append(binding.digest)
        if binding.file is not None:
            digests.append(_reached(binding.file, places))
    return _hash(["interactive", used.digest, sorted(digests)])


def _is_library(file: Path) -> bool:
    return any(file.is_relative_to(folder) for folder in _INSTALLED)


def _root(file: Path) -> Path:
    """Return the folder that holds a top-level module or package."""
    return file.parents[1] if file.name == "__init__.py" else file.parent


def _files_of(build: Any) -> list[tuple[Path, str]]:
    """Return the files, with the names of their modules, of a function and of everything that it wraps."""
    modules: dict[Path, str] = {}
    for code in _layers(build):
        if is_interactive(code):
            continue
        module = getattr(code, "__module__", None) or ""
        names = [getattr(sys.modules.get(module), "__file__", None)]  # where it was defined
        with suppress(TypeError, OSError):
            names.append(inspect.getfile(code))  # where its code is: for a decorator's wrapper, another file
        for name in filter(None, names):
            file = Path(name).resolve()
            if file.suffix == ".py" and file.is_file() and not _is_standard(file):
                modules.setdefault(file, name_beside(module))
    return list(modules.items())


def _is_standard(file: Path) -> bool:
    """Return whether a file is of Python or PyTorch, or not followed: wrappers that change no result."""
    if file in _DOORS:
        return True
    own = file.is_relative_to(_STANDARD) and "site-packages" not in file.relative_to(_STANDARD).parts
    return own or file.is_relative_to(_TORCH)


def _given(build: Any) -> list[Any]:
    """Return the plain values that a partial holds."""
    if not isinstance(build, partial):
        return []
    values = [*build.args, *(value for _, value in sorted(build.keywords.items()))]
    return [repr(value) for value in values if isinstance(value, str | int | float | bool | tuple | None)]


def _places(file: Path, name: str) -> _Places:
    parts = name.split(".")
    if is_script(name) or (len(parts) == 1 and file.parent not in _INSTALLED):
        # The modules that a script imports may be in its folder; the folder of an installed package holds all
        # installed packages.
        return (_Place(file.parent, ()), _Place(_HERE, OURS))
    package = _package_of(file)
    if file.with_suffix("").parts[-len(parts) :] == tuple(parts):  # its folders need no __init__.py
        package = parts[:-1]
    return (_Place(file.parents[len(package)], (package[0] if package else file.stem,)), _Place(_HERE, OURS))


# Files of ours whose wrappers are around methods and metrics of others.
_DOORS = {(_HERE / name.replace(".", "/")).with_suffix(".py") for name in NOT_FOLLOWED}
_STANDARD = Path(sysconfig.get_path("stdlib")).resolve()
_TORCH = Path(torch.__file__).resolve().parent
_INSTALLED = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}


@dataclass(frozen=True)
class _Place:
    """A folder in which modules are searched.

    Args:
        folder: holds top-level packages and modules.
        tops: which of them count; empty for all.
    """

    folder: Path
    tops: tuple[str, ...]

    def find(self, module: str) -> Path | None:
        """Return the file of a module, if it is here and counts."""
        parts = module.split(".")
        if self.tops and parts[0] not in self.tops:
            return None
        stem = self.folder.joinpath(*parts)
        return next(
            (file for file in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")) if file.is_file()),
            None,
        )


_Places = tuple[_Place, ...]


def _find(module: str, places: _Places) -> Path | None:
    return next((file for place in places if (file := place.find(module)) is not None), None)


def _package_of(file: Path) -> list[str]:
    """Return the package of a module: the folders above it that hold an __init__.py."""
    folders: list[str] = []
    folder = file.parent
    while (folder / "__init__.py").is_file():
        folders.insert(0, folder.name)
        folder = folder.parent
    return folders


@cache
def _reached(file: Path, places: _Places) -> str:
    """Return the digest of a module and of all modules that it reaches, in any order."""
    seen: dict[Path, str] = {}
    waiting = [file]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        bindings = list(_bindings(current, places))
        waiting += [binding.file for binding in bindings if binding.file is not None]
        waiting += _initialised(current, places)
        # The order of imports does not matter, except for conditional imports and those that may hide others.
        free = sorted(binding.digest for binding in bindings if not binding.ordered)
        bound = [binding.digest for binding in bindings if binding.ordered]
        seen[current] = _hash([_tree_digest(current), free, *([bound] if bound else [])])
    return _hash([seen.pop(file), sorted(seen.values())])


@dataclass(frozen=True)
class _Binding:
    """A name that an import binds.

    Args:
        digest: its part of the digest of the importing module.
        file: file of the module to follow, if any.
        ordered: whether its position among the imports counts.
    """

    digest: str
    file: Path | None = None
    ordered: bool = False


def _bindings(file: Path, places: _Places) -> Iterator[_Binding]:
    package = _inside(file, places)
    top = {id(node) for node in tree_of(file).body}
    for node in ast.walk(tree_of(file)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        level = node.level if isinstance(node, ast.ImportFrom) else 0
        above = package[: len(package) - level + 1] if level else []
        for alias in node.names:
            ordered = id(node) not in top or alias.name == "*"
            if isinstance(node, ast.Import):
                binding = _binding(alias.asname or alias.name, "", alias.name, places)
            else:
                module = ".".join([*above, *filter(None, [node.module])])
                binding = _binding(alias.asname or alias.name, alias.name, module, places)
            yield replace(binding, ordered=ordered)


def _inside(file: Path, places: _Places) -> list[str]:
    """Return the package of a module, from its path."""
    for place in places:
        if file.is_relative_to(place.folder):
            parts = file.relative_to(place.folder).parent.parts
            if not place.tops or (parts and parts[0] in place.tops):
                return list(parts)
    return _package_of(file)


def _initialised(file: Path, places: _Places) -> list[Path]:
    """Return the __init__ files that Python runs before a module; those of our packages compute nothing."""
    package = _inside(file, places)
    if not package or package[0] in OURS:
        return []
    folders = [file.parents[len(package) - 1 - depth] for depth in range(len(package))]
    return [init for folder in folders if (init := folder / "__init__.py").is_file()]


def _binding(bound: str, name: str, module: str, places: _Places) -> _Binding:
    inner, outer = current(f"{module}.{name}"), current(module)
    if outer in _ROOTS and not (name and _find(inner, places)):
        # Their names are those of other modules, and a release may add some that the code does not use.
        home = _home_of(name, outer)
        return _binding(bound, name, home, places) if home else _Binding(_hash([bound, name, outer]))
    submodule = _find(inner, places) if name else None
    file = submodule or _find(outer, places)
    whole = inner if submodule else outer
    if file is None:
        return _Binding(_hash([bound, name, module]))
    if any(whole == house or whole.startswith(f"{house}.") for house in NOT_FOLLOWED):
        return _Binding(_hash([bound, name, _constant(file, name)]))
    return _Binding(_hash([bound, "" if submodule else name, _tree_digest(file)]), file)


_ROOTS = ("explainers", "benchmark")


def _home_of(name: str, package: str) -> str | None:
    """Return the module from which the __init__ of one of our packages imports a name."""
    for node in tree_of(_HERE / package / "__init__.py").body:
        if isinstance(node, ast.ImportFrom) and node.module and name in {alias.name for alias in node.names}:
            return node.module
    return None


def _constant(file: Path, name: str) -> Any:
    """Return the assignment of a constant in a module; None for functions, classes and modules."""
    for node in tree_of(file).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return plain(node)
    return None


@cache
def _tree_digest(file: Path) -> str:
    return _hash(plain(tree_of(file)))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
