"""Heatmaps of one fold: the arrays that hold them, and the checks that they must pass."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.submission.errors import SubmissionError, shown

COLUMNS = ("class", "view", "crop", "rotation")
ARRAYS = ("heatmaps", *COLUMNS, "predicted")
_FLOATS = ("float32", "float16")
_INTEGERS = tuple(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Images:
    """The test images of a fold, which are explained.

    Args:
        table: one row per image: class, view, crop and rotation, from 1.
        size_px: side of the model's input, and so of the heatmaps.
        classes: number of classes.
    """

    table: pd.DataFrame
    size_px: int
    classes: int


@dataclass(frozen=True)
class Heatmaps:
    """Heatmaps in the order of the images.

    Args:
        maps: (N, H, W) float32 or float16, finite.
        predicted: (N,) int64, from 0: the class that is explained.
    """

    maps: NDArray[Any]
    predicted: NDArray[np.int64]

    def to_arrays(self, images: Images) -> dict[str, NDArray[Any]]:
        """Return the arrays that a submission holds for the fold."""
        columns = {name: images.table[name].to_numpy(np.int16) for name in COLUMNS}
        maps = np.ascontiguousarray(self.maps, self.maps.dtype.newbyteorder("<"))
        return {"heatmaps": maps, **columns, "predicted": self.predicted}


def digest(arrays: Arrays) -> str:
    """Return the SHA-256 of the values of the arrays in the order of `ARRAYS`, row by row."""
    sha256 = hashlib.sha256()
    for name in ARRAYS:
        sha256.update(np.ascontiguousarray(arrays[name]).data)
    return sha256.hexdigest()


def check_array(name: str, dtype: str, shape: tuple[int, ...], images: Images, where: str) -> None:
    """Check type and shape of an array, which are known before its values are read.

    Args:
        name: one of `ARRAYS`.
        dtype: as NumPy names it.
        shape: its shape.
        images: the images that must be explained.
        where: the start of an error message.
    Raises:
        SubmissionError: naming what is wrong and what would be right.
    """
    types, right = (_INTEGERS, "integers, e.g. int64")
    expected: tuple[int, ...] = (len(images.table),)
    if name == "heatmaps":
        types, right = _FLOATS, "float32 or float16"
        expected += (images.size_px, images.size_px)
    if dtype not in types:
        raise SubmissionError(f"{where}: {name} has the type {shown(dtype)}; it must be {right}")
    if shape != expected:
        raise SubmissionError(f"{where}: {name} has the shape {str(shape)[:60]}; it must be {expected}")


def in_order(arrays: Arrays, images: Images, where: str) -> Heatmaps:
    """Return the heatmaps in the order of the images.

    Args:
        arrays: those of `ARRAYS`, which `check_array` has accepted; the images in any order.
        images: the images that must be explained, each once.
        where: the start of an error message.
    Raises:
        SubmissionError: if they are of other images, of classes that do not exist, or not finite.
    """
    order = _order(arrays, images, where)
    maps, predicted = arrays["heatmaps"][order], arrays["predicted"][order]
    if not ((predicted >= 0) & (predicted < images.classes)).all():
        raise SubmissionError(f"{where}: predicted must be classes from 0 to {images.classes - 1}")
    wrong = np.flatnonzero(~np.isfinite(maps).all(axis=(1, 2)))
    if len(wrong):
        more = f", and those of {len(wrong) - 1} more images" if len(wrong) > 1 else ""
        raise SubmissionError(
            f"{where}: the heatmap of {_image(images.table.iloc[wrong[0]])} has NaN or an infinity{more}; "
            "every value must be finite"
        )
    return Heatmaps(maps, predicted.astype(np.int64))


def read_own(path: Path, images: Images) -> Heatmaps:
    """Read the user's own heatmaps of a fold.

    Args:
        path: an .npz file with the arrays of `ARRAYS`.
        images: the images that must be explained, each once, in any order.
    Raises:
        SubmissionError: naming what is wrong, and where.
    """
    arrays: dict[str, NDArray[Any]] = {}
    allowed = len(images.table) * (4 * images.size_px**2 + 8 * len(ARRAYS)) + 2**16
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if wrong := sorted(set(archive.files) ^ set(ARRAYS)):
                what = "lacks the array" if wrong[0] in ARRAYS else "has an unknown array"
                raise SubmissionError(f"{path} {what} {shown(wrong[0])}; it must have {', '.join(ARRAYS)}")
            if (size := sum(member.file_size for member in archive.zip.infolist())) > allowed:
                raise SubmissionError(f"{path} unpacks to {size} bytes; its images need at most {allowed}")
            for name in ARRAYS:
                arrays[name] = archive[name]
                check_array(name, arrays[name].dtype.name, arrays[name].shape, images, str(path))
    except (SubmissionError, FileNotFoundError):
        raise
    except Exception as error:  # NumPy and zipfile raise errors of many types for a damaged file
        reason = f"{type(error).__name__}: {shown(str(error))}"
        raise SubmissionError(f"{path} is not an .npz file that np.savez wrote ({reason})") from error
    return in_order(arrays, images, str(path))


def _order(arrays: Arrays, images: Images, where: str) -> NDArray[np.int64]:
    """Return for each image of the table its place in the arrays."""
    given = np.stack([arrays[name] for name in COLUMNS]).astype(
        np.float64
    )  # of any integer type, also uint64
    wanted = np.stack([images.table[name].to_numpy(np.float64) for name in COLUMNS])
    from_, to = np.lexsort(given[::-1]), np.lexsort(wanted[::-1])
    wrong = np.flatnonzero((given[:, from_] != wanted[:, to]).any(axis=0))
    if len(wrong):
        raise SubmissionError(
            f"{where}: class, view, crop and rotation must be those of the fold's test images, each once; "
            f"it has {_image(dict(zip(COLUMNS, given[:, from_[wrong[0]]], strict=True)))} instead of "
            f"{_image(images.table.iloc[to[wrong[0]]])}"
        )
    order = np.empty(len(to), np.int64)
    order[to] = from_
    return order


def _image(row: Any) -> str:
    return ", ".join(f"{name} {row[name]:.0f}" for name in COLUMNS)
