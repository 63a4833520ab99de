"""Images to PNG bytes and back."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Level 1 writes photograph-like frames many times faster than 9, for a few per cent of size.
COMPRESSION = 1


def encode(image: NDArray[np.uint8]) -> bytes:
    """(H, W) or (H, W, 3) RGB uint8 as PNG bytes."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    _, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION])
    return data.tobytes()


def decode(data: bytes) -> NDArray[np.uint8]:
    """PNG bytes as (H, W) or (H, W, 3) RGB uint8.

    Raises:
        ValueError: if `data` is no readable PNG.
    """
    buffer = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if len(data) else None
    if image is None:
        raise ValueError("not a readable PNG")
    array = np.asarray(image, np.uint8)
    return np.asarray(cv2.cvtColor(array, cv2.COLOR_BGR2RGB), np.uint8) if array.ndim == 3 else array
