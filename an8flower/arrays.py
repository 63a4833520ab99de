"""Resized images and masks of a variant as memory-mapped arrays, which processes share.

Beside each array is a JSON file, its marker, with the SHA-256 of the array and what it was computed from. An
array that is not what was written is written again. The marker also has a digest of the states (size and
times of change) of the PNG files. So a file that was altered later is noticed without reading all files: they
are checked against their hashes only after a state has changed.

The arrays of a dataset that cannot be written to, e.g. on a read-only disk, are in a temporary folder of the
process and those that it starts.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import logging
import operator
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from an8flower.ground import files
from an8flower.ground.deprecated import warn_renamed
from an8flower.ground.digest import check_digest, read_json, with_digest
from an8flower.manifest import TWINS, DataFolderError, Manifest, damaged, read_verified, require_complete

FORMAT_VERSION = 3
CACHE = "cache"
TEMPORARY = "AN8FLOWER_TEMPORARY"  # the environment variable that names the folder to processes started later
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
logger = logging.getLogger(__name__)
# For each kind of array the kind of file that it is computed from.
SOURCES = {
    "image": "image", "part_only": "part_only", "all_but_part": "all_but_part",
    "mask": "mask", "plant": "parts", "cheat": "parts", "parts": "parts",
}  # fmt: skip
Marker = dict[str, Any]
Rows = list[tuple[str, str]]  # path and SHA-256 of the file of each derivative


class Arrays:
    """The arrays of a folder, one per kind of image; each is (n, size, size) or (n, size, size, 3).

    A pickle holds only the folder and the hashes, so that all workers of a DataLoader map the same memory.

    Args:
        folder: that holds `<kind>.npy` for each kind.
        hashes: SHA-256 of the file of each array to open, by kind; the caller has checked them.
    """

    def __init__(self, folder: Path, hashes: Mapping[str, str]) -> None:
        self._folder, self._hashes = folder, dict(hashes)
        self._arrays: dict[str, NDArray[Any]] = {
            kind: np.load(folder / f"{kind}.npy", mmap_mode="r", allow_pickle=False) for kind in hashes
        }

    @classmethod
    def open(
        cls,
        manifest: Manifest,
        table: pd.DataFrame,
        size_px: int,
        kinds: Iterable[str],
        states: Mapping[str, files.FileState] | None = None,
    ) -> Self:
        """Open the arrays of a variant; first write those that are missing, damaged or out of date.

        They are in the folder `cache/<size>px` of the variant. If that cannot be written to, arrays to write
        are in a temporary folder instead, until the process ends. Each array is hashed every time; 300 MB
        take about 0.2 s.

        Args:
            manifest: of the variant.
            table: one row per derivative, with path and hash of each kind of file.
            size_px: side of the square images.
            kinds: "image", "part_only", "all_but_part" (uint8, averaged over areas), "mask", "plant", "cheat"
                (bool, set where at least half of the area is), "parts" (uint8 ids, nearest neighbour).
            states: of all files, from `require_complete`; by default it is called.
        Raises:
            DataFolderError: if a file is missing or altered, or `cache` is no folder; the message names it.
        """
        for path in _not_folders(manifest):
            raise damaged(manifest, path, "is not a folder")
        arguments = manifest, table, size_px, set(kinds), states
        try:
            return cls._open_in(manifest.folder / CACHE, *arguments)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
        return cls._open_in(_temporary(manifest), *arguments)

    @classmethod
    def _open_in(
        cls,
        cache: Path,
        manifest: Manifest,
        table: pd.DataFrame,
        size_px: int,
        kinds: Iterable[str],
        states: Mapping[str, files.FileState] | None,
    ) -> Self:
        folder = cache / f"{size_px}px"
        states = require_complete(manifest) if states is None else states
        hashes = {}
        for kind in sorted(kinds):
            rows = list(zip(table[f"{SOURCES[kind]}_path"], table[f"{SOURCES[kind]}_sha256"], strict=True))
            expected = _expected(manifest, size_px, kind)
            current = _digest_of_states(states, rows)
            array = folder / f"{kind}.npy"
            marker = _marker_of(array, expected)
            if marker is None:
                marker = {**expected, "states": current}
                marker["sha256"] = _written(manifest, rows, array, marker)
            elif marker["states"] != current:
                _check_files(manifest, rows)
                with suppress(OSError):  # in a folder that cannot be written to, they are checked each time
                    _write_marker(array, {**marker, "states": current})
            hashes[kind] = marker["sha256"]
        return cls(folder, hashes)

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

    def altered(self) -> list[Path]:
        """Return the files that are not as they were when they were opened."""
        paths = {self._folder / f"{kind}.npy": sha256 for kind, sha256 in self._hashes.items()}
        return [path for path, sha256 in paths.items() if _sha256(path) != sha256]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._folder, self._hashes)


def altered_arrays(manifest: Manifest) -> Iterator[Path]:
    """Yield each array of a variant that is not what was written, or its marker if that is not.

    A file in the place of a folder of arrays is yielded, too. Arrays without a marker, of other data or of
    another release are never read, and so not yielded.
    """
    yield from _not_folders(manifest)
    for marker_path in sorted((manifest.folder / CACHE).glob("*px/*.json")):
        array = marker_path.with_suffix(".npy")
        kind, size = array.stem, array.parent.name.removesuffix("px")
        if kind not in SOURCES or not size.isdecimal():
            continue
        expected = _expected(manifest, int(size), kind)
        marker = _parsed(array)
        if marker is None or not _is_whole(marker):
            if marker is None or marker.get("format") in (None, FORMAT_VERSION):
                yield marker_path
        elif marker["data"] == expected["data"] and _marker_of(array, expected) is None:
            yield array


def remove_altered(manifest: Manifest) -> None:
    """Delete the arrays of a variant that are not what was written; they are written again when needed."""
    for path in list(altered_arrays(manifest)):
        for one in (path, path.with_suffix(".json"), path.with_suffix(".npy")):
            _remove(one)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _not_folders(manifest: Manifest) -> Iterator[Path]:
    """Yield what is where a folder of arrays should be and is none, e.g. a file or a dangling link."""
    cache = manifest.folder / CACHE
    for path in (cache, *(cache.glob("*px") if cache.is_dir() else ())):
        if not path.is_dir() and (path.exists() or path.is_symlink()):
            yield path


def _temporary(manifest: Manifest) -> Path:
    """Return a folder for the arrays of a dataset that cannot be written to.

    Only the user can read it. Processes that this one starts use it, too; it is removed when this one ends.
    """
    place = Path(os.environ.get(TEMPORARY, ""))
    if TEMPORARY not in os.environ or not place.is_dir():
        place = Path(tempfile.mkdtemp(prefix="an8flower-"))
        os.environ[TEMPORARY] = str(place)
        atexit.register(_remove_own, os.getpid(), place)
    cache = place / manifest.digest[:32] / CACHE
    if not cache.is_dir():
        logger.warning(
            "%s cannot be written to; its resized images are in %s until this program ends",
            manifest.folder,
            place,
        )
    return cache


def _remove_own(process: int, place: Path) -> None:
    if os.getpid() == process:  # a forked process has inherited this call
        shutil.rmtree(place, ignore_errors=True)


def checked_size(size_px: int | None) -> int | None:
    """Return a size as an int of Python, also if it is one of NumPy.

    Raises:
        ValueError: if it is not a whole number of at least 1.
    """
    if size_px is None:
        return None
    with suppress(TypeError):
        if not isinstance(size_px, bool) and operator.index(size_px) >= 1:
            return operator.index(size_px)
    raise ValueError(f"size_px must be a whole number of at least 1, got {size_px!r}")


def _reopened(folder: Path, hashes: Mapping[str, str]) -> Arrays:
    for kind, sha256 in hashes.items():
        if _sha256(folder / f"{kind}.npy") != sha256:
            raise DataFolderError(
                f"{folder / kind}.npy is not the array that this dataset was opened with; open it again with "
                f"An8Flower({str(folder.parent.parent.parent)!r}, {folder.parent.parent.name!r}, ...)"
            )
    return Arrays(folder, hashes)


def _expected(manifest: Manifest, size_px: int, kind: str) -> Marker:
    digest = manifest.digest if kind in TWINS else manifest.images_digest
    return {"format": FORMAT_VERSION, "data": digest, "kind": kind, "size_px": size_px}


def _marker_of(array: Path, expected: Marker) -> Marker | None:
    """Return the marker of an array if both are what was written for `expected`, otherwise None."""
    marker = _parsed(array)
    if marker is None or any(marker.get(name) != value for name, value in expected.items()):
        return None
    return marker if _is_whole(marker) and _sha256(array) == marker["sha256"] else None


def _parsed(array: Path) -> Marker | None:
    try:
        marker = read_json(array.with_suffix(".json").read_bytes())
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def _is_whole(marker: Marker) -> bool:
    try:
        check_digest(marker)
    except ValueError:
        return False
    return True


def _write_marker(array: Path, marker: Marker) -> None:
    files.write_json(array.with_suffix(".json"), with_digest(marker))


def _sha256(file: Path) -> str | None:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None


def _written(manifest: Manifest, rows: Rows, array: Path, marker: Marker) -> str:
    """Write an array and its marker, unless another process has just done so; return the SHA-256."""
    from an8flower.resizing import write_array  # imports OpenCV, which reading does not need

    with files.locked(array.parent, wait=True):
        known = _marker_of(array, marker)
        if known is not None:
            return str(known["sha256"])
        _remove(array.with_suffix(".json"))
        if array.is_dir():
            _remove(array)
        files.write_with(array, partial(write_array, manifest, rows, marker["size_px"], marker["kind"]))
        sha256 = str(_sha256(array))
        _write_marker(array, {**marker, "sha256": sha256})
        return sha256


def _digest_of_states(states: Mapping[str, files.FileState], rows: Rows) -> str:
    return hashlib.sha256("\n".join(f"{path} {states[path]}" for path, _ in rows).encode()).hexdigest()


def _check_files(manifest: Manifest, rows: Rows) -> None:
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
        for _ in pool.map(lambda row: read_verified(manifest, *row), rows):
            pass
