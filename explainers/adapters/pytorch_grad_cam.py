"""Class activation maps of pytorch-grad-cam: `pytorch_grad_cam:ScoreCAM`."""

from __future__ import annotations

import importlib.metadata
import inspect
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from an8flower.ground.torchvision_shim import import_torchvision
from explainers.adapters.modules import clean, described, in_order, module_for, one_by_one, seeded
from explainers.base import ExplainerSpec

import_torchvision()  # before pytorch_grad_cam, which imports it too
import pytorch_grad_cam  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402


@dataclass(frozen=True)
class _Method:
    """Facts about a method that the library's classes do not provide.

    Args:
        source: paper and arXiv number.
        how: how its channels become one.
        class_agnostic: its heatmaps do not depend on the target.
        alone: it explains one image at a time, since it accepts one target only or needs much memory.
        seeded: it draws random numbers.
        costly: it takes one forward pass per channel, or a hundred patches.
    """

    source: str
    how: str = "weighted sum of the channels, ReLU"
    class_agnostic: bool = False
    alone: bool = False
    seeded: bool = False
    costly: bool = False


_SUMMED = "sum of the channels, each weighted pixel by pixel, ReLU"
_COMPONENT = "first principal component of the channels, ReLU"
_METHODS: dict[str, _Method] = {
    "AblationCAM": _Method("Desai and Ramaswamy 2020, doi 10.1109/WACV45572.2020.9093360", costly=True),
    "EigenCAM": _Method("Muhammad and Yeasin 2020, arXiv 2008.00299", _COMPONENT, class_agnostic=True),
    "EigenGradCAM": _Method("pytorch-grad-cam; after arXiv 2008.00299", _COMPONENT),
    "FEM": _Method("Fuad et al. 2020, doi 10.1109/IPTA50016.2020.9286629", class_agnostic=True),
    "FinerCAM": _Method("Zhang et al. 2025, arXiv 2501.11309", alone=True),
    "FullGrad": _Method(
        "Srinivas and Fleuret 2019, arXiv 1905.00780", "sum of all scaled channels and biases"
    ),
    "GradCAM": _Method("Selvaraju et al. 2017, arXiv 1610.02391"),
    "GradCAMElementWise": _Method("pytorch-grad-cam", "sum of the channels' positive gradient x activation"),
    "GradCAMPlusPlus": _Method("Chattopadhyay et al. 2018, arXiv 1710.11063"),
    "HiResCAM": _Method("Draelos and Carin 2020, arXiv 2011.08891", _SUMMED),
    "KPCA_CAM": _Method(
        "Karmani et al. 2024, arXiv 2410.00267", _COMPONENT, class_agnostic=True, seeded=True
    ),
    "LayerCAM": _Method("Jiang et al. 2021, doi 10.1109/TIP.2021.3089943", _SUMMED),
    "RandomCAM": _Method("floor: random weights of the channels", class_agnostic=True, seeded=True),
    "RefineCAM": _Method("pytorch-grad-cam; arXiv 2605.14641", "product of the layers' Grad-CAM++"),
    "SESS": _Method("Tursun et al. 2022, arXiv 2207.01769", "mean of the patches' Grad-CAM", costly=True),
    "ScoreCAM": _Method("Wang et al. 2020, arXiv 1910.01279", alone=True, costly=True),
    "SegEigenCAM": _Method("Chung and Ying 2025, doi 10.3390/app15137562", _COMPONENT),
    "ShapleyCAM": _Method("Cai 2025, arXiv 2501.06261"),
    "XGradCAM": _Method("Fu et al. 2020, arXiv 2008.02312"),
}

# Parameters that this module passes itself, or that are not plain data.
_OURS = {
    "self", "model", "target_layers", "reshape_transform", "base_method", "ablation_layer", "tta_transforms",
    "input_tensor", "targets", "target_idx", "kwargs", "args", "compute_input_gradient", "uses_gradients",
    "detach",
}  # fmt: skip
_RESIZE = "bilinear by OpenCV, scaled to [0, 1] an image, both by pytorch-grad-cam"

_SIGN = "the sign of its principal component is left to chance: it may show what is around the object"
_DRAWS = "draws from NumPy's global generator, which is seeded (seed=) and put back"

# Known limitations of the library's methods, each observed on small networks.
KNOWN: dict[str, str] = {
    "AblationCAM": "divides by the class score: where that is negative, weights have the wrong sign",
    "EigenCAM": _SIGN,
    "EigenGradCAM": _SIGN,
    "SegEigenCAM": "the sign of its principal component is chosen by the larger extreme alone",
    "FullGrad": "biases of fully connected layers are left out",
    "GradCAMPlusPlus": "adds 1e-6 to eq. 19's denominator, which swamps small gradients",
    "KPCA_CAM": _DRAWS,
    "RandomCAM": _DRAWS,
    "RefineCAM": "Grad-CAM++ if of one layer (name several: @relu1,relu2); takes eigen_smooth for aug_smooth",
    "ScoreCAM": "weights are a softmax of raw class scores, so scaling the scores changes the map",
    "ShapleyCAM": "Grad-CAM exactly, if the network is of ReLUs and max-pools: the Hessian is zero",
}


