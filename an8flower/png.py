"""Images to PNG bytes and back."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Level 1 writes photograph-like frames many times faster than 9, for a few per cent of size.
COMPRESSION = 1


def encode(image: NDArray[np.uint8]) -> bytes:
    """(H, W) or (H, W, 3) RGB uint8 as PNG bytes."""
    import cv2  # OpenCV's bytes are those of the published digests; reading does without it

    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    _, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION])
    return data.tobytes()


def decode(data: bytes) -> NDArray[np.uint8]:
    """PNG bytes as (H, W) or (H, W, 3) RGB uint8.

    Raises:
        ValueError: if `data` is no readable PNG.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            grey = image.mode in ("1", "L", "LA", "I", "I;16")
            return np.array(image if image.mode in ("L", "RGB") else image.convert("L" if grey else "RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("not a readable PNG") from error
