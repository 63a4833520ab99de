"""A stranger's heatmaps of one fold: an .npz whose headers are checked before any data is read.

An .npz is a zip of .npy files. Each is read by its header and raw numbers alone, never by `np.load`, so
that no pickle is ever looked at; how many numbers there must be is known from the dataset.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.lib import format as npy
from numpy.typing import NDArray

from benchmark.submission.archive import Archive, Caps, opened
from benchmark.submission.errors import SubmissionError, shown

COLUMNS = ("class", "view", "crop", "rotation")
ARRAYS = ("heatmaps", *COLUMNS, "predicted")
FLOATS = (np.dtype("<f4"), np.dtype("<f2"))
MEMBERS = 20  # more than there are arrays, to name one that does not belong
HEADER = 1024  # bytes of an .npy header; those that NumPy writes for plain arrays have 128


@dataclass(frozen=True)
class Images:
    """What is explained: the test images of a fold.

    Args:
        table: a row an image: class, view, crop and rotation, from 1.
        size_px: of the model's input, and so of the maps.
        classes: how many.
    """

    table: pd.DataFrame
    size_px: int
    classes: int

    @property
    def most_bytes(self) -> int:
        """What an .npz of their heatmaps can have, packed or not."""
        numbers = len(self.table) * (4 * self.size_px**2 + 8 * (len(ARRAYS) - 1))
        return numbers + numbers // 100 + len(ARRAYS) * 2 * HEADER


@dataclass(frozen=True)
class Maps:
    """Heatmaps in the order of the images.

    Args:
        heatmaps: (N, H, W) float32 or float16, finite.
        predicted: (N,) int64, from 0: the class that is explained.
    """

    heatmaps: NDArray[Any]
    predicted: NDArray[np.int64]

    def to_npz(self, images: Images) -> bytes:
        """As a fold of a submission."""
        columns = {name: images.table[name].to_numpy(np.int16) for name in COLUMNS}
        packed = io.BytesIO()
        arrays = {"heatmaps": self.heatmaps, **columns, "predicted": self.predicted}
        np.savez_compressed(packed, allow_pickle=False, **arrays)
        return packed.getvalue()


def read_maps(data: bytes, where: str, images: Images) -> Maps:
    """The heatmaps in an .npz, put into the order of the images.

    Args:
        data: the .npz: `heatmaps` (N, H, W) float32 or float16; class, view, crop, rotation and
            predicted, (N,) whole numbers.
        where: what messages call it.
        images: which must be explained, each once, in any order.
    Raises:
        SubmissionError: naming what is wrong, and where.
    """
    with opened(data, where, Caps(images.most_bytes, images.most_bytes, MEMBERS, ratio=None)) as archive:
        wanted = [f"{name}.npy" for name in ARRAYS]
        for name in archive.members:
            if name not in wanted:
                raise SubmissionError(f"{where} has an array {shown(name)}; it must have {', '.join(ARRAYS)}")
        for name in wanted:
            if name not in archive.members:
                raise SubmissionError(
                    f"{where} lacks the array {name[:-4]!r}; it must have {', '.join(ARRAYS)}"
                )
        count = len(images.table)
        given = {name: _numbers(archive, name, (count,)) for name in ARRAYS[1:]}
        heatmaps = _numbers(archive, "heatmaps", (count, images.size_px, images.size_px))
    order = _order(given, where, images)
    heatmaps, predicted = heatmaps[order], given["predicted"][order]
    if not ((predicted >= 0) & (predicted < images.classes)).all():
        raise SubmissionError(f"{where}: predicted must be classes from 0 to {images.classes - 1}")
    wrong = np.flatnonzero(~np.isfinite(heatmaps).all(axis=(1, 2)))
    if len(wrong):
        raise SubmissionError(
            f"{where}: the map of {_image(images.table.iloc[wrong[0]])} holds NaN or an infinity"
            + (f", and {len(wrong) - 1} more do" if len(wrong) > 1 else "")
            + "; every number must be finite"
        )
    return Maps(heatmaps, predicted.astype(np.int64))


def _numbers(archive: Archive, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    member, where = f"{name}.npy", f"{archive.where}: {name}"
    with archive.stream(member) as stream:
        found, fortran, dtype, header = _header(stream, where)
        _check_type(dtype, name, where)
        if found != shape:
            raise SubmissionError(f"{where} has the shape {str(found)[:60]}; it must be {shape}")
        size = dtype.itemsize * int(np.prod(shape))
        if archive.members[member] != header + size:
            raise SubmissionError(
                f"{where} has {archive.members[member]} bytes; {header + size} go with its shape and type"
            )
        data = stream.read(size)
    if len(data) != size:
        raise SubmissionError(f"{where} is cut short")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether columns come first, type, and how many bytes came before the numbers."""
    start = stream.read(npy.MAGIC_LEN + 4)
    refused = SubmissionError(
        f"{where} is no .npy file with a plain header; write it with np.savez_compressed"
    )
    if start[: npy.MAGIC_LEN] != npy.magic(1, 0):  # what plain arrays have
        raise refused
    length = int.from_bytes(start[npy.MAGIC_LEN :][:2], "little")
    if not 2 <= length <= HEADER:
        raise refused
    header = start[npy.MAGIC_LEN :] + stream.read(length - 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of headers that only lenient parsing can read
            shape, fortran, dtype = npy.read_array_header_1_0(io.BytesIO(header), max_header_size=HEADER)
    except Exception:  # it parses Python literals, and what that may raise is not for us to list
        raise refused from None
    return shape, fortran, dtype, npy.MAGIC_LEN + 2 + length


def _check_type(dtype: np.dtype[Any], name: str, where: str) -> None:
    if dtype.hasobject:
        raise SubmissionError(f"{where} holds Python objects (a pickle); it must hold plain numbers")
    if name == "heatmaps" and dtype not in FLOATS:
        raise SubmissionError(f"{where} is of type {shown(str(dtype))}; it must be float32 or float16")
    if name != "heatmaps" and dtype.kind not in "iu":
        raise SubmissionError(f"{where} is of type {shown(str(dtype))}; it must be whole numbers, e.g. int64")


def _order(given: dict[str, NDArray[Any]], where: str, images: Images) -> NDArray[np.int64]:
    """Where each image of the table stands among those given."""
    theirs = np.stack([given[name] for name in COLUMNS]).astype(np.float64)  # any whole numbers, uint64 too
    ours = np.stack([images.table[name].to_numpy(np.float64) for name in COLUMNS])
    there, here = np.lexsort(theirs[::-1]), np.lexsort(ours[::-1])
    wrong = np.flatnonzero((theirs[:, there] != ours[:, here]).any(axis=0))
    if len(wrong):
        raise SubmissionError(
            f"{where}: class, view, crop and rotation are not those of the fold's test images, each once: "
            f"{_image(dict(zip(COLUMNS, theirs[:, there[wrong[0]]], strict=True)))} stands where "
            f"{_image(images.table.iloc[here[wrong[0]]])} should"
        )
    order = np.empty(len(here), np.int64)
    order[here] = there
    return order


def _image(row: Any) -> str:
    return ", ".join(f"{name} {row[name]:.0f}" for name in COLUMNS)
