"""Measure how the stride fix reduces the grid in heatmaps of low layers, and draw the paper's figure 2.

Run

    python -m benchmark.experiments.evidence.stride_fix \\
        --checkpoint checkpoints/single-6c/an8net/fold0.safetensors
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from rich.console import Console
from torch import nn

from an8flower.gallery import save_figure
from benchmark.training.weights import load_model
from benchmark.why import images_of
from explainers.backward.backprop import backpropagate
from explainers.backward.stride_fix import Resample
from explainers.layers import find_layer
from explainers.maps import reduced, scaled

BAND = 0.05  # cycles per pixel on either side of the grid's frequency
WITH: tuple[Resample, Resample] = ("none", "conv")


def grid_energy(maps: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the share of each map's energy at the frequency of a grid.

    Args:
        maps: (N, H, W).
        stride: distance of the grid's lines in pixels.
    Returns:
        (N,) float64 in [0, 1]: squared Fourier amplitudes within 0.05 cycles per pixel of a multiple of
        1 / stride along either axis, divided by all squared amplitudes; 0 for a map of zeros.

    >>> grid = (torch.arange(32) % 2).expand(1, 32, 32) * 1.0
    >>> grid_energy(torch.cat([grid, torch.ones(1, 32, 32)]), stride=2).tolist()
    [0.5, 0.0]
    """
    energy = torch.fft.fft2(maps.double()).abs().square()
    near = [_near(size, stride) for size in maps.shape[1:]]
    at_grid = near[0][:, None] | near[1][None, :]
    total = energy.sum(dim=(1, 2))
    share: torch.Tensor = energy[:, at_grid].sum(dim=1) / total.where(total > 0, 1)
    return share


@dataclass(frozen=True)
class Drop:
    """Grid energy of a layer's heatmaps, averaged over images and channels.

    Args:
        layer: name of the layer.
        without, fixed: mean shares of energy, without and with the fix.
        by_channel: ratio of the two, for each channel that is active in any image.
    """

    layer: str
    without: float
    fixed: float
    by_channel: dict[int, float]

    @property
    def ratio(self) -> float:
        """Energy without the fix divided by energy with the fix."""
        return self.without / self.fixed


def measure(model: nn.Module, images: torch.Tensor, layer: str, stride: int) -> Drop:
    """Compare guided backprop from every channel of a layer without and with the fix.

    Args:
        model: any classifier.
        images: (N, 3, H, W) in [0, 1].
        layer: name of a layer with a map.
        stride: stride of the first strided convolution.
    """
    shares: dict[int, tuple[float, float]] = {}
    for channel in range(find_layer(model, images, layer).channels):
        maps = [
            reduced(backpropagate(model, images, layer=layer, channels=channel, resample=how))  # type: ignore[arg-type]
            for how in WITH
        ]
        active = maps[0].flatten(1).any(dim=1)
        if active.any():
            without, fixed = (float(grid_energy(each[active], stride).mean()) for each in maps)
            shares[channel] = without, fixed
    means = np.mean(list(shares.values()), axis=0)
    return Drop(layer, float(means[0]), float(means[1]), {k: a / b for k, (a, b) in shares.items()})


def figure(model: nn.Module, images: torch.Tensor, layer: str, channels: list[int]) -> Figure:
    """Draw the paper's figure 2: one channel per image without and with the fix, and details of both."""
    height, width = images.shape[2:]
    drawn = Figure(figsize=(1.75 * 5, 1.8 * len(images) + 0.4), dpi=110, layout="constrained")
    grid = drawn.subplots(len(images), 5, squeeze=False, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    for k, (line, channel) in enumerate(zip(grid, channels, strict=True)):
        image = images[k : k + 1]
        line[0].imshow(image[0].permute(1, 2, 0).numpy())
        line[0].set_ylabel(f"{layer}, channel {channel}", fontsize=8)
        maps = [
            scaled(reduced(backpropagate(model, image, layer=layer, channels=channel, resample=how)))[0]  # type: ignore[arg-type]
            for how in WITH
        ]
        strongest = int(maps[1].argmax())
        row = min(max(strongest // width - 14, 0), height - 28)
        column = min(max(strongest % width - 14, 0), width - 28)
        close = (slice(row, row + 28), slice(column, column + 28))
        for axes, shown in zip(line[1:], (maps[0], maps[0][close], maps[1], maps[1][close]), strict=True):
            axes.imshow(shown.numpy(), cmap="magma", interpolation="nearest")
    titles = ("image", "Deconv + GB", "28 px of it", "with the stride fix", "28 px of it")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=8)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    return drawn


def main(
    checkpoint: Annotated[Path, typer.Option(help="Weights (.safetensors) written by 'train'.")],
    root: Annotated[Path, typer.Option(help="Folder that holds the dataset.")] = Path("data"),
    layer: Annotated[str, typer.Option(help="Layer whose channels are explained.")] = "conv1",
    stride: Annotated[int, typer.Option(help="Stride of the first strided convolution.")] = 2,
    picture: Annotated[Path, typer.Option("--out", help="The PNG to write.")] = Path("stride_fix.png"),
) -> None:
    """Measure and draw the grid that strided convolutions leave, without and with the stride fix."""
    trained = load_model(checkpoint)
    batch = next(images_of(trained, root, "test").batches(48, rng=np.random.default_rng(0)))
    drop = measure(trained.model, batch.images, layer, stride)
    ratios = drop.by_channel.values()
    text = (
        f"{layer}: {drop.without:.2%} of the energy at the grid without the fix, {drop.fixed:.2%} with it, "
        f"{drop.ratio:.1f} times less\n({min(ratios):.1f} to {max(ratios):.1f} times by channel; "
        f"{len(ratios)} channels, {len(batch.images)} images)"
    )
    Console().print(text, soft_wrap=True, highlight=False)
    # The channels with the largest, the median and the smallest effect of the fix.
    ranked = sorted(drop.by_channel, key=lambda channel: drop.by_channel[channel])
    shown = [ranked[-1], ranked[len(ranked) // 2], ranked[0]]
    save_figure(figure(trained.model, batch.images[: len(shown)], layer, shown), picture)
    Console().print(f"wrote {picture}", highlight=False)


def _near(size: int, stride: int) -> torch.Tensor:
    """Return which frequencies of a line of `size` pixels are near a multiple of 1 / stride, but not of 1."""
    frequencies = torch.fft.fftfreq(size) % 1
    distances = [(frequencies - k / stride).abs() for k in range(1, stride)]
    return torch.stack(distances).amin(dim=0) <= BAND


if __name__ == "__main__":
    typer.run(main)
