"""A variant's images and masks at one size, as memory-mapped arrays that processes share."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from an8flower import files, png
from an8flower.augment import resize_image, resize_mask
from an8flower.manifest import Manifest, read_verified
from an8flower.progress import progress


class Arrays:
    """Images (n, size, size, 3) uint8 and masks (n, size, size) bool in a folder.

    Pickles as its folder, so that the workers of a DataLoader map the same memory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: NDArray[np.uint8] = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        self._masks: NDArray[np.bool_] = np.load(folder / "masks.npy", mmap_mode="r", allow_pickle=False)

    @classmethod
    def of(cls, manifest: Manifest, table: pd.DataFrame, size_px: int) -> Self:
        """The arrays of a variant, made beside its files if they are not there or out of date.

        Args:
            manifest: of the variant.
            table: a row a derivative with image and mask paths and hashes, which are checked.
            size_px: side of the square images.
        Raises:
            DataFolderError: naming a missing or altered file.
        """
        folder = manifest.folder / "cache" / f"{size_px}px"
        marker = folder / "cache.json"
        current = {"digest": manifest.digest, "size_px": size_px}
        if not marker.is_file() or json.loads(marker.read_text()) != current:
            marker.unlink(missing_ok=True)
            images, masks = _resized(manifest, table, size_px)
            files.write_with(folder / "images.npy", partial(_save, images))
            files.write_with(folder / "masks.npy", partial(_save, masks))
            files.write_json(marker, current)
        return cls(folder)

    def image(self, index: int) -> NDArray[np.uint8]:
        """(size, size, 3) uint8, a copy."""
        return np.array(self._images[index])

    def mask(self, index: int) -> NDArray[np.bool_]:
        """(size, size) bool, a copy."""
        return np.array(self._masks[index])

    def __reduce__(self) -> tuple[type[Arrays], tuple[Path]]:
        return type(self), (self._folder,)


def _resized(
    manifest: Manifest, table: pd.DataFrame, size_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    images = np.empty((len(table), size_px, size_px, 3), np.uint8)
    masks = np.empty((len(table), size_px, size_px), bool)

    def fill(index: int) -> None:
        row = table.iloc[index]
        image = png.decode(read_verified(manifest, row["image_path"], row["image_sha256"]))
        mask = png.decode(read_verified(manifest, row["mask_path"], row["mask_sha256"]))
        images[index], masks[index] = resize_image(image, size_px), resize_mask(mask > 0, size_px)

    # Decoding and resizing happen outside the interpreter lock.
    with (
        ThreadPoolExecutor() as pool,
        progress(f"resize {manifest.folder.name} to {size_px} px", len(table), "images") as advance,
    ):
        for _ in pool.map(fill, range(len(table))):
            advance(1)
    return images, masks


def _save(array: NDArray[Any], path: Path) -> None:
    with path.open("wb") as handle:
        np.save(handle, array, allow_pickle=False)
