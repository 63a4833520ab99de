"""Compare the heatmaps of the same method in this package and in other libraries.

Run

    python -m benchmark.experiments.evidence.parity \\
        --checkpoint checkpoints/single-6c/an8net/fold0.safetensors

It writes `docs/parity.md`.
"""

from __future__ import annotations

import platform
import textwrap
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
from benchmark.why import images_of
from explainers.maps import scaled

SAME = 1e-5  # of the range of a heatmap: the largest difference that counts as rounding
WIDTH = 100  # characters per line of the page


@dataclass(frozen=True)
class Pair:
    """One method in two implementations.

    Args:
        ours, theirs: names as `explainers.get` reads them.
        same: whether their heatmaps are expected to be the same, except for rounding.
        why: what makes them differ, or what makes them agree.
    """

    ours: str
    theirs: str
    same: bool
    why: str


@dataclass(frozen=True)
class Difference:
    """Difference between the heatmaps of a pair on some images, each heatmap scaled to [0, 1].

    Args:
        pair: the two implementations.
        largest, mean: absolute difference over all pixels and images, in [0, 1].
    """

    pair: Pair
    largest: float
    mean: float

    @property
    def as_stated(self) -> bool:
        """Whether the heatmaps agree or differ as the pair states."""
        return (self.largest <= SAME) == self.pair.same


_HOOKS = "for models whose ReLUs are modules; the adapter refuses others"
PAIRS = (
    Pair("gradient", "captum:Saliency", True, "both are reduced by the L2 norm over the channels"),
    Pair("input_x_gradient", "captum:InputXGradient", True, "the same product, with the image in [0, 1]"),
    Pair("guided_backprop", "captum:GuidedBackprop", True, _HOOKS),
    Pair("guided_backprop", "zennit:GuidedBackprop", True, _HOOKS),
    Pair("deconvnet", "captum:Deconvolution", True, _HOOKS),
    Pair("deconvnet", "zennit:DeconvNet", True, _HOOKS),
    Pair("grad_cam", "captum:LayerGradCam?relu_attributions=True", True, "with the final ReLU"),
    Pair("grad_cam", "captum:LayerGradCam", False, "ReLU: by default, captum has none at the end"),
    Pair(
        "grad_cam",
        "pytorch_grad_cam:GradCAM",
        True,
        "scaled before up-sampling, which does not change the scaled heatmap",
    ),
    Pair("grad_cam", "pytorch_grad_cam:GradCAM@conv3", False, "layer: before the ReLU instead of after it"),
    Pair("grad_cam", "pytorch_grad_cam:GradCAM@conv2", False, "layer: one convolution earlier, a larger map"),
    Pair(
        "grad_cam_pp",
        "pytorch_grad_cam:GradCAMPlusPlus",
        False,
        "weights: a constant of 1e-6 in the denominator is larger than small squared gradients",
    ),
    Pair("layer_cam", "pytorch_grad_cam:LayerCAM", True, "the same sum, scaled"),
    Pair("guided_grad_cam", "captum:GuidedGradCam", False, "resize: captum up-samples by nearest neighbours"),
    Pair(
        "guided_grad_cam", "captum:GuidedGradCam?interpolate_mode=bilinear", True, "with bilinear up-sampling"
    ),
)


def compare(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, pairs: Iterable[Pair] = PAIRS
) -> list[Difference]:
    """Explain the same images with both implementations of each pair.

    Args:
        model: a classifier whose ReLUs are modules, which the libraries require.
        images: (N, 3, H, W) float32 in [0, 1].
        targets: (N,) int64, the classes to explain.
        pairs: the pairs to compare; all by default.
    Returns:
        the differences, in the order of `pairs`.
    """
    differences = []
    for pair in pairs:
        ours, theirs = (
            scaled(explainers.get(name)(model, images, targets)) for name in (pair.ours, pair.theirs)
        )
        difference = (ours - theirs).abs()
        differences.append(Difference(pair, float(difference.max()), float(difference.mean())))
    return differences


