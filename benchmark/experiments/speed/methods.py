"""Measure the speed of the methods, of the same methods in other libraries, and of the passes they need.

Run

    python -m benchmark.experiments.speed.methods \\
        --checkpoint checkpoints/single-6c/an8net/fold0.safetensors
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from captum import attr
from rich.console import Console
from rich.table import Table
from torch import nn

import explainers
from an8flower.ground.torchvision_shim import import_torchvision
from benchmark.board.paper import TABLE_1
from benchmark.training.loader import TrainingBatches
from benchmark.training.weights import load_model
from benchmark.why import images_of
from explainers.base import CPU_PIECE_PX
from explainers.maps import reduced, scaled

Action = Callable[[], Any]
FORWARD, BOTH = ("forward", "forward, in pieces"), ("forward + backward",)


@dataclass(frozen=True)
class Comparison:
    """One method and other implementations that give the same maps.

    Args:
        method: name of what is measured.
        goal: how many times as fast as the fastest other implementation it should be.
        ours_s, others_s: median seconds for a batch; those of others by name.
        floor_s: median seconds of the passes that the method needs in any case, by name.
        gap: mean difference of the maps, scaled to [0, 1], from those of the most different implementation.
    """

    method: str
    goal: float
    ours_s: float
    others_s: Mapping[str, float]
    floor_s: Mapping[str, float]
    gap: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times as fast as the fastest other implementation it is."""
        return min(self.others_s.values()) / self.ours_s


