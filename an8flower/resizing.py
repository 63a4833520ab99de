"""Resize images, masks and part ids, and write all resized images of a variant as one array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from an8flower import png
from an8flower.ground.progress import progress
from an8flower.manifest import Manifest, read_verified
from an8flower.protocol import PLANT_PARTS


def resize_image(image: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Resize an image (H, W, 3) to a square of `size_px` by averaging over pixel areas."""
    return np.asarray(cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA), np.uint8)


def resize_mask(mask: NDArray[np.bool_], size_px: int) -> NDArray[np.bool_]:
    """Resize a mask (H, W) to a square of `size_px`; a pixel is set if at least half of its area is."""
    area = cv2.resize(mask.astype(np.float32), (size_px, size_px), interpolation=cv2.INTER_AREA)
    return np.asarray(area >= 0.5)


def resize_ids(part_ids: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Resize part ids (H, W) to a square of `size_px`; each pixel takes the id at its centre."""
    size = (size_px, size_px)
    return np.asarray(cv2.resize(part_ids, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


# By kind; a mask of the cheat comes here as its pixels, because its part id is that of the dataset.
_RESIZE: dict[str, Callable[[NDArray[np.uint8], int], NDArray[Any]]] = {
    "image": resize_image,
    "part_only": resize_image,
    "all_but_part": resize_image,
    "mask": lambda mask, size_px: resize_mask(mask > 0, size_px),
    "plant": lambda ids, size_px: resize_mask(np.isin(ids, list(PLANT_PARTS)), size_px),
    "cheat": lambda cheat, size_px: resize_mask(cheat > 0, size_px),
    "parts": resize_ids,
}


def write_array(
    manifest: Manifest, rows: Sequence[tuple[str, str]], size_px: int, kind: str, path: Path
) -> None:
    """Resize all images of one kind and write them to `path` in NumPy's .npy format.

    Args:
        manifest: of the variant.
        rows: path and SHA-256 of the file of each derivative.
        size_px: side of the square images.
        kind: one of the kinds that `Arrays.open` lists.
        path: the file to write.
    Raises:
        DataFolderError: if a file is missing or altered; the message names it.
    """
    resize = _RESIZE[kind]
    shape = (len(rows), size_px, size_px, 3) if resize is resize_image else (len(rows), size_px, size_px)
    dtype = bool if kind in ("mask", "plant", "cheat") else np.uint8
    path.parent.mkdir(parents=True, exist_ok=True)
    # Memory-mapped, because the array may be larger than memory.
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)

    def fill(index: int) -> None:
        stored = png.decode(read_verified(manifest, *rows[index]))
        array[index] = resize(stored == manifest.cheat_id if kind == "cheat" else stored, size_px)

    # Threads suffice: decoding and resizing release the interpreter lock.
    title = f"resize {manifest.folder.name} to {size_px} px: {kind}"
    with ThreadPoolExecutor() as pool, progress(title, len(rows), "files") as advance:
        for _ in pool.map(fill, range(len(rows))):
            advance(1)
    array.flush()
