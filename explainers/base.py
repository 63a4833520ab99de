"""Define, register and call explainers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, Protocol, Self, TypeVar

import torch
from torch import nn

from an8flower.ground.deprecated import warn_renamed
from an8flower.ground.process_state import undone
from an8flower.ground.registry import Registry
from an8flower.ground.shown import html_table
from explainers.classifier import classifier
from explainers.errors import ExplainerError as ExplainerError
from explainers.examination import prepared, recalled
from explainers.fitness import fitting, must_be_live
from explainers.guard import unchanged
from explainers.inputs import checked_images, checked_targets, checked_truths, left_alone, peeked, pieces
from explainers.origin import is_ours
from explainers.outputs import checked_heatmaps

Role = Literal["method", "floor", "ceiling"]
# Images (n, 3, H, W) and labels (n,), and masks (n, H, W) for a method that needs them.
Loader = Iterable[tuple[torch.Tensor, ...]]
TRUTHS = ("masks", "object_masks")
# Pixels of a piece, 32 images of 112 x 112: small CNNs run up to 1.5 times faster than on 100 images at once.
CPU_PIECE_PX = 32 * 112 * 112


class Saliency(Protocol):
    """What a user writes: a function, or a class with `fit` whose instances are called the same way."""

    def __call__(
        self, model: nn.Module, images: torch.Tensor, targets: torch.Tensor, **parameters: Any
    ) -> torch.Tensor: ...


@dataclass(frozen=True)
class ExplainerSpec:
    """One registered method.

    Args:
        name: name in the registry, which is the name of the function or class.
        build: the function, or a class with `fit(model, loader)` and `__call__`.
        source: paper and arXiv number.
        needs_fit: it must be fitted to training images before it explains.
        needs_masks: it receives the ground truth. Of `masks` (the discriminative part) and `object_masks`
            (the whole object), both (N, H, W) bool, it gets those that it declares as keyword
            arguments; `fit` gets masks too.
        class_agnostic: its heatmaps do not depend on the target.
        role: a "method" is ranked; a "floor" or a "ceiling" is a reference, shown separately.
        costly: it takes hundreds of forward passes per image, so it is measured only if named explicitly.
        reduction: how its result is reduced to one channel, as text.
        resize: how its map is resized to the image, as text; empty if it has that size already.
        library: name and version of the library that implements it; empty for this project's own code.
    """

    name: str
    build: Callable[..., Any]
    source: str
    needs_fit: bool = False
    needs_masks: bool = False
    class_agnostic: bool = False
    role: Role = "method"
    costly: bool = False
    reduction: str = ""
    resize: str = ""
    library: str = ""

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """Keyword arguments of the method, with their defaults."""
        signature = inspect.signature(self.build)
        return {
            name: parameter.default
            for name, parameter in signature.parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in TRUTHS
        }

    @cached_property
    def is_foreign(self) -> bool:
        """Whether it is not this project's own: from a script, a notebook, a plug-in or another library."""
        return bool(self.library) or not is_ours(self.build)

    @cached_property
    def truths(self) -> tuple[str, ...]:
        """Which of `masks` and `object_masks` the method is called with."""
        if not self.needs_masks:
            return ()
        build = self.build.func if isinstance(self.build, partial) else self.build
        called = build.__call__ if isinstance(build, type) else build
        return tuple(name for name in TRUTHS if name in inspect.signature(called).parameters)


registry: Registry[ExplainerSpec] = Registry("explainer", package="explainers", group="an8flower.explainers")

Build = TypeVar("Build", bound=Callable[..., Any])


