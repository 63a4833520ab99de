"""Captum's attributions of pixels, squares of pixels and layers: `captum:IntegratedGradients?n_steps=50`."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

import captum
import torch
from captum import attr
from torch import nn

from an8flower.ground.registry import MissingExtraError
from explainers.adapters import captum_rules
from explainers.adapters.modules import (
    Known,
    clean,
    described,
    module_for,
    must_be_modules,
    one_by_one,
    seeded,
)
from explainers.base import ExplainerSpec
from explainers.maps import reduced, upsampled

_RELU: Known = {"relu": (nn.ReLU,)}
_DEEP_LIFT: Known = {"relu": (nn.ReLU,), "max_pool": (nn.MaxPool2d,)}
_LRP: Known = {
    "conv": (nn.Conv2d,),
    "fc": (nn.Linear,),
    "avg_pool": (nn.AvgPool2d, nn.AdaptiveAvgPool2d),
}


@dataclass(frozen=True)
class _Method:
    """Facts about a method that captum's classes do not provide.

    Args:
        source: paper and arXiv number.
        rules: the layers it has rules for, if it works with rules for modules.
        once: kinds of layers whose modules may be called only once.
        squares: squares along each side of the image, for methods whose features are squares of pixels.
        seeded: it draws random numbers.
        costly: it takes hundreds of forward passes per image.
    """

    source: str
    rules: Known | None = None
    once: tuple[str, ...] = ()
    squares: int = 0
    seeded: bool = False
    costly: bool = False


_SIMONYAN = "Simonyan et al. 2014, arXiv 1312.6034"
_SHRIKUMAR = "Shrikumar et al. 2016, arXiv 1605.01713"
_SUNDARARAJAN = "Sundararajan et al. 2017, arXiv 1703.01365"
_SHAP = "Lundberg and Lee 2017, arXiv 1705.07874"
_RESCALE = "Shrikumar et al. 2017, arXiv 1704.02685, the rescale rule"
_BACH = "Bach et al. 2015, doi 10.1371/journal.pone.0130140"
_ABLATION = "captum; after Zeiler and Fergus 2014, arXiv 1311.2901"

_METHODS: dict[str, _Method] = {
    "Deconvolution": _Method("Zeiler and Fergus 2014, arXiv 1311.2901", _RELU),
    "DeepLift": _Method(_RESCALE, _DEEP_LIFT, tuple(_DEEP_LIFT)),
    "DeepLiftShap": _Method(_SHAP, _DEEP_LIFT, tuple(_DEEP_LIFT)),
    "FeatureAblation": _Method(_ABLATION, squares=7),
    "GradientShap": _Method(_SHAP, seeded=True),
    "GuidedBackprop": _Method("Springenberg et al. 2015, arXiv 1412.6806", _RELU),
    "GuidedGradCam": _Method("Selvaraju et al. 2017, arXiv 1610.02391", _RELU),
    "InputXGradient": _Method(_SHRIKUMAR),
    "IntegratedGradients": _Method(_SUNDARARAJAN),
    "InternalInfluence": _Method("Leino et al. 2018, arXiv 1802.03788"),
    "KernelShap": _Method(_SHAP, squares=7, seeded=True),
    "LRP": _Method(_BACH, _LRP, (*_LRP, "max_pool")),
    "LayerActivation": _Method("captum; the activations themselves"),
    "LayerConductance": _Method("Dhamdhere et al. 2018, arXiv 1805.12233"),
    "LayerDeepLift": _Method(_RESCALE, _DEEP_LIFT, tuple(_DEEP_LIFT)),
    "LayerDeepLiftShap": _Method(_SHAP, _DEEP_LIFT, tuple(_DEEP_LIFT)),
    "LayerFeatureAblation": _Method(_ABLATION, costly=True),
    "LayerGradCam": _Method("Selvaraju et al. 2017, arXiv 1610.02391"),
    "LayerGradientShap": _Method(_SHAP, seeded=True),
    "LayerGradientXActivation": _Method(_SHRIKUMAR),
    "LayerIntegratedGradients": _Method(_SUNDARARAJAN),
    "LayerLRP": _Method(_BACH, _LRP, (*_LRP, "max_pool")),
    "Lime": _Method("Ribeiro et al. 2016, arXiv 1602.04938", squares=7, seeded=True),
    "Occlusion": _Method("Zeiler and Fergus 2014, arXiv 1311.2901"),
    "Saliency": _Method(_SIMONYAN),
    "ShapleyValueSampling": _Method(
        "Castro et al. 2009, doi 10.1016/j.cor.2008.04.004", squares=7, seeded=True, costly=True
    ),
    "ShapleyValues": _Method("Shapley 1953", squares=2),
}

# Parameters that this module passes itself, or that are not plain data, or do not change the heatmap.
_OURS = {
    "self", "forward_func", "model", "layer", "inputs", "target", "additional_forward_args", "device_ids",
    "feature_mask", "layer_mask", "grad_kwargs", "custom_attribution_func", "return_convergence_delta",
    "return_input_shape", "show_progress", "verbose", "interpretable_model", "similarity_func",
    "perturb_func",
}  # fmt: skip

_HOOKED = (
    "sees nn.ReLU modules alone and is the plain gradient elsewhere, so other models are refused; replaces "
    "the gradient of all users of a ReLU's input, so each ReLU is given an input of its own"
)
_RESCALED = (
    "silently wrong for ReLUs and max-pools that are no modules, so such models are refused; its max-pool "
    "rule is lost where a ReLU's output is pooled directly, and takes the gradient of the first image "
    "(multiply_by_inputs=False), so images go one by one; replaces the gradient of all users of a ReLU's "
    "input, so each ReLU is given an input of its own"
)
_DRAWS = "draws from NumPy's and PyTorch's global generators, which are seeded (seed=) and put back"
_FEW = "25 samples, its default, are fewer than the 49 squares: two seeds have nothing in common (n_samples=)"
_EPSILON = (
    "no rule for modules such as Flatten, which get identity or epsilon here; leaves attributes on the "
    "model, which are removed here"
)

# Known limitations of the library's methods, each observed on small networks.
KNOWN: dict[str, str] = {
    "Deconvolution": _HOOKED,
    "GuidedBackprop": _HOOKED,
    "GuidedGradCam": f"nearest-neighbour upsampling of the CAM; {_HOOKED}",
    "DeepLift": _RESCALED,
    "DeepLiftShap": _RESCALED,
    "LayerDeepLift": _RESCALED,
    "LayerDeepLiftShap": _RESCALED,
    "GradientShap": _DRAWS,
    "LayerGradientShap": _DRAWS,
    "KernelShap": _FEW,
    "Lime": f"{_FEW}; its Lasso gives an empty map where scores differ by less than about 0.01",
    "LRP": f"{_EPSILON}; input x gradient but for epsilon",
    "LayerLRP": f"{_EPSILON}; asked for a ReLU it fails, so it is asked for the module before",
    "LayerGradCam": "no ReLU unless told so (relu_attributions=True), so it may be negative",
}


def names() -> tuple[str, ...]:
    """Return the names of captum's attributions that give a heatmap of an image classifier."""
    return tuple(_METHODS)


