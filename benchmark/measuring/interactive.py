"""What a function of a session computes: of a notebook, a console, or a script that Python runs.

It counts by the statement that defines it, and by everything of the session that it uses, by value: other
functions and classes with their statements, constants, arrays, and the state of objects, as `pickle` sees it.
So is the code sent to the processes that measure it. What is imported counts by name and module. An object
whose state cannot be told, such as an open file, gives another digest each time, so that no old score is
taken for a new one.
"""

from __future__ import annotations

import ast
import copyreg
import hashlib
import inspect
import json
import linecache
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from symtable import symtable
from types import BuiltinFunctionType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from an8flower.ground.moved import current
from benchmark.measuring.syntax import parsed, plain

_CONSTANTS = (type(None), type(...), type(NotImplemented), bool, int, float, complex, str, bytes)
_MADE = ("_abc_impl", "__annotate__", "__annotate_func__")  # by Python, for every class


@dataclass(frozen=True)
class Uses:
    """What a function of a session hangs on.

    Args:
        digest: SHA-256 of its own statement, and of the statements and values that it uses.
        imports: name and module of all that is imported; the name is "" for a module.
    """

    digest: str
    imports: tuple[tuple[str, str], ...]


def is_interactive(code: Any) -> bool:
    """Return whether a function or class was defined in a notebook or console that keeps its source."""
    return is_of_session(code) and not any(_is_main(function.__code__) for function in _functions(code))


def is_of_session(code: Any) -> bool:
    """Return whether a function or class was defined in the main module, and its source is known."""
    return getattr(code, "__module__", None) == "__main__" and _statement(code) is not None


def source_and_uses(code: Any) -> Uses:
    """Return what a function or class of a session computes, with what it uses of the session."""
    reading = _Reading()
    digest = reading.digest(code)
    return Uses(digest, tuple(sorted(reading.imports)))


