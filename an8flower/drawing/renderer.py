"""Render frames: one colour pass and one part-id pass per frame, in one off-screen OpenGL context.

The plant turns in front of a fixed camera, so light and background are the same in every view. Only this
module and `stage` import pyrender.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import NDArray

from an8flower.drawing.cheat import cheat_colours, with_cheat
from an8flower.drawing.factors import DEFAULTS, Value, Values
from an8flower.drawing.gl import NoGraphicsError, Platform, choose_platform, import_with_assertions
from an8flower.drawing.plant import PLAIN_COLOURS, distractors, plain_colour, plant
from an8flower.protocol import FRAME_SIZE_PX, PART_IDS, VIEWPOINTS
from an8flower.variants import Variant
from an8flower.variants.base import RGB

if TYPE_CHECKING:
    import pyrender

SUPERSAMPLING = 2
_Drawn = tuple[int, int, dict[str, Value], int | None]  # arguments of `Renderer.render`


@dataclass(frozen=True)
class Frame:
    """A rendered image with its part ids.

    Args:
        image: (300, 300, 3) uint8 RGB.
        part_ids: (300, 300) uint8, values of `PART_IDS`, pixel-aligned with the image.
    """

    image: NDArray[np.uint8]
    part_ids: NDArray[np.uint8]


@dataclass(frozen=True)
class Twins:
    """The twins of a frame: one with the discriminative part only, one with all but this part.

    Args:
        part_only: (300, 300, 3) uint8, the part in front of the background, without a cheat.
        all_but_part: (300, 300, 3) uint8, the plant with the part in a colour of no class, or without
            the part if only some classes have it. A cheat is as in the frame.
    """

    part_only: NDArray[np.uint8]
    all_but_part: NDArray[np.uint8]


class Renderer:
    """Renders any view of any class of a variant; the OpenGL context and the meshes are built once.

    Use it as a context manager, with one renderer per process: closing an EGL context breaks the others.

    Args:
        variant: whose classes are rendered.
        seed: of the plant's shape and of the textured background.
        platform: "egl", "osmesa", or "auto": EGL if it works, otherwise OSMesa.
    Raises:
        NoGraphicsError: if this machine has no off-screen OpenGL, or it cannot be started.
    """

    def __init__(self, variant: Variant, *, seed: int = 0, platform: Platform = "auto") -> None:
        os.environ["PYOPENGL_PLATFORM"] = self.platform = choose_platform(platform)
        os.environ.setdefault("PYGLET_HEADLESS", "1")
        import pyrender

        if not __debug__:
            import_with_assertions("pyrender.platforms.egl")
        from an8flower.drawing.stage import Stage

        self.variant = variant
        self._plants = [plant(spec, seed=seed) for spec in variant.classes]
        self._stage = Stage(
            {part.name: part for parts in self._plants for part in parts}, distractors(seed=seed), seed
        )
        self._cheat_colours = cheat_colours(variant.classes)
        # What was drawn last, with its arguments: twins share it with their frame, or with other frames.
        self._last: tuple[_Drawn, NDArray[np.uint8]] | None = None
        self._background: tuple[dict[str, Value], NDArray[np.uint8]] | None = None
        size = FRAME_SIZE_PX * SUPERSAMPLING
        try:
            self._gl = pyrender.OffscreenRenderer(size, size)
        except Exception as error:  # its text is needed; the error itself may hold pointers, which stay here
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise NoGraphicsError(
                f"OpenGL cannot be started with the platform {self.platform!r}: {reason}; try another "
                "--platform"
            ) from None
        self.gl = {"platform": self.platform, **_gl_strings(self._gl)}

    def render(
        self, class_index: int, view: int, values: Values = DEFAULTS, *, cheat_index: int | None = None
    ) -> Frame:
        """Render one frame.

        Args:
            class_index: position of the class in the variant, from 0.
            view: from 1 to 40, in steps of 9 degrees.
            values: value of every factor.
            cheat_index: position of the class whose colour the cheat has, if `values` have a cheat; by
                default the class of the frame.
        """
        self._stage.dress(self._set(class_index, view, values, cheat_index))
        image = self._colours()
        self._last = (class_index, view, dict(values), cheat_index), image
        return Frame(downsample(image), self._part_ids())

    def render_twins(
        self, class_index: int, view: int, values: Values = DEFAULTS, *, cheat_index: int | None = None
    ) -> Twins:
        """Render the twins of the frame that `render` returns for the same arguments.

        This is faster if that frame was the last one to be rendered.
        """
        colours = self._set(class_index, view, values, cheat_index)
        name = self.variant.classes[class_index].part
        self._stage.dress(colours)
        # Composed before downsampling, so that the edge of the part stays smooth.
        visible = self._part_ids(FRAME_SIZE_PX * SUPERSAMPLING) == PART_IDS[name]
        known = self._last is not None and self._last[0] == (class_index, view, dict(values), cheat_index)
        whole_plant = self._last[1] if self._last is not None and known else self._colours()
        neutral = {**colours, name: plain_colour(name)}
        if name not in PLAIN_COLOURS:
            del neutral[name]
        self._stage.dress(neutral)
        all_but_part = self._colours()
        part_only = np.where(visible[..., None], whole_plant, self._empty(values))
        return Twins(downsample(part_only), downsample(all_but_part))

    def close(self) -> None:
        """Free the OpenGL context."""
        self._gl.delete()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _set(self, class_index: int, view: int, values: Values, cheat_index: int | None) -> dict[str, RGB]:
        """Set the stage and return the colours of the parts to show, by name."""
        told = self._cheat_colours[class_index if cheat_index is None else cheat_index]
        plain = {part.name: part.colour for part in self._plants[class_index]}
        colours = with_cheat(plain, values, told)
        self._stage.turn(np.deg2rad((view - 1) * 360.0 / VIEWPOINTS), values)
        if float(values["occlusion"]) > 0:
            self._stage.dress(colours)
            part_id = PART_IDS[self.variant.classes[class_index].part]
            self._stage.raise_board(self._part_ids() == part_id, float(values["occlusion"]))
        return colours

    def _empty(self, values: Values) -> NDArray[np.uint8]:
        """Return what is behind the plant, (600, 600, 3); it is the same for all classes and views."""
        if values["background"] == "plain":
            # pyrender fails on a scene with nothing to draw; but every pixel of it is known.
            return np.broadcast_to(self._stage.plain_colour, (FRAME_SIZE_PX * SUPERSAMPLING,) * 2 + (3,))
        if self._background is None or self._background[0] != values:
            self._stage.clear()
            self._background = dict(values), self._colours()
        return self._background[1]

    def _colours(self) -> NDArray[np.uint8]:
        from pyrender import RenderFlags

        size = FRAME_SIZE_PX * SUPERSAMPLING
        self._gl.viewport_width = self._gl.viewport_height = size
        colour, _ = self._gl.render(self._stage.scene, RenderFlags.SHADOWS_SPOT)
        return np.asarray(colour, np.uint8)

    def _part_ids(self, size: int = FRAME_SIZE_PX) -> NDArray[np.uint8]:
        from pyrender import RenderFlags

        self._gl.viewport_width = self._gl.viewport_height = size
        part_ids, _ = self._gl.render(self._stage.scene, RenderFlags.SEG, self._stage.ids)
        return np.ascontiguousarray(part_ids[..., 0])


def downsample(colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average blocks of 2x2 pixels, rounded to nearest: (600, 600, 3) uint8 to (300, 300, 3) uint8."""
    size, k = FRAME_SIZE_PX, SUPERSAMPLING
    blocks = colour.reshape(size, k, size, k, 3).astype(np.uint16).sum(axis=(1, 3))
    return np.asarray((blocks + k * k // 2) // (k * k), np.uint8)


def _gl_strings(renderer: pyrender.OffscreenRenderer) -> dict[str, str]:
    from OpenGL.GL import GL_RENDERER, GL_VENDOR, GL_VERSION, glGetString

    renderer._platform.make_current()
    names = {"vendor": GL_VENDOR, "renderer": GL_RENDERER, "version": GL_VERSION}
    return {name: cast(bytes, glGetString(constant)).decode() for name, constant in names.items()}
