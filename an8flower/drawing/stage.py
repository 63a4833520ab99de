"""The scene: every part is a node of it; visibility, colours, pose and light are set for each frame."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pyrender
import trimesh
from numpy.typing import NDArray

from an8flower.drawing.backdrop import backdrop, patch_on_backdrop
from an8flower.drawing.camera import CAMERA_DISTANCE, Framing, framing, look, turned
from an8flower.drawing.cheat import PATCH_SQUARE_PX
from an8flower.drawing.factors import DEFAULTS, Values
from an8flower.drawing.geometry import Points
from an8flower.drawing.plant import FLOWER_PARTS, WALL_COLOUR, Part, flower_scaling
from an8flower.ground.deprecated import renamed
from an8flower.protocol import FRAME_SIZE_PX, PART_IDS
from an8flower.variants.base import RGB

BOARD_COLOUR: RGB = (150, 122, 92)
KEY_POSITION = np.array([-2.6, -4.2, 5.2])
KEY_INTENSITY = 132.0
# Of key light, fill light and ambient light, linear RGB.
KEY_COLOUR, FILL_COLOUR, AMBIENT = (1.0, 0.965, 0.90), (0.82, 0.9, 1.0), (0.40, 0.41, 0.43)
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear sRGB
FILL_POSITION = np.array([4.0, -3.5, 2.0])
SECOND_PLANT_POSITION = np.array([0.52, 0.45, 0.0])
BOARD_DISTANCE = CAMERA_DISTANCE - 1.0  # from the camera: in front of the plant in every view
GAMMA = 2.2  # the shader ends with a power of 1/2.2, which is not exactly the sRGB curve
GLOSSY = ("pot", "leaves", "petals")


class _OrderedScene(pyrender.Scene):  # type: ignore[misc]
    """A scene with ordered nodes: pyrender draws them in the order of a set, which varies between runs."""

    @property
    def mesh_nodes(self) -> tuple[pyrender.Node, ...]:
        return tuple(sorted(self._mesh_nodes, key=lambda node: node.name))

    @property
    def light_nodes(self) -> tuple[pyrender.Node, ...]:
        return tuple(sorted(super().light_nodes, key=lambda node: node.name))


class Stage:
    """A scene with everything that may be drawn for a variant.

    Args:
        parts: every part of the variant's plants, by name.
        distractors: the parts of "extra_leaves" and "second_plant"; see `plant.distractors`.
        seed: of the textured background.
    """

    def __init__(
        self, parts: Mapping[str, Part], distractors: Mapping[str, tuple[Part, ...]], seed: int
    ) -> None:
        self.scene: Any = _OrderedScene(ambient_light=AMBIENT)
        self._parts = {name: self._add(part, name) for name, part in parts.items()}
        self._extra = {
            name: [self._add(part, f"{name} {k}") for k, part in enumerate(group)]
            for name, group in distractors.items()
        }
        self._board = self._add(Part("board", _board(), BOARD_COLOUR, np.ones(4)), "board")
        self._backdrops = {
            "graded": self._add(_backdrop(), "backdrop"),
            "textured": self._add(_backdrop(), "backdrop textured", _texture(seed)),
        }
        drawn = list(parts.values())
        self._framing = cache(
            lambda elevation, flower_size, size: framing(
                drawn, elevation_deg=elevation, flower_size=flower_size, size=size
            )
        )
        self._camera = self.scene.add(
            pyrender.PerspectiveCamera(yfov=1.0, znear=0.5, zfar=20.0, aspectRatio=1.0), name="camera"
        )
        self._key = self.scene.add(
            pyrender.SpotLight(
                color=KEY_COLOUR, intensity=KEY_INTENSITY, innerConeAngle=0.3, outerConeAngle=0.42
            ),
            name="key",
        )
        fill = pyrender.DirectionalLight(color=FILL_COLOUR, intensity=1.3)
        self._fill = self.scene.add(fill, name="fill")
        self._values: Values = DEFAULTS
        self._patch: pyrender.Node | None = None
        self._patch_camera: Framing | None = None
        # pyrender leaves nodes without an id out of the part-id pass, where they would no longer occlude
        # others. So the backdrops have id 0.
        self.ids = {node: PART_IDS[name] for name, node in self._parts.items()}
        self.ids |= {node: PART_IDS[name] for name, nodes in self._extra.items() for node in nodes}
        self.ids |= dict.fromkeys(self._backdrops.values(), 0) | {self._board: PART_IDS["board"]}

    @property
    def plain_colour(self) -> NDArray[np.uint8]:
        """The (3,) sRGB colour of everything behind the plant with the background "plain"."""
        wall = (np.array(WALL_COLOUR) / 255.0) ** GAMMA * light_tint(self._values)
        return np.asarray(np.round(255 * np.minimum(wall, 1.0) ** (1 / GAMMA)), np.uint8)

    def turn(self, angle: float, values: Values) -> None:
        """Rotate the plant by `angle` (radians), set camera, light and background, and hide the board."""
        self._values = values
        camera = self._framing_for(values)
        half = FRAME_SIZE_PX / 2 / camera.focal_px
        self._camera.camera.yfov = 2 * np.arctan(half)
        self.scene.set_pose(self._camera, camera.pose)
        self._key.light.intensity = KEY_INTENSITY * float(values["light_strength"])
        self.scene.set_pose(self._key, look(_key_position(camera.target, values), camera.target))
        self.scene.set_pose(self._fill, look(FILL_POSITION, camera.target))
        tint = light_tint(values)
        self._key.light.color, self._fill.light.color = tint * KEY_COLOUR, tint * FILL_COLOUR
        self.scene.ambient_light = tint * AMBIENT

        flower = turned(angle) @ flower_scaling(float(values["flower_size"]))
        for name, node in self._parts.items():
            self.scene.set_pose(node, flower if name in FLOWER_PARTS else turned(angle))
        second = turned(angle + 2.0)
        second[:3, 3] = SECOND_PLANT_POSITION
        for name, nodes in self._extra.items():
            for node in nodes:
                self.scene.set_pose(node, second if name == "second_plant" else turned(angle))
        for name, node in self._backdrops.items():
            node.mesh.is_visible = name == values["background"]
        self.scene.bg_color = np.append(self.plain_colour / 255, 1.0)
        self._board.mesh.is_visible = False
        self._place_patch(camera if values["cheat"] == "patch" else None)

    def dress(self, colours: Mapping[str, RGB]) -> None:
        """Show exactly these parts, in these colours, and the distractors that are set.

        The patch of a cheat is shown if `colours` has "patch".
        """
        for name, node in self._parts.items():
            node.mesh.is_visible = name in colours
            if name in colours:
                node.mesh.primitives[0].material.baseColorFactor = _linear(colours[name])
        for k, node in enumerate(self._extra["extra_leaves"]):
            node.mesh.is_visible = k < int(self._values["extra_leaves"])
        for node in self._extra["second_plant"]:
            node.mesh.is_visible = bool(self._values["second_plant"])
        if self._patch is not None:
            self._patch.mesh.is_visible = "patch" in colours
            if "patch" in colours:
                self._patch.mesh.primitives[0].material.baseColorFactor = _linear(colours["patch"])

    def clear(self) -> None:
        """Show only the background."""
        self.dress({})
        for node in (*self._extra["extra_leaves"], *self._extra["second_plant"], self._board):
            node.mesh.is_visible = False

    def raise_board(self, mask: NDArray[np.bool_], share: float) -> None:
        """Place a board that hides the left `share` of the pixels of `mask` (300, 300)."""
        if not mask.any():
            return
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        covered = np.cumsum(mask.sum(axis=0)) / mask.sum()
        left, right = columns[0] - 6, int(np.searchsorted(covered, share)) + 1
        top, bottom = rows[0] - 6, rows[-1] + 7
        camera = self._framing_for(self._values)
        middle = FRAME_SIZE_PX / 2
        scale = BOARD_DISTANCE / camera.focal_px
        local = np.diag([(right - left) * scale, (bottom - top) * scale, 1.0, 1.0])
        local[:3, 3] = [
            ((left + right) / 2 - middle) * scale,
            (middle - (top + bottom) / 2) * scale,
            -BOARD_DISTANCE,
        ]
        self.scene.set_pose(self._board, camera.pose @ local)
        self._board.mesh.is_visible = True

    def _place_patch(self, camera: Framing | None) -> None:
        """Put the patch where this camera sees it in its square of the frame; None removes it."""
        if camera is self._patch_camera:
            return
        if self._patch is not None:
            del self.ids[self._patch]
            self.scene.remove_node(self._patch)
            self._patch = None
        self._patch_camera = camera
        if camera is not None:
            left, top, side = PATCH_SQUARE_PX
            mesh = patch_on_backdrop(camera, left=left, top=top, side=side)
            self._patch = self._add(Part("patch", mesh, WALL_COLOUR, np.ones(len(mesh.vertices))), "patch")
            self.ids[self._patch] = PART_IDS["patch"]

    def _framing_for(self, values: Values) -> Framing:
        return self._framing(*(float(values[name]) for name in ("elevation", "flower_size", "size")))

    def _add(self, part: Part, name: str, texture: pyrender.Texture | None = None) -> pyrender.Node:
        return self.scene.add(_mesh(part, texture), name=name)


def light_tint(values: Values) -> Points:
    """Return the (3,) factor on all light, linear RGB: a colour with the luminance of white."""
    hue, saturation = float(values["light_hue"]), float(values["light_saturation"])
    tint = np.array(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, 1.0))
    bright: Points = tint / (LUMINANCE @ tint)
    return bright


def _key_position(target: Points, values: Values) -> Points:
    position: Points = turned(np.deg2rad(float(values["light_azimuth"])))[:3, :3] @ KEY_POSITION
    if values["light_elevation"]:
        offset = position - target
        flat, reach = np.hypot(*offset[:2]), np.linalg.norm(offset)
        height = np.arctan2(offset[2], flat) + np.deg2rad(float(values["light_elevation"]))
        height = np.clip(height, np.deg2rad(5), np.deg2rad(88))
        around = offset[:2] / flat * np.cos(height)
        position = target + reach * np.append(around, np.sin(height))
    return position


def _linear(colour: RGB) -> Points:
    return np.append((np.array(colour) / 255.0) ** GAMMA, 1.0)


def _mesh(part: Part, texture: pyrender.Texture | None) -> pyrender.Mesh:
    grey = np.repeat(part.shade[:, None], 3, axis=1)
    vertices = part.mesh.vertices
    primitive = pyrender.Primitive(
        positions=vertices.astype(np.float32),
        normals=part.mesh.vertex_normals.astype(np.float32),
        color_0=np.hstack([grey, np.ones_like(grey[:, :1])]).astype(np.float32),
        texcoord_0=None if texture is None else _unrolled(vertices),
        indices=part.mesh.faces.astype(np.uint32),
        material=pyrender.MetallicRoughnessMaterial(
            baseColorFactor=_linear(part.colour),
            baseColorTexture=texture,
            metallicFactor=0.0,
            roughnessFactor=0.62 if part.name in GLOSSY else 0.9,
        ),
    )
    return pyrender.Mesh([primitive])


def _unrolled(vertices: Points) -> NDArray[np.float32]:
    """Return texture coordinates of a backdrop: across it, and along its profile."""
    along = np.linalg.norm(np.diff(vertices[::2], axis=0), axis=1)
    length = np.repeat(np.concatenate([[0.0], np.cumsum(along)]), 2)
    return (np.stack([vertices[:, 0], length], axis=1) / 2.5).astype(np.float32)


def _texture(seed: int) -> pyrender.Texture:
    """Return a texture like plaster: noise at several scales, grey, so that it has the colour of no class."""
    rng = np.random.default_rng([seed, 1])
    size, noise = 512, np.zeros((512, 512))
    for cells in (4, 8, 16, 32, 64, 128):
        blocks = rng.standard_normal((cells, cells))
        fine = np.fft.ifft2(np.fft.fft2(blocks), norm="forward").real / cells**2
        zoomed = np.kron(fine, np.ones((size // cells, size // cells)))
        # Blurring over one cell, periodically, makes the tile seamless.
        for axis in (0, 1):
            kernel = np.zeros(size)
            kernel[: size // cells] = cells / size
            shape = (-1, 1) if axis == 0 else (1, -1)
            zoomed = np.fft.ifft(
                np.fft.fft(zoomed, axis=axis) * np.fft.fft(kernel).reshape(shape), axis=axis
            ).real
        noise += zoomed / np.sqrt(cells)
    grey = np.clip(214 + 20 * noise / noise.std(), 120, 255).astype(np.uint8)
    return pyrender.Texture(source=np.repeat(grey[..., None], 3, axis=2), source_channels="RGB")


def _board() -> trimesh.Trimesh:
    corners = np.array([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.5, 0.5, 0.0], [-0.5, 0.5, 0.0]])
    return trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], process=False)


def _backdrop() -> Part:
    mesh = backdrop()
    return Part("backdrop", mesh, WALL_COLOUR, np.ones(len(mesh.vertices)))


__getattr__ = renamed(__name__, {"SECOND_PLANT_AT": "SECOND_PLANT_POSITION"})
