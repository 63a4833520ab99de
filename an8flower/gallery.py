"""Pictures of a dataset for people to look at."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from an8flower import files, png
from an8flower.augment import CROPS, ROTATIONS_DEG
from an8flower.manifest import Manifest, file_path, read_manifest
from an8flower.plant import PART_IDS

OUTLINE = (20, 20, 20)  # dark, and no colour of any class
SHOWN_VIEWS = 8


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
    classes = manifest.header["classes"]
    views = manifest.header["views"][:: max(1, len(manifest.header["views"]) // SHOWN_VIEWS)][:SHOWN_VIEWS]
    figure = Figure(figsize=(1.0 * len(views) + 1.1, 1.0 * (len(classes) + 1) + 5.3), dpi=110, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[len(classes) + 1.3, 5.0])

    top.suptitle(f"{variant}: classes by viewpoint; last row: part ids and, outlined, the mask of class 1", fontsize=9)
    grid = top.subplots(len(classes) + 1, len(views), squeeze=False, gridspec_kw={"wspace": 0, "hspace": 0})
    for number, spec in enumerate(classes, start=1):
        for axes, view in zip(grid[number - 1], views, strict=True):
            _show(axes, _read(manifest, "frame", number, view))
            if number == 1:
                axes.set_title(f"view {view}", fontsize=7)
        grid[number - 1][0].set_ylabel(f"{number} {spec['name']}", fontsize=7)
    for axes, view in zip(grid[-1], views, strict=True):
        part_ids = _read(manifest, "frame_parts", 1, view)
        axes.imshow(part_ids, cmap="tab10", vmin=0, vmax=9, interpolation="nearest")
        _outline(axes, part_ids == PART_IDS[classes[0]["part"]])
        _bare(axes)
    grid[-1][0].set_ylabel("parts", fontsize=7)

    view = views[-1]
    bottom.suptitle(f"class 1, view {view}: crops by rotations, image and mask", fontsize=9)
    for part, kind in zip(bottom.subfigures(1, 2), ("image", "mask"), strict=True):
        grid = part.subplots(len(CROPS), len(ROTATIONS_DEG), gridspec_kw={"wspace": 0, "hspace": 0})
        for crop, line in enumerate(grid, start=1):
            line[0].set_ylabel(f"p{crop}", fontsize=7)
            for rotation, axes in enumerate(line, start=1):
                _show(axes, _read(manifest, kind, 1, view, crop, rotation))
                if crop == 1:
                    axes.set_title(f"r{rotation}: {ROTATIONS_DEG[rotation - 1]:.0f}°", fontsize=7)
    save_figure(figure, path)
    return Path(path)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, whole or not at all, with nothing in it that changes from run to run."""
    files.write_with(Path(path), partial(figure.savefig, format="png", metadata={"Software": None}))


def _read(manifest: Manifest, kind: str, *at: int) -> NDArray[np.uint8]:
    return png.decode((manifest.folder / file_path(kind, *at)).read_bytes())


def _show(axes: Axes, image: NDArray[np.uint8]) -> None:
    axes.imshow(image, cmap="gray")
    _bare(axes)


def _outline(axes: Axes, mask: NDArray[np.bool_]) -> None:
    axes.contour(mask, levels=[0.5], colors=[np.array(OUTLINE) / 255], linewidths=0.7)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.3)
