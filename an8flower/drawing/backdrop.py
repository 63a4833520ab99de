"""The floor that curves up into a wall behind the plant, and squares of the frame projected onto it."""

from __future__ import annotations

import numpy as np
import trimesh

from an8flower.drawing.camera import Framing
from an8flower.drawing.geometry import Points
from an8flower.protocol import FRAME_SIZE_PX

WIDTH = 18.0
# How far a patch is in front of the backdrop, as a share of its distance from the camera: enough to be drawn
# before it, and so little that its shadow is less than a pixel wide.
GAP = 5e-4
CELLS = 8  # along each side of a patch, so that it follows the curve


def profile() -> Points:
    """Return the (n, 2) points, y and z, of the backdrop seen from the side, from the front to the top."""
    depth, floor_end, radius, top = -6.0, 1.6, 2.2, 8.0
    bend = np.linspace(0.0, np.pi / 2, 24)
    y = np.concatenate([[depth, 0.0], floor_end + radius * np.sin(bend), [floor_end + radius]])
    z = np.concatenate([[0.0, 0.0], radius * (1 - np.cos(bend)), [top]])
    return np.stack([y, z], axis=1)


def backdrop() -> trimesh.Trimesh:
    """Return the backdrop; it has two vertices for each point of its profile."""
    y, z = profile().T
    x = np.array([-WIDTH / 2, WIDTH / 2])
    grid = np.stack(
        [np.broadcast_to(x[:, None], (2, len(y))), np.stack([y, y]), np.stack([z, z])], axis=-1
    ).transpose(1, 0, 2)
    index = np.arange(2 * len(y)).reshape(len(y), 2)
    a, b, c, d = index[:-1, 0], index[:-1, 1], index[1:, 1], index[1:, 0]
    faces = np.vstack([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    return trimesh.Trimesh(grid.reshape(-1, 3), faces, process=False)


def patch_on_backdrop(camera: Framing, *, left: int, top: int, side: int) -> trimesh.Trimesh:
    """Return the part of the backdrop that fills a square of the frame, moved a little towards the camera.

    Args:
        camera: that takes the frame.
        left, top, side: of the square, in pixels of the frame.
    """
    along = np.linspace(0.0, side, CELLS + 1)
    columns, rows = np.meshgrid(left + along, top + along)
    half = FRAME_SIZE_PX / 2
    seen = np.stack([columns - half, half - rows, np.full_like(rows, -camera.focal_px)], axis=-1)
    rays = seen.reshape(-1, 3) @ camera.pose[:3, :3].T
    origin = camera.pose[:3, 3]
    reach = _distances(origin[1:], rays[:, 1:])
    points = origin + (1 - GAP) * reach[:, None] * rays
    index = np.arange(len(points)).reshape(CELLS + 1, CELLS + 1)
    a, b, c, d = (
        corner.ravel() for corner in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1])
    )
    faces = np.vstack([np.stack([a, d, c], axis=1), np.stack([a, c, b], axis=1)])
    return trimesh.Trimesh(points, faces, process=False)


def _distances(origin: Points, rays: Points) -> Points:
    """Return how far each ray goes, in multiples of its length, until it meets the profile.

    Args:
        origin: (2,) point from which the rays start, y and z.
        rays: (n, 2).
    """
    start = profile()[:-1]
    edge = profile()[1:] - start
    offset = start - origin
    # Solve origin + t ray = start + s edge for each ray and each edge, by Cramer's rule.
    across = rays[:, None, 0] * edge[:, 1] - rays[:, None, 1] * edge[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (offset[:, 0] * edge[:, 1] - offset[:, 1] * edge[:, 0]) / across
        s = (offset[:, 0] * rays[:, None, 1] - offset[:, 1] * rays[:, None, 0]) / across
    met = (t > 0) & (s >= 0) & (s <= 1)
    distances: Points = np.where(met, t, np.inf).min(axis=1)
    return distances