def medians(actions: Mapping[str, Action], repeats: int) -> dict[str, float]:
    """Return the median seconds of actions that alternate, so that load affects all equally."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats + 1):
        for name, action in actions.items():
            begun = time.perf_counter()
            action()
            taken[name].append(time.perf_counter() - begun)
    return {name: float(np.median(times[1:])) for name, times in taken.items()}  # without warm-up


def compare(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, repeats: int) -> list[Comparison]:
    """Time our methods and the same methods of captum, pytorch-grad-cam and Zennit.

    Args:
        model: an8net, written with modules, which the libraries require.
        images, targets: a batch.
        repeats: number of turns, of which the median is taken.
    """
    floors: dict[str, Action] = {
        "forward": lambda: _forward(model, images),
        "forward + backward": lambda: _both(model, images),
    }
    size = CPU_PIECE_PX // (images.shape[-2] * images.shape[-1])
    floors["forward, in pieces"] = lambda: [_forward(model, piece) for piece in torch.split(images, size)]
    rows = []
    for name, (goal, floor, others) in _others(model, images, targets).items():
        explainer = explainers.get(name)

        def ours(explainer: explainers.Explainer = explainer) -> torch.Tensor:
            return explainer(model, images, targets)

        gaps = [_gap(ours(), action()) for action in others.values()]
        times = medians({"ours": ours, **others, **{passes: floors[passes] for passes in floor}}, repeats)
        mine, least = times.pop("ours"), {passes: times.pop(passes) for passes in floor}
        rows.append(Comparison(name, goal, mine, times, least, max(gaps)))
    return rows


def together(
    fitted: list[explainers.Explainer],
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    repeats: int,
) -> Comparison:
    """Time `explain_many` and separate calls of the same fitted explainers."""
    actions: dict[str, Action] = {
        "together": lambda: explainers.explain_many(fitted, model, images, targets),
        "one by one": lambda: [explainer(model, images, targets) for explainer in fitted],
        "forward": lambda: _forward(model, images),
    }
    times = medians(actions, repeats)
    alone, floor = {"one by one": times["one by one"]}, {"forward": times["forward"]}
    return Comparison(f"explain_many, {len(fitted)} methods", 2.0, times["together"], alone, floor)


def _others(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor
) -> dict[str, tuple[float, tuple[str, ...], dict[str, Action]]]:
    """Return for each method the goal, the floors, and its implementations in other libraries."""
    import_torchvision()
    import pytorch_grad_cam as pgc
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from zennit.attribution import Gradient
    from zennit.composites import GuidedBackprop

    relu = model.get_submodule("relu3")
    size = tuple(images.shape[-2:])
    pixels = images.clone().requires_grad_()
    chosen = [ClassifierOutputTarget(int(target)) for target in targets]
    cams = {
        "grad_cam": pgc.GradCAM(model=model, target_layers=[relu]),
        "grad_cam_pp": pgc.GradCAMPlusPlus(model=model, target_layers=[relu]),
    }
    cam, guided = attr.LayerGradCam(model, relu), attr.GuidedBackprop(model)
    classes = model(images[:1]).shape[1]
    one_hot = torch.eye(classes)[targets]

    def captum_cam() -> torch.Tensor:
        maps = cam.attribute(images, target=targets, relu_attributions=True)
        large: torch.Tensor = attr.LayerAttribution.interpolate(maps, size, interpolate_mode="bilinear")
        return large[:, 0].detach()

    def pytorch_cam(name: str) -> torch.Tensor:
        return torch.from_numpy(cams[name](input_tensor=pixels, targets=chosen))

    def captum_guided() -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of the hooks it sets
            signal: torch.Tensor = guided.attribute(pixels, target=targets)
        return signal.detach()

    def zennit_guided() -> torch.Tensor:
        with Gradient(model=model, composite=GuidedBackprop()) as attributor:
            _, signal = attributor(pixels, one_hot)
        detached: torch.Tensor = signal.detach()
        return detached

    pytorch = "pytorch-grad-cam"
    return {
        "grad_cam": (1.5, FORWARD, {"captum": captum_cam, pytorch: lambda: pytorch_cam("grad_cam")}),
        "grad_cam_pp": (1.5, FORWARD, {pytorch: lambda: pytorch_cam("grad_cam_pp")}),
        "guided_backprop": (
            1.0,
            BOTH,
            {"captum": lambda: reduced(captum_guided()), "zennit": lambda: reduced(zennit_guided())},
        ),
        "guided_grad_cam": (
            1.0,
            BOTH,
            {
                "captum": lambda: reduced(captum_guided()) * captum_cam(),
                f"zennit x {pytorch}": lambda: reduced(zennit_guided()) * pytorch_cam("grad_cam"),
            },
        ),
        "guided_grad_cam_pp": (
            1.0,
            BOTH,
            {
                f"captum x {pytorch}": lambda: reduced(captum_guided()) * pytorch_cam("grad_cam_pp"),
                f"zennit x {pytorch}": lambda: reduced(zennit_guided()) * pytorch_cam("grad_cam_pp"),
            },
        ),
    }


def _gap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((scaled(ours) - scaled(theirs)).abs().mean())


def _forward(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(images)
    return logits


def _both(model: nn.Module, images: torch.Tensor) -> None:
    pixels = images.clone().requires_grad_()
    torch.autograd.grad(model(pixels).sum(), pixels)


def table(rows: list[Comparison], images: int) -> Table:
    """Return a table with one row per method: rates, other implementations, and the floor."""
    drawn = Table(
        title=f"images/s, batch of {images}, {platform.machine()}, {torch.get_num_threads()} torch threads",
        title_justify="left",
    )
    for heading in ("method", "ours", "others", "ratio", "goal", "the model alone", "gap"):
        drawn.add_column(heading)
    for row in rows:
        others = "\n".join(f"{name} {images / seconds:.0f}" for name, seconds in row.others_s.items())
        floor = "\n".join(f"{name} {images / seconds:.0f}" for name, seconds in row.floor_s.items())
        drawn.add_row(
            row.method, f"{images / row.ours_s:.0f}", others, f"{row.ratio:.2f}x", f"{row.goal:g}x",
            floor, f"{row.gap:.4f}",
        )  # fmt: skip
    return drawn


def main(
    checkpoint: Annotated[Path, typer.Option(help="Weights (.safetensors) that 'train' wrote.")],
    root: Annotated[Path, typer.Option(help="Folder that holds the dataset.")] = Path("data"),
    batch: Annotated[int, typer.Option(help="Images per batch.")] = 100,
    repeats: Annotated[int, typer.Option(help="Number of turns, of which the median is taken.")] = 20,
) -> None:
    """Measure the methods of the paper's table 1 and those of other libraries, in one run."""
    trained = load_model(checkpoint)
    part = next(images_of(trained, root, "test").batches(batch, rng=np.random.default_rng(0)))
    model, images = trained.model.eval().requires_grad_(False), part.images
    rows = compare(model, images, part.labels, repeats)
    loader = TrainingBatches(images_of(trained, root, "train"))
    fitted = [explainers.get(name).fit(model, loader) for name in TABLE_1]
    rows.append(together(fitted, model, images, part.labels, repeats))
    Console(width=120).print(table(rows, len(images)))


if __name__ == "__main__":
    typer.run(main)
