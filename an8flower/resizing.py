"""Images, masks and part ids at another size, and the arrays that hold a variant's at that size."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from an8flower import png
from an8flower.ground.progress import progress
from an8flower.manifest import Manifest, read_verified
from an8flower.protocol import PLANT_PARTS


def resize_image(image: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Shrink (H, W, 3) to a square of `size_px`, antialiased by averaging areas."""
    return np.asarray(cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA), np.uint8)


def resize_mask(mask: NDArray[np.bool_], size_px: int) -> NDArray[np.bool_]:
    """Shrink (H, W) to a square of `size_px`; a pixel is part where half its area is."""
    area = cv2.resize(mask.astype(np.float32), (size_px, size_px), interpolation=cv2.INTER_AREA)
    return np.asarray(area >= 0.5)


def resize_ids(part_ids: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Shrink (H, W) to a square of `size_px`; each pixel is the id at its centre."""
    size = (size_px, size_px)
    return np.asarray(cv2.resize(part_ids, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


# What is kept at another size: from which kind of file, and how it gets there.
_MADE: dict[str, tuple[str, Callable[[NDArray[np.uint8], int], NDArray[Any]]]] = {
    "image": ("image", resize_image),
    "part_only": ("part_only", resize_image),
    "all_but_part": ("all_but_part", resize_image),
    "mask": ("mask", lambda mask, size_px: resize_mask(mask > 0, size_px)),
    "plant": ("parts", lambda ids, size_px: resize_mask(np.isin(ids, list(PLANT_PARTS)), size_px)),
    "parts": ("parts", resize_ids),
}


def write_array(manifest: Manifest, table: pd.DataFrame, size_px: int, kind: str, path: Path) -> None:
    """Write all images of a kind at one size to `path`, as NumPy's .npy.

    Args:
        manifest: of the variant.
        table: one row for each derivative, with path and hash of each kind of file.
        size_px: side of the square images.
        kind: one of those that `Arrays.of` names.
        path: of the array.
    Raises:
        DataFolderError: naming a missing or altered file.
    """
    source, resized = _MADE[kind]
    shape = (len(table), size_px, size_px, 3) if resized is resize_image else (len(table), size_px, size_px)
    dtype = bool if kind in ("mask", "plant") else np.uint8
    path.parent.mkdir(parents=True, exist_ok=True)
    # Straight to disk: the array may be larger than memory.
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    rows = list(zip(table[f"{source}_path"], table[f"{source}_sha256"], strict=True))

    def fill(index: int) -> None:
        array[index] = resized(png.decode(read_verified(manifest, *rows[index])), size_px)

    # Decoding and resizing happen outside the interpreter lock.
    title = f"resize {manifest.folder.name} to {size_px} px: {kind}"
    with ThreadPoolExecutor() as pool, progress(title, len(rows), "files") as advance:
        for _ in pool.map(fill, range(len(rows))):
            advance(1)
    array.flush()