def known(name: str) -> str:
    """Return the known limitations of a method; empty if none is known."""
    return KNOWN.get(name, "")


@cache
def spec(name: str) -> ExplainerSpec:
    """Return a method as an explainer.

    Raises:
        MissingExtraError: if the method needs scikit-learn and it is not installed.
    """
    method, library = _METHODS[name], getattr(attr, name)
    if name in ("Lime", "KernelShap") and importlib.util.find_spec("sklearn") is None:
        raise MissingExtraError(f"captum:{name} needs scikit-learn: pip install scikit-learn")
    reduction, resize = "l2 norm over the 3 channels (reduce=)", ""
    if _of_layer(library):
        reduction = "sum of the channels" if name != "LayerGradCam" else "sum of the weighted channels"
        resize = "bilinear, half-pixel centres, by this package"
    elif _of_areas(method, library):
        reduction, resize = "mean over the 3 channels", "none: an area has one value"
    elif name == "GuidedGradCam":
        resize = "the map: by captum (interpolate_mode=), nearest if not told otherwise"
    return ExplainerSpec(
        name=f"captum:{name}",
        build=_build(name, method, library),
        source=method.source,
        class_agnostic=name == "LayerActivation",
        costly=method.costly,
        reduction=reduction,
        resize=resize,
        library=f"captum {captum.__version__}",
    )


