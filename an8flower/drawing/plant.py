"""The procedural plant: build named parts, with meshes and colours, from the specification of a class.

World units: the plant is about 1 unit high, z points up, and the bottom of the pot is at z = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import trimesh
from numpy.typing import NDArray

from an8flower.drawing.geometry import Points, ball, bezier, frame_along, join, lathe, sheet, tube
from an8flower.ground.deprecated import renamed
from an8flower.ground.registry import unknown
from an8flower.protocol import PART_IDS
from an8flower.variants import ClassSpec
from an8flower.variants.base import RGB

FLOWER_PARTS = ("sepals", "petals", "disc", "balls")

# The parts of every plant. The petals are grey, a colour of no class.
PLAIN_COLOURS: dict[str, RGB] = {
    "pot": (188, 108, 76),
    "soil": (84, 62, 48),
    "stem": (92, 138, 62),
    "leaves": (78, 140, 66),
    "sepals": (96, 142, 66),
    "petals": (150, 150, 150),
    "disc": (104, 66, 30),
}

# Of the floor and the wall behind the plant.
WALL_COLOUR: RGB = (206, 213, 220)

# The parts that only some classes have.
ADDED_COLOURS: dict[str, RGB] = {"balls": (44, 140, 150), "thorns": (118, 46, 38)}

STEM = np.array([[0.0, 0.0, 0.19], [0.075, -0.055, 0.36], [-0.115, 0.075, 0.55], [0.0, -0.01, 0.755]])
FLOWER_TILT_DEG = (
    40.0  # between the flower's axis and the vertical, so that the flower is visible in all views
)
PETALS = 9


@dataclass(frozen=True)
class Part:
    """One named part of the plant: geometry, colour, and shade at each vertex.

    Args:
        name: a key of `PART_IDS`.
        mesh: a closed mesh, or two sheets; world units.
        colour: sRGB, 0 to 255.
        shade: (vertices,) factor on the colour in linear light, in [0, 1].
    """

    name: str
    mesh: trimesh.Trimesh
    colour: RGB
    shade: NDArray[np.float64]


def plant(spec: ClassSpec, *, seed: int = 0) -> tuple[Part, ...]:
    """Return all parts of the plant of one class.

    Args:
        spec: colours and additional parts of the class.
        seed: of the plant's shape; the same for every class of a dataset.
    Returns:
        the parts, in the order of their ids.
    Raises:
        UnknownNameError: if `spec` names a part that does not exist.
    """
    for name in (spec.part, *spec.colours, *spec.parts):
        if name not in BUILDERS:
            raise unknown("part", name, BUILDERS)
    names = sorted({*PLAIN_COLOURS, *spec.parts}, key=PART_IDS.__getitem__)
    return tuple(
        Part(name, mesh, spec.colours.get(name, plain_colour(name)), shade)
        for name, (mesh, shade) in ((name, _built(name, seed)) for name in names)
    )


def plain_colour(name: str) -> RGB:
    """Return the colour of a part in classes that do not change it."""
    return {**PLAIN_COLOURS, **ADDED_COLOURS}[name]


@cache
def _built(name: str, seed: int) -> tuple[trimesh.Trimesh, NDArray[np.float64]]:
    # One random stream per part: adding a part does not change the shape of the others.
    rng = np.random.default_rng(np.random.SeedSequence([seed, PART_IDS[name]]))
    mesh, shade = BUILDERS[name](rng)
    return mesh, np.clip(shade, 0.0, 1.0)


Built = tuple[trimesh.Trimesh, NDArray[np.float64]]


def _plain(mesh: trimesh.Trimesh) -> Built:
    return mesh, np.ones(len(mesh.vertices))


def _pot(rng: np.random.Generator) -> Built:
    outline = [
        (0.085, 0.0), (0.1, 0.004), (0.138, 0.168), (0.14, 0.172), (0.152, 0.174), (0.157, 0.18),
        (0.159, 0.222), (0.155, 0.228), (0.145, 0.228), (0.141, 0.222), (0.138, 0.18),
    ]  # fmt: skip
    return _plain(lathe(np.array(outline)))


def _soil(rng: np.random.Generator) -> Built:
    outline = [(0.139, 0.196), (0.12, 0.204), (0.08, 0.209), (0.04, 0.211), (0.01, 0.212)]
    mesh = lathe(np.array(outline), sides=96)
    bumps = rng.uniform(-0.006, 0.006, len(mesh.vertices))
    mesh.vertices += np.stack([np.zeros_like(bumps), np.zeros_like(bumps), bumps], axis=1)
    return mesh, rng.uniform(0.55, 1.0, len(mesh.vertices))


def _stem(rng: np.random.Generator) -> Built:
    curve = bezier(STEM, 48)
    mesh = tube(curve, np.linspace(0.0175, 0.013, len(curve)))
    return _plain(mesh)


# Height on the stem (0 to 1), azimuth in degrees, length, width. All leaves differ, so that all views differ.
LEAVES = ((0.12, 20.0, 0.27, 0.058), (0.2, 165.0, 0.22, 0.05), (0.4, 265.0, 0.18, 0.042))
EXTRA_LEAVES = (
    (0.3, 90.0, 0.19, 0.045),
    (0.5, 200.0, 0.16, 0.04),
    (0.62, 20.0, 0.13, 0.034),
    (0.25, 300.0, 0.21, 0.046),
)


def _leaves(rng: np.random.Generator) -> Built:
    return _leaves_at(LEAVES, rng)


def _leaves_at(leaves: Sequence[tuple[float, float, float, float]], rng: np.random.Generator) -> Built:
    curve = bezier(STEM, 48)
    meshes, shades = [], []
    for height, azimuth_deg, length, width in leaves:
        azimuth = np.deg2rad(azimuth_deg + rng.uniform(-12, 12))
        outward = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
        base = curve[round(height * (len(curve) - 1))] - 0.008 * outward
        u, v = np.meshgrid(np.linspace(0, 1, 26), np.linspace(-1, 1, 11), indexing="ij")
        half = width * np.sin(np.pi * u**0.75) ** 0.85
        across = np.cross([0.0, 0.0, 1.0], outward)
        rise = length * (0.95 * u - 0.85 * u**2) + 0.35 * half * np.abs(v)
        grid = (
            base
            + (length * u * (1 - 0.12 * u))[..., None] * outward
            + (half * v * 0.9)[..., None] * across
            + rise[..., None] * np.array([0.0, 0.0, 1.0])
        )
        mesh = sheet(grid, thickness=0.004)
        meshes.append(mesh)
        vein = 0.72 + 0.28 * np.minimum(1.0, np.abs(v) * 4) * (0.9 + 0.1 * np.cos(u * 40))
        shades.append(np.tile(vein.reshape(-1), 2))
    return join(meshes), np.concatenate(shades)


def distractors(*, seed: int = 0) -> dict[str, tuple[Part, ...]]:
    """Return the parts that factors add to a frame: extra leaves and a second plant.

    Returns:
        the parts of "extra_leaves", in the order in which they are added, and of "second_plant": a pot
        with stem, leaves and sepals, without petals, disc, balls and thorns, in plain colours.
    """
    leaves = []
    for k, leaf in enumerate(EXTRA_LEAVES):
        rng = np.random.default_rng(np.random.SeedSequence([seed, PART_IDS["extra_leaves"], k]))
        mesh, shade = _leaves_at((leaf,), rng)
        leaves.append(Part("extra_leaves", mesh, PLAIN_COLOURS["leaves"], shade))
    second = []
    for name in ("pot", "soil", "stem", "leaves", "sepals"):
        mesh, shade = _built(name, seed + 1)
        second.append(Part("second_plant", mesh, PLAIN_COLOURS[name], shade))
    return {"extra_leaves": tuple(leaves), "second_plant": tuple(second)}


def flower_scaling(factor: float) -> Points:
    """Return the (4, 4) scaling of the flower by `factor` about the point where it joins the stem."""
    origin, _ = _flower_frame()
    scaling = np.eye(4) * factor
    scaling[3, 3] = 1.0
    scaling[:3, 3] = origin * (1 - factor)
    return scaling


def _flower_frame() -> tuple[Points, Points]:
    tilt = np.deg2rad(FLOWER_TILT_DEG)
    axis = np.array([np.sin(tilt), 0.0, np.cos(tilt)])
    return STEM[-1] + 0.018 * axis, frame_along(axis, np.array([0.0, 1.0, 0.0]))


def _placed(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    origin, rotation = _flower_frame()
    return trimesh.Trimesh(mesh.vertices @ rotation.T + origin, mesh.faces, process=False)


def _petal_ring(
    rng: np.random.Generator, count: int, length: float, width: float, lift: float, turn: float
) -> Built:
    meshes, shades = [], []
    for k in range(count):
        angle = 2 * np.pi * (k + turn) / count + rng.uniform(-0.06, 0.06)
        long, wide = length * rng.uniform(0.93, 1.07), width * rng.uniform(0.94, 1.06)
        u, v = np.meshgrid(np.linspace(0, 1, 22), np.linspace(-1, 1, 13), indexing="ij")
        half = wide * (0.3 + 0.7 * np.sin(np.pi * np.minimum(1, u * 0.62 + 0.08))) * np.sqrt(1 - u**6)
        cup = 0.22 * half * v**2
        height = lift * u + 0.32 * long * u * (1 - u) + cup + 0.012 * rng.uniform(-1, 1) * u
        radial = 0.028 + long * u
        grid = np.stack([radial, half * v, height], axis=-1)
        cosine, sine = np.cos(angle), np.sin(angle)
        turned = grid @ np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        meshes.append(sheet(turned, thickness=0.003))
        groove = 0.94 + 0.06 * np.cos(v * 9)
        shades.append(np.tile(((0.62 + 0.38 * np.minimum(1, u * 2.2)) * groove).reshape(-1), 2))
    return join(meshes), np.concatenate(shades)


def _balls(rng: np.random.Generator) -> Built:
    # On the tips of the outer petals, so that they are visible from above and from below.
    balls = []
    for k in range(PETALS):
        angle = 2 * np.pi * (k + 0.5) / PETALS + rng.uniform(-0.05, 0.05)
        radius, height = 0.15 + rng.uniform(-0.008, 0.008), 0.052 + rng.uniform(-0.004, 0.004)
        centre = np.array([radius * np.cos(angle), radius * np.sin(angle), height])
        balls.append(ball(centre, np.full(3, 0.024)))
    return _plain(_placed(join(balls)))


def _thorns(rng: np.random.Generator) -> Built:
    curve = bezier(STEM, 400)
    tangents = np.gradient(curve, axis=0)
    thorns = []
    for k in range(34):
        index = round(len(curve) * (0.1 + 0.8 * k / 34))
        # The golden angle distributes any number of thorns evenly around the stem.
        angle = k * np.pi * (3 - np.sqrt(5)) + rng.uniform(-0.2, 0.2)
        frame = frame_along(tangents[index], np.array([1.0, 0.0, 0.0]))
        outward = frame @ np.array([np.cos(angle), np.sin(angle), 0.0])
        spine = curve[index] + np.linspace(0.006, 0.064, 8)[:, None] * outward
        spine[:, 2] -= np.linspace(0, 1, 8) ** 2 * 0.012
        thorns.append(tube(spine, np.linspace(0.013, 0.0008, 8), sides=10))
    return _plain(join(thorns))


def _petals(rng: np.random.Generator) -> Built:
    outer, outer_shade = _petal_ring(rng, PETALS, 0.165, 0.058, 0.026, 0.0)
    inner, inner_shade = _petal_ring(rng, PETALS - 2, 0.12, 0.047, 0.062, 0.5)
    return _placed(join([outer, inner])), np.concatenate([outer_shade, 0.9 * inner_shade])


def _disc(rng: np.random.Generator) -> Built:
    centre = ball(np.array([0.0, 0.0, 0.032]), np.array([0.05, 0.05, 0.03]), subdivisions=4)
    # Seeds in a spiral as in a sunflower: raised, lighter dots on the dome.
    shade = np.full(len(centre.vertices), 0.75)
    seeds = []
    for k in range(60):
        radius, angle = 0.048 * np.sqrt((k + 0.5) / 60), k * np.pi * (3 - np.sqrt(5))
        height = 0.032 + 0.03 * np.sqrt(max(0.0, 1 - (radius / 0.05) ** 2))
        position = np.array([radius * np.cos(angle), radius * np.sin(angle), height])
        seeds.append(ball(position, np.full(3, 0.0046), subdivisions=1))
    dots = join(seeds)
    return _placed(join([centre, dots])), np.concatenate([shade, np.ones(len(dots.vertices))])


def _sepals(rng: np.random.Generator) -> Built:
    outline = [(0.012, -0.02), (0.02, -0.014), (0.034, 0.0), (0.042, 0.014), (0.03, 0.02)]
    cup = lathe(np.array(outline), sides=32)
    return _plain(_placed(cup))


BUILDERS: dict[str, Callable[[np.random.Generator], Built]] = {
    "pot": _pot,
    "soil": _soil,
    "stem": _stem,
    "leaves": _leaves,
    "sepals": _sepals,
    "petals": _petals,
    "disc": _disc,
    "balls": _balls,
    "thorns": _thorns,
}

__getattr__ = renamed(__name__, {"PLANT_PARTS": "an8flower.protocol.PLANT_PARTS"})