def explainer(
    *,
    source: str,
    needs_masks: bool = False,
    class_agnostic: bool = False,
    role: Role = "method",
    costly: bool = False,
    reduction: str = "",
    resize: str = "",
) -> Callable[[Build], Build]:
    """Register a function, or a class with `fit`, as an explainer under its own name.

    The function is called as `f(model, images, targets)` with its keyword-only arguments and
    returns (N, H, W) float32, higher = more relevant. For the arguments see `ExplainerSpec`.
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
                costly=costly,
                reduction=reduction,
                resize=resize,
            )
        )
        return build

    return register


@dataclass(frozen=True)
class Explainer:
    """A method with its parameters set; calling it leaves the model unchanged.

    Args:
        spec: the registered method.
        parameters: all keyword arguments of the method.
        method: the function, or the instance that `fit` trains.
    """

    spec: ExplainerSpec
    parameters: Mapping[str, Any]
    method: Callable[..., torch.Tensor] = field(repr=False)

    def __repr__(self) -> str:
        return f"Explainer({self.name!r})"

    def _repr_html_(self) -> str:
        about = [("source", self.spec.source), ("role", self.spec.role), ("library", self.spec.library)]
        facts = [*self.parameters.items(), *((name, text) for name, text in about if text)]
        return html_table(["", self.name], facts)

    @classmethod
    def from_spec(cls, spec: ExplainerSpec, parameters: Mapping[str, Any] | None = None) -> Self:
        """Create an explainer from a registered method.

        Args:
            spec: the registered method.
            parameters: keyword arguments of the method that differ from the defaults.
        """
        arguments = {**spec.parameters, **(parameters or {})}
        if not spec.needs_fit:
            return cls(spec, arguments, spec.build)
        if not spec.is_foreign:
            return cls(spec, arguments, spec.build(**arguments))
        with undone(f"explainer {spec.name!r}"):
            return cls(spec, arguments, spec.build(**arguments))

    @classmethod
    def of(cls, spec: ExplainerSpec, parameters: Mapping[str, Any]) -> Self:
        """Deprecated name of `from_spec`."""
        warn_renamed("Explainer.of", "Explainer.from_spec")
        return cls.from_spec(spec, parameters)

    @property
    def key(self) -> str:
        """Deprecated name of `name`."""
        warn_renamed("Explainer.key", "Explainer.name")
        return self.name

    @property
    def name(self) -> str:
        """The name with the parameters that differ from the defaults, as `explainers.get` reads it.

        >>> import explainers
        >>> explainers.get("vebi", mu=10.0, reduce="abs").name
        'vebi?mu=10.0&reduce=abs'
        """
        changed = {n: v for n, v in self.parameters.items() if v != self.spec.parameters[n]}
        layer = f"@{changed.pop('layer')}" if "layer" in changed else ""
        rest = "&".join(f"{name}={value}" for name, value in sorted(changed.items()))
        return self.spec.name + layer + (f"?{rest}" if rest else "")

    def fit(self, model: nn.Module, loader: Loader) -> Self:
        """Fit the method to training images; do nothing if it does not learn.

        Args:
            model: the model to explain; left unchanged.
            loader: batches of images and labels, and masks if the method needs them.
        Raises:
            ExplainerError: if the method changes the model.
        """
        if self.spec.needs_fit:
            model = classifier(model)
            first = torch.empty(0)
            if recalled(model) is None:
                first, loader = peeked(loader)
            with (
                prepared(model, first) as found,
                fitting(self.spec, self.parameters, found, model, first),
                unchanged(model, found.own, found.excused) as changes,
            ):
                self.method.fit(model, loader)  # type: ignore[attr-defined]
            self._require_unchanged(changes)
        return self

    def __call__(
        self,
        model: nn.Module,
        images: torch.Tensor,
        targets: torch.Tensor,
        *,
        masks: torch.Tensor | None = None,
        object_masks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return heatmaps that explain the scores of `targets` for `images`.

        Args:
            model: any classifier from images to scores (N, C): a module, or a function; left unchanged. Of
                several outputs that may be scores, `Classifier` chooses one.
            images: (N, 3, H, W) float32 in [0, 1].
            targets: (N,) integers, the classes to explain; one integer stands for all images.
            masks, object_masks: (N, H, W) bool, the discriminative part and the whole object; passed
                only to methods that declare `needs_masks`.
        Returns:
            (N, H, W) float32, unnormalised, higher = more relevant, detached from the gradient graph.
        Raises:
            ValueError: if the images, targets or masks are not of this form, or masks are missing.
            ModelError: if the model cannot be explained by this method.
            ExplainerError: if the method returns anything else, or changes the model or the images.
        """
        parameters = {} if self.spec.needs_fit else self.parameters
        both = {"masks": masks, "object_masks": object_masks}
        truths = {name: both[name] for name in self.spec.truths}
        for name, truth in truths.items():
            if truth is None:
                raise ValueError(f"explainer {self.spec.name!r} needs the ground truth; pass {name}=")
        model, images = classifier(model), checked_images(images)
        truths = checked_truths(truths, images)
        with prepared(model, images) as found:
            targets = checked_targets(targets, images, found.classes)
            if not len(images):
                return images.new_zeros(0, *images.shape[2:])
            inputs = {"images": images, "targets": targets, **truths} if self.spec.is_foreign else {}
            with (
                fitting(self.spec, self.parameters, found, model, images),
                left_alone(inputs) as written,
                unchanged(model, found.own, found.excused) as changes,
            ):
                heatmaps = [
                    checked_heatmaps(
                        self.spec.name,
                        self.method(model, piece, labels, **parameters, **more),
                        piece,
                        mixed=found.mixed,
                    )
                    for piece, labels, more in pieces(images, targets, truths, CPU_PIECE_PX)
                ]
            self._require_unchanged(changes)
            if written:
                raise ExplainerError(
                    self.spec.name, "input", f"it wrote into the {written[0]}; work on a copy of them"
                )
            explained = heatmaps[0] if len(heatmaps) == 1 else torch.cat(heatmaps)
            must_be_live(self.spec, self.parameters, found, model, images, explained)
            return explained

    def _require_unchanged(self, changes: list[str]) -> None:
        if changes:
            some = ", ".join(changes[:3]) + (", ..." if len(changes) > 3 else "")
            raise ExplainerError(self.spec.name, "model", f"it changed {some} (now restored)")
