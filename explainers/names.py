"""How a method is named: `name@layer?parameter=value&parameter=value`.

The name is one of the registry, `library:Name` of an adapted library, or `path/to/file.py:function`.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from an8flower.ground.registry import MissingExtraError, unknown
from explainers import adapters, scripts
from explainers.base import Explainer, ExplainerSpec, registry
from explainers.guard import unchanged
from explainers.layers import before_scores, layers


@dataclass(frozen=True)
class Reference:
    """A method as it is written.

    >>> Reference.read("captum:IntegratedGradients?n_steps=50")
    Reference(name='captum:IntegratedGradients', parameters={'n_steps': 50})
    >>> Reference.read("grad_cam@conv1").parameters
    {'layer': 'conv1'}
    """

    name: str
    parameters: dict[str, Any]

    @classmethod
    def read(cls, text: str) -> Reference:
        """Values are Python literals, or else text.

        Raises:
            ValueError: for a parameter without a value.
        """
        text, _, written = text.partition("?")
        name, at, layer = text.rpartition("@")
        if not at or "/" in layer or ":" in layer:  # an @ in a script's path
            name, layer = text, ""
        parameters: dict[str, Any] = {"layer": layer} if layer else {}
        for part in filter(None, written.split("&")):
            key, equals, value = part.partition("=")
            if not equals:
                raise ValueError(f"explainer {text!r}: {part!r} has no value; write {part}=value")
            parameters[key.strip()] = _literal(value)
        return cls(name, parameters)


def get(name: str, **parameters: Any) -> Explainer:
    """An explainer by name, with its own keyword arguments.

    Args:
        name: a registered name, "library:Name" or "path/to/file.py:function"; "name@layer" is short for
            `layer="layer"`, and parameters may follow as "?a=1&b=2", as in a `key`.
        parameters: the method's keyword arguments.
    Raises:
        UnknownNameError: for an unknown name or parameter, with the closest matches.
        ScriptError: if the file cannot be used.
        MissingExtraError: if the library is not installed, with the command that installs it.

    >>> get("grad_cam@conv1").parameters["layer"], get("vebi?mu=10.0&reduce=abs").parameters["mu"]
    ('conv1', 10.0)
    """
    written = Reference.read(name)
    parameters = {**written.parameters, **parameters}
    spec = spec_of(written.name)
    for given in parameters:
        if given not in spec.parameters:
            raise unknown(f"parameter of explainer {spec.name!r}:", given, spec.parameters)
    return Explainer.of(spec, parameters)


def reference_of(explainer: Explainer) -> str:
    """How `get` reads the explainer in another process; like its key, with the path of a script before it."""
    file = scripts.file_of(explainer.spec)
    return explainer.key if file is None else f"{file}:{explainer.key}"


def spec_of(name: str) -> ExplainerSpec:
    """The method called `name`, without layer and parameters.

    Raises:
        UnknownNameError, ScriptError, MissingExtraError: as `get`.
    """
    left, colon, right = name.rpartition(":")
    if not colon:
        if name.endswith(".py") and Path(name).exists():
            raise scripts.ScriptError(f"{name}: name the function in it too, e.g. {name}:my_method")
        return registry.get(name)
    if left.endswith(".py"):
        return scripts.spec(Path(left), right)
    return adapters.spec(left, right)


def every(names: Sequence[str], model: nn.Module, images: torch.Tensor) -> list[Explainer]:
    """The explainers of some names, in their order; "name@all" stands for all the layers with a map.

    Args:
        names: as `get` reads them.
        model: whose layers are meant; left unchanged.
        images: (N, 3, H, W), the first one is enough.
    Raises:
        as `get`.
    """
    found: list[Explainer] = []
    for name in names:
        one = get(name)
        if one.parameters.get("layer") != "all":
            found.append(one)
            continue
        with unchanged(model), torch.no_grad():
            classes = model(images[:1]).shape[1]
            shown = [layer for layer in before_scores(layers(model, images), classes) if layer.has_map]
        found += [Explainer.of(one.spec, {**one.parameters, "layer": layer.name}) for layer in shown]
    return found


@dataclass(frozen=True)
class Available:
    """All methods there are on this machine.

    Args:
        specs: the registered ones, then those of adapted libraries, each sorted by name.
        missing: a line for each library that is not installed, with the command that installs it.
        broken: a line for each library that is installed and cannot be used, with the reason.
    """

    specs: tuple[ExplainerSpec, ...]
    missing: tuple[str, ...]
    broken: tuple[str, ...]


def available() -> Available:
    """Look for all methods, imported libraries' too, which takes a few seconds."""
    specs, missing, broken = [registry.get(name) for name in names()], [], []
    for library in adapters.EXTRAS:
        try:
            specs += [spec_of(name) for name in adapters.names(library)]
        except MissingExtraError as error:
            missing.append(f"{library}: not installed, {error}")
        except Exception as error:  # somebody else's package
            broken.append(f"{library}: cannot be used, {type(error).__name__}: {error}")
    return Available(tuple(specs), tuple(missing), tuple(broken))


def names() -> tuple[str, ...]:
    """The names of all registered explainers, sorted; adapted libraries' and scripts' are found by `get`."""
    return registry.names()


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