@dataclass
class _Reading:
    """Reads objects by value.

    Args:
        met: the objects met so far, which keeps them alive, and their digests; by identity.
        imports: what they import.
        depth: number of objects around the one that is read.
    """

    met: dict[int, tuple[Any, str]] = field(default_factory=dict)
    imports: set[tuple[str, str]] = field(default_factory=set)
    depth: int = 0

    def digest(self, value: Any) -> str:
        """Return the SHA-256 of an object's value; a random one if the value cannot be told."""
        if type(value) in _CONSTANTS:
            return _hash([type(value).__name__, repr(value)])
        if id(value) not in self.met:
            self.met[id(value)] = value, f"the object at depth {self.depth}"  # it may contain itself
            self.depth += 1
            try:
                found = _hash(self._read(value))
            except Exception:  # objects of others may raise anything
                found = secrets.token_hex()
            finally:
                self.depth -= 1
            self.met[id(value)] = value, found
        return self.met[id(value)][1]

    def _read(self, value: Any) -> list[Any]:
        kind = type(value)
        if isinstance(value, FunctionType) or inspect.isclass(value):
            return self._import(value) if _is_importable(value) else self._definition(value)
        if kind in (list, tuple):
            return [kind.__name__, *map(self.digest, value)]
        if kind in (set, frozenset):
            return [kind.__name__, *sorted(map(self.digest, value))]
        if kind in (dict, MappingProxyType):
            return ["dict", *([self.digest(key), self.digest(held)] for key, held in value.items())]
        if isinstance(value, ModuleType):
            if sys.modules.get(value.__name__) is not value:
                return ["module", self._named(vars(value))]
            self.imports.add(("", current(value.__name__)))
            return ["module", current(value.__name__)]
        if isinstance(value, torch.Generator):
            return ["generator", str(value.device), self.digest(value.get_state())]
        if kind in (torch.Tensor, torch.nn.Parameter) and _is_dense(value):
            return _tensor(value)
        if (kind is np.ndarray or isinstance(value, np.generic)) and not value.dtype.hasobject:
            array = np.ascontiguousarray(value)
            return [repr(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
        return self._callable(value) or self._state(value)

    def _callable(self, value: Any) -> list[Any]:
        """Return what a method, descriptor or wrapper holds; nothing for other objects."""
        if isinstance(value, MethodType):
            return ["method", self.digest(value.__func__), self.digest(value.__self__)]
        if isinstance(value, property):
            return ["property", *map(self.digest, (value.fget, value.fset, value.fdel))]
        if isinstance(value, cached_property):
            return ["cached property", self.digest(value.func)]
        if not inspect.isroutine(value):
            return []
        if hasattr(value, "__wrapped__"):  # static and class methods, caches
            return ["wrapper", type(value).__name__, self.digest(value.__wrapped__)]
        owner = getattr(value, "__self__", None) if isinstance(value, BuiltinFunctionType) else None
        if owner is not None and not isinstance(owner, ModuleType | type):
            return ["method", value.__name__, self.digest(owner)]
        return [] if value.__module__ == "__main__" else self._import(value)

    def _state(self, value: Any) -> list[Any]:
        """Return what `pickle` keeps of an object."""
        reduce = copyreg.dispatch_table.get(type(value))
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        if isinstance(reduced, str):  # a name in its module
            return [self.digest(type(value)), reduced]
        # How it is made, with which arguments; then its state, items, and pairs of keys and items.
        parts = [list(part) if isinstance(part, Iterator) else part for part in reduced]
        return [self.digest(part) for part in parts]

    def _import(self, value: Any) -> list[Any]:
        module = current(str(getattr(value, "__module__", None)))
        self.imports.add((value.__name__, module))
        return ["import", module, getattr(value, "__qualname__", value.__name__)]

    def _named(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the digests of named values, without what Python itself notes of a class or module."""
        counting = {
            name: held
            for name, held in values.items()
            if name not in _MADE and (not name.startswith("__") or callable(held) or inspect.isroutine(held))
        }
        return [[name, self.digest(held)] for name, held in sorted(counting.items())]

    def _definition(self, code: Any) -> list[Any]:
        """Return the statement of a function or class that is sent by value, and all that it uses."""
        in_file = code.__module__ != "__main__" and hasattr(sys.modules.get(code.__module__), "__file__")
        statement = None if in_file else _statement(code)
        tree = None if statement is None else plain(parsed(ast.unparse(statement).encode()))
        parts: list[Any] = [tree, self._import(code) if in_file else None]
        if inspect.isclass(code):
            parts += [self._named(vars(code)), [self.digest(base) for base in code.__bases__]]
        else:
            held = (code.__defaults__, code.__kwdefaults__, vars(code))
            parts += [list(map(self.digest, held)), self._named(_enclosed(code))]
            if not in_file and statement is None:
                parts.append(self._bytecode(code.__code__))
        if not in_file:
            loaded = set(_names(code)) if statement is None else _loaded(statement)
            session = code.__globals__ if isinstance(code, FunctionType) else vars(sys.modules["__main__"])
            parts.append([[name, self.digest(session[name])] for name in sorted(loaded & session.keys())])
        return parts

    def _bytecode(self, code: CodeType) -> list[Any]:
        """Return what a function without source computes, on this version of Python."""
        constants = [
            self._bytecode(item) if isinstance(item, CodeType) else self.digest(item)
            for item in code.co_consts
        ]
        names = [*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars]
        return [list(sys.version_info[:2]), code.co_code.hex(), names, constants]


def _is_dense(value: torch.Tensor) -> bool:
    return value.layout is torch.strided and not value.is_quantized


def _tensor(value: torch.Tensor) -> list[Any]:
    held = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    data = held.flatten().view(torch.uint8).numpy().tobytes()
    about = [type(value).__name__, str(value.dtype), value.device.type, value.requires_grad]
    return [*about, list(value.shape), hashlib.sha256(data).hexdigest()]


def _is_importable(code: Any) -> bool:
    """Return whether another process can import a function or class; if not, it is sent by value."""
    if code.__module__ == "__main__":
        return False
    with suppress(AttributeError):
        return attrgetter(code.__qualname__)(sys.modules.get(code.__module__)) is code
    return False


def _statement(code: Any) -> ast.stmt | None:
    """Return the statement that defines a function or class of the main module; None if it is unknown."""
    for function in _functions(code):
        line = function.__code__.co_firstlineno
        for statement in _statements(function.__code__.co_filename):
            # Decorators stand above the line of a definition.
            lines = [statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", ()))]
            if min(lines) <= line <= (statement.end_lineno or line):
                return statement
    if inspect.isclass(code):  # without methods: by its name, in the last cell that has it
        main = getattr(sys.modules["__main__"], "__file__", None)
        for cell in [*reversed(list(linecache.cache)), *([main] if main else [])]:
            for statement in reversed(_statements(cell)):
                if isinstance(statement, ast.ClassDef) and statement.name == code.__name__:
                    return statement
    return None


def _statements(cell: str) -> list[ast.stmt]:
    entry = linecache.cache.get(cell)
    try:
        if _is_main_file(cell):
            return ast.parse(Path(cell).read_bytes()).body
        # Only what has no time of change: the source of files is read from the files.
        if entry is None or len(entry) == 1 or entry[1] is not None:
            return []
        return ast.parse("".join(entry[2])).body
    except (SyntaxError, ValueError, OSError):
        return []


def _is_main(code: CodeType) -> bool:
    return _is_main_file(code.co_filename)


def _is_main_file(name: str) -> bool:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return main is not None and Path(name).absolute() == Path(main).absolute()


def _functions(code: Any) -> Iterator[FunctionType]:
    """Yield a function, or the methods of a class."""
    if isinstance(code, FunctionType):
        yield code
    elif inspect.isclass(code):
        for member in vars(code).values():
            function = getattr(member, "__func__", getattr(member, "fget", member))
            if isinstance(function, FunctionType) and function.__module__ == code.__module__:
                yield function


def _enclosed(function: FunctionType) -> dict[str, Any]:
    """Return the variables of enclosing functions that a function uses, except those not yet set."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):
            found[name] = cell.cell_contents
    found.pop("__class__", None)
    return found


def _loaded(statement: ast.stmt) -> set[str]:
    """Return the names of the session that a definition reads, except in annotations."""
    tree = ast.parse(ast.unparse(statement))
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
    top = symtable(ast.unparse(tree), "session", "exec")
    found, waiting = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}, [top]
    while waiting:
        inner = waiting.pop()
        found |= {symbol.get_name() for symbol in inner.get_symbols() if symbol.is_global()}
        waiting += inner.get_children()
    return found


def _names(code: Any) -> Iterator[str]:
    """Yield the names that functions without source read."""
    waiting = [function.__code__ for function in _functions(code)]
    while waiting:
        found = waiting.pop()
        yield from found.co_names
        waiting += [item for item in found.co_consts if isinstance(item, CodeType)]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
