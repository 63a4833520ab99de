"""The same method by this package and by other libraries: how far apart their heatmaps are, and why.

Run

    python -m benchmark.experiments.evidence.parity \\
        --checkpoint checkpoints/single-6c/an8net/fold0.safetensors

It writes `docs/parity.md`.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch import nn

import explainers
from an8flower.ground import files
from benchmark.training.weights import load_model
from benchmark.why import fold_of
from explainers.maps import scaled

SAME = 1e-5  # of the range of a map: what rounding may come to


@dataclass(frozen=True)
class Pair:
    """One method by two hands.

    Args:
        ours, theirs: names as `explainers.get` reads them.
        same: whether they give the same maps, but for rounding.
        why: where they differ, or what makes them agree.
    """

    ours: str
    theirs: str
    same: bool
    why: str


@dataclass(frozen=True)
class Found:
    """How far apart a pair is on some images, each map scaled to [0, 1].

    Args:
        pair: the two.
        largest, mean: absolute difference over all pixels and images.
    """

    pair: Pair
    largest: float
    mean: float

    @property
    def as_stated(self) -> bool:
        """Whether they agree, or differ, as the pair says."""
        return (self.largest <= SAME) == self.pair.same


_HOOKS = "on models whose ReLUs are modules; the adapter refuses others"
PAIRS = (
    Pair("gradient", "captum:Saliency", True, "both reduced by the l2 norm over the channels"),
    Pair("input_x_gradient", "captum:InputXGradient", True, "the same product, on the image in [0, 1]"),
    Pair("guided_backprop", "captum:GuidedBackprop", True, _HOOKS),
    Pair("guided_backprop", "zennit:GuidedBackprop", True, _HOOKS),
    Pair("deconvnet", "captum:Deconvolution", True, _HOOKS),
    Pair("deconvnet", "zennit:DeconvNet", True, _HOOKS),
    Pair("grad_cam", "captum:LayerGradCam?relu_attributions=True", True, "with the final ReLU"),
    Pair("grad_cam", "captum:LayerGradCam", False, "ReLU: captum's default is to have none at the end"),
    Pair(
        "grad_cam", "pytorch_grad_cam:GradCAM", True, "scaled before up-sampling, which changes no scaled map"
    ),
    Pair("grad_cam", "pytorch_grad_cam:GradCAM@conv3", False, "layer: before the ReLU instead of after it"),
    Pair("grad_cam", "pytorch_grad_cam:GradCAM@conv2", False, "layer: a convolution earlier, a larger map"),
    Pair(
        "grad_cam_pp",
        "pytorch_grad_cam:GradCAMPlusPlus",
        False,
        "weights: a constant 1e-6 in their denominator swamps small squared gradients",
    ),
    Pair("layer_cam", "pytorch_grad_cam:LayerCAM", True, "the same sum, scaled"),
    Pair("guided_grad_cam", "captum:GuidedGradCam", False, "resize: captum takes the nearest neighbour"),
    Pair(
        "guided_grad_cam", "captum:GuidedGradCam?interpolate_mode=bilinear", True, "with bilinear up-sampling"
    ),
)


def compare(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, pairs: Iterable[Pair] = PAIRS
) -> list[Found]:
    """Explain the same images for the same classes by both of each pair.

    Args:
        model: its ReLUs must be modules, for the libraries' sake.
        images, targets: as an explainer takes them.
        pairs: all by default.
    """
    found = []
    for pair in pairs:
        mine, other = (
            scaled(explainers.get(name)(model, images, targets)) for name in (pair.ours, pair.theirs)
        )
        apart = (mine - other).abs()
        found.append(Found(pair, float(apart.max()), float(apart.mean())))
    return found


def to_markdown(found: list[Found], about: str, command: str) -> str:
    """The page `docs/parity.md`."""
    libraries = {explainers.get(one.pair.theirs).spec.library for one in found}
    lines = [
        "# The same method, four libraries",
        "",
        f"Made by `{command}` on {about}, with {', '.join(sorted(libraries))} and PyTorch "
        f"{torch.__version__} ({platform.machine()}).",
        "",
        "Each heatmap is scaled to [0, 1]; the difference is over all pixels and images. *Same* means that",
        f"the largest is at most {SAME:g}, which is rounding. Every line is held by a test.",
        "",
        "| ours | theirs | largest | mean | | why |",
        "|---|---|---:|---:|---|---|",
    ]
    for one in found:
        verdict = "same" if one.largest <= SAME else "**differs**"
        pair = one.pair
        lines.append(
            f"| `{pair.ours}` | `{pair.theirs}` | {one.largest:.1e} | {one.mean:.1e} | {verdict} "
            f"| {pair.why} |"
        )
    return "\n".join([*lines, "", _NOTES])


_NOTES = """What differs silently between libraries, and what this package does:

- **The layer.** `last_conv` is the output of the last convolution whose map is larger than 1x1, after its
  ReLU and before pooling. Libraries take a module and leave the choice to you; it matters more than the
  choice of method.
- **The final ReLU of Grad-CAM.** Selvaraju et al. 2017 have one (eq. 2), captum's `LayerGradCam` has none by
  default, so that evidence against the class is the low end of the scale.
- **Up-sampling.** Bilinear with half-pixel centres here and in pytorch-grad-cam (through OpenCV); captum's
  `interpolate` and `GuidedGradCam` take the nearest neighbour by default.
- **Functional and re-used ReLUs.** Captum and Zennit replace the backward pass of modules. A ReLU that is
  called as a function is not replaced, and nothing is said. The adapters refuse such models with a reason;
  our methods see the functions that a model calls, so they work on all of them.
- **Pooling of the gradients.** The mean over the map, in all three; a sum would change no scaled map.
"""


def main(
    checkpoint: Annotated[Path, typer.Option(help="Weights (.safetensors) that 'train' wrote.")],
    root: Annotated[Path, typer.Option(help="Folder that holds the dataset.")] = Path("data"),
    images: Annotated[int, typer.Option(help="Test images, drawn at random from seed 0.")] = 100,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("docs/parity.md"),
) -> None:
    """Compare every pair of methods on test images and write the table."""
    trained = load_model(checkpoint)
    batch = next(fold_of(trained, root, "test").batches(images, rng=np.random.default_rng(0)))
    with torch.no_grad():
        targets = trained.model(batch.images).argmax(1)
    found = compare(trained.model, batch.images, targets)
    identity = trained.record["identity"]
    about = (
        f"{len(targets)} test images of {identity['variant']}, fold {identity['fold']}, {identity['model']}"
    )
    command = f"python -m benchmark.experiments.evidence.parity --checkpoint {checkpoint}"
    files.write(out, to_markdown(found, about, command).encode())
    wrong = [
        f"{one.pair.ours} and {one.pair.theirs}: {one.largest:.1e}" for one in found if not one.as_stated
    ]
    Console().print(f"wrote {out}\n" + "\n".join(f"not as stated: {one}" for one in wrong))
    raise typer.Exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
