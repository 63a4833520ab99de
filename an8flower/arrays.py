"""A variant's images and masks at one size, as memory-mapped arrays that processes share."""

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
from an8flower.manifest import TWINS, Manifest

FORMAT_VERSION = 2


class Arrays:
    """Arrays of some kinds, each (n, size, size) or (n, size, size, 3), in a folder.

    Pickles as its folder and kinds, so that the workers of a DataLoader map the same memory.
    """

    def __init__(self, folder: Path, kinds: Iterable[str]) -> None:
        self._folder = folder
        self._arrays: dict[str, NDArray[Any]] = {
            kind: np.load(folder / f"{kind}.npy", mmap_mode="r", allow_pickle=False) for kind in kinds
        }

    @classmethod
    def of(cls, manifest: Manifest, table: pd.DataFrame, size_px: int, kinds: Iterable[str]) -> Self:
        """The arrays of a variant, made beside its files if they are not there or out of date.

        Args:
            manifest: of the variant.
            table: a row a derivative, with path and hash of each kind of file.
            size_px: side of the square images.
            kinds: "image", "part_only", "all_but_part" (uint8, areas averaged), "mask", "plant" (bool, part
                where half the area is), "parts" (uint8 ids, nearest neighbour).
        Raises:
            DataFolderError: naming a missing or altered file.
        """
        folder = manifest.folder / "cache" / f"{size_px}px"
        kinds = sorted(set(kinds))
        for kind in kinds:
            digest = manifest.digest if kind in TWINS else manifest.images_digest
            current = {"format": FORMAT_VERSION, "digest": digest, "size_px": size_px}
            array = folder / f"{kind}.npy"
            if _is_current(array, current):
                continue
            from an8flower.resizing import write_array  # takes OpenCV, which reading does without

            with files.locked(folder, wait=True):  # by another process, perhaps, until now
                if not _is_current(array, current):
                    array.with_suffix(".json").unlink(missing_ok=True)
                    files.write_with(array, partial(write_array, manifest, table, size_px, kind))
                    files.write_json(array.with_suffix(".json"), current)
        return cls(folder, kinds)

    def __contains__(self, kind: str) -> bool:
        return kind in self._arrays

    def get(self, kind: str, index: int) -> NDArray[Any]:
        """One image, mask or map of ids, a copy."""
        return np.array(self._arrays[kind][index])

    def __reduce__(self) -> tuple[type[Arrays], tuple[Path, list[str]]]:
        return type(self), (self._folder, list(self._arrays))


def _is_current(array: Path, current: dict[str, Any]) -> bool:
    marker = array.with_suffix(".json")
    try:
        return array.is_file() and bool(json.loads(marker.read_text()) == current)
    except (OSError, ValueError):  # none, or one that cannot be read: the array is made again
        return False
