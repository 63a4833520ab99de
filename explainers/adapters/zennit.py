"""Zennit's composites: `zennit:EpsilonGammaBox?gamma=0.25`."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from an8flower.ground.torchvision_shim import import_torchvision
from explainers.adapters.modules import Known, described, must_be_modules, operations
from explainers.base import ExplainerSpec
from explainers.layers import Call, Watch
from explainers.maps import reduced

import_torchvision()  # before zennit, which imports it too
from zennit import attribution, composites, types  # noqa: E402

_RELU: Known = {"relu": (nn.ReLU,)}
_LRP: Known = {"conv": (types.Convolution,), "fc": (nn.Linear,), "avg_pool": (types.AvgPool,)}
_BACH = "Bach et al. 2015, doi 10.1371/journal.pone.0130140"
_ALPHA_BETA = f"{_BACH}: epsilon rule, and alpha=2, beta=1 for convolutions"
_PLUS = "Montavon et al. 2017, arXiv 1512.02479: z-plus rule for convolutions, epsilon rule"
_FLAT = "; flat rule for the first layer, Lapuschkin et al. 2019, arXiv 1902.10178"

# Source, the layers that the method has rules for, and the kinds whose modules may be called only once.
_METHODS: dict[str, tuple[str, Known, tuple[str, ...]]] = {
    "BetaSmooth": ("Dombrowski et al. 2019, arXiv 1906.07983", _RELU, ("relu",)),
    "DeconvNet": ("Zeiler and Fergus 2014, arXiv 1311.2901", _RELU, ()),
    "EpsilonAlpha2Beta1": (_ALPHA_BETA, _LRP, tuple(_LRP)),
    "EpsilonAlpha2Beta1Flat": (_ALPHA_BETA + _FLAT, _LRP, tuple(_LRP)),
    "EpsilonGammaBox": ("Montavon et al. 2019, doi 10.1007/978-3-030-28954-6_10", _LRP, tuple(_LRP)),
    "EpsilonPlus": (_PLUS, _LRP, tuple(_LRP)),
    "EpsilonPlusFlat": (_PLUS + _FLAT, _LRP, tuple(_LRP)),
    "ExcitationBackprop": ("Zhang et al. 2016, arXiv 1608.00507", _LRP, tuple(_LRP)),
    "GuidedBackprop": ("Springenberg et al. 2015, arXiv 1412.6806", _RELU, ()),
}
_OURS = {"low", "high", "layer_map", "first_map", "canonizers"}

_HOOKED = "sees nn.ReLU modules alone and is the plain gradient elsewhere, so other models are refused"
_CONSERVED = (
    "without canonizers, relevance passes batch normalisation unchanged, and each addition of two branches "
    "doubles it"
)

# Known limitations of the library's methods, each observed on small networks.
KNOWN: dict[str, str] = {
    "BetaSmooth": f"silently wrong if ReLUs are in place, so such models are refused; {_HOOKED}",
    "DeconvNet": _HOOKED,
    "GuidedBackprop": _HOOKED,
    "EpsilonAlpha2Beta1": _CONSERVED,
    "EpsilonAlpha2Beta1Flat": _CONSERVED,
    "EpsilonGammaBox": _CONSERVED,
    "EpsilonPlus": _CONSERVED,
    "EpsilonPlusFlat": _CONSERVED,
    "ExcitationBackprop": _CONSERVED,
}


def names() -> tuple[str, ...]:
    """Return the names of zennit's composites."""
    return tuple(sorted(one.__name__ for one in composites.COMPOSITES.values() if one.__name__ in _METHODS))


def known(name: str) -> str:
    """Return the known limitations of a method; empty if none is known."""
    return KNOWN.get(name, "")


@cache
def spec(name: str) -> ExplainerSpec:
    """Return a method as an explainer."""
    return ExplainerSpec(
        name=f"zennit:{name}",
        build=_build(name),
        source=_METHODS[name][0],
        reduction="l2 norm over the 3 channels (reduce=)",
        library=f"zennit {importlib.metadata.version('zennit')}",
    )


def _build(name: str) -> Callable[..., torch.Tensor]:
    _, rules, once = _METHODS[name]
    composite = getattr(composites, name)
    signature = inspect.signature(composite)
    parameters = {p.name: p.default for p in signature.parameters.values() if p.name not in _OURS}
    parameters["reduce"] = "l2"

    def build(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, **given: Any) -> torch.Tensor:
        given = {**parameters, **given}
        how = given.pop("reduce")
        intact = ("relu",) if name == "BetaSmooth" else ()
        must_be_modules(model, images, f"zennit:{name}", rules, once, intact)
        if "first_map" in signature.parameters:
            _first_must_come_first(model, images, f"zennit:{name}")
        if "low" in signature.parameters:
            given |= _bounds(model, images)
        inputs = images.detach().clone().requires_grad_()
        with attribution.Gradient(model=model, composite=composite(**given)) as attributor:
            _, relevance = attributor(inputs, lambda scores: _one_hot(scores, targets))
        return reduced(relevance.detach(), how)

    described(build, name, f"zennit.composites.{name} with the gradient attributor.", parameters)
    return build


def _one_hot(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.one_hot(targets, scores.shape[1]).to(scores)


def _bounds(model: nn.Module, images: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """Return the bounds of the first convolution's input: the inputs for a black and for a white image."""
    seen: list[torch.Tensor] = []

    def act(call: Call) -> Any:
        if call.name == "conv1":
            seen.append(call.source.detach().clone())
        return call.run()

    for extreme in (torch.zeros_like(images[:1]), torch.ones_like(images[:1])):
        with torch.no_grad(), Watch(act):
            model(extreme)
    black, white = seen
    return {"low": torch.minimum(black, white), "high": torch.maximum(black, white)}


def _first_must_come_first(model: nn.Module, images: torch.Tensor, who: str) -> None:
    """Raise unless the layer that the model defines first, which gets zennit's first rule, also runs first.

    Raises:
        ValueError: if another layer runs first.
    """
    weighted = [one for one in operations(model, images) if one.kind in ("conv", "fc")]
    defined = [module for module in model.modules() if isinstance(module, types.Linear)]
    if not weighted or weighted[0].module is not defined[0]:
        raise ValueError(
            f"{who} applies its rule for the first layer to the layer that is defined first, but the model "
            f"runs another layer first: define the modules in the order in which they run"
        )
    if who.endswith("Box") and weighted[0].kind != "conv":
        raise ValueError(f"{who} has a rule for a first convolution, but the model begins with another layer")