def to_markdown(differences: list[Difference], about: str, command: str) -> str:
    """Return the page `docs/parity.md`.

    Args:
        differences: the differences of all pairs.
        about: the images and the model they were measured on, as text.
        command: the command that measured them.
    """
    libraries = sorted({explainers.get(each.pair.theirs).spec.library for each in differences})
    versions = f"{', '.join(libraries)} and PyTorch {torch.__version__} ({platform.machine()})"
    return page(differences, f"Measured on {about}, with {versions}, by this command:", command)


def page(differences: list[Difference], measured: str, command: str) -> str:
    """Return the page with a sentence that says on what it was measured; other arguments as `to_markdown`."""
    rows = [
        f"| `{each.pair.ours}` | `{each.pair.theirs}` | {each.largest:.1e} | {each.mean:.1e} "
        f"| {'same' if each.largest <= SAME else '**differs**'} | {each.pair.why} |"
        for each in differences
    ]
    reading = (
        "Each heatmap is scaled to [0, 1]. The columns show the largest and the mean absolute difference "
        f"over all pixels and images. *Same* means that the largest difference is at most {SAME:g}, which is "
        "rounding. A test checks each row."
    )
    lines = [
        "# The same methods in four libraries",
        "",
        textwrap.fill(measured, WIDTH, break_on_hyphens=False),
        "",
        "```sh",
        command,
        "```",
        "",
        textwrap.fill(reading, WIDTH, break_on_hyphens=False),
        "",
        "| ours | theirs | largest | mean | | why |",
        "|---|---|---:|---:|---|---|",
        *rows,
        "",
        _NOTES,
    ]
    return "\n".join(lines)


_NOTES = """Where libraries differ without a message, and what this package does:

- **The layer.** Here, `last_conv` is the output of the last convolution whose map is larger than
  1x1, after its ReLU and before pooling. The libraries take a module and leave the choice to the
  user. The layer matters more than the choice of the method.
- **The final ReLU of Grad-CAM.** Selvaraju et al. 2017 apply a ReLU at the end (eq. 2). By default,
  captum's `LayerGradCam` does not, so evidence against the class is at the low end of the scale.
- **Up-sampling.** Bilinear with half-pixel centres here and in pytorch-grad-cam (through OpenCV).
  By default, captum's `interpolate` and `GuidedGradCam` use nearest neighbours.
- **Functional and re-used ReLUs.** Captum and Zennit replace the backward pass of modules. A ReLU
  that is called as a function is not replaced, and no message says so. The adapters refuse such
  models and say why. Our own methods intercept the functions that a model calls, so they work on
  all of them.
- **Pooling of the gradients.** The mean over the map, here, in captum and in pytorch-grad-cam. A
  sum would not change the scaled heatmap.
"""


def main(
    checkpoint: Annotated[Path, typer.Option(help="Weights (.safetensors) written by 'train'.")],
    root: Annotated[Path, typer.Option(help="Folder that holds the dataset.")] = Path("data"),
    images: Annotated[int, typer.Option(help="Number of test images, drawn at random with seed 0.")] = 100,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("docs/parity.md"),
) -> None:
    """Compare all pairs of methods on test images and write the page."""
    trained = load_model(checkpoint)
    batch = next(images_of(trained, root, "test").batches(images, rng=np.random.default_rng(0)))
    with torch.no_grad():
        targets = trained.model(batch.images).argmax(1)
    differences = compare(trained.model, batch.images, targets)
    identity = trained.record["identity"]
    about = (
        f"{len(targets)} test images of {identity['variant']}, fold {identity['fold']}, {identity['model']}"
    )
    command = f"python -m benchmark.experiments.evidence.parity --checkpoint {checkpoint}"
    files.write(out, to_markdown(differences, about, command).encode())
    wrong = [
        f"{each.pair.ours} and {each.pair.theirs}: {each.largest:.1e}"
        for each in differences
        if not each.as_stated
    ]
    Console().print("\n".join([f"wrote {out}", *(f"not as stated: {pair}" for pair in wrong)]))
    raise typer.Exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
