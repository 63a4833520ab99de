"""Plant and viewpoint to a frame: one colour pass, one part-id pass, from one off-screen context.

The only module that imports pyrender. The plant stands on a turntable in front of a fixed
camera, so light and background are the same in every view.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
import trimesh
from numpy.typing import NDArray

from an8flower.geometry import Points, frame_along
from an8flower.plant import PART_IDS, Part, part_names, plant
from an8flower.variants import Variant
from an8flower.variants.base import RGB

if TYPE_CHECKING:
    import pyrender

Platform = Literal["auto", "egl", "osmesa"]

FRAME_SIZE_PX = 300
SUPERSAMPLING = 2
VIEWPOINTS = 40
# Four corner crops of 250 in 300 share the central 200 px; a pixel each side is left for the
# antialiased rim.
PLANT_SIZE_PX = 198
CAMERA_ELEVATION_DEG = 24.0
CAMERA_DISTANCE = 5.0

WALL_COLOUR: RGB = (206, 213, 220)
PACKAGES = {"egl": "libegl1 libgl1 libxrender1", "osmesa": "libosmesa6 libgl1 libxrender1"}


class NoGraphicsError(RuntimeError):
    """No off-screen OpenGL on this machine; the message names the package that brings it."""


@dataclass(frozen=True)
class Frame:
    """One rendered view.

    Args:
        image: (300, 300, 3) uint8 RGB.
        part_ids: (300, 300) uint8, values of `PART_IDS`; pixel-aligned with the image.
    """

    image: NDArray[np.uint8]
    part_ids: NDArray[np.uint8]


def choose_platform(wanted: Platform = "auto") -> Literal["egl", "osmesa"]:
    """The off-screen GL platform to use: EGL where a display can be opened, else OSMesa.

    Raises:
        NoGraphicsError: if `wanted`, or with "auto" every platform, is missing.
    """
    candidates: tuple[Literal["egl", "osmesa"], ...] = ("egl", "osmesa") if wanted == "auto" else (wanted,)
    for name in candidates:
        if _works(name):
            return name
    install = "' or 'apt-get install ".join(PACKAGES[name] for name in candidates)
    raise NoGraphicsError(
        f"no off-screen OpenGL ({' or '.join(candidates)}): run 'apt-get install {install}'"
    )


def _works(platform: str) -> bool:
    # Asked of the libraries themselves: PyOpenGL binds to one platform at import, for good.
    try:
        ctypes.CDLL("libGL.so.1")
        if platform == "osmesa":
            return any(_loads(f"libOSMesa.so{suffix}") for suffix in ("", ".8", ".6"))
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not address:
        return False
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(address)
    count = ctypes.c_int()
    return bool(query(0, None, ctypes.byref(count))) and count.value > 0


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


class Renderer:
    """Draws any class of a variant from any viewpoint; context and meshes are built once.

    Use it as a context manager, one a process: closing one EGL context breaks another.

    Args:
        variant: whose classes are to be drawn.
        seed: of the plant's shape.
        platform: "auto" takes EGL where it works, else OSMesa.
    Raises:
        NoGraphicsError: if there is no off-screen GL.
    """

    def __init__(self, variant: Variant, *, seed: int = 0, platform: Platform = "auto") -> None:
        os.environ["PYOPENGL_PLATFORM"] = self.platform = choose_platform(platform)
        os.environ.setdefault("PYGLET_HEADLESS", "1")
        import pyrender

        self.variant = variant
        self._plants = [plant(spec, seed=seed) for spec in variant.classes]
        every = {part.name: part for parts in self._plants for part in parts}
        self._target_height, self._focal_px = framing(list(every.values()))

        # pyrender draws nodes and lights in the order of a set, which changes from run to run.
        class OrderedScene(pyrender.Scene):  # type: ignore[misc]
            @property
            def mesh_nodes(self) -> tuple[pyrender.Node, ...]:
                return tuple(sorted(self._mesh_nodes, key=lambda node: node.name))

            @property
            def light_nodes(self) -> tuple[pyrender.Node, ...]:
                return tuple(sorted(super().light_nodes, key=lambda node: node.name))

        self._scene: Any = OrderedScene(ambient_light=(0.40, 0.41, 0.43))
        self._nodes = {name: self._scene.add(_mesh(every[name]), name=name) for name in part_names(variant)}
        self._backdrop = self._scene.add(_mesh(_backdrop()), name="backdrop")
        self._add_camera_and_lights()
        size = FRAME_SIZE_PX * SUPERSAMPLING
        self._colour = pyrender.OffscreenRenderer(size, size)
        self.gl = _gl_strings(self._colour)

    def render(self, class_index: int, view: int) -> Frame:
        """One frame.

        Args:
            class_index: position of the class in the variant, from 0.
            view: viewpoint, from 1 to 40, in steps of 9 degrees.
        """
        from pyrender import RenderFlags

        turn = _turned(np.deg2rad((view - 1) * 360.0 / VIEWPOINTS))
        shown = {part.name: part for part in self._plants[class_index]}
        for name, node in self._nodes.items():
            node.mesh.is_visible = name in shown
            if name in shown:
                node.mesh.primitives[0].material.baseColorFactor = _linear(shown[name].colour)
            self._scene.set_pose(node, turn)

        size = FRAME_SIZE_PX * SUPERSAMPLING
        self._colour.viewport_width = self._colour.viewport_height = size
        colour, _ = self._colour.render(self._scene, RenderFlags.SHADOWS_SPOT)
        # A node left out of the map would stop occluding, so the backdrop is in it as 0.
        ids = {node: PART_IDS[name] for name, node in self._nodes.items()} | {self._backdrop: 0}
        self._colour.viewport_width = self._colour.viewport_height = FRAME_SIZE_PX
        part_ids, _ = self._colour.render(self._scene, RenderFlags.SEG, ids)
        return Frame(_downsample(colour), np.ascontiguousarray(part_ids[..., 0]))

    def close(self) -> None:
        """Free the context."""
        self._colour.delete()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add_camera_and_lights(self) -> None:
        import pyrender

        half_view = FRAME_SIZE_PX / 2 / self._focal_px
        camera = pyrender.PerspectiveCamera(
            yfov=2 * np.arctan(half_view), znear=0.5, zfar=20.0, aspectRatio=1.0
        )
        target = np.array([0.0, 0.0, self._target_height])
        self._scene.add(camera, pose=_look(camera_position(self._target_height), target))
        key = pyrender.SpotLight(
            color=(1.0, 0.965, 0.90), intensity=132.0, innerConeAngle=0.3, outerConeAngle=0.42
        )
        fill = pyrender.DirectionalLight(color=(0.82, 0.9, 1.0), intensity=1.3)
        self._scene.add(key, name="key", pose=_look(np.array([-2.6, -4.2, 5.2]), target))
        self._scene.add(fill, name="fill", pose=_look(np.array([4.0, -3.5, 2.0]), target))


def camera_position(target_height: float) -> Points:
    """Where the camera stands: in front (-y), looking down by the elevation."""
    elevation = np.deg2rad(CAMERA_ELEVATION_DEG)
    return np.array(
        [0.0, -CAMERA_DISTANCE * np.cos(elevation), target_height + CAMERA_DISTANCE * np.sin(elevation)]
    )


def framing(parts: Sequence[Part]) -> tuple[float, float]:
    """Aim and focal length that just fit the plant of every viewpoint into the central square.

    Args:
        parts: all parts that may be drawn.
    Returns:
        the height the camera looks at (world units) and the focal length in pixels.
    """
    vertices = np.vstack([part.mesh.vertices for part in parts])
    turns = np.deg2rad(np.arange(VIEWPOINTS) * 360.0 / VIEWPOINTS)
    x = np.cos(turns)[:, None] * vertices[:, 0] - np.sin(turns)[:, None] * vertices[:, 1]
    y = np.sin(turns)[:, None] * vertices[:, 0] + np.cos(turns)[:, None] * vertices[:, 1]
    world = np.stack([x, y, np.broadcast_to(vertices[:, 2], x.shape)], axis=-1).reshape(-1, 3)
    height = float(np.mean([vertices[:, 2].min(), vertices[:, 2].max()]))
    # Moving the aim changes the perspective a little, so centring takes a few rounds.
    for _ in range(8):
        pose = _look(camera_position(height), np.array([0.0, 0.0, height]))
        seen = (world - pose[:3, 3]) @ pose[:3, :3]
        across, up = seen[:, 0] / -seen[:, 2], seen[:, 1] / -seen[:, 2]
        height += float(up.max() + up.min()) / 2 * CAMERA_DISTANCE
    return height, PLANT_SIZE_PX / 2 / float(max(np.abs(across).max(), np.abs(up).max()))


def _look(position: Points, target: Points) -> Points:
    pose = np.eye(4)
    # A camera looks along its -z with +y up.
    back = position - target
    right = np.cross([0.0, 0.0, 1.0], back)
    pose[:3, :3] = frame_along(back, right)
    pose[:3, 3] = position
    return pose


def _turned(angle: float) -> Points:
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return pose


def _linear(colour: RGB) -> Points:
    # The shader ends with a power of 1/2.2, so this is the inverse it wants, not exact sRGB.
    return np.append((np.array(colour) / 255.0) ** 2.2, 1.0)


def _mesh(part: Part) -> pyrender.Mesh:
    import pyrender

    grey = np.repeat(part.shade[:, None], 3, axis=1)
    glossy = part.name in ("pot", "leaves", "petals")
    primitive = pyrender.Primitive(
        positions=part.mesh.vertices.astype(np.float32),
        normals=part.mesh.vertex_normals.astype(np.float32),
        color_0=np.hstack([grey, np.ones_like(grey[:, :1])]).astype(np.float32),
        indices=part.mesh.faces.astype(np.uint32),
        material=pyrender.MetallicRoughnessMaterial(
            baseColorFactor=_linear(part.colour),
            metallicFactor=0.0,
            roughnessFactor=0.62 if glossy else 0.9,
        ),
    )
    return pyrender.Mesh([primitive])


def _backdrop() -> Part:
    """A studio sweep: a floor that curves up into a wall behind the plant."""
    depth, floor_end, radius, top = -6.0, 1.6, 2.2, 8.0
    bend = np.linspace(0.0, np.pi / 2, 24)
    y = np.concatenate([[depth, 0.0], floor_end + radius * np.sin(bend), [floor_end + radius]])
    z = np.concatenate([[0.0, 0.0], radius * (1 - np.cos(bend)), [top]])
    x = np.array([-9.0, 9.0])
    grid = np.stack(
        [np.broadcast_to(x[:, None], (2, len(y))), np.stack([y, y]), np.stack([z, z])], axis=-1
    ).transpose(1, 0, 2)
    index = np.arange(2 * len(y)).reshape(len(y), 2)
    a, b, c, d = index[:-1, 0], index[:-1, 1], index[1:, 1], index[1:, 0]
    faces = np.vstack([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    mesh = trimesh.Trimesh(grid.reshape(-1, 3), faces, process=False)
    return Part("backdrop", mesh, WALL_COLOUR, np.ones(len(mesh.vertices)))


def _downsample(colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size, k = FRAME_SIZE_PX, SUPERSAMPLING
    blocks = colour.reshape(size, k, size, k, 3).astype(np.uint16).sum(axis=(1, 3))
    return np.asarray((blocks + k * k // 2) // (k * k), np.uint8)


def _gl_strings(renderer: pyrender.OffscreenRenderer) -> dict[str, str]:
    from OpenGL.GL import GL_RENDERER, GL_VENDOR, GL_VERSION, glGetString

    renderer._platform.make_current()
    names = {"vendor": GL_VENDOR, "renderer": GL_RENDERER, "version": GL_VERSION}
    return {name: cast(bytes, glGetString(which)).decode() for name, which in names.items()}
