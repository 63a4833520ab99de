"""Overview images of a dataset."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from an8flower import png
from an8flower.drawing.factors import FACTORS, Value, values_of
from an8flower.drawing.gl import Platform
from an8flower.drawing.renderer import Renderer
from an8flower.ground import files
from an8flower.manifest import DataFolderError, Manifest, command, file_path, read_manifest
from an8flower.protocol import CROPS, PART_IDS, ROTATIONS_DEG
from an8flower.variants import variants

SHOWN_VIEWS = 8
_TIGHT = {"wspace": 0.0, "hspace": 0.0}
# Factors that the sheet of factors shows in several classes, instead of one class at the ends of their range.
_BY_CLASS: tuple[dict[str, Value], ...] = (
    {"cheat": "patch"},
    {"cheat": "pot"},
    {"light_hue": 0, "light_saturation": 0.85},
    {"light_hue": 120, "light_saturation": 0.85},
    {"light_hue": 240, "light_saturation": 0.85},
)
_SHOWN_APART = {"cheat", "cheat_share", "light_hue", "light_saturation"}


def contact_sheet(root: str | Path, variant: str, path: str | Path) -> Path:
    """Plot frames by class and view, their part ids, and the 25 derivatives of one frame with their masks.

    Args:
        root: folder that holds the variant's folder.
        variant: name of the variant, e.g. "single-6c".
        path: the PNG file to write.
    Returns:
        `path`.
    Raises:
        DataFolderError: if the dataset is missing or incomplete.
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


def twins_sheet(root: str | Path, variant: str, path: str | Path) -> Path:
    """Plot frames with their twins: the part only, and all but the part.

    Args:
        root: folder that holds the variant's folder, generated with twins.
        variant: name of the variant, e.g. "part-2c".
        path: the PNG file to write.
    Returns:
        `path`.
    Raises:
        DataFolderError: if the dataset is missing or incomplete, or has no twins.
    """
    manifest = read_manifest(root, variant)
    if manifest.of_kind("part_only_frame").empty:
        again = f"{command(root, variant)} --twins"
        raise DataFolderError(f"{manifest.folder} has no twins; run '{again}' to draw them")
    classes = manifest.header["classes"]
    chosen = range(1, len(classes) + 1, max(1, len(classes) // 6))[:6]
    views = manifest.header["views"]
    view = views[3 * len(views) // 4]
    kinds = {"frame": "image", "part_only_frame": "part only", "all_but_part_frame": "all but part"}
    figure = Figure(figsize=(1.6 * len(chosen) + 0.4, 5.2), dpi=100, layout="constrained")
    figure.suptitle(f"{variant}: twins, view {view}", fontsize=9)
    grid = figure.subplots(len(kinds), len(chosen), squeeze=False, gridspec_kw=_TIGHT)
    for line, (kind, name) in zip(grid, kinds.items(), strict=True):
        line[0].set_ylabel(name, fontsize=8)
        for axes, number in zip(line, chosen, strict=True):
            axes.imshow(_read(manifest, kind, number, view))
    for axes, number in zip(grid[0], chosen, strict=True):
        axes.set_title(classes[number - 1]["name"], fontsize=8)
    _bare(grid)
    save_figure(figure, path)
    return Path(path)


def factors_sheet(variant: str, path: str | Path, *, platform: Platform = "auto") -> Path:
    """Plot one frame with each factor at both ends of its range, and classes with cheats and coloured lights.

    Args:
        variant: name of the variant, e.g. "single-6c".
        path: the PNG file to write.
        platform: off-screen OpenGL: "auto", "egl" or "osmesa".
    Returns:
        `path`.
    Raises:
        UnknownNameError: if there is no such variant.
        NoGraphicsError: if this machine has no off-screen OpenGL.
    """
    spec, columns = variants.get(variant), 6
    ends: list[dict[str, Value]] = [{}]
    for factor in FACTORS.values():
        if factor.name not in _SHOWN_APART:
            both = factor.choices or (factor.low, factor.high)
            ends += [{factor.name: end} for end in both if end != factor.default]
    # Each panel is a class, its factors and a title; each row of classes starts on a line of its own.
    lines = [
        [(0, settings, _text(settings)) for settings in ends[k : k + columns]]
        for k in range(0, len(ends), columns)
    ]
    for settings in _BY_CLASS:
        names = [one.name for one in spec.classes[:columns]]
        lines.append([(k, settings, _text(settings) if k == 0 else name) for k, name in enumerate(names)])
    figure = Figure(figsize=(1.75 * columns, 2.0 * len(lines) + 0.3), dpi=100, layout="constrained")
    figure.suptitle(f"{variant}: one frame, and each factor at the ends of its range", fontsize=9)
    grid = figure.subplots(len(lines), columns, squeeze=False, gridspec_kw=_TIGHT)
    with Renderer(spec, platform=platform) as renderer:
        for row, line in zip(grid, lines, strict=True):
            for axes, (k, settings, title) in zip(row, line, strict=False):
                axes.imshow(renderer.render(k, 32, values_of(settings, seed=0, view=32)).image)
                axes.set_title(title, fontsize=8)
            for axes in row[len(line) :]:
                axes.set_visible(False)
    _bare(grid)
    save_figure(figure, path)
    return Path(path)


def _text(settings: dict[str, Value]) -> str:
    return "\n".join(f"{name}={value}" for name, value in settings.items()) or "as in the paper"


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
        axes.imshow(part_ids, cmap="tab20", vmin=0, vmax=19, interpolation="nearest")
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
    """Write a figure as PNG, atomically and with the same bytes in every run."""
    files.write_with(Path(path), partial(figure.savefig, format="png", metadata={"Software": None}))


def _read(manifest: Manifest, kind: str, *at: int) -> NDArray[np.uint8]:
    return png.decode((manifest.folder / file_path(kind, *at)).read_bytes())


def _bare(grid: NDArray[Any]) -> None:
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_linewidth(0.3)
