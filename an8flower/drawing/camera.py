"""Position and focal length of the camera, such that the plant is inside every crop of every view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from an8flower.drawing.geometry import Points, frame_along
from an8flower.drawing.plant import FLOWER_PARTS, Part, flower_scaling
from an8flower.ground.deprecated import renamed
from an8flower.protocol import VIEWPOINTS

# The four corner crops of 250 px in 300 px overlap in the central 200 px. One pixel on each side is left
# for the antialiased edge.
PLANT_SIZE_PX = 198
CAMERA_DISTANCE = 5.0


@dataclass(frozen=True)
class Framing:
    """A camera that shows the plant of every view inside the central square of the frame.

    Args:
        target: (3,) point that the camera looks at.
        pose: (4, 4) camera to world; the camera looks along its -z axis, and its +y axis points up.
        focal_px: focal length in pixels of a 300 px frame.
    """

    target: Points
    pose: Points
    focal_px: float


def turned(angle: float) -> Points:
    """Return the (4, 4) rotation by `angle` (radians) about the vertical axis."""
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return pose


def look(position: Points, target: Points) -> Points:
    """Return the (4, 4) pose of a camera or light at `position` that points at `target`."""
    pose = np.eye(4)
    back = position - target
    pose[:3, :3] = frame_along(back, np.cross([0.0, 0.0, 1.0], back))
    pose[:3, 3] = position
    return pose


def framing(parts: Iterable[Part], *, elevation_deg: float, flower_size: float, size: float) -> Framing:
    """Return the camera for which the plant, over all views, just fits into the central square.

    Args:
        parts: all parts that may be drawn.
        elevation_deg: angle at which the camera looks down.
        flower_size: factor on the size of the flower.
        size: share of the central square that the plant fills.
    """
    scaling = flower_scaling(flower_size)
    vertices = np.vstack(
        [
            part.mesh.vertices @ scaling[:3, :3].T + scaling[:3, 3]
            if part.name in FLOWER_PARTS and flower_size != 1
            else part.mesh.vertices
            for part in parts
        ]
    )
    turns = np.deg2rad(np.arange(VIEWPOINTS) * 360.0 / VIEWPOINTS)
    x = np.cos(turns)[:, None] * vertices[:, 0] - np.sin(turns)[:, None] * vertices[:, 1]
    y = np.sin(turns)[:, None] * vertices[:, 0] + np.cos(turns)[:, None] * vertices[:, 1]
    world = np.stack([x, y, np.broadcast_to(vertices[:, 2], x.shape)], axis=-1).reshape(-1, 3)
    height = float(np.mean([vertices[:, 2].min(), vertices[:, 2].max()]))
    # Moving the target changes the perspective slightly, so centring takes a few iterations.
    for _ in range(8):
        pose = _camera_pose(height, elevation_deg)
        seen = (world - pose[:3, 3]) @ pose[:3, :3]
        across, up = seen[:, 0] / -seen[:, 2], seen[:, 1] / -seen[:, 2]
        height += float(up.max() + up.min()) / 2 * CAMERA_DISTANCE
    reach = float(max(np.abs(across).max(), np.abs(up).max()))
    target = np.array([0.0, 0.0, height])
    return Framing(target, _camera_pose(height, elevation_deg), size * PLANT_SIZE_PX / 2 / reach)


def _camera_pose(target_height: float, elevation_deg: float) -> Points:
    # The camera is in front of the plant, in the direction of -y.
    elevation = np.deg2rad(elevation_deg)
    position = np.array(
        [0.0, -CAMERA_DISTANCE * np.cos(elevation), target_height + CAMERA_DISTANCE * np.sin(elevation)]
    )
    return look(position, np.array([0.0, 0.0, target_height]))


__getattr__ = renamed(__name__, {"FRAME_SIZE_PX": "an8flower.protocol.FRAME_SIZE_PX"})
