"""Syntax trees reduced to what they compute, the same on all Python versions.

Docstrings, comments, annotations and texts of errors are left out, and the names of local variables are
replaced by numbers.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

# Fields of a syntax tree that compute nothing, and fields that some Python versions lack.
_SILENT = {"annotation", "returns", "type_comment", "type_params", "ctx", "kind"}
# Calls that register an explainer or a metric, and their arguments that only describe it.
_SPECS = {"ExplainerSpec", "MetricSpec"}
_PROSE = {"source", "reduction", "resize"}
# Keyword arguments that were renamed: they count under their first name, so that no digest changes.
_FIRST_KEYWORDS = {("An8Flower", "scheme"): "folds"}


@cache
def tree_of(file: Path) -> ast.Module:
    """Return the syntax tree without docstrings, and with numbers for the names of local variables."""
    return parsed(file.read_bytes())


def parsed(data: bytes) -> ast.Module:
    """Return the syntax tree of the source of a module; see `tree_of`."""
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):  # a module that this Python cannot import counts by its bytes
        return ast.Module([ast.Return(ast.Constant(hashlib.sha256(data).hexdigest()))], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.decorator_list = [
                _without_prose(decorator)
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "explainer"
                else decorator
                for decorator in node.decorator_list
            ]
    known = {*dir(builtins), *_names_of(tree.body)}
    for scope in _functions(tree):
        _number_locals(scope, known)
    return tree


def _names_of(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield the names that a module defines, assigns or imports outside functions."""
    for top in body:
        for node in ast.walk(top):
            if isinstance(node, ast.alias):
                yield (node.asname or node.name).partition(".")[0]
        if isinstance(top, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield top.name
            continue
        for node in ast.walk(top):
            if isinstance(node, ast.Name):
                yield node.id
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name


def _functions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the outermost functions of a module, including methods."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        else:
            yield from _functions(child)


def _number_locals(function: ast.AST, known: set[str]) -> None:
    """Replace names of local variables in a function, and in functions inside it, by numbers, in place."""
    inside = [node for node in ast.walk(function) if node is not function]
    kept = {node.arg for node in inside if isinstance(node, ast.arg)} | known
    for node in inside:
        if isinstance(node, ast.Global):
            kept.update(node.names)
        elif isinstance(node, ast.ClassDef):  # names in its body are attributes
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


def plain(value: Any) -> Any:
    """Return a syntax tree in a form that JSON can hold, with only what is computed."""
    if isinstance(value, list):
        return [plain(item) for item in value if not _computes_nothing(item)]
    if isinstance(value, ast.Constant):
        return [type(value.value).__name__, repr(value.value)]
    if isinstance(value, ast.Raise):  # the type of the error counts, but not its text
        raised = value.exc
        if isinstance(raised, ast.Call):
            arguments = [argument for argument in raised.args if not _is_text(argument)]
            raised = ast.Call(raised.func, arguments, raised.keywords)
        return ["Raise", plain(raised)]
    if isinstance(value, ast.Assert):
        return ["Assert", plain(value.test)]
    if isinstance(value, ast.AST):
        if isinstance(value, ast.Call) and getattr(value.func, "id", "") in _SPECS:
            value = _without_prose(value)
        if isinstance(value, ast.Call):
            value = _with_first_keywords(value)
        # Empty fields are left out, because Python versions differ in which fields exist.
        fields: dict[str, Any] = {
            name: kept
            for name, field in ast.iter_fields(value)
            if name not in _SILENT and (kept := plain(field)) not in (None, [])
        }
        return [type(value).__name__, fields]
    return value


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _without_prose(call: ast.Call) -> ast.Call:
    kept = [
        keyword
        for keyword in call.keywords
        if not (keyword.arg in _PROSE and isinstance(keyword.value, ast.Constant))
    ]
    return ast.Call(call.func, call.args, kept)


def _with_first_keywords(call: ast.Call) -> ast.Call:
    function = getattr(call.func, "id", "")
    keywords = [
        ast.keyword(_FIRST_KEYWORDS.get((function, keyword.arg or ""), keyword.arg), keyword.value)
        for keyword in call.keywords
    ]
    return ast.Call(call.func, call.args, keywords)


def _computes_nothing(node: Any) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True  # `_bindings` covers them
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" and not node.orelse
    return False
