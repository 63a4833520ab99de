"""The dataset for PyTorch: images with labels, masks, part ids and views, by fold and split or as a whole."""

from __future__ import annotations

import base64
import operator
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any, Literal, cast, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset

from an8flower import png
from an8flower.arrays import Arrays, checked_size
from an8flower.folds import in_split
from an8flower.ground.deprecated import warn_renamed
from an8flower.ground.shown import brief, html_table
from an8flower.ground.torchvision_shim import TorchvisionImport, as_image, as_mask
from an8flower.manifest import (
    TWINS,
    DataFolderError,
    Manifest,
    command,
    empty_split,
    read_manifest,
    read_verified,
    require_complete,
)
from an8flower.manifest_checks import CHEAT_CLASS
from an8flower.protocol import PLANT_PARTS, Scheme, Split

Target = Literal["label", "mask", "plant", "parts", "view", "cheat"]
Twin = Literal["part_only", "all_but_part"]
SHOWN = 6  # the most images, of one class each, that a notebook shows


@dataclass(frozen=True)
class Batch:
    """A batch of images with labels and masks.

    Args:
        images: (n, 3, H, W) float32 in [0, 1].
        labels: (n,) int64, from 0.
        masks: (n, H, W) bool, the discriminative part.
        rows: (n,) int64, positions of the images in `An8Flower.table`.
        object_masks: (n, H, W) bool, the whole plant; None if "plant" is not among the targets of the
            dataset.
        cheat_masks: (n, H, W) bool, the cheat; None if "cheat" is not among the targets of the dataset.
    """

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    rows: NDArray[np.int64]
    object_masks: torch.Tensor | None = None
    cheat_masks: torch.Tensor | None = None

    __repr__ = brief

    @property
    def plants(self) -> torch.Tensor | None:
        """Deprecated name of `object_masks`."""
        warn_renamed("Batch.plants", "Batch.object_masks")
        return self.object_masks


