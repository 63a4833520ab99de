"""Whether a method fits a model: refuse what would be silently wrong, and say where a method has no rule."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from explainers.errors import ExplainerError, ModelError, NoReLURuleWarning
from explainers.examination import Examination, is_cut, leading

# Methods of other libraries that have a rule for ReLUs and are the plain gradient elsewhere. Whether our own
# methods use such a rule is observed, see `Examination.ruled`.
RULED = frozenset(
    (
        *("captum:Deconvolution", "captum:GuidedBackprop", "captum:GuidedGradCam"),
        *("zennit:BetaSmooth", "zennit:DeconvNet", "zennit:GuidedBackprop"),
    )
)
# Methods of other libraries that do not look into the model.
BLACK_BOX = frozenset(
    f"captum:{name}"
    for name in (
        *("FeatureAblation", "GradientShap", "InputXGradient", "IntegratedGradients", "KernelShap", "Lime"),
        *("Occlusion", "Saliency", "ShapleyValueSampling", "ShapleyValues"),
    )
)
# Those of them that use no gradient: their maps of zeros are legal.
_WITHOUT_GRADIENT = frozenset(
    f"captum:{name}"
    for name in (
        "FeatureAblation",
        "KernelShap",
        "Lime",
        "Occlusion",
        "ShapleyValueSampling",
        "ShapleyValues",
    )
)
_OF_NO_GRADIENT = (RuntimeError, IndexError, TypeError, AttributeError, AssertionError)
_HIDDEN = (
    "parts of the model are TorchScript, which hides its layers; pass the model that was scripted or traced"
)


class Method(Protocol):
    """What must be known of a method here; `explainers.ExplainerSpec` has it."""

    @property
    def name(self) -> str: ...
    @property
    def library(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def class_agnostic(self) -> bool: ...


@contextmanager
def fitting(
    spec: Method,
    parameters: Mapping[str, Any],
    found: Examination,
    model: nn.Module,
    images: torch.Tensor,
) -> Iterator[None]:
    """Enclose the call of a method on a model, within `prepared`.

    Args:
        spec, parameters: the method.
        found: what is known of the model.
        model, images: what is explained.
    Raises:
        ModelError: if the method cannot see the layers that it needs, or the model cuts its gradient.
    Warns:
        NoReLURuleWarning: once per method and model, if the method has a rule for ReLUs and the model has
            other activations.
    """
    if found.hidden and spec.library and spec.name not in BLACK_BOX:
        raise ModelError(f"explainer {spec.name!r} needs the layers of the model, but {_HIDDEN}")
    if spec.library.startswith("zennit") and spec.name not in RULED:
        _must_conserve(spec, found, model)
    try:
        yield
    except (ExplainerError, ModelError):
        raise
    except (ValueError, LookupError, *_OF_NO_GRADIENT) as error:
        if found.hidden:
            raise ModelError(f"explainer {spec.name!r} failed ({error}): {_HIDDEN}") from error
        if found.mixed and isinstance(error, RuntimeError):
            raise ModelError(
                f"explainer {spec.name!r} failed ({error}): the model computes in another type than float32, "
                "whatever the type of its weights; let it compute in that of its weights"
            ) from error
        if spec.role == "method" and isinstance(error, _OF_NO_GRADIENT):
            if (beside := _beside(spec, parameters, model, images)) is not None:
                raise beside from error
            if found.cut:
                raise _cut(spec, "the images") from error
        raise
    if not (found.ruled or spec.name in RULED):
        return
    if found.hidden:
        raise ModelError(f"explainer {spec.name!r} needs the ReLUs of the model, but {_HIDDEN}")
    if found.unruled and spec.name not in found.told:
        found.told.add(spec.name)
        rest = "its maps use their plain gradient"
        if not found.relus:
            rest = "and the model has no ReLU: its maps are those of the plain gradient"
        warnings.warn(
            f"explainer {spec.name!r} has a rule for ReLUs but none for {', '.join(found.unruled)}; {rest}",
            NoReLURuleWarning,
            stacklevel=4,
        )


def must_be_live(
    spec: Method,
    parameters: Mapping[str, Any],
    found: Examination,
    model: nn.Module,
    images: torch.Tensor,
    heatmaps: torch.Tensor,
) -> None:
    """Raise if all heatmaps are zero because the model cuts the gradient; other maps of zeros are legal.

    Args:
        spec, parameters: the method.
        found: what is known of the model.
        model, images: what was explained.
        heatmaps: (N, H, W).
    Raises:
        ModelError: naming what no gradient reaches.
    """
    if spec.role != "method" or spec.class_agnostic or spec.name in _WITHOUT_GRADIENT or heatmaps.any():
        return
    if _layer(parameters):
        if (beside := _beside(spec, parameters, model, images)) is not None:
            raise beside
    elif found.cut:
        raise _cut(spec, "the images")


def _layer(parameters: Mapping[str, Any]) -> str:
    layer = parameters.get("layer")
    return layer if isinstance(layer, str) and "," not in layer else ""


def _beside(
    spec: Method, parameters: Mapping[str, Any], model: nn.Module, images: torch.Tensor
) -> ModelError | None:
    """Return the error that the layer of a method does not lead to the scores, if it does not."""
    layer = _layer(parameters)
    try:
        if not layer or not len(images) or not is_cut(model, images, layer):
            return None
        others = leading(model, images)
    except Exception:  # the model itself fails, which the method tells
        return None
    if not others:
        return _cut(spec, f"layer {layer!r}")
    return ModelError(
        f"explainer {spec.name!r}: no gradient leads from the class scores to layer {layer!r}; choose "
        f"another layer, e.g. {spec.name}@{others[-1]} (these lead to the scores: {', '.join(others)})"
    )


def _must_conserve(spec: Method, found: Examination, model: nn.Module) -> None:
    """Raise if relevance would be lost without a word."""
    for name, module in model.named_modules():
        if nn.utils.parametrize.is_parametrized(module) or hasattr(module, "weight_g"):
            raise ModelError(
                f"explainer {spec.name!r} changes the weights of layers, but those of {name!r} are computed "
                "from others (weight_norm and the like): its rule would not apply; call "
                "torch.nn.utils.parametrize.remove_parametrizations, or remove_weight_norm, on a copy first"
            )
    if found.averaged:
        raise ModelError(
            f"explainer {spec.name!r} has a rule for average pooling modules, but the model averages or sums "
            "its maps as a function: the rule would silently not apply; use nn.AdaptiveAvgPool2d(1)"
        )


def _cut(spec: Method, end: str) -> ModelError:
    return ModelError(
        f"explainer {spec.name!r}: no gradient leads from the class scores to {end}; the model detaches, "
        "rounds or converts what it computes: let it compute in floating point, within the gradient graph"
    )
