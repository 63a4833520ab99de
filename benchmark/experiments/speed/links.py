"""Measure the speed of each step of the benchmark and of a named alternative, in one run: `make bench`."""

from __future__ import annotations

import multiprocessing
import platform
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

import explainers
from an8flower import An8Flower, generate, png
from an8flower.drawing.augment import derivatives
from an8flower.drawing.renderer import Frame, Renderer
from an8flower.ground import files
from an8flower.variants import variants
from benchmark.metrics import iou_auc, metrics
from benchmark.models import models
from benchmark.training.fitting import initialise
from benchmark.training.loader import TrainingBatches
from benchmark.training.recipes import Recipe
from benchmark.training.trainer import train
from explainers.backward.backprop import backpropagate
from explainers.backward.stride_fix import Resample
from explainers.vebi import Selected

VARIANT = "single-6c"
BATCH = 100


def main() -> None:
    """Measure all steps and print a table."""
    table = Table(
        title=f"speed on {platform.machine()}, {torch.get_num_threads()} torch threads", title_justify="left"
    )
    for heading in ("what", "rate", "alternative", "its rate", "ratio"):
        table.add_column(heading)
    with tempfile.TemporaryDirectory() as folder:
        frames = _rendering(table)
        _writing(table, frames, Path(folder))
        data = _data(Path(folder))
        model = _training(table, Path(folder), data)
        _explaining(table, model, data)
        _backpropagating(table, model, data)
        _scoring(table, model, data)
        _memory(table, Path(folder))
    Console(width=110).print(table)


def medians(ours: Callable[[], object], other: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median seconds of two actions that alternate, so that load affects both equally."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for action, taken in zip((ours, other), times, strict=True):
            begun = time.perf_counter()
            action()
            taken.append(time.perf_counter() - begun)
    first, second = (float(np.median(taken[1:])) for taken in times)  # without the first turn, the warm-up
    return first, second


def _rendering(table: Table) -> list[Frame]:
    with Renderer(variants.get(VARIANT)) as renderer:
        renderer.render(0, 1)
        begun = time.perf_counter()
        frames = [renderer.render(c, view) for view in (1, 11, 21, 31) for c in range(6)]
        rate = len(frames) / (time.perf_counter() - begun)
    table.add_row("frames rendered, 1 process", f"{rate:.1f} /s", "", "", "")
    return frames


def _writing(table: Table, frames: list[Frame], folder: Path) -> None:
    some = frames[:4]
    _row(
        table,
        "derivatives written with mask and parts",
        lambda: write_derivatives(some, folder / "written"),
        "bare OpenCV warp + PNG",
        lambda: write_bare(some),
        25 * len(some),
    )


def write_derivatives(frames: list[Frame], folder: Path) -> None:
    """Compute and write the derivatives of frames, as generation does."""
    for k, frame in enumerate(frames):
        for d in derivatives(frame):
            mask = (d.part_ids == 6).astype(np.uint8) * 255
            for name, image in (("i", d.image), ("m", mask), ("p", d.part_ids)):
                files.write(folder / f"{k}_{d.crop}_{d.rotation}{name}.png", png.encode(image))


def write_bare(frames: list[Frame]) -> None:
    """Do only the necessary part of the same work: OpenCV's warps and its PNG encoder, without files."""
    import cv2

    matrix = cv2.getRotationMatrix2D((124.5, 124.5), 10, 1)
    for frame in frames:
        crop, ids = frame.image[:250, :250, ::-1], frame.part_ids[:250, :250]
        for _ in range(25):
            turned = cv2.warpAffine(ids, matrix, (250, 250), flags=cv2.INTER_NEAREST)
            image = cv2.warpAffine(crop, matrix, (250, 250), borderMode=cv2.BORDER_REPLICATE)
            for picture in (image, turned, turned):
                cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, png.COMPRESSION])


def _data(folder: Path) -> An8Flower:
    generate(folder, VARIANT, viewpoints=range(1, 6))
    return An8Flower(folder, VARIANT, size_px=112)


def _training(table: Table, folder: Path, data: An8Flower) -> nn.Sequential:
    begun = time.perf_counter()
    trained = train(folder, VARIANT, fold=0, checkpoints=folder / "checkpoints", recipe=Recipe(epochs=8))
    rate = trained.record["epochs"] * len(data) * 0.8 / (time.perf_counter() - begun)
    table.add_row("training, images (validation included)", f"{rate:.0f} /s", "", "", "")
    assert isinstance(trained.model, nn.Sequential)
    return trained.model


def _explaining(table: Table, model: nn.Sequential, data: An8Flower) -> None:
    from captum.attr import LayerAttribution, LayerGradCam

    batch = next(data.batches(BATCH))
    theirs = LayerGradCam(model, model.get_submodule("relu3"))
    size = tuple(batch.images.shape[-2:])
    ours = explainers.get("grad_cam")

    def captum() -> torch.Tensor:
        maps = theirs.attribute(batch.images, target=batch.labels, relu_attributions=True)
        upsampled: torch.Tensor = LayerAttribution.interpolate(maps, size, interpolate_mode="bilinear")
        return upsampled

    def an8flower() -> torch.Tensor:
        return ours(model, batch.images, batch.labels)

    assert torch.allclose(an8flower(), captum()[:, 0], atol=1e-5)
    _row(table, "Grad-CAM, images", an8flower, "captum LayerGradCam + interpolate", captum, BATCH, repeats=40)


