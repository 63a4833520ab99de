"""Find explainers by name: `name@layer?parameter=value&parameter=value`.

`name` is a name in the registry, `library:Name` of another library, or `path/to/file.py:function`.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from an8flower.ground.deprecated import warn_renamed
from an8flower.ground.registry import MissingExtraError, unknown
from explainers import adapters, scripts
from explainers.base import Explainer, ExplainerSpec, registry
from explainers.classifier import classifier
from explainers.examination import prepared
from explainers.guard import unchanged
from explainers.layers import before_scores, layers


@dataclass(frozen=True)
class Reference:
    """The parts of an explainer's name as the user writes it.

    Args:
        name: without layer and parameters.
        parameters: keyword arguments, the layer included.

    >>> Reference.parse("captum:IntegratedGradients?n_steps=50")
    Reference(name='captum:IntegratedGradients', parameters={'n_steps': 50})
    >>> Reference.parse("grad_cam@conv1").parameters
    {'layer': 'conv1'}
    """

    name: str
    parameters: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a name. Values are read as Python literals; what is not a literal stays text.

        Raises:
            TypeError: for anything but text, such as the function itself.
            ValueError: for a parameter without a value.
        """
        if not isinstance(text, str):
            raise TypeError(_not_a_name(text))
        path, function = _path_and_function(text)
        function, _, written = function.partition("?")
        function, _, layer = function.partition("@")
        name = f"{path}{function}"
        parameters: dict[str, Any] = {"layer": layer} if layer else {}
        for part in filter(None, written.split("&")):
            key, equals, value = part.partition("=")
            if not equals:
                raise ValueError(f"explainer {text!r}: {part!r} has no value; write {part}=value")
            parameters[key.strip()] = _literal(value)
        return cls(name, parameters)

    @classmethod
    def read(cls, text: str) -> Reference:
        """Deprecated name of `parse`."""
        warn_renamed("Reference.read", "Reference.parse")
        return cls.parse(text)


def get(name: str, **parameters: Any) -> Explainer:
    """Return an explainer by name.

    Args:
        name: a registered name, "library:Name" or "path/to/file.py:function". "name@layer" is short for
            `layer="layer"`; other parameters may follow as "?a=1&b=2", as in `Explainer.name`.
        parameters: keyword arguments of the method; they take precedence over those in `name`.
    Raises:
        TypeError: if `name` is not text, but for example the function itself.
        UnknownNameError: for an unknown name or parameter, with the closest matches.
        ScriptError: if the file cannot be used.
        MissingExtraError: if the library is not installed, with the command that installs it.

    >>> get("grad_cam@conv1").parameters["layer"], get("vebi?mu=10.0&reduce=abs").parameters["mu"]
    ('conv1', 10.0)
    """
    reference = Reference.parse(name)
    parameters = {**reference.parameters, **parameters}
    spec = spec_of(reference.name)
    for parameter in parameters:
        if parameter not in spec.parameters:
            raise unknown(f"parameter of explainer {spec.name!r}:", parameter, spec.parameters)
    return Explainer.from_spec(spec, parameters)


def reference_of(explainer: Explainer) -> str:
    """Return the name by which `get` finds the explainer in another process.

    It is `explainer.name`, preceded by the path of its script if it is from one.
    """
    file = scripts.file_of(explainer.spec)
    return explainer.name if file is None else f"{file}:{explainer.name}"


def spec_of(name: str) -> ExplainerSpec:
    """Return the method called `name`, a name without layer and parameters.

    Raises:
        UnknownNameError, ScriptError, MissingExtraError: as `get`.
    """
    left, colon, right = name.rpartition(":")
    if not colon:
        if name.endswith(".py") and Path(name).exists():
            raise scripts.ScriptError(f"{name}: name the function too, e.g. {name}:my_method")
        return registry.get(name)
    if left.endswith(".py"):
        return scripts.spec(Path(left), right)
    return adapters.spec(left, right)


def explainers_named(names: Sequence[str], model: nn.Module, images: torch.Tensor) -> list[Explainer]:
    """Return the explainers of some names, in this order; "name@all" gives one per layer with a map.

    Args:
        names: as `get` reads them.
        model: the model whose layers "@all" stands for; left unchanged.
        images: (N, 3, H, W); the first image is enough.
    Raises:
        as `get`.
    """
    expanded: list[Explainer] = []
    for name in names:
        explainer = get(name)
        if explainer.parameters.get("layer") != "all":
            expanded.append(explainer)
            continue
        model = classifier(model)
        with prepared(model, images), unchanged(model), torch.no_grad():
            classes = model(images[:1]).shape[1]
            spatial = [layer for layer in before_scores(layers(model, images), classes) if layer.has_map]
        expanded += [
            Explainer.from_spec(explainer.spec, {**explainer.parameters, "layer": layer.name})
            for layer in spatial
        ]
    return expanded


def every(names: Sequence[str], model: nn.Module, images: torch.Tensor) -> list[Explainer]:
    """Deprecated name of `explainers_named`."""
    warn_renamed("explainers.names.every", "explainers.names.explainers_named")
    return explainers_named(names, model, images)


@dataclass(frozen=True)
class Available:
    """All methods that are available on this machine.

    Args:
        specs: the registered methods, then those of other libraries, each sorted by name.
        missing: one line per library that is not installed, with the command that installs it.
        broken: one line per library that is installed but cannot be used, with the reason.
    """

    specs: tuple[ExplainerSpec, ...]
    missing: tuple[str, ...]
    broken: tuple[str, ...]


def available() -> Available:
    """List all methods. This imports the other libraries, which takes a few seconds."""
    specs, missing, broken = [registry.get(name) for name in names()], [], []
    for library in adapters.EXTRAS:
        try:
            specs += [spec_of(name) for name in adapters.names(library)]
        except MissingExtraError as error:
            missing.append(f"{library}: not installed, {error}")
        except Exception as error:  # another author's package may raise anything
            broken.append(f"{library}: cannot be used, {type(error).__name__}: {error}")
    return Available(tuple(specs), tuple(missing), tuple(broken))


def names() -> tuple[str, ...]:
    """Return the names of all registered explainers, sorted.

    Methods of other libraries and of scripts are not among them; `get` finds these too.
    """
    return registry.names()


def _path_and_function(text: str) -> tuple[str, str]:
    """Split the name of an explainer after "file.py:"; a path may hold any sign, also ? and @."""
    path, colon, function = text.partition(".py:")
    if colon and ("?" not in path or Path(f"{path}.py").exists()):
        return f"{path}{colon}", function
    return (text, "") if text.endswith(".py") and Path(text).exists() else ("", text)


def _not_a_name(thing: object) -> str:
    """Return the error for an object where a name belongs; it says by which name to pass it."""
    if isinstance(thing, Explainer | ExplainerSpec):
        return f"explainers are passed by name: instead of the object, pass {thing.name!r}"
    if not callable(thing):
        return f"explainers are passed by name, not as {type(thing).__name__}: pass for example 'grad_cam'"
    given = getattr(thing, "__name__", type(thing).__name__)
    same = next((name for name in registry.names() if registry.get(name).build is thing), None)
    if same is not None:
        return f"explainers are passed by name: instead of the object {given}, pass {same!r}"
    name = given if given.isidentifier() and hasattr(thing, "__name__") else "my_method"
    return (
        f"explainers are passed by name, not as the object {given}: define a function with the decorator "
        f"@explainer(source=...) and pass its name, {name!r}, or name its file, 'path/to/file.py:{name}'"
    )


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
