"""Pictures of a dataset for people to look at."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from an8flower import files, png
from an8flower.augment import CROPS, ROTATIONS_DEG
from an8flower.manifest import Manifest, file_path, read_manifest
from an8flower.plant import PART_IDS

SHOWN_VIEWS = 8
_TIGHT = {"wspace": 0.0, "hspace": 0.0}


def contact_sheet(root: str | Path, variant: str, path: str | Path) -> Path:
    """Draw classes by viewpoints, one frame's masks, and one frame's 25 derivatives.

    Args:
        root: folder that holds the variant's folder.
        variant: e.g. "single-6c".
        path: the PNG to write.
    Returns:
        `path`.
    Raises:
        DataFolderError: if there is no complete dataset.
    """
    manifest = read_manifest(root, variant)
    views = manifest.header["views"]
    views = views[:: max(1, len(views) // SHOWN_VIEWS)][:SHOWN_VIEWS]
    lines = len(manifest.header["classes"]) + 1
    figure = Figure(figsize=(max(6, len(views)) + 1.1, lines + 5.3), dpi=110, layout="constrained")
    areas = figure.add_gridspec(2, 2, height_ratios=[lines + 0.3, 5.0])
    _classes_by_view(figure.add_subfigure(areas[0, :]), manifest, views)
    for column, kind in enumerate(("image", "mask")):
        _crops_by_rotation(figure.add_subfigure(areas[1, column]), manifest, views[-1], kind)
    save_figure(figure, path)
    return Path(path)


def _classes_by_view(figure: SubFigure, manifest: Manifest, views: list[int]) -> None:
    variant, classes = manifest.header["variant"], manifest.header["classes"]
    figure.suptitle(
        f"{variant}: classes by viewpoint; last row: part ids and, outlined, the mask of class 1", fontsize=9
    )
    grid = figure.subplots(len(classes) + 1, len(views), squeeze=False, gridspec_kw=_TIGHT)
    for number, (spec, line) in enumerate(zip(classes, grid[:-1], strict=True), start=1):
        line[0].set_ylabel(f"{number} {spec['name']}", fontsize=7)
        for axes, view in zip(line, views, strict=True):
            axes.imshow(_read(manifest, "frame", number, view))
    grid[-1][0].set_ylabel("parts", fontsize=7)
    for axes, view in zip(grid[-1], views, strict=True):
        part_ids = _read(manifest, "frame_parts", 1, view)
        axes.imshow(part_ids, cmap="tab10", vmin=0, vmax=9, interpolation="nearest")
        axes.contour(part_ids == PART_IDS[classes[0]["part"]], levels=[0.5], colors="black", linewidths=0.7)
    for axes, view in zip(grid[0], views, strict=True):
        axes.set_title(f"view {view}", fontsize=7)
    _bare(grid)


def _crops_by_rotation(figure: SubFigure, manifest: Manifest, view: int, kind: str) -> None:
    figure.suptitle(f"{kind}s of class 1, view {view}: crops by rotations", fontsize=9)
    grid = figure.subplots(len(CROPS), len(ROTATIONS_DEG), gridspec_kw=_TIGHT)
    for crop, line in enumerate(grid, start=1):
        line[0].set_ylabel(f"p{crop}", fontsize=7)
        for rotation, axes in enumerate(line, start=1):
            axes.imshow(_read(manifest, kind, 1, view, crop, rotation), cmap="gray", vmin=0, vmax=255)
    for rotation, axes in enumerate(grid[0], start=1):
        axes.set_title(f"r{rotation}: {ROTATIONS_DEG[rotation - 1]:.0f}°", fontsize=7)
    _bare(grid)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, whole or not at all, with nothing in it that changes from run to run."""
    files.write_with(Path(path), partial(figure.savefig, format="png", metadata={"Software": None}))


def _read(manifest: Manifest, kind: str, *at: int) -> NDArray[np.uint8]:
    return png.decode((manifest.folder / file_path(kind, *at)).read_bytes())


def _bare(grid: NDArray[Any]) -> None:
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_linewidth(0.3)
