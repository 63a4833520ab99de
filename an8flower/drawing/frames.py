"""Draw all files of one frame: image, part ids and derivatives, with their rows of the manifest."""

from __future__ import annotations

import hashlib
import platform as host
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from an8flower import png
from an8flower.drawing.augment import derivatives
from an8flower.drawing.cheat import cheat_class
from an8flower.drawing.factors import Settings, values_of
from an8flower.drawing.gl import Platform
from an8flower.drawing.masks import check_visible, mask_of
from an8flower.drawing.renderer import Frame, Renderer
from an8flower.ground.jobs import Tell
from an8flower.manifest import COLUMNS, file_path
from an8flower.manifest_checks import CHEAT_CLASS, cheat_of
from an8flower.variants import Variant

Row = dict[str, str | int | float]  # of the manifest's table
GL = dict[str, str]  # what OpenGL reports about itself; see `Renderer`


@dataclass(frozen=True)
class Drawing:
    """The settings that all frames of a dataset share.

    Args:
        folder: the variant's folder.
        variant: what to draw.
        seed: of the plant's shape, of textures, and of factors that are set to a range.
        platform: off-screen OpenGL.
        settings: the factors that are set.
        twins: whether to draw the twins, too.
    """

    folder: Path
    variant: Variant
    seed: int
    platform: Platform
    settings: Settings
    twins: bool


@dataclass(frozen=True)
class DrawnFrame:
    """All files of one frame, and the OpenGL that drew it.

    Args:
        files: for each file its row of the manifest and its bytes.
        gl: what the OpenGL of the process reports about itself.
    """

    files: list[tuple[Row, bytes]]
    gl: GL


def draw_frame(tell: Tell, drawing: Drawing, class_id: int, view: int) -> DrawnFrame:
    """Draw all files of one frame without writing them; a job for `generation.draw`.

    Args:
        tell: channel to the process that started the job; not used.
        drawing: settings of the dataset.
        class_id: from 1.
        view: from 1.
    Raises:
        ValueError: if the discriminative part is hardly visible in a derivative.
    """
    renderer = _renderer_of(drawing)
    drawn = _files_of(renderer, drawing.settings, class_id, view, seed=drawing.seed, twins=drawing.twins)
    return DrawnFrame(drawn, renderer.gl)


def fingerprint(gl: GL) -> str:
    """Return what the bytes of an image depend on in addition to variant and seed: OpenGL and PNG encoder.

    The renderer's name of llvmpipe includes its vector width, which depends on the processor. EGL and
    OSMesa report the same name, but differ in antialiasing, so the platform is included.
    """
    opencv = version("opencv-python-headless")
    return f"{gl['platform']} {gl['renderer']}, OpenGL {gl['version']}, OpenCV {opencv}, {host.machine()}"


# One renderer per process, which draws one dataset at a time.
_renderer: tuple[Drawing, Renderer] | None = None


def _renderer_of(drawing: Drawing) -> Renderer:
    global _renderer
    if _renderer is None or _renderer[0] != drawing:
        if _renderer is not None:
            _renderer[1].close()
        _renderer = drawing, Renderer(drawing.variant, seed=drawing.seed, platform=drawing.platform)
    return _renderer[1]


def _files_of(
    renderer: Renderer, settings: Settings, class_id: int, view: int, *, seed: int, twins: bool
) -> list[tuple[Row, bytes]]:
    spec = renderer.variant.classes[class_id - 1]
    values = values_of(settings, seed=seed, view=view)
    classes = len(renderer.variant.classes)
    told = cheat_class(values, seed=seed, view=view, class_id=class_id, classes=classes)
    frame = renderer.render(class_id - 1, view, values, cheat_index=told - 1)
    drawn_files: list[tuple[Row, bytes]] = []
    more_columns: Row = {name: values[name] for name in settings}
    if cheat_of(settings):
        more_columns[CHEAT_CLASS] = told

    def add(kind: str, image: NDArray[np.uint8], area: int, crop: int = 0, rotation: int = 0) -> None:
        path, data = file_path(kind, class_id, view, crop, rotation), png.encode(image)
        sha256 = hashlib.sha256(data).hexdigest()
        columns = (kind, class_id, view, crop, rotation, path, sha256, len(data), area)
        drawn_files.append(({**dict(zip(COLUMNS, columns, strict=True)), **more_columns}, data))

    frame_area = int(np.count_nonzero(mask_of(spec.part, frame.part_ids)))
    add("frame", frame.image, frame_area)
    add("frame_parts", frame.part_ids, frame_area)
    areas = {}
    for derivative in derivatives(frame):
        crop, rotation = derivative.crop, derivative.rotation
        mask = mask_of(spec.part, derivative.part_ids)
        area = areas[crop, rotation] = int(np.count_nonzero(mask))
        part = f"{renderer.variant.name}: the {spec.part} of class {class_id} ({spec.name})"
        where = f"in view {view}, crop {crop}, rotation {rotation}"
        check_visible(mask, f"{part} {where}", factors=bool(settings))
        add("image", derivative.image, area, crop, rotation)
        add("mask", mask.astype(np.uint8) * 255, area, crop, rotation)
        add("parts", derivative.part_ids, area, crop, rotation)
    if twins:
        frame_twins = renderer.render_twins(class_id - 1, view, values, cheat_index=told - 1)
        for kind, image in (
            ("part_only", frame_twins.part_only),
            ("all_but_part", frame_twins.all_but_part),
        ):
            add(f"{kind}_frame", image, frame_area)
            for derivative in derivatives(Frame(image, frame.part_ids)):
                crop, rotation = derivative.crop, derivative.rotation
                add(kind, derivative.image, areas[crop, rotation], crop, rotation)
    return drawn_files
