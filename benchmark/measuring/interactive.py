"""What a function of a notebook or a console computes: its source as the interpreter keeps it, in no file.

It counts by the statement that defines it, and by everything of the session that it uses: other functions and
classes with their statements, constants and arrays by value, what is imported by name and module, and any
other object by its type alone.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import linecache
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from an8flower.ground.moved import current
from benchmark.measuring.syntax import parsed, plain


@dataclass
class Uses:
    """What a function of a session hangs on.

    Args:
        trees: the reduced syntax tree of its own statement, then those of the others that it uses, by name.
        values: name and value of each constant, as JSON can hold them.
        imports: for each name that is imported, the name here, the name there ("" for a module), the module.
    """

    trees: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    imports: list[tuple[str, str, str]] = field(default_factory=list)


def is_interactive(code: Any) -> bool:
    """Return whether a function or class was defined in a notebook or console that keeps its source."""
    if getattr(code, "__module__", None) != "__main__":
        return False
    return _statement(code) is not None


def source_and_uses(code: Any) -> Uses:
    """Return what a function or class of a session computes, with what it uses of the session."""
    uses = Uses()
    own: dict[str, Any] = {}
    seen: set[tuple[str, int]] = {("", id(code))}
    waiting = [("", code)]
    while waiting:
        name, thing = waiting.pop()
        statement = _statement(thing)
        assert statement is not None
        tree = parsed(ast.unparse(statement).encode())
        own[name] = plain(tree)
        for used, found in _used(tree, thing):
            value = found.func if isinstance(found, partial) else found
            if isinstance(found, partial):
                uses.values.append([used, _as_json(found.args), _as_json(found.keywords)])
            if value is code or (used, id(value)) in seen:
                continue
            seen.add((used, id(value)))
            if is_interactive(value):
                waiting.append((used, value))
            elif isinstance(value, ModuleType):
                uses.imports.append((used, "", current(value.__name__)))
            elif inspect.isroutine(value) or inspect.isclass(value):
                uses.imports.append((used, value.__name__, current(str(value.__module__))))
            else:
                uses.values.append([used, _as_json(value)])
    uses.trees = [own.pop(""), *(own[name] for name in sorted(own))]
    uses.values.sort(key=json.dumps)
    uses.imports.sort()
    return uses


def _statement(code: Any) -> ast.stmt | None:
    """Return the statement of a cell that defines a function or class; None if it is in a file or unknown."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    codes = list(_codes(code))
    for function in codes:
        cell, line = function.co_filename, function.co_firstlineno
        if main is not None and Path(cell).absolute() == Path(main).absolute():
            return None
        for statement in _statements(cell):
            # Decorators stand above the line of a definition.
            lines = [statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", ()))]
            if min(lines) <= line <= (statement.end_lineno or line):
                return statement
    if inspect.isclass(code) and main is None:  # without methods: by its name, in the last cell that has it
        for cell in reversed(list(linecache.cache)):
            for statement in reversed(_statements(cell)):
                if isinstance(statement, ast.ClassDef) and statement.name == code.__name__:
                    return statement
    return None


def _statements(cell: str) -> list[ast.stmt]:
    entry = linecache.cache.get(cell)
    # Only what has no time of change: the source of files is read from the files.
    if entry is None or len(entry) == 1 or entry[1] is not None:
        return []
    try:
        return ast.parse("".join(entry[2])).body
    except SyntaxError:
        return []


def _codes(code: Any) -> Iterator[CodeType]:
    """Yield the code of a function, or of the methods of a class."""
    if isinstance(code, FunctionType):
        yield code.__code__
    elif inspect.isclass(code):
        for member in vars(code).values():
            function = getattr(member, "__func__", getattr(member, "fget", member))
            if isinstance(function, FunctionType) and function.__module__ == code.__module__:
                yield function.__code__


def _used(tree: ast.Module, code: Any) -> list[tuple[str, Any]]:
    """Return the names of the session and of enclosing functions that a definition uses, with values."""
    nodes = list(_computing(tree))
    given = {node.arg for node in nodes if isinstance(node, ast.arg)}
    loaded = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    session: Mapping[str, Any] = vars(sys.modules["__main__"])
    enclosed: dict[str, Any] = {}
    if isinstance(code, FunctionType):
        session = code.__globals__
        cells = zip(code.__code__.co_freevars, code.__closure__ or (), strict=True)
        enclosed = {name: cell.cell_contents for name, cell in cells if name != "__class__"}
    names = sorted((loaded - given) & session.keys() - enclosed.keys())
    return [*sorted(enclosed.items(), key=lambda item: item[0]), *((name, session[name]) for name in names)]


def _computing(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a tree except annotations."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _computing(child)


def _as_json(value: Any) -> Any:
    """Return a plain value, or the digest of an array; of anything else the type."""
    if value is None or isinstance(value, str | int | float | complex | bool | bytes):
        return repr(value)
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(_as_json, value)]
    if isinstance(value, set | frozenset):
        return [type(value).__name__, *sorted(str(_as_json(item)) for item in value)]
    if isinstance(value, Mapping):
        return [type(value).__name__, *sorted([str(_as_json(k)), _as_json(v)] for k, v in value.items())]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        array = np.ascontiguousarray(value)
        return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    return f"{type(value).__module__}.{type(value).__qualname__}"
