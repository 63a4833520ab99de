"""Resized images and masks of a variant as memory-mapped arrays, which processes share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from an8flower.ground import files
from an8flower.ground.deprecated import warn_renamed
from an8flower.manifest import TWINS, Manifest

FORMAT_VERSION = 2


class Arrays:
    """The arrays of a folder, one per kind of image; each is (n, size, size) or (n, size, size, 3).

    A pickle holds only the folder and the kinds, so that all workers of a DataLoader map the same memory.

    Args:
        folder: that holds `<kind>.npy` for each kind.
        kinds: the arrays to open.
    """

    def __init__(self, folder: Path, kinds: Iterable[str]) -> None:
        self._folder = folder
        self._arrays: dict[str, NDArray[Any]] = {
            kind: np.load(folder / f"{kind}.npy", mmap_mode="r", allow_pickle=False) for kind in kinds
        }

    @classmethod
    def open(cls, manifest: Manifest, table: pd.DataFrame, size_px: int, kinds: Iterable[str]) -> Self:
        """Open the arrays of a variant; first write those that are missing or out of date.

        They are in the folder `cache/<size>px` of the variant.

        Args:
            manifest: of the variant.
            table: one row per derivative, with path and hash of each kind of file.
            size_px: side of the square images.
            kinds: "image", "part_only", "all_but_part" (uint8, averaged over areas), "mask", "plant" (bool,
                set where at least half of the area is), "parts" (uint8 ids, nearest neighbour).
        Raises:
            DataFolderError: if a file is missing or altered; the message names it.
        """
        folder = manifest.folder / "cache" / f"{size_px}px"
        kinds = sorted(set(kinds))
        for kind in kinds:
            digest = manifest.digest if kind in TWINS else manifest.images_digest
            expected = {"format": FORMAT_VERSION, "digest": digest, "size_px": size_px}
            array = folder / f"{kind}.npy"
            if _is_current(array, expected):
                continue
            from an8flower.resizing import write_array  # imports OpenCV, which reading does not need

            with files.locked(folder, wait=True):  # another process may write the same array
                if not _is_current(array, expected):
                    array.with_suffix(".json").unlink(missing_ok=True)
                    files.write_with(array, partial(write_array, manifest, table, size_px, kind))
                    files.write_json(array.with_suffix(".json"), expected)
        return cls(folder, kinds)

    @classmethod
    def of(cls, manifest: Manifest, table: pd.DataFrame, size_px: int, kinds: Iterable[str]) -> Self:
        """Deprecated name of `open`."""
        warn_renamed("Arrays.of", "Arrays.open")
        return cls.open(manifest, table, size_px, kinds)

    def __contains__(self, kind: str) -> bool:
        return kind in self._arrays

    def get(self, kind: str, index: int) -> NDArray[Any]:
        """Return a copy of one image, mask or part-id map."""
        return np.array(self._arrays[kind][index])

    def __reduce__(self) -> tuple[type[Arrays], tuple[Path, list[str]]]:
        return type(self), (self._folder, list(self._arrays))


def _is_current(array: Path, expected: dict[str, Any]) -> bool:
    marker = array.with_suffix(".json")
    try:
        return array.is_file() and bool(json.loads(marker.read_text()) == expected)
    except (OSError, ValueError):  # the marker is missing or invalid: write the array again
        return False
