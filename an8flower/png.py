"""Encode images as PNG and decode them."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Level 1 encodes rendered frames many times faster than level 9; the files are a few per cent larger.
COMPRESSION = 1


def encode(image: NDArray[np.uint8]) -> bytes:
    """Encode an image as PNG.

    Args:
        image: (H, W) grey or (H, W, 3) RGB, uint8.
    Returns:
        the bytes of the PNG file.
    """
    import cv2  # the published digests are of OpenCV's bytes; decoding does not need OpenCV

    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    _, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION])
    return data.tobytes()


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a PNG file.

    Args:
        data: the bytes of the file.
    Returns:
        (H, W) for a grey image, otherwise (H, W, 3) RGB; uint8.
    Raises:
        ValueError: if `data` is not a valid PNG file.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            grey = image.mode in ("1", "L", "LA", "I", "I;16")
            return np.array(image if image.mode in ("L", "RGB") else image.convert("L" if grey else "RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("not a valid PNG file") from error
