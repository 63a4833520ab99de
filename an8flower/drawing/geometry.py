"""The surfaces that a plant consists of: tubes, solids of revolution and thin sheets, as triangle meshes."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.typing import NDArray

Points = NDArray[np.float64]


def bezier(control: Points, samples: int) -> Points:
    """Return points along a Bezier curve.

    Args:
        control: (k, 3) control points.
        samples: number of points, including both ends.
    Returns:
        (samples, 3).
    """
    t = np.linspace(0.0, 1.0, samples)[:, None, None]
    points = np.broadcast_to(control, (samples, *control.shape))
    while points.shape[1] > 1:
        points = (1 - t) * points[:, :-1] + t * points[:, 1:]
    return np.ascontiguousarray(points[:, 0])


def unit(vectors: Points) -> Points:
    """Scale vectors to length 1 along the last axis."""
    scaled: Points = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled


def frame_along(direction: Points, reference: Points) -> Points:
    """Return a right-handed rotation (3, 3): third column along `direction`, first near `reference`."""
    w = unit(direction)
    u = unit(reference - (reference @ w) * w)
    return np.stack([u, np.cross(w, u), w], axis=1)


def tube(curve: Points, radii: Points, sides: int = 20) -> trimesh.Trimesh:
    """Return a closed tube around `curve`.

    Args:
        curve: (n, 3) points of the centre line.
        radii: (n,) radius at each point.
        sides: number of vertices per ring.
    """
    tangents = unit(np.gradient(curve, axis=0))
    angles = np.linspace(0.0, 2 * np.pi, sides, endpoint=False)
    side = np.array([1.0, 0.0, 0.0])
    rings = []
    for centre, tangent, radius in zip(curve, tangents, radii, strict=True):
        # Each ring starts at the side vector of the previous ring, so that the tube is not twisted.
        rotation = frame_along(tangent, side)
        side = rotation[:, 0]
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius
        rings.append(centre + circle @ rotation[:, :2].T)
    return _closed_rings(np.stack(rings), curve[0], curve[-1])


def lathe(profile: Points, sides: int = 64) -> trimesh.Trimesh:
    """Return the solid of revolution of a profile about the z axis.

    Args:
        profile: (n, 2) radius and height, from bottom to top; both ends are closed.
        sides: number of vertices per ring.
    """
    angles = np.linspace(0.0, 2 * np.pi, sides, endpoint=False)
    radius, height = profile[:, :1], profile[:, 1:]
    rings = np.stack(
        [radius * np.cos(angles), radius * np.sin(angles), np.broadcast_to(height, (len(profile), sides))],
        axis=2,
    )
    axis = np.stack([np.zeros(2), np.zeros(2), profile[[0, -1], 1]], axis=1)
    return _closed_rings(rings, axis[0], axis[1])


def sheet(grid: Points, thickness: float) -> trimesh.Trimesh:
    """Return a thin closed surface: a front and a back sheet that meet at the edge.

    Two sheets instead of a double-sided one, because the part-id pass draws front faces only.

    Args:
        grid: (rows, columns, 3) points, counter-clockwise seen from the front.
        thickness: distance of the back from the front; 0 at the edge.
    """
    rows, columns = grid.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    front_faces = _quads(index)
    front = trimesh.Trimesh(grid.reshape(-1, 3), front_faces, process=False)
    inside = np.zeros((rows, columns))
    inside[1:-1, 1:-1] = thickness
    back = front.vertices - front.vertex_normals * inside.reshape(-1, 1)
    return trimesh.Trimesh(
        np.vstack([front.vertices, back]),
        np.vstack([front_faces, front_faces[:, ::-1] + rows * columns]),
        process=False,
    )


def ball(centre: Points, radii: Points, subdivisions: int = 3) -> trimesh.Trimesh:
    """Return an ellipsoid with half-axes `radii` (3,) along x, y, z."""
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    return trimesh.Trimesh(sphere.vertices * radii + centre, sphere.faces, process=False)


def join(meshes: list[trimesh.Trimesh]) -> trimesh.Trimesh:
    """Join meshes into one; the vertices keep the order of the meshes."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    return trimesh.Trimesh(
        np.vstack([mesh.vertices for mesh in meshes]),
        np.vstack([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
        process=False,
    )


def _quads(index: NDArray[np.int64]) -> NDArray[np.int64]:
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return np.concatenate(
        [np.stack([a, b, c], axis=-1).reshape(-1, 3), np.stack([a, c, d], axis=-1).reshape(-1, 3)]
    )


def _closed_rings(rings: Points, first: Points, last: Points) -> trimesh.Trimesh:
    count, sides = rings.shape[:2]
    index = np.arange(count * sides).reshape(count, sides)
    wall = _quads(np.concatenate([index, index[:, :1]], axis=1))
    start, end = count * sides, count * sides + 1
    around = np.roll(index, -1, axis=1)
    bottom = np.stack([np.full(sides, start), around[0], index[0]], axis=1)
    top = np.stack([np.full(sides, end), index[-1], around[-1]], axis=1)
    vertices = np.vstack([rings.reshape(-1, 3), first, last])
    return trimesh.Trimesh(vertices, np.vstack([wall, bottom, top]), process=False)