def _build(name: str, method: _Method, library: Any) -> Callable[..., torch.Tensor]:
    parameters = _parameters(method, library)
    # In some of captum's methods, the heatmap of an image depends on the rest of the batch.
    alone = method.seeded or "n_steps" in parameters or "DeepLift" in name

    def build(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, **given: Any) -> torch.Tensor:
        given = {**parameters, **given}
        started = _taken(library.__init__, given)
        if method.rules:
            must_be_modules(model, images, f"captum:{name}", method.rules, method.once)
        if "layer" in given:
            # Captum's LayerLRP fails for a ReLU; relevance passes a ReLU unchanged.
            past = nn.ReLU if name == "LayerLRP" else None
            started["layer"] = module_for(model, images, given["layer"], f"captum:{name}", past=past)
        batches = one_by_one(images, targets) if alone else [(images, targets)]
        maps = []
        for some, some_targets in batches:
            with ExitStack() as inside:
                inside.enter_context(clean(model))
                inside.enter_context(warnings.catch_warnings())
                # Captum's notes that it sets and removes hooks.
                warnings.filterwarnings("ignore", message="Setting (forward, )?backward hooks")
                if method.seeded:
                    inside.enter_context(seeded(given["seed"], some))
                if method.rules:
                    captum_rules.separate_inputs(model, inside)
                if method.rules is _LRP:
                    captum_rules.complete(model, some, inside)
                maps.append(_map(method, library(model, **started), some, some_targets, given))
        return torch.cat(maps)

    described(build, name, f"captum.attr.{name}, called with its own parameters.", parameters)
    return build


def _map(
    method: _Method, attribution: Any, images: torch.Tensor, targets: torch.Tensor, given: Mapping[str, Any]
) -> torch.Tensor:
    library = type(attribution)
    inputs = images.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    passed = _taken(library.attribute, given)
    if "target" in inspect.signature(library.attribute).parameters:
        passed["target"] = targets
    if isinstance(given.get("baselines"), tuple):  # grey levels: one image per level
        levels = torch.tensor(given["baselines"], dtype=images.dtype, device=images.device)
        passed["baselines"] = levels[:, None, None, None].expand(-1, *images.shape[1:]).contiguous()
    if method.squares:
        passed["feature_mask"] = _squares(images, given["squares"])
    result = attribution.attribute(inputs, **passed)
    maps: torch.Tensor = (result[0] if isinstance(result, tuple) else result).detach().float()
    if _of_layer(library):
        return upsampled(maps.sum(dim=1), images)
    return maps.mean(dim=1) if _of_areas(method, library) else reduced(maps, given["reduce"])


def _squares(images: torch.Tensor, along: int) -> torch.Tensor:
    """Return the number of each pixel's square, for `along` x `along` squares."""
    height, width = images.shape[2:]
    rows, columns = (torch.arange(size, device=images.device) * along // size for size in (height, width))
    return (rows[:, None] * along + columns).expand(1, *images.shape[1:]).contiguous()


def _of_layer(library: Any) -> bool:
    return issubclass(library, attr.LayerAttribution | attr.InternalInfluence)


def _of_areas(method: _Method, library: Any) -> bool:
    return bool(method.squares) or library is attr.Occlusion


def _parameters(method: _Method, library: Any) -> dict[str, Any]:
    """Return captum's parameters that are plain data, and those that this module adds, with defaults."""
    both = [*_plain(library.__init__), *_plain(library.attribute)]
    defaults = {parameter.name: parameter.default for parameter in both}
    if library is attr.Occlusion:
        defaults |= {"sliding_window_shapes": (3, 15, 15), "strides": (3, 8, 8)}
    if defaults.get("baselines", None) is inspect.Parameter.empty:
        defaults["baselines"] = (0.0, 0.0)
    if "layer" in inspect.signature(library.__init__).parameters:
        defaults["layer"] = "last_conv"
    if not _of_layer(library) and not _of_areas(method, library):
        defaults["reduce"] = "l2"
    if method.squares:
        defaults["squares"] = method.squares
    if method.seeded:
        defaults["seed"] = 0
    return defaults


def _plain(call: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = inspect.signature(call).parameters.values()
    return [p for p in parameters if p.name not in _OURS and p.kind is not inspect.Parameter.VAR_KEYWORD]


def _taken(call: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    takes = inspect.signature(call).parameters
    return {name: value for name, value in given.items() if name in takes and name != "layer"}