class An8Flower(Dataset[Any]):
    """The images of a variant, or of one split of one of its folds.

    An item is `(image, target)`. The image is (3, H, W) float32 in [0, 1].

    Args:
        root: folder that holds the variant's folder.
        variant: name of the variant, e.g. "single-6c".
        fold: from 0 to 4; None for the whole dataset.
        split: "train", "test" or "all" of the fold; "train" by default if a fold is given.
        target: "label" (int, from 0), "mask" ((H, W) bool, the discriminative part), "plant" ((H, W)
            bool, the whole plant), "parts" ((H, W) uint8 part ids), "view" (int, from 1), "cheat" ((H, W)
            bool, the patch or pot in the colour of `table["cheat_class"]`, from 1); or a tuple of these.
        transform: applied to the image, which is then a `tv_tensors.Image`.
        target_transform: applied to the target.
        transforms: applied to image and target together, like torchvision's v2 transforms, so that
            geometric transforms change both in the same way. It excludes the other two. With any of
            the three, masks and part ids are `tv_tensors.Mask`, which v2 resamples by nearest neighbour.
        size_px: side of the images. None reads the 250 px files at each access. A number reads images,
            masks and part ids of that size from memory-mapped arrays, which are written once to the
            variant's folder after every file was checked against its hash. They are written again if
            they were altered; see `arrays`. Images are averaged over
            pixel areas, a mask is set where at least half of the area is, and part ids are taken at
            the centre of a pixel.
        scheme: how views are grouped into folds: "interleaved" (view % 5) or "blocks" of 8 views.
        twin: return the twins "part_only" or "all_but_part" instead of the images. Masks and other
            targets are those of the images.
        generate: first render the frames that are missing.
        folds: deprecated name of `scheme`.
    Raises:
        DataFolderError: if a file is missing or altered, or the dataset has no twins or no cheat; the
            message names the file and the command that repairs it.
        ValueError: for an unknown fold, split or target, a split without images, a size below 1, or
            transforms that exclude each other.
    """

    def __init__(
        self,
        root: str | Path,
        variant: str,
        *,
        fold: int | None = None,
        split: Split | None = None,
        target: Target | tuple[Target, ...] = "label",
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        transforms: Callable[[Any, Any], Any] | None = None,
        size_px: int | None = None,
        scheme: Scheme = "interleaved",
        twin: Twin | None = None,
        generate: bool = False,
        folds: Scheme | None = None,
    ) -> None:
        if folds is not None:
            warn_renamed("An8Flower(folds=)", "An8Flower(scheme=)")
            scheme = folds
        self._targets: tuple[str, ...] = (target,) if isinstance(target, str) else target
        for name in self._targets:
            if name not in get_args(Target):
                raise ValueError(f"unknown target {name!r}; known are {', '.join(get_args(Target))}")
        if transforms is not None and (transform is not None or target_transform is not None):
            raise ValueError("pass either transforms, or transform and target_transform, but not both")
        if generate:
            from an8flower.drawing.generation import generate as draw  # not needed for reading

            self.manifest = draw(root, variant)
        else:
            self.manifest = read_manifest(root, variant)
        states = require_complete(self.manifest)
        self.root, self.variant, self.fold, self.split = Path(root), variant, fold, split
        self.target, self.size_px, self.twin = target, checked_size(size_px), twin
        self.transform, self.target_transform, self.transforms = transform, target_transform, transforms
        self.classes: tuple[str, ...] = tuple(spec["name"] for spec in self.manifest.header["classes"])
        if "cheat" in self._targets and self.manifest.cheat_id is None:
            again = f"{command(f'{root}_cheat', variant)} --factor cheat=patch"
            raise DataFolderError(f"{self.manifest.folder} has no cheat; run e.g. '{again}' for one that has")
        derivatives = _derivative_table(self.manifest)
        if twin and f"{twin}_path" not in derivatives:
            again = f"{command(root, variant)} --twins"
            raise DataFolderError(f"{self.manifest.folder} has no twins {twin!r}; run '{again}' to draw them")
        selected_split: Split = split or ("all" if fold is None else "train")
        selected = in_split(derivatives["view"], fold, selected_split, scheme)
        if not selected.any():
            raise empty_split(self.manifest, fold, selected_split)
        self.table: pd.DataFrame = derivatives[selected].reset_index(drop=True)
        self._array_rows = np.flatnonzero(selected)
        self._arrays = None
        if self.size_px is not None:
            kinds = {twin or "image", "mask"} | ({"plant", "parts", "cheat"} & set(self._targets))
            self._arrays = Arrays.open(self.manifest, derivatives, self.size_px, kinds, states)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        index = range(len(self))[operator.index(index)]
        image: Any = torch.from_numpy(self._image(index)).permute(2, 0, 1).to(torch.float32) / 255
        items = tuple(self._target(name, index) for name in self._targets)
        target: Any = items[0] if isinstance(self.target, str) else items
        if self.transforms is not None:
            return cast(tuple[Any, Any], self.transforms(as_image(image), target))
        if self.transform is not None:
            image = self.transform(as_image(image))
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __getstate__(self) -> dict[str, Any]:
        # "_torchvision" comes first: a worker must import torchvision before it unpickles the transforms.
        state = {name: value for name, value in self.__dict__.items() if name != "_torchvision"}
        return {"_torchvision": TorchvisionImport(), **state} if self._transformed else state

    def __repr__(self) -> str:
        facts = {
            "Number of images": len(self),
            "Root": self.root,
            "Variant": f"{self.variant}, {len(self.classes)} classes",
            "Fold": "all" if self.fold is None else f"{self.fold}, {self.split or 'train'}",
            "Target": self.target,
            "Size": f"{self.size_px or 250} px",
            "Twin": self.twin,
            "Transforms": self.transforms,
            "Transform": self.transform,
            "Target transform": self.target_transform,
        }
        lines = [f"{name}: {value}" for name, value in facts.items() if value is not None]
        return "\n".join(["Dataset An8Flower", indent("\n".join(lines), " " * 4)])

    def _repr_html_(self) -> str:
        names = [line.strip().partition(": ")[::2] for line in repr(self).splitlines()[1:]]
        first = self.table.drop_duplicates("class").index[:SHOWN]
        encoded = (base64.b64encode(png.encode(self._image(row))).decode() for row in first)
        images = "".join(f'<img width="112" src="data:image/png;base64,{data}">' for data in encoded)
        return html_table(["", "An8Flower"], names) + images

    def altered(self) -> list[Path]:
        """Return the resized arrays that were changed since this dataset was opened."""
        return [] if self._arrays is None else self._arrays.altered()

    def batches(self, size: int, *, rng: np.random.Generator | None = None) -> Iterator[Batch]:
        """Yield all images in batches.

        Args:
            size: images per batch; the last batch may have fewer.
            rng: shuffles the images; without it they come in the order of the table.
        Raises:
            ValueError: if `size` is below 1.
        """
        if size < 1:
            raise ValueError(f"a batch must have at least 1 image, got size {size}")
        order = np.arange(len(self)) if rng is None else rng.permutation(len(self))
        labels = self.table["class"].to_numpy() - 1

        def masks(name: str, rows: NDArray[np.int64]) -> torch.Tensor:
            return torch.from_numpy(np.stack([self._mask(name, i) for i in rows]))

        for start in range(0, len(order), size):
            rows = order[start : start + size]
            images = np.stack([self._image(i) for i in rows]).transpose(0, 3, 1, 2)
            yield Batch(
                torch.from_numpy(images).to(torch.float32) / 255,
                torch.from_numpy(labels[rows].astype(np.int64)),
                masks("mask", rows),
                rows,
                masks("plant", rows) if "plant" in self._targets else None,
                masks("cheat", rows) if "cheat" in self._targets else None,
            )

    def where(self, chosen: ArrayLike) -> An8Flower:
        """Return a dataset with only those images for which `chosen` is true; it may have none.

        Args:
            chosen: (len(self),) bool.
        Raises:
            ValueError: if it has another shape or type, e.g. because it lists positions.
        """
        selected = np.asarray(chosen)
        if selected.shape != (len(self),) or selected.dtype != bool:
            raise ValueError(
                f"where() takes one bool for each of the {len(self)} images, not {selected.dtype} of shape "
                f"{selected.shape}"
            )
        index = np.flatnonzero(selected)
        subset = copy(self)
        subset.table = self.table.iloc[index].reset_index(drop=True)
        subset._array_rows = self._array_rows[index]
        return subset

    @property
    def _transformed(self) -> bool:
        # Not stored: as in torchvision's datasets, transforms may be set after construction.
        transforms = (self.transforms, self.transform, self.target_transform)
        return any(transform is not None for transform in transforms)

    def _target(self, name: str, index: int) -> Any:
        if name == "label":
            return int(self.table["class"].iloc[index]) - 1
        if name == "view":
            return int(self.table["view"].iloc[index])
        array = torch.from_numpy(self._stored(name, index) if name == "parts" else self._mask(name, index))
        return as_mask(array) if self._transformed else array

    def _image(self, index: int) -> NDArray[np.uint8]:
        return self._stored(self.twin or "image", index)

    def _mask(self, name: str, index: int) -> NDArray[np.bool_]:
        if name == "mask" or self._arrays is not None:
            return np.asarray(self._stored(name, index) > 0)
        ids = self._stored("parts", index)
        return np.isin(ids, list(PLANT_PARTS)) if name == "plant" else ids == self.manifest.cheat_id

    def _stored(self, kind: str, index: int) -> NDArray[np.uint8]:
        if self._arrays is not None:
            return self._arrays.get(kind, self._array_rows[index])
        row = self.table.iloc[index]
        return png.decode(read_verified(self.manifest, row[f"{kind}_path"], row[f"{kind}_sha256"]))


def _derivative_table(manifest: Manifest) -> pd.DataFrame:
    """Return one row per derivative, sorted by class, view, crop and rotation."""
    columns = ["class", "view", "crop", "rotation", "mask_area_px", CHEAT_CLASS]
    table = manifest.of_kind("image").filter(columns).copy()  # without a cheat there is no such column
    for kind in ("image", "mask", "parts", *TWINS):
        rows = manifest.of_kind(kind)
        if len(rows):
            table[f"{kind}_path"], table[f"{kind}_sha256"] = rows["path"], rows["sha256"]
    return table