def names() -> tuple[str, ...]:
    """Return the names of the library's class activation maps."""
    return tuple(name for name in _METHODS if hasattr(pytorch_grad_cam, name))


def known(name: str) -> str:
    """Return the known limitations of a method; empty if none is known."""
    return KNOWN.get(name, "")


@cache
def spec(name: str) -> ExplainerSpec:
    """Return a method as an explainer."""
    method = _METHODS[name]
    return ExplainerSpec(
        name=f"pytorch_grad_cam:{name}",
        build=_build(name, method),
        source=method.source,
        class_agnostic=method.class_agnostic,
        costly=method.costly,
        reduction=method.how,
        resize=_RESIZE,
        library=f"pytorch-grad-cam {importlib.metadata.version('grad-cam')}",
    )


def _build(name: str, method: _Method) -> Callable[..., torch.Tensor]:
    library, who = getattr(pytorch_grad_cam, name), f"pytorch_grad_cam:{name}"
    handed_on = "args" in inspect.signature(library.__call__).parameters
    started, called = _plain(library.__init__), _plain(library.forward if handed_on else library.__call__)
    parameters = {**started, **called}
    if name != "FullGrad":
        parameters["layer"] = "last_conv"
    if method.seeded:
        parameters["seed"] = 0

    def build(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, **given: Any) -> torch.Tensor:
        given = {**parameters, **given}
        if name == "FullGrad":
            _biases_must_run_in_order(model, images)
        wanted = given["layer"].split(",") if "layer" in given else []
        layers = [module_for(model, images, layer.strip(), who) for layer in wanted]
        alone = method.alone or method.seeded
        batches = one_by_one(images, targets) if alone else [(images, targets)]
        maps = []
        for some, some_targets in batches:
            with ExitStack() as inside:
                inside.enter_context(clean(model))
                for redirect in (redirect_stdout, redirect_stderr):  # progress bars and advice
                    inside.enter_context(redirect(io.StringIO()))
                if method.seeded:
                    inside.enter_context(seeded(given["seed"], some))
                if name in ("SESS", "ShapleyCAM"):
                    inside.enter_context(_trainable(model))
                cam = library(model, layers, **{key: given[key] for key in started})
                inside.callback(_release, cam)
                maps.append(_map(cam, some, some_targets, {key: given[key] for key in called}))
        return torch.from_numpy(np.concatenate(maps).astype(np.float32)).to(images.device)

    described(build, name, f"pytorch_grad_cam.{name}, called with its own parameters.", parameters)
    return build


def _map(
    cam: Any, images: torch.Tensor, targets: torch.Tensor, called: Mapping[str, Any]
) -> np.ndarray[Any, np.dtype[Any]]:
    # The library differentiates activations, which have a graph only if the input requires gradients.
    inputs = images.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    maps: np.ndarray[Any, np.dtype[Any]]
    if isinstance(cam, pytorch_grad_cam.FinerCAM):
        maps = cam(inputs, target_idx=int(targets[0]), **called)
    else:
        maps = cam(inputs, [ClassifierOutputTarget(target) for target in targets.tolist()], **called)
    return maps


def _release(cam: Any) -> None:
    inner = getattr(cam, "base_cam_per_layer", [getattr(cam, "base_cam", cam)])
    for base_cam in inner:
        base_cam.activations_and_grads.release()


@contextmanager
def _trainable(model: nn.Module) -> Iterator[None]:
    """Let parameters require gradients inside the block, as they do where the library's users call it.

    SESS detaches its patches from the graph of the input. ShapleyCAM differentiates gradients, which have
    no graph if only linear layers follow and parameters require no gradients.
    """
    try:
        model.requires_grad_(True)
        yield
    finally:
        model.requires_grad_(False)
        model.zero_grad(set_to_none=True)


def _biases_must_run_in_order(model: nn.Module, images: torch.Tensor) -> None:
    """Raise unless the modules with a bias run once each, in the order in which the model defines them.

    FullGrad pairs biases in the order of definition with gradients in the order of the backward pass.

    Raises:
        ValueError: if they run in another order, or more than once.
    """
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    defined = [module for module in model.modules() if type(module) in kinds and module.bias is not None]
    if [module for module in in_order(model, images) if module in defined] != defined:
        raise ValueError(
            "pytorch_grad_cam:FullGrad pairs the biases of convolutions and batch normalisations with "
            "gradients in the order in which the model defines these modules, but the model runs them in "
            "another order or more than once: FullGrad would silently mix them up"
        )


def _plain(call: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(call).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in _OURS and p.kind is not p.VAR_KEYWORD}
