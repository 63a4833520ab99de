"""What an explainer is, how one is registered, and how it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, Protocol, Self, TypeVar

import torch
from torch import nn

from an8flower.ground.registry import Registry
from explainers.guard import unchanged

Role = Literal["method", "floor", "ceiling"]
# Images (n, 3, H, W) and labels (n,), and masks (n, H, W) for a method that needs them.
Loader = Iterable[tuple[torch.Tensor, ...]]
TRUTHS = ("masks", "object_masks")
# Pixels of a piece, 32 images of 112 x 112: small CNNs run up to 1.5 times as fast so as on 100 at once.
CPU_PIECE_PX = 32 * 112 * 112


class ExplainerError(ValueError):
    """A method that does not do what every explainer must; the message names it and the check it fails.

    Args:
        explainer: its name.
        check: what it fails, as `conformance` calls it.
        detail: what was seen, and what would be right.
    """

    def __init__(self, explainer: str, check: str, detail: str) -> None:
        super().__init__(f"explainer {explainer!r} fails {check!r}: {detail}")
        self.explainer, self.check, self.detail = explainer, check, detail


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
        needs_masks: it is handed the ground truth: what it takes of `masks` (the part that decides) and
            `object_masks` (the whole object), both (N, H, W) bool, by keyword; masks in `fit` too.
        class_agnostic: its maps do not depend on the target.
        role: a "method" competes; a "floor" or a "ceiling" is drawn apart.
        costly: it takes hundreds of forward passes an image, so it is measured only when named.
        reduction: how its result becomes one channel, in words.
        resize: how its map gets the image's size, in words; empty if it has that by itself.
        library: whose code it is, with version, if not this project's.
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
        """The method's own keyword arguments with their defaults."""
        signature = inspect.signature(self.build)
        return {
            name: parameter.default
            for name, parameter in signature.parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in TRUTHS
        }

    @cached_property
    def truths(self) -> tuple[str, ...]:
        """Which of `masks` and `object_masks` it is called with."""
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
                costly=costly,
                reduction=reduction,
                resize=resize,
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

    @classmethod
    def of(cls, spec: ExplainerSpec, parameters: Mapping[str, Any]) -> Self:
        """The method with `parameters`, and defaults for the others."""
        every = {**spec.parameters, **parameters}
        return cls(spec, every, spec.build(**every) if spec.needs_fit else spec.build)

    @property
    def key(self) -> str:
        """The name with the parameters that differ from the defaults, as `get` reads it.

        >>> import explainers
        >>> explainers.get("vebi", mu=10.0, reduce="abs").key
        'vebi?mu=10.0&reduce=abs'
        """
        changed = {n: v for n, v in self.parameters.items() if v != self.spec.parameters[n]}
        layer = f"@{changed.pop('layer')}" if "layer" in changed else ""
        rest = "&".join(f"{name}={value}" for name, value in sorted(changed.items()))
        return self.spec.name + layer + (f"?{rest}" if rest else "")

    def fit(self, model: nn.Module, loader: Loader) -> Self:
        """Let a method that learns see training images; nothing to do for any other.

        Args:
            model: the one to explain; left unchanged.
            loader: batches of images and labels, and masks if the method needs them.
        Raises:
            ExplainerError: if the method changes the model.
        """
        if self.spec.needs_fit:
            with unchanged(model) as changes:
                self.method.fit(model, loader)  # type: ignore[attr-defined]
            self._must_leave_alone(changes)
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
        """Explain why `model` sees `targets` in `images`.

        Args:
            model: any classifier from images to logits (N, C); left unchanged.
            images: (N, 3, H, W) float32 in [0, 1].
            targets: (N,) int64, the classes to explain.
            masks, object_masks: (N, H, W) bool, the part that decides and the whole object; given to
                methods that declare `needs_masks`, to no other.
        Returns:
            (N, H, W) float32, unnormalised, higher = more relevant, no graph attached.
        Raises:
            ValueError: if the method needs masks and got none.
            ExplainerError: if it gives anything else, or changes the model or the images.
        """
        parameters = {} if self.spec.needs_fit else self.parameters
        given = {"masks": masks, "object_masks": object_masks}
        truths = {name: given[name] for name in self.spec.truths}
        for name, truth in truths.items():
            if truth is None:
                raise ValueError(f"explainer {self.spec.name!r} needs the ground truth; pass {name}=")
        images, targets = plain(images), plain(targets)
        version = images._version
        with unchanged(model) as changes:
            heatmaps = [
                self._checked(self.method(model, piece, labels, **parameters, **more), piece)
                for piece, labels, more in pieces(images, targets, truths)
            ]
        self._must_leave_alone(changes)
        if images._version != version:
            raise ExplainerError(self.spec.name, "input", "it wrote into the images; work on a copy of them")
        return heatmaps[0] if len(heatmaps) == 1 else torch.cat(heatmaps)

    def _must_leave_alone(self, changes: list[str]) -> None:
        if changes:
            some = ", ".join(changes[:3]) + (", ..." if len(changes) > 3 else "")
            raise ExplainerError(self.spec.name, "model", f"it changed {some} (put back as it was)")

    def _checked(self, heatmaps: Any, images: torch.Tensor) -> torch.Tensor:
        name, expected = self.spec.name, (images.shape[0], *images.shape[2:])
        if not isinstance(heatmaps, torch.Tensor):
            kind = type(heatmaps)
            what = "a NumPy array" if kind.__module__ == "numpy" else f"a {kind.__name__}"
            raise ExplainerError(name, "tensor", f"it gave {what}, not a torch.Tensor")
        if tuple(heatmaps.shape) != expected:
            raise ExplainerError(name, "shape", f"it gave {tuple(heatmaps.shape)}, not {expected}")
        if heatmaps.dtype != torch.float32:
            raise ExplainerError(name, "dtype", f"it gave {heatmaps.dtype}, not torch.float32")
        if heatmaps.device != images.device:
            raise ExplainerError(name, "device", f"it gave {heatmaps.device}, not {images.device}")
        if heatmaps.requires_grad:
            raise ExplainerError(name, "detached", "its maps hang on a gradient graph; return maps.detach()")
        return heatmaps


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without a graph, as autograd can use it; itself, if it is that already."""
    # A caller's inference mode would keep autograd away from its tensors; a copy has none of that. One
    # that is plain stays itself, so that methods explained together know it again.
    if tensor.is_inference():
        with torch.inference_mode(False):
            return tensor.clone()
    return tensor.detach() if tensor.requires_grad else tensor


def pieces(
    images: torch.Tensor, targets: torch.Tensor, truths: Mapping[str, torch.Tensor | None]
) -> Iterator[tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor | None]]]:
    """A batch in pieces whose activations stay in the caches of a CPU; elsewhere the batch itself.

    Yields:
        images, targets and ground truth of a piece.
    """
    area = images.shape[-2] * images.shape[-1]
    size = max(1, CPU_PIECE_PX // area) if images.device.type == "cpu" else len(images)
    if len(images) <= size:
        yield images, targets, dict(truths)
        return
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield (
            images[part],
            targets[part],
            {name: None if truth is None else truth[part] for name, truth in truths.items()},
        )
