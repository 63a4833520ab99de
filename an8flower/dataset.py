"""An8Flower for PyTorch: images with labels, masks, part ids and views, whole or by fold."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset

from an8flower import png
from an8flower.arrays import Arrays
from an8flower.folds import Scheme, Split, in_split
from an8flower.generation import generate as generate_files
from an8flower.manifest import Manifest, read_manifest, read_verified, require_complete

Target = Literal["label", "mask", "parts", "view"]


@dataclass(frozen=True)
class Batch:
    """Images that go through a model together.

    Args:
        images: (n, 3, H, W) float32 in [0, 1].
        labels: (n,) int64, from 0.
        masks: (n, H, W) bool.
        rows: (n,) int64, their positions in `An8Flower.table`.
    """

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    rows: NDArray[np.int64]


class An8Flower(Dataset[Any]):
    """The derivatives of one variant, or of one split of one of its folds.

    Args:
        root: folder that holds the variant's folder.
        variant: e.g. "single-6c".
        fold: from 0 to 4; None for the whole dataset.
        split: "train", "test" or "all" of the fold.
        target: one of "label" (int, from 0), "mask" ((H, W) bool), "parts" ((H, W) uint8 ids)
            and "view" (int, from 1), or a tuple of them.
        size_px: None reads the 250 px files at each access. A number gives images and masks
            of that size from memory-mapped arrays, made once beside the files and checked
            against their hashes then.
        folds: "interleaved" (view % 5) or "blocks" of 8 views.
        generate: draw what is missing first.
    Raises:
        DataFolderError: naming a missing or altered file and the command that mends it.
        ValueError: for an unknown fold, split or target, or a split without images.

    Items are `(image, target)`, the image (3, H, W) float32 in [0, 1].
    """

    def __init__(
        self,
        root: str | Path,
        variant: str,
        *,
        fold: int | None = None,
        split: Split | None = None,
        target: Target | tuple[Target, ...] = "label",
        size_px: int | None = None,
        folds: Scheme = "interleaved",
        generate: bool = False,
    ) -> None:
        for name in (target,) if isinstance(target, str) else target:
            if name not in get_args(Target):
                raise ValueError(f"unknown target {name!r}; known are {', '.join(get_args(Target))}")
        if size_px is not None and "parts" in target:
            raise ValueError("target 'parts' has no resized form; leave size_px out")
        self.manifest = generate_files(root, variant) if generate else read_manifest(root, variant)
        require_complete(self.manifest)
        self.target = target
        self.size_px = size_px
        self.classes: tuple[str, ...] = tuple(spec["name"] for spec in self.manifest.header["classes"])
        every = _derivative_table(self.manifest)
        chosen = in_split(every["view"], fold, split or ("all" if fold is None else "train"), folds)
        if not chosen.any():
            raise ValueError(
                f"no image of {self.manifest.folder} is in split {split!r} of fold {fold}: "
                f"it holds the views {self.manifest.header['views']}"
            )
        self.table: pd.DataFrame = every[chosen].reset_index(drop=True)
        self._where = np.flatnonzero(chosen)
        self._arrays = Arrays.of(self.manifest, every, size_px) if size_px is not None else None

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any]:
        image = torch.from_numpy(self._image(index)).permute(2, 0, 1).to(torch.float32) / 255
        if isinstance(self.target, str):
            return image, self._target(self.target, index)
        return image, tuple(self._target(name, index) for name in self.target)

    def batches(self, size: int, *, rng: np.random.Generator | None = None) -> Iterator[Batch]:
        """All images in batches of `size`: in the order of the table, or shuffled by `rng`."""
        order = np.arange(len(self)) if rng is None else rng.permutation(len(self))
        labels = self.table["class"].to_numpy() - 1
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            images = np.stack([self._image(i) for i in rows]).transpose(0, 3, 1, 2)
            masks = np.stack([self._mask(i) for i in rows])
            yield Batch(
                torch.from_numpy(images).to(torch.float32) / 255,
                torch.from_numpy(labels[rows].astype(np.int64)),
                torch.from_numpy(masks),
                rows,
            )

    def where(self, chosen: ArrayLike) -> An8Flower:
        """The same dataset with those images alone for which `chosen` (len(self),) is true."""
        index = np.flatnonzero(np.asarray(chosen, bool))
        part = copy(self)
        part.table, part._where = self.table.iloc[index].reset_index(drop=True), self._where[index]
        return part

    def _target(self, name: Target, index: int) -> int | torch.Tensor:
        if name == "label":
            return int(self.table["class"].iloc[index]) - 1
        if name == "view":
            return int(self.table["view"].iloc[index])
        return torch.from_numpy(self._mask(index) if name == "mask" else self._read("parts", index))

    def _image(self, index: int) -> NDArray[np.uint8]:
        return self._read("image", index) if self._arrays is None else self._arrays.image(self._where[index])

    def _mask(self, index: int) -> NDArray[np.bool_]:
        if self._arrays is not None:
            return self._arrays.mask(self._where[index])
        return np.asarray(self._read("mask", index) > 0)

    def _read(self, kind: str, index: int) -> NDArray[np.uint8]:
        row = self.table.iloc[index]
        return png.decode(read_verified(self.manifest, row[f"{kind}_path"], row[f"{kind}_sha256"]))


def _derivative_table(manifest: Manifest) -> pd.DataFrame:
    """A row a derivative, in the order of class, view, crop and rotation."""
    table = manifest.of_kind("image")[["class", "view", "crop", "rotation", "mask_area_px"]].copy()
    for kind in ("image", "mask", "parts"):
        rows = manifest.of_kind(kind)
        table[f"{kind}_path"], table[f"{kind}_sha256"] = rows["path"], rows["sha256"]
    return table
