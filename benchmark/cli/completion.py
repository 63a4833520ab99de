"""Names that the shell completes.

They are read from the source files. Importing the registries would import PyTorch, which takes seconds.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path


def completer(
    package: str, group: str, *, under: str = "", more: Sequence[str] = ()
) -> Callable[[str], list[str]]:
    """Return a function that completes the names of a registry, as Typer calls it.

    Args:
        package: import path of the package whose modules register the built-in names.
        group: entry-point group of installed plug-ins; "" for none.
        under: folder of the package to read; all by default.
        more: further words that the option takes.
    """

    def complete(incomplete: str) -> list[str]:
        names = {*built_in(package, under), *plugged_in(group), *more}
        return sorted(name for name in names if name.startswith(incomplete))

    return complete


def built_in(package: str, under: str = "") -> set[str]:
    """Return the names that the modules of a package register, without importing them.

    >>> sorted(built_in("benchmark.models"))
    ['an8net', 'colour_max', 'colour_mean', 'mnistnet']
    """
    spec = importlib.util.find_spec(package)
    names: set[str] = set()
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder, under).rglob("*.py"):
            # A module that somebody is editing must not break the shell's prompt.
            with suppress(OSError, UnicodeDecodeError, SyntaxError):
                names.update(_registered(ast.parse(path.read_text())))
    return names


def plugged_in(group: str) -> set[str]:
    """Return the names of entry points that name one entry; those of whole modules are not known yet."""
    points = importlib.metadata.entry_points(group=group) if group else ()
    return {point.name for point in points if ":" in point.value}


def _registered(module: ast.Module) -> Iterator[str]:
    """Yield the names that a module registers: by `@explainer(...)`, or by `add(Spec("name", ...))`."""
    keys: dict[str, list[str]] = {}
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if any(_called(decorator) == "explainer" for decorator in node.decorator_list):
                yield node.name
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            keys[ast.unparse(target)] = [text for key in node.value.keys for text in _text(key)]
        for name in _added(node):
            yield from _text(name)
            if isinstance(node, ast.For):  # over a dictionary whose keys are the names
                yield from keys.get(ast.unparse(node.iter).removesuffix(".items()"), ())


def _added(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions that name the entries added to a registry somewhere in a statement."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and _called(call) == "add" and call.args:
            spec = call.args[0]
            if isinstance(spec, ast.Call):
                yield from [word.value for word in spec.keywords if word.arg == "name"] or spec.args[:1]


def _text(node: ast.expr | None) -> list[str]:
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def _called(node: ast.expr) -> str:
    """Return the last part of the name of what is called, e.g. "add" for `registry.add(...)`."""
    function = node.func if isinstance(node, ast.Call) else node
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


variants = completer("an8flower.variants", "an8flower.variants")
models = completer("benchmark.models", "an8flower.models")
recipes = completer("benchmark.training.recipes", "an8flower.recipes", more=("plain",))
explainers = completer("explainers", "an8flower.explainers")
# Those that 'explain' takes: they explain through selected features.
selecting = completer("explainers", "", under="vebi")
metrics = completer("benchmark.metrics", "an8flower.metrics", more=("localisation", "faithfulness"))
exports = completer("an8flower.export", "an8flower.exports")


def factors(incomplete: str) -> list[str]:
    """Complete the name of a factor, up to the sign before its value."""
    from an8flower.drawing.factors import FACTORS

    return [f"{name}=" for name in FACTORS if name.startswith(incomplete)]
