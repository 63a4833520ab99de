"""What an explainer is, how one is registered, and how it is called."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, TypeVar

import torch
from torch import nn

from an8flower.registry import Registry, unknown
from explainers.guard import unchanged

Role = Literal["method", "floor", "ceiling"]
Loader = Iterable[tuple[torch.Tensor, torch.Tensor]]  # images (n, 3, H, W), labels (n,)


class Saliency(Protocol):
    """What a user writes: a function, or a class with `fit` whose instances are called alike."""

    def __call__(
        self, model: nn.Module, images: torch.Tensor, targets: torch.Tensor, **parameters: Any
    ) -> torch.Tensor: ...


@dataclass(frozen=True)
class ExplainerSpec:
    """One registered method.

    Args:
        name: registry key, the name of the function or class.
        build: the function itself, or a class with `fit(model, loader)` and `__call__`.
        source: paper and arXiv number.
        needs_fit: it learns from training images first.
        needs_masks: it is handed the ground truth, as `masks` (N, H, W) bool.
        class_agnostic: its maps do not depend on the target.
        role: a "method" competes; a "floor" or a "ceiling" is drawn apart.
    """

    name: str
    build: Callable[..., Any]
    source: str
    needs_fit: bool = False
    needs_masks: bool = False
    class_agnostic: bool = False
    role: Role = "method"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The method's own keyword arguments with their defaults."""
        signature = inspect.signature(self.build)
        return {
            name: parameter.default
            for name, parameter in signature.parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "masks"
        }


registry: Registry[ExplainerSpec] = Registry("explainer", package="explainers", group="an8flower.explainers")

Build = TypeVar("Build", bound=Callable[..., Any])


def explainer(
    *, source: str, needs_masks: bool = False, class_agnostic: bool = False, role: Role = "method"
) -> Callable[[Build], Build]:
    """Register a function, or a class with `fit`, as an explainer under its own name.

    The function is called as `f(model, images, targets)` with its keyword-only arguments and
    gives (N, H, W) float32, higher = more relevant; see `ExplainerSpec` for the declarations.
    """

    def register(build: Build) -> Build:
        registry.add(
            ExplainerSpec(
                name=build.__name__,
                build=build,
                source=source,
                needs_fit=hasattr(build, "fit"),
                needs_masks=needs_masks,
                class_agnostic=class_agnostic,
                role=role,
            )
        )
        return build

    return register


@dataclass(frozen=True)
class Explainer:
    """A method with its parameters set; calling it leaves the model as it was.

    Args:
        spec: the registered method.
        parameters: all its own keyword arguments.
        method: the function, or the instance that learns.
    """

    spec: ExplainerSpec
    parameters: Mapping[str, Any]
    method: Callable[..., torch.Tensor] = field(repr=False)

    @property
    def key(self) -> str:
        """The name with the parameters that differ from the defaults, as `get` reads it.

        >>> get("grad_cam", layer="conv1").key
        'grad_cam@conv1'
        """
        changed = {n: v for n, v in self.parameters.items() if v != self.spec.parameters[n]}
        layer = f"@{changed.pop('layer')}" if "layer" in changed else ""
        rest = ",".join(f"{name}={value}" for name, value in sorted(changed.items()))
        return self.spec.name + layer + (f"[{rest}]" if rest else "")

    def fit(self, model: nn.Module, loader: Loader) -> Self:
        """Let a method that learns see training images; nothing to do for any other."""
        if self.spec.needs_fit:
            with unchanged(model):
                self.method.fit(model, loader)  # type: ignore[attr-defined]
        return self

    def __call__(
        self,
        model: nn.Module,
        images: torch.Tensor,
        targets: torch.Tensor,
        *,
        masks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Explain why `model` sees `targets` in `images`.

        Args:
            model: any classifier from images to logits (N, C); left unchanged.
            images: (N, 3, H, W) float32 in [0, 1].
            targets: (N,) int64, the classes to explain.
            masks: (N, H, W) bool; given to methods that declare `needs_masks`, to no other.
        Returns:
            (N, H, W) float32, unnormalised, higher = more relevant, no graph attached.
        Raises:
            ValueError: if the method needs masks and got none, or gives anything else.
        """
        parameters = {} if self.spec.needs_fit else dict(self.parameters)
        if self.spec.needs_masks:
            if masks is None:
                raise ValueError(f"explainer {self.spec.name!r} needs the ground truth; pass masks=")
            parameters["masks"] = masks
        with unchanged(model):
            heatmaps = self.method(model, _plain(images), _plain(targets), **parameters)
        return _checked(heatmaps, images, self.spec.name)


def get(name: str, **parameters: Any) -> Explainer:
    """An explainer by name, with its own keyword arguments.

    Args:
        name: a registered name; "name@layer" is short for `layer="layer"`, and parameters may follow in
            brackets, as in a `key`.
        parameters: the method's keyword arguments.
    Raises:
        UnknownNameError: for an unknown name or parameter, with the closest matches.

    >>> get("grad_cam@conv1").parameters["layer"], get("vebi[mu=10.0,reduce=abs]").parameters["mu"]
    ('conv1', 10.0)
    """
    name, _, written = name.removesuffix("]").partition("[")
    name, _, layer = name.partition("@")
    parameters = {**_written(written), **parameters}
    spec = registry.get(name)
    if layer:
        parameters["layer"] = layer
    for given in parameters:
        if given not in spec.parameters:
            raise unknown(f"parameter of explainer {name!r}:", given, spec.parameters)
    every = {**spec.parameters, **parameters}
    return Explainer(spec, every, spec.build(**every) if spec.needs_fit else spec.build)


def _written(text: str) -> dict[str, Any]:
    """Parameters as a key has them, "a=1,b=x": Python literals, or else text."""
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name.strip()] = value
    return found


def names() -> tuple[str, ...]:
    """The names of all explainers, sorted."""
    return registry.names()


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    # A caller's inference mode would keep autograd away from its tensors; a copy has none of that.
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def _checked(heatmaps: Any, images: torch.Tensor, name: str) -> torch.Tensor:
    expected = (images.shape[0], *images.shape[2:])
    if not isinstance(heatmaps, torch.Tensor):
        raise ValueError(f"explainer {name!r} gave a {type(heatmaps).__name__}, not a torch.Tensor")
    if tuple(heatmaps.shape) != expected:
        raise ValueError(f"explainer {name!r} gave shape {tuple(heatmaps.shape)}, not {expected}")
    if heatmaps.dtype != torch.float32:
        raise ValueError(f"explainer {name!r} gave {heatmaps.dtype}, not torch.float32")
    return heatmaps.detach()