def _backpropagating(table: Table, model: nn.Sequential, data: An8Flower) -> None:
    """Measure guided backprop and complete VEBI, both against captum's guided backprop of the class score."""
    from captum.attr import GuidedBackprop

    batch = next(data.batches(BATCH, rng=np.random.default_rng(0)))
    theirs = GuidedBackprop(model)
    pixels = batch.images.clone().requires_grad_()

    def captum() -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of the hooks it sets
            attribution: torch.Tensor = theirs.attribute(pixels, target=batch.labels)
        return attribution

    def guided(resample: Resample) -> torch.Tensor:
        return backpropagate(model, batch.images, layer="logits", channels=batch.labels, resample=resample)

    assert torch.allclose(guided("none"), captum(), atol=1e-5)
    name = "captum GuidedBackprop"
    _row(table, "guided backprop, features", lambda: guided("none"), name, captum, BATCH, repeats=20)
    _row(table, "  with the stride fix, features", lambda: guided("conv"), name, captum, BATCH, repeats=20)
    vebi = explainers.get("vebi").fit(model, TrainingBatches(data))
    evidence = vebi.method.explain(model, batch.images, batch.labels).evidence  # type: ignore[attr-defined]
    shown = [len(features) for features in evidence]
    what = f"vebi, up to 3 features ({np.mean(shown):.1f} here), images"
    _row(table, what, lambda: vebi(model, batch.images, batch.labels), name, captum, BATCH, repeats=20)
    full = three_features(vebi)
    what = "vebi, 3 features in every image, images"
    _row(table, what, lambda: full(model, batch.images, batch.labels), name, captum, BATCH, repeats=20)


def three_features(vebi: explainers.Explainer) -> explainers.Explainer:
    """Return VEBI with an artificial selection: per class three features in three layers, all positive."""
    other = explainers.get("vebi")
    selection = vebi.method.selection  # type: ignore[attr-defined]
    named = {layer.name: layer.number for layer in selection.layers}
    features = tuple(
        Selected(target, named[name], target, weight=1.0, relevance=1.0)
        for target in range(selection.classes)
        for name in ("conv2", "conv3", "fc1")
    )
    other.method.selection = replace(selection, features=features)  # type: ignore[attr-defined]
    return other


def _scoring(table: Table, model: nn.Sequential, data: An8Flower) -> None:
    batch = next(data.batches(BATCH))
    heatmaps = explainers.get("grad_cam")(model, batch.images, batch.labels).numpy()
    masks = batch.masks.numpy()
    _row(
        table,
        "exact IoU-AUC, images",
        lambda: iou_auc(heatmaps, masks),
        "NumPy loop over 100 thresholds",
        lambda: [threshold_loop(h, m) for h, m in zip(heatmaps, masks, strict=True)],
        BATCH,
    )


def threshold_loop(heatmap: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Compute an approximate IoU-AUC in the simplest way: threshold, count, average."""
    scaled = (heatmap - heatmap.min()) / (heatmap.max() - heatmap.min())
    scores = []
    for threshold in np.arange(1, 101) / 100:
        above = scaled >= threshold
        scores.append((above & mask).sum() / (above | mask).sum())
    return float(np.mean(scores))


def _untrained() -> nn.Module:
    return initialise(models.get("an8net").build(6), generator=torch.Generator().manual_seed(0)).eval()


def _memory(table: Table, folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    peaks = []
    for images in (150, 1500):
        with context.Pool(1) as pool:
            peaks.append(pool.apply(peak_of_evaluation, (folder, images)))
    table.add_row(
        "peak memory, 1500 images scored",
        f"{peaks[1]:.0f} MiB",
        "150 images",
        f"{peaks[0]:.0f} MiB",
        _x(peaks[1] / peaks[0]),
    )


def peak_of_evaluation(folder: Path, images: int) -> float:
    """Return the peak resident memory of this process, in MiB, after explaining and scoring some images."""
    data, done, method = An8Flower(folder, VARIANT, size_px=112), 0, explainers.get("grad_cam")
    names = [name for name in metrics.names() if metrics.get(name).kind == "localisation"]
    while done < images:
        for batch in data.where(np.arange(len(data)) < images - done).batches(BATCH):
            maps = method(_untrained(), batch.images, batch.labels).numpy()
            for name in names:
                metrics.get(name).compute(maps, batch.masks.numpy())
            done += len(maps)
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _row(
    table: Table, what: str, ours: Callable[[], object], name: str, other: Callable[[], object], count: int,
    repeats: int = 5,
) -> None:  # fmt: skip
    mine, theirs = medians(ours, other, repeats)
    table.add_row(what, f"{count / mine:.0f} /s", name, f"{count / theirs:.0f} /s", _x(theirs / mine))


def _x(ratio: float) -> str:
    return f"{ratio:.2f}x"


if __name__ == "__main__":
    main()
