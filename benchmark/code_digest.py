"""A digest of what code computes: its syntax, without what only people read.

Docstrings, comments, annotations, the text of errors and the names of local variables change no digest, nor
does moving a module, nor a file that the code does not import. A changed constant, expression or import does.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from explainers.scripts import is_script

# What calls every method and every score alike, or reads the data, which has a digest of its own: of these
# modules only the constants count that are imported by name. PROTOCOL_VERSION stands for the rest.
NOT_FOLLOWED = (
    "an8flower", "explainers.base", "explainers.guard", "explainers.sharing", "benchmark.metrics.base",
)  # fmt: skip
OURS = ("an8flower", "explainers", "benchmark")
_HERE = Path(__file__).resolve().parents[1]
# Fields of a syntax tree that compute nothing, and those that not every Python version has.
_SILENT = {"annotation", "returns", "type_comment", "type_params", "ctx", "kind"}
# Keyword arguments of a registration that say in words what the code does.
_REGISTRATIONS = {"explainer", "ExplainerSpec", "MetricSpec"}
_PROSE = {"source", "reduction", "resize"}


def code_digest(build: Callable[..., Any]) -> str:
    """SHA-256 of what a function or class computes, equal on all Python versions.

    Covers its module and the modules that this imports, directly or not, inside the same package, inside
    ours, and, for a script, in the folder of the script.

    Args:
        build: a function, a class, or a partial of one.
    """
    code = getattr(build, "func", build)
    file = Path(inspect.getfile(code)).resolve()
    package = _package_of(file)
    root, top = file.parents[len(package)], package[0] if package else file.stem
    # What a script imports may lie next to it; next to an installed package lies all that is installed.
    mine = _Place(root, () if is_script(code.__module__) else (top,))
    return _reached(file, (mine, _Place(_HERE, OURS)))


@dataclass(frozen=True)
class _Place:
    """A folder where modules are looked for.

    Args:
        folder: that holds top-level packages and modules.
        tops: which of them count; none stands for all.
    """

    folder: Path
    tops: tuple[str, ...]

    def find(self, module: str) -> Path | None:
        """The file of a module, if it lies here and counts."""
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
    """The package of a module: the folders above it that hold an __init__.py."""
    folders: list[str] = []
    folder = file.parent
    while (folder / "__init__.py").is_file():
        folders.insert(0, folder.name)
        folder = folder.parent
    return folders


@cache
def _reached(file: Path, places: _Places) -> str:
    """Of a module, first, and of all that it reaches, in any order."""
    seen: dict[Path, str] = {}
    waiting = [file]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        bindings = list(_bindings(current, places))
        waiting += [one.file for one in bindings if one.file is not None]
        seen[current] = _hash([_tree_digest(current), sorted(one.said for one in bindings)])
    return _hash([seen.pop(file), sorted(seen.values())])


@dataclass(frozen=True)
class _Binding:
    """A name that an import binds: what is said of it in the digest, and the module to follow, if any."""

    said: str
    file: Path | None = None


def _bindings(file: Path, places: _Places) -> Iterator[_Binding]:
    package = _package_of(file)
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _binding(alias.asname or alias.name, "", alias.name, places)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                yield _binding(alias.asname or alias.name, alias.name, module, places)


def _binding(bound: str, name: str, module: str, places: _Places) -> _Binding:
    submodule = _find(f"{module}.{name}", places) if name else None
    file = submodule or _find(module, places)
    whole = f"{module}.{name}" if submodule else module
    if file is None:
        return _Binding(_hash([bound, name, module]))
    if any(whole == house or whole.startswith(f"{house}.") for house in NOT_FOLLOWED):
        return _Binding(_hash([bound, name, _constant(file, name)]))
    return _Binding(_hash([bound, "" if submodule else name, _tree_digest(file)]), file)


def _constant(file: Path, name: str) -> Any:
    """The statement that gives a name its value in a module; None for functions, classes and modules."""
    for node in _parsed(file).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return _plain(node)
    return None


@cache
def _tree_digest(file: Path) -> str:
    return _hash(_plain(_parsed(file)))


@cache
def _parsed(file: Path) -> ast.Module:
    """The syntax tree without docstrings, and with local variables numbered."""
    data = file.read_bytes()
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):  # one that this Python cannot import counts by its bytes
        return ast.Module([ast.Return(ast.Constant(hashlib.sha256(data).hexdigest()))], [])
    known = {*dir(builtins), *_names_of(tree.body)}
    for scope in _functions(tree):
        _number_locals(scope, known)
    return tree


def _names_of(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Names that mean something outside a function: defined, assigned or imported in the module."""
    for top in body:
        for node in ast.walk(top):
            if isinstance(node, ast.alias):
                yield (node.asname or node.name).partition(".")[0]
        if isinstance(top, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield top.name
        else:
            yield from (node.id for node in ast.walk(top) if isinstance(node, ast.Name))


def _functions(node: ast.AST) -> Iterator[ast.AST]:
    """The outermost functions of a module, methods among them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        else:
            yield from _functions(child)


def _number_locals(function: ast.AST, known: set[str]) -> None:
    """Give the local variables of a function, and of those inside it, numbers for names, in place."""
    inside = [node for node in ast.walk(function) if node is not function]
    kept = {node.arg for node in inside if isinstance(node, ast.arg)} | known
    for node in inside:
        if isinstance(node, ast.Global):
            kept.update(node.names)
        elif isinstance(node, ast.ClassDef):  # what its body names are attributes
            kept.update(_names_of(node.body))
    numbers: dict[str, str] = {}
    for node in inside:
        loaded = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        name = None if loaded else _name(node)
        if name and name not in kept:
            numbers.setdefault(name, f"local {len(numbers)}")
    for node in inside:
        if isinstance(node, ast.Name):
            node.id = numbers.get(node.id, node.id)
        elif isinstance(node, ast.Nonlocal):
            node.names = [numbers.get(name, name) for name in node.names]
        elif isinstance(node, _NAMING) and node.name:
            node.name = numbers.get(node.name, node.name)


_NAMING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)


def _name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.name if isinstance(node, _NAMING) else None


def _plain(value: Any) -> Any:
    """A syntax tree as JSON can hold it: what is computed, and nothing else."""
    if isinstance(value, list):
        return [_plain(one) for one in value if not _says_nothing(one)]
    if isinstance(value, ast.Constant):
        return [type(value.value).__name__, repr(value.value)]
    if isinstance(value, ast.Raise):  # that it raises counts, and what; not in which words
        raised = value.exc.func if isinstance(value.exc, ast.Call) else value.exc
        return ["Raise", _plain(raised)]
    if isinstance(value, ast.AST):
        if isinstance(value, ast.Call) and getattr(value.func, "id", "") in _REGISTRATIONS:
            value = ast.Call(value.func, value.args, [one for one in value.keywords if not _is_prose(one)])
        # An empty field is left out: Python versions differ in which fields there are.
        fields = {
            name: plain
            for name, field in ast.iter_fields(value)
            if name not in _SILENT and (plain := _plain(field)) not in (None, [])
        }
        return [type(value).__name__, fields]
    return value


def _is_prose(keyword: ast.keyword) -> bool:
    return keyword.arg in _PROSE and isinstance(keyword.value, ast.Constant)


def _says_nothing(node: Any) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True  # `_bindings` tells of them
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    return False


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
